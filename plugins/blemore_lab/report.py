"""Draws a simulation's record as people read it: what was simulated, how real it looks, who does best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from blemore_lab.summary import BASES, rank_methods

WIDE = 118
"""Columns that the table of fusions and strategies needs for all that it can show."""


def draw_simulation(records: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Draw what records of `study.simulate` say: of one world everything, of several how methods compare."""
    notice = Text(records[0]["notice"], style="bold yellow")
    warnings = [
        Text(f"warning: {record['world']['name']}: {text}", style="yellow")
        for record in records
        for text in record["warnings"]
    ]
    [record, *others] = records
    details: list[RenderableType] = (
        [] if others else [_encoders(record), _spread(record), _Rows(record), *_legend(record)]
    )
    return Group(notice, *warnings, *details, *(_draw(table) for table in method_tables(records)))


def write_markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of methods as Markdown."""
    return "\n\n".join([records[0]["notice"], *(table.as_markdown() for table in method_tables(records))])


@dataclass(frozen=True)
class PlainTable:
    """A table of texts.

    Attributes:
        title: what is in it.
        head: names of the columns; the first two columns are names, the others numbers.
        rows: as many texts in each.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_markdown(self) -> str:
        """Return it as Markdown."""
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        return f"SIMULATED: {self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def method_tables(records: Sequence[Mapping[str, Any]]) -> list[PlainTable]:
    """Return the tables worlds by methods: who does best, and what cross-fitted Scores miss."""
    each = [(record["world"]["name"], row) for record in records for row in record["methods"]]
    scores = [
        (world, row["method"], str(row["replicates"]), _short(row["unseen"]["mean"]),
         *(_with_interval(row["differences"].get(other)) for other in BASES))
        for world, row in each
    ]  # fmt: skip
    missed = [
        (world, row["method"], _with_interval(row["missed"]),
         *(_short(row["missed"][name], "+") for name in CAUSES))
        for world, row in each
    ]  # fmt: skip
    tables = [
        PlainTable(
            "Score on unseen actors, and differences, ± half of the 95 % interval",
            ("world", "method", "n", "Score", *(f"against {other}" for other in BASES)),
            tuple(scores),
        ),
        PlainTable(
            "cross-fitted Score minus Score on unseen actors, and its causes",
            ("world", "method", "difference", *CAUSES.values()),
            tuple(missed),
        ),
    ]
    if len(records) > 1:
        ranks = rank_methods(records)
        title = f"mean rank over {len(records)} worlds, 1 the best"
        rows = tuple(("", name, f"{rank:.1f}") for name, rank in ranks.items())
        tables.insert(1, PlainTable(title, ("", "method", "mean rank"), rows))
    return tables


CAUSES = {"seen": "seen actors", "mix": "label mix", "fewer_actors": "fewer actors", "thresholds": "thresholds"}
"""Columns of the causes."""


def _short(value: float, sign: str = "") -> str:
    """Return a number below 1 with three digits, as tables show them: `.429`."""
    return f"{value:{sign}.3f}".replace("0.", ".", 1)


def _with_interval(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    return _short(found["mean"], "+") + ("" if found["half"] is None else f" ± {_short(found['half'])}")


def _draw(plain: PlainTable) -> Table:
    table = _table(plain.title)
    for place, name in enumerate(plain.head):
        table.add_column(
            name.replace(" ", "\n", 1) if place > 1 else name, justify="left" if place < 2 else "right", no_wrap=True
        )
    for row in plain.rows:
        table.add_row(*row)
    return table


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
        f"chosen: the strategy that the harness takes for test clips, one that looks at one clip at a time. Seed "
        f"{settings['seed']}.",
    ]
    return [Text(line, style="dim") for line in lines]
