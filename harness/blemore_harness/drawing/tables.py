"""Draws the results of a run as people read them: one row per system, caveats and legend below."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from blemore_harness.drawing.console import PlainConsole
from blemore_harness.drawing.system_table import draw_systems, rank_systems
from blemore_harness.record.encoding import to_json
from blemore_harness.record.scores import StrategyScores
from blemore_harness.record.types import FailedSystem, Record, TestLabels
from blemore_harness.scoring.caveats import describe_folds
from blemore_harness.scoring.intervals import FEWEST, say_difference, say_minimum, short
from blemore_harness.scoring.measures import NO_BLENDS
from blemore_harness.scoring.published import MEASURES

TEXT_WIDTH = 80
"""Columns of `table.txt`."""

WHICH = "Report the official numbers to compare with papers; the cross-fitted Score predicts the leaderboard."
"""Which number is for what."""

LEGEND = (
    "official: thresholds and fusion weights chosen on the scored folds (in-sample)",
    "cross-fitted: both chosen on the other folds (out-of-sample); sorts the table",
    "more: docs/reference/results.md",
)


def render_text(record: Record) -> str:
    """Return the table as plain text."""
    console = PlainConsole(file=io.StringIO(), width=TEXT_WIDTH, color_system=None)
    console.print(draw_results(record))
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def draw_results(record: Record) -> RenderableType:
    """Draw the table of a record with everything that must be said about it."""
    data = record.data
    title = f"{record.submission.name}: {data.clips} clips, {data.actors} actors, {data.folds} folds"
    caveat = [Text(record.caveat, style="bold yellow")] if record.caveat else []
    legend = (
        [Text(WHICH if data.blends else NO_BLENDS), *(Text(line, style="dim") for line in LEGEND)]
        if record.finished
        else []
    )
    return Group(*caveat, *draw_systems(record, title), *_remarks(record), *legend, *_strategies(record))


def _remarks(record: Record) -> list[Text]:
    """Report what is particular to this run."""
    lines = []
    if difference := record.difference:
        # Of two systems there is nothing to correct for.
        corrected = {"adjusted": difference.p} if len(record.finished) > 2 else {}
        what = f"cross-fitted {record.data.ranked_by}"
        lines.append(say_difference(*difference.systems, to_json(difference) | corrected, what))
        lines += say_minimum(difference.minimum, record.data.actors)
    if record.finished and not any(system.intervals for system in record.finished):
        lines.append(f"No intervals: expected at least {FEWEST} actors, and as many with blends.")
    if any(system.times_asked for system in record.finished):
        lines.append("Chosen on the held-out folds: optimistic in both columns, as published validation numbers are.")
    if record.seeds:
        seeds = ", ".join(record.seeds)
        lines.append(
            f"One of {len(record.seeds)} runs that differ in the seed ({seeds}): this is {record.submission.seed}."
        )
    if words := describe_folds(record.data):
        lines.append(words)
    if expected := record.submission.expect:
        lines.append(f"published: {_published(expected)} ({expected.get('source', 'no source given')}).")
    return [Text(line) for line in lines] + [Text(f"warning: {text}", style="yellow") for text in record.warnings]


def _published(expected: Mapping[str, Any]) -> str:
    """Write published numbers in one line: validation with deviations, then test."""
    parts = []
    for prefix, word in (("", ""), ("test_", "test ")):
        numbers = []
        for key, name in MEASURES.items():
            value, deviation = (expected.get(f"{prefix}{key}{ending}") for ending in ("", "_sd"))
            if isinstance(value, int | float):
                numbers.append(f"{name} {short(value)}" + (f" ± {short(deviation)}" if deviation else ""))
        if numbers:
            parts.append(word + ", ".join(numbers))
    return "; ".join(parts)


def _strategies(record: Record) -> list[RenderableType]:
    """Draw what each threshold strategy gives for the best system, and how the test clips were decoded."""
    if not record.finished:
        return []
    best, test = rank_systems(record)[0], record.test
    table = Table(title=f"threshold strategies, {best.name}", title_justify="left", title_style="bold",
                  box=SIMPLE_HEAD, pad_edge=False)  # fmt: skip
    table.add_column("strategy", no_wrap=True)
    for name in MEASURES.values():
        table.add_column(name, justify="right")
    table.add_column("remark")
    for name, found in sorted(best.strategies.items(), key=lambda item: _merit(item[1])):
        used = test is not None and (test.system, test.strategy) == (best.name, name)
        remark = "decodes the test clips" if used else _describe_strategy(found)
        means = [short(number.mean if number else None) for number in found.by_measure().values()]
        table.add_row(name, *means, remark, style="bold" if used else None)
    return [Text(), table, *([] if test is None else [Text(_describe_test(test))])]


def _merit(scores: StrategyScores) -> tuple[bool, bool, float]:
    """Sort by Score what may decode test clips, then what is told who acts, then what sees the scored fold."""
    return scores.sees != "others", scores.transductive, -scores.ranked.mean


def _describe_strategy(scores: StrategyScores) -> str:
    """Report why a strategy's numbers are no forecast, or nothing."""
    if scores.transductive:
        return "oracle actors: no valid submission"
    return {"itself": "in-sample: the scored fold", "all": "in-sample: all folds"}.get(scores.sees, "")


def _describe_test(test: TestLabels) -> str:
    """Report how the test clips were decoded; what a strategy is worth that has to guess their actors."""
    said = f"Test clips: {test.system}, decoded by {test.strategy} ({test.why})."
    if test.score_with_guessed_actors is None or test.rand_index is None:
        return said
    return (
        f"{said} Actors are guessed: Score {short(test.score_with_guessed_actors)} with guesses on training clips "
        f"(adjusted Rand index {short(test.rand_index, 2)} of 1)."
    )


def draw_rows(rows: Sequence[Mapping[str, str]]) -> RenderableType:
    """Draw rows that share their keys, a column per key."""
    if not rows:
        return Text("none")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for key in rows[0]:
        table.add_column(key, no_wrap=key not in ("summary", "encoders", "found", "todo"))
    for row in rows:
        table.add_row(*(Text(value) for value in row.values()))
    return table


def draw_next_steps(record: Record, folder: Path, data: Path | None) -> Text:
    """Report where the results lie and what to do with them."""
    lines = [f"record   {folder / 'record.json'}"]
    test, demo = record.test, record.data.demo
    if test:
        lines.append(f"labels   {folder / test.file} ({test.clips} test clips by {test.system})")
    if demo and data is None:
        lines.append("next     the same command with --data FOLDER runs on your BLEMORE download")
    elif test and not demo:
        lines.append(f"next     blemore-harness submit --check {folder / test.file}, then upload it to Codabench")
    if any(isinstance(system, FailedSystem) for system in record.systems):
        lines.append("next     the full traceback of what failed stands in the record; the same command tries it again")
    return Text("\n".join(lines))
