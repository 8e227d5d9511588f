"""Draws the list of stored runs, and of folders that would be deleted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from blemore_harness.drawing.system_table import rank_systems
from blemore_harness.files.housekeeping import Doomed, is_held, size_of, system_folders
from blemore_harness.files.runs import Runs, StoredRun, SystemFolder
from blemore_harness.scoring.intervals import UNDEFINED, short


def list_rows(root: Path) -> list[dict[str, Any]]:
    """Return a row of JSON types per run, the newest first, those that cannot be read last.

    Returns:
        run, started (ISO 8601, None where it cannot be read), systems, best (system), score (its cross-fitted one),
        bytes (with its systems), shared_bytes (of these, what other runs use as well), model_bytes (of these, kept
        models), state, demo, problem.
    """
    stored = Runs(root).stored()
    used = {run.folder: system_folders(run) for run in stored}
    sizes = {folder: size_of(folder) for folder in {each for folders in used.values() for each in folders}}
    models = {folder: sum(map(size_of, SystemFolder(folder).models())) for folder in sizes}
    rows = []
    for run in stored:
        others = {folder for other, folders in used.items() if other != run.folder for folder in folders}
        best = next(iter(rank_systems(run.record)), None) if run.record else None
        rows.append(
            {
                "run": run.folder.name,
                "started": run.record.execution.started if run.record else None,
                "systems": len(run.record.systems) if run.record else None,
                "best": best.name if best else None,
                "score": best.cross_fitted.score.mean if best and best.cross_fitted.score else None,
                "bytes": size_of(run.folder) + sum(sizes[folder] for folder in used[run.folder]),
                "shared_bytes": sum(sizes[folder] for folder in used[run.folder] if folder in others),
                "model_bytes": sum(models[folder] for folder in used[run.folder]),
                "state": _state(run),
                "demo": run.record.data.demo if run.record else None,
                "problem": run.problem,
            }
        )
    return rows


def _state(run: StoredRun) -> str:
    """Return the status of a record; of one that has not ended whether a process works on it."""
    if run.record is None:
        return "unreadable"
    if run.record.status != "started":
        return run.record.status
    return "running" if is_held(run.folder) else "interrupted"


def draw_runs(rows: Sequence[dict[str, Any]], root: Path) -> RenderableType:
    """Draw the rows of `list_rows`, and below what cannot be read."""
    if not rows:
        return Text(f"no runs in {root}")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("started (UTC)", no_wrap=True)
    table.add_column("run", overflow="fold")
    table.add_column("Score", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("models", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for row in rows:
        when = str(row["started"] or "-")[:16].replace("T", " ")
        undefined = "-" if row["best"] is None else UNDEFINED
        score = undefined if row["score"] is None else short(row["score"])
        style = "" if row["state"] in ("finished", "running") else "yellow"
        table.add_row(when, Text(row["run"], style="bold"), Text(score + " demo" * bool(row["demo"] and row["best"])),
                      show_size(row["bytes"]), show_size(row["model_bytes"]) if row["model_bytes"] else "-",
                      Text(row["state"], style=style))  # fmt: skip
    total = sum(row["bytes"] - row["shared_bytes"] for row in rows)
    notes = [Text(f"{row['run']}: {row['problem']}", style="red") for row in rows if row["problem"]]
    shared = [Text("Systems that several runs share are counted in the size of each.", style="dim")]
    count = f"{len(rows)} run{'s' * (len(rows) > 1)}"
    own = Text(f"{count} in {root}; {show_size(total)} belong to one run only.", style="dim")
    return Group(table, *notes, own, *(shared if any(row["shared_bytes"] for row in rows) else []))


def draw_doomed(doomed: Sequence[Doomed]) -> RenderableType:
    """Draw folders that would be deleted, with reasons and sizes."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("folder", overflow="fold")
    table.add_column("why", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for each in doomed:
        table.add_row(Text(str(each.folder)), each.why, show_size(each.size))
    return Group(table, Text(f"total: {show_size(sum(each.size for each in doomed))}"))


def show_size(size: int) -> str:
    """Write a number of bytes in the largest unit that leaves a number of at least 1.

    >>> show_size(999), show_size(1500), show_size(2_000_000), show_size(3_500_000_000)
    ('999 B', '1.5 kB', '2.0 MB', '3.5 GB')
    """
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
