"""Draws the results of a run as people read them: one row per system, marks and caveats below."""

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
from blemore_harness.drawing.system_table import tabulate_systems
from blemore_harness.records.caveats import describe_folds
from blemore_harness.scoring.intervals import say_difference

TEXT_WIDTH = 118
"""Columns of `table.txt`."""


def render_text(record: Mapping[str, Any]) -> str:
    """Return the table as plain text."""
    console = PlainConsole(file=io.StringIO(), width=TEXT_WIDTH, color_system=None)
    console.print(draw_results(record))
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def draw_results(record: Mapping[str, Any]) -> RenderableType:
    """Draw the table of a record with everything that must be said about it."""
    data = record["data"]
    title = f"{record['submission']['name']}: {data['clips']} clips, {data['actors']} actors, {data['folds']} folds"
    caveat = [Text(record["caveat"], style="bold yellow")] if record["caveat"] else []
    return Group(*caveat, tabulate_systems(record, title), *_remarks(record), *_strategies(record))


def _remarks(record: Mapping[str, Any]) -> list[Text]:
    lines = [
        "official: alpha and beta (and a fusion's weights) chosen on the folds that are scored, as the papers do; "
        "mean over folds, sd with ddof=1.",
        "cross-fitted: alpha, beta and weights chosen on the other folds: expect about this on new actors.",
    ]
    if any(system["kind"] == "fusion" and system["status"] == "finished" for system in record["systems"]):
        lines.append(
            "official numbers of a fusion that learns: it trained on the very clips that are scored, as the papers' "
            "weights did; one that learns more than a weight per base model gains more by it, and is not "
            "comparable there."
        )
    if any(system.get("intervals") for system in record["systems"]):
        lines.append("[95 %]: other actors, same models and thresholds (bootstrap over actors within folds).")
    elif any(system["status"] == "finished" for system in record["systems"]):
        lines.append("no [95 %]: a fold has one actor only, who says nothing about others.")
    if difference := record.get("difference"):
        lines.append(say_difference(difference["systems"][0], difference["systems"][1], difference))
    if any(system.get("times_asked") for system in record["systems"]):
        lines.append("chosen on the held-out folds: optimistic in both columns, as published validation numbers are.")
    if words := describe_folds(record["data"]):
        lines.append(words)
    expected = record["submission"]["expect"]
    if expected:
        lines.append(f"published: {_published(expected)} ({expected.get('source', 'no source given')}).")
    return [Text(line, style="dim") for line in lines] + [
        Text(f"warning: {text}", style="yellow") for text in record["warnings"]
    ]


def _published(expected: Mapping[str, Any]) -> str:
    """Write published numbers in one line: validation with deviations, then test."""
    parts = []
    for prefix, word in (("", ""), ("test_", "test ")):
        numbers = []
        for key, name in (("acc_presence", "ACC_P"), ("acc_salience", "ACC_S"), ("score", "Score")):
            value, deviation = (expected.get(f"{prefix}{key}{ending}") for ending in ("", "_sd"))
            if isinstance(value, int | float):
                numbers.append(f"{name} {value:.3f}" + (f" ± {deviation:.3f}" if deviation else ""))
        if numbers:
            parts.append(word + ", ".join(numbers))
    return "; ".join(parts)


def _strategies(record: Mapping[str, Any]) -> list[RenderableType]:
    """Draw what each threshold strategy gives for the last system, if it is finished."""
    last = record["systems"][-1] if record["systems"] else {}
    if last.get("status") != "finished" or "strategies" not in last:
        return []
    used = (record["test"] or {}).get("strategy")
    table = Table(title=f"thresholds of {last['name']}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("strategy", no_wrap=True)
    for name in ("ACC_P", "ACC_S", "Score"):
        table.add_column(name, justify="right")
    table.add_column("remark")
    for name, row in last["strategies"].items():
        remarks = [
            {"itself": "optimistic: sees the scored fold", "all": "optimistic: sees all folds"}.get(row["sees"], "")
        ]
        remarks.append("transductive bound: told which clips are of one actor" if row["transductive"] else "")
        remarks.append(f"decodes the test clips ({record['test']['why']})" if name == used else "")
        remarks.append(_guessed(record["test"]) if name == used and row["transductive"] else "")
        means = [f"{row[key]['mean']:.3f}" for key in ("acc_presence", "acc_salience", "score")]
        table.add_row(name, *means, "; ".join(filter(None, remarks)), style="bold" if name == used else None)
    return [Text(), table]


def _guessed(test: Mapping[str, Any]) -> str:
    """Report what a strategy is worth that has to guess the actors of test clips."""
    return (
        f"with actors guessed, as for test clips: Score {test['score_with_guessed_actors']:.3f} (adjusted Rand index "
        f"of the guesses: {test['rand_index']:.2f} of 1)"
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


def draw_next_steps(record: Mapping[str, Any], folder: Path, data: Path | None) -> Text:
    """Report where the results lie and what to do with them."""
    lines = [f"record   {folder / 'record.json'}"]
    test = record["test"]
    if test:
        lines.append(f"labels   {folder / test['file']} ({test['clips']} test clips by {test['system']})")
    if record["data"]["demo"] and data is None:
        lines.append("next     the same command with --data FOLDER runs on your BLEMORE download")
    elif test and not record["data"]["demo"]:
        lines.append(f"next     blemore-harness submit --check {folder / test['file']}, then upload it to Codabench")
    if any(system["status"] == "failed" for system in record["systems"]):
        lines.append("next     the full traceback of what failed stands in the record; the same command tries it again")
    return Text("\n".join(lines))
