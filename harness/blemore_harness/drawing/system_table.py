"""Draws the systems of a run, a row each; on a narrow terminal no number and no mark is cut off.

Where the whole table is too wide, numbers lose their leading zero, modalities are left out, and remarks follow below,
a line per system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from blemore_harness.records.caveats import describe_selection
from blemore_harness.scoring.intervals import short

REMARK_WIDTH = 20
"""Columns that remarks need beside the numbers; longer ones are wrapped."""

_NUMBERS = ("official\nACC_P ± sd", "official\nACC_S ± sd", "official\nScore", "cross-fitted\nScore [95 %]")


@dataclass(frozen=True)
class Line:
    """What is said of one system.

    Attributes:
        name, modality: whose row it is.
        numbers: the four columns as mean, deviation and what follows them; none for a system without results.
        remark: marks, weights, or why there are no results.
        failed: whether there are no results.
    """

    name: str
    modality: str
    numbers: tuple[tuple[float, float | None, str], ...]
    remark: str
    failed: bool

    def cells(self, write: Callable[[float], str]) -> list[str]:
        """Write the numbers."""
        if self.failed:
            return ["-"] * len(_NUMBERS)
        return [
            write(mean) + ("" if deviation is None else f" ± {write(deviation)}") + after
            for mean, deviation, after in self.numbers
        ]


@dataclass(frozen=True)
class SystemTable:
    """The table, drawn as wide as there is room."""

    title: str
    lines: Sequence[Line]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Draw the whole table where it fits, else the narrow one and its remarks."""
        wide = [[line.name, line.modality, *line.cells("{:.3f}".format)] for line in self.lines]
        heads = ["system", "modality", *_NUMBERS]
        remark = max([len("remark"), *(min(len(line.remark), REMARK_WIDTH) for line in self.lines)])
        # Between two columns stand three characters, and one at either end.
        needed = sum(_width(column) + 3 for column in zip(heads, *wide, strict=True)) + remark + 2
        if needed <= options.max_width:
            rows = [[*row, line.remark] for row, line in zip(wide, self.lines, strict=True)]
            yield self._draw([*heads, "remark"], rows)
            return
        yield self._draw(["system", *_NUMBERS], [[line.name, *line.cells(short)] for line in self.lines])
        for line in self.lines:
            if line.remark:
                yield Text(f"{line.name}: {line.remark}", style="red" if line.failed else "")

    def _draw(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
        table = Table(title=self.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        for head in heads:
            number = head in _NUMBERS
            folded = head == "system" and "modality" not in heads
            table.add_column(
                head, justify="right" if number else "left", no_wrap=not folded and head != "remark",
                overflow="fold" if folded else "ellipsis",
            )  # fmt: skip
        for line, row in zip(self.lines, rows, strict=True):
            table.add_row(*(_styled(head, cell, line.failed) for head, cell in zip(heads, row, strict=True)))
        return table


def tabulate_systems(record: Mapping[str, Any], title: str) -> SystemTable:
    """Make the table of a record's systems."""
    return SystemTable(title, [_line(system, record["systems"]) for system in record["systems"]])


def _line(system: Mapping[str, Any], systems: Sequence[Mapping[str, Any]]) -> Line:
    name, modality = system["name"], system["modality"] or system["kind"]
    if system["status"] != "finished":
        reason = system["reason"] if system["status"] == "skipped" else system["error"]["message"]
        return Line(name, modality, (), f"{system['status']}: {reason}", failed=True)
    official, honest = system["official"], system["cross_fitted"]
    numbers = (
        *((official[key]["mean"], official[key]["sd"], "") for key in ("acc_presence", "acc_salience")),
        (official["score"]["mean"], None, ""),
        (honest["score"]["mean"], None, _interval(system)),
    )
    remarks = [
        *([system["caveat"]] if system["caveat"] else []),
        *_learnt(system),
        *describe_selection(system, systems),
    ]
    return Line(name, modality, numbers, "; ".join(remarks), failed=False)


def _interval(system: Mapping[str, Any]) -> str:
    """Write the interval of the cross-fitted Score; nothing for a record without."""
    found = system.get("intervals")
    return f" [{short(found['score'][0])}, {short(found['score'][1])}]" if found else ""


def _learnt(system: Mapping[str, Any]) -> list[str]:
    """Report what a fusion chose and how it weighs its base models.

    Notes of others by these names mean something else.
    """
    if system["kind"] != "fusion":
        return []
    final: dict[str, Any] = next((note for note in system["notes"] if note["fold"] is None), {})
    chosen, weights = final.get("chosen"), final.get("weights")
    remarks = [f"chose {chosen}"] if isinstance(chosen, str) else []
    if isinstance(weights, dict) and all(isinstance(weight, int | float) for weight in weights.values()):
        remarks.append(", ".join(f"{name} {weight:.2f}" for name, weight in weights.items()))
    return remarks


def _styled(head: str, cell: str, failed: bool) -> Text:
    if head == "remark":
        return Text(cell, style="red" if failed else "")
    if head == _NUMBERS[-1]:
        mean, space, after = cell.partition(" ")
        return Text(mean, style="bold").append(space + after, style="not bold")
    return Text(cell, style="bold" if head == "system" else "")


def _width(texts: Sequence[str]) -> int:
    return max(len(line) for text in texts for line in text.split("\n"))
