"""What a chart is, and what all charts have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from blemore_harness.disk import digest_of
from blemore_pages.extra import load_package

BLUE, VERMILION, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#808080"
"""Colours of Okabe and Ito (2008), which colour-blind people tell apart, and a grey for rules on light and dark."""

SHADES: Final = "cividis"
"""Colour scheme of quantities: even steps in lightness, the same for colour-blind people and in black and white."""

SHORTENED: Final = (
    "length(datum.label) > 26 ? slice(datum.label, 0, 14) + '\u2026' + slice(datum.label, -11) : datum.label"
)
"""Labels of names: of long ones both ends, since variants of a system differ at the end."""

_LONGEST = 80


@dataclass(frozen=True)
class Chart:
    """A chart as data.

    Attributes:
        name: file name without suffix, such as `confusion-sets-best-of`.
        title: a few words.
        caption: what is shown, on what data and how to read it, caveats included.
        spec: Vega-Lite JSON without colours of a theme: light and dark are set by the configuration of who shows it.
        columns: heads of the same numbers as a table.
        rows: the table, a text per cell.
    """

    name: str
    title: str
    caption: str
    spec: Mapping[str, Any]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def load_altair() -> Any:
    """Import altair.

    Raises:
        ExtraMissing: it is not installed.
    """
    return load_package("altair", "charts")


def values_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as data of an Altair chart."""
    return load_altair().Data(values=[dict(row) for row in rows])


def spec_of(chart: Any) -> dict[str, Any]:
    """Return an Altair chart as Vega-Lite JSON: its data where they are used, and no configuration."""
    altair = load_altair()
    with altair.data_transformers.enable(consolidate_datasets=False):
        spec: dict[str, Any] = chart.to_dict(validate=False)
    spec.pop("config", None)
    return spec


def file_name(kind: str, *names: str) -> str:
    """Return a name that every file system takes, unique for other names.

    >>> file_name("actors", "best-of"), file_name("actors", "a/b@x")
    ('actors-best-of', 'actors-a-b-x-c8a3e6')
    """
    whole = "-".join((kind, *names))
    plain = re.sub(r"[^A-Za-z0-9._+]+", "-", whole)
    if plain == whole and len(plain) <= _LONGEST:
        return plain
    return f"{plain[:_LONGEST]}-{digest_of(whole, 6)}"
