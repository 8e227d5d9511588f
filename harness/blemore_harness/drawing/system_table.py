"""Draws the systems of a run, a row each, within 80 columns; what is said of a system stands below, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from blemore_harness.record.types import FailedSystem, FinishedSystem, Record
from blemore_harness.scoring.caveats import describe_selection
from blemore_harness.scoring.intervals import LEVEL, short
from blemore_harness.scoring.measures import show_mean

_NAME = 19
"""Columns of a name, so that all numbers fit beside it; a longer one takes several lines."""


def rank_systems(record: Record) -> list[FinishedSystem]:
    """Return the scored systems by cross-fitted Score (ACC_P without blends), the best first; of equals the earlier."""
    return sorted(record.finished, key=lambda system: -system.cross_fitted.ranked.mean)


def draw_systems(record: Record, title: str) -> Iterator[RenderableType]:
    """Draw the systems by cross-fitted Score, those without results last, and what must be said of each."""
    ranked = rank_systems(record)
    others = [system for system in record.systems if not isinstance(system, FinishedSystem)]
    after = record.data.ranked_by + (f" [{LEVEL} % CI]" if any(system.intervals for system in ranked) else "")
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("system", overflow="fold", max_width=_NAME)
    for head in ("official\nACC_P ± sd", "official\nACC_S ± sd", "official\nScore", f"cross-fitted\n{after}"):
        table.add_column(head, justify="right", no_wrap=True)
    for system in ranked:
        table.add_row(Text(system.name, style="bold"), *_cells(system))
    for other in others:
        table.add_row(Text(other.name, style="bold"), Text(other.status, style="red"), "-", "-", "-")
    yield table
    same: dict[str, list[str]] = {}
    for system in ranked:
        if remarks := _remarks(system, record.finished):
            same.setdefault("; ".join(remarks), []).append(system.name)
    for text, names in same.items():
        yield Text(f"{', '.join(names)}: {text}")
    for other in others:
        reason = other.error.message if isinstance(other, FailedSystem) else other.reason
        yield Text(f"{other.name} {other.status}: {reason}", style="red")


def _cells(system: FinishedSystem) -> list[Text]:
    official, score = system.official, Text(short(system.cross_fitted.ranked.mean), style="bold")
    if system.intervals is not None:
        low, high = system.intervals.ranked
        score.append(f" [{short(low)}, {short(high)}]", style="not bold")
    last = short(official.score.mean if official.score else None)
    numbers = [show_mean(official.acc_presence), show_mean(official.acc_salience), last]
    return [*map(Text, numbers), score]


def _remarks(system: FinishedSystem, systems: Sequence[FinishedSystem]) -> list[str]:
    """Report what must be said of a system: its caveat, what a fusion chose, what was chosen on held-out folds."""
    caveat = [system.caveat] if system.caveat else []
    return [*caveat, *_chosen(system), *describe_selection(system, systems)]


def _chosen(system: FinishedSystem) -> list[str]:
    """Report what a fusion chose and how it weights its base models.

    Notes of others by these names mean something else.
    """
    if system.kind != "fusion":
        return []
    final: dict[str, Any] = next((dict(note) for note in system.notes if note.get("fold", 0) is None), {})
    chosen, weights = final.get("chosen"), final.get("weights")
    remarks = [f"chose {chosen}"] if isinstance(chosen, str) else []
    if isinstance(weights, dict) and all(isinstance(weight, int | float) for weight in weights.values()):
        remarks.append("weights: " + ", ".join(f"{name} {short(weight, 2)}" for name, weight in weights.items()))
    return remarks
