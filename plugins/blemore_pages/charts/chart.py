"""What a chart is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
