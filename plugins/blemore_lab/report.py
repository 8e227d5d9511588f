"""Draws a simulation's record as people read it: what was simulated, how real it looks, who does best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

WIDE = 118
"""Columns that the table of fusions and strategies needs for all that it can show."""


def draw_simulation(record: Mapping[str, Any]) -> RenderableType:
    """Draw everything that a record of `study.simulate` says."""
    notice = Text(record["notice"], style="bold yellow")
    warnings = [Text(f"warning: {text}", style="yellow") for text in record["warnings"]]
    return Group(notice, *warnings, _encoders(record), _spread(record), _Rows(record), *_legend(record))


def _table(title: str) -> Table:
    return Table(
        title=f"SIMULATED: {title}", title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False,
        padding=(0, 1, 0, 0),
    )  # fmt: skip


def _encoders(record: Mapping[str, Any]) -> Table:
    table = _table("encoders, official ACC_P and ACC_S")
    table.add_column("encoder", no_wrap=True)
    table.add_column("modality", no_wrap=True)
    for name in ("published", "calibrated", "in replicates"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in record["encoders"]:
        pairs = [f"{row[k]['acc_presence']:.3f} {row[k]['acc_salience']:.3f}" for k in _KINDS]
        table.add_row(row["name"], row["modality"], *pairs)
    return table


_KINDS = ("published", "calibrated", "simulated")


def _spread(record: Mapping[str, Any]) -> Table:
    table = _table("what differs between folds")
    table.add_column("", no_wrap=True)
    table.add_column("simulated", justify="right", no_wrap=True)
    table.add_column("observed", justify="right", no_wrap=True)
    words = {"alpha": "best alpha", "beta": "best beta", "acc_presence": "ACC_P", "acc_salience": "ACC_S"}
    for name, row in record["spread"]["encoders"].items():
        table.add_row(
            f"{words[name]} of an encoder, mean and sd",
            f"{row['mean']:.3f} ± {row['sd_over_folds']:.3f}",
            f"{row['organisers_mean']:.3f} ± {row['organisers_sd_over_folds']:.3f}",
        )
    for name, row in record["spread"]["fused"].items():
        table.add_row(
            f"{words[name]} of the recipe's fusion, from and to",
            f"{row['lowest']:.2f} to {row['highest']:.2f}",
            f"{row['published_lowest']:.2f} to {row['published_highest']:.2f}",
        )
    return table


@dataclass(frozen=True)
class _Rows:
    """The table of fusions and strategies: all columns where there is room for them, else those that say who is best.

    Attributes:
        record: as of `study.simulate`.
    """

    record: Mapping[str, Any]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Draw as many columns as fit whole."""
        wide = options.max_width >= WIDE
        yield _rows(self.record, wide)
        if not wide:
            yield Text(
                f"Official and cross-fitted Score, ACC_P and ACC_S are in --json, and here from {WIDE} columns on."
            )


def _rows(record: Mapping[str, Any], wide: bool) -> Table:
    settings, labels = record["settings"], record["labels"]
    table = _table(
        f"{settings['replicates']} replicates, {labels['actors']} training and {settings['test_actors']} unseen actors "
        f"(labels: {labels['source']})"
    )
    table.add_column("fusion", no_wrap=True)
    table.add_column("thresholds", no_wrap=True)
    before = ("official\nScore", "cross-fitted\nScore", "unseen\nACC_P", "unseen\nACC_S") if wide else ()
    for name in (*before, "unseen\nScore"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("against the\nreference", justify="right", no_wrap=True)
    table.add_column("remark")
    for row in record["rows"]:
        unseen, important = row["unseen"], any(text in (_IS_REFERENCE, _DEFAULT) for text in row["remarks"])
        numbers = (row["official"], row["cross_fitted"], unseen["acc_presence"], unseen["acc_salience"])
        table.add_row(
            row["fusion"],
            row["strategy"],
            *(f"{number:.3f}" for number in numbers[: len(before)]),
            Text(f"{unseen['score']:.3f}", style="bold"),
            Text("-") if _IS_REFERENCE in row["remarks"] else _difference(row["difference"]),
            "; ".join([*row["remarks"], *_used(row["used"])]),
            style="bold" if important else None,
        )
    return table


_IS_REFERENCE = "reference"
_DEFAULT = "default of the harness"


def _difference(difference: Mapping[str, Any]) -> Text:
    half = difference["half_interval"]
    if half is None:
        return Text(f"{difference['mean']:+.4f}")
    style = ("green" if difference["mean"] > 0 else "red") if difference["clear"] else ""
    return Text(f"{difference['mean']:+.4f} ± {half:.4f}", style=style)


def _used(used: Mapping[str, int]) -> list[str]:
    return [f"mostly {next(iter(used))}"] if used else []


def _legend(record: Mapping[str, Any]) -> list[Text]:
    settings = record["settings"]
    lines = [
        "unseen: on new actors, with everything chosen on the training actors; what a method is worth.",
        "official: thresholds (and weights) chosen on the folds that are scored, as papers report it; cross-fitted: on "
        "the other folds. The reference recipe has no such weights: there, those of the fold itself.",
        "against the reference: difference of unseen Scores over the same replicates, ± half of its 95 % interval; "
        "of twenty methods that are no better and no worse, one is clear of 0 by chance.",
        "oracle: uses the true actor identities; not a valid submission.",
        f"chosen: the strategy with the best cross-fitted Score among those that look at one clip at a time. Seed "
        f"{settings['seed']}, bias {settings['bias']:g}, correlation {settings['correlation']:g}, sharpness "
        f"{settings['sharpness']:g}.",
    ]
    return [Text(line, style="dim") for line in lines]
