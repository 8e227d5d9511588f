"""The table of a run beside the published numbers of its submission."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from blemore_harness.record.types import Record
from blemore_harness.scoring.caveats import describe_folds
from blemore_harness.scoring.intervals import short
from blemore_harness.scoring.published import DEVIATIONS, MEASURES, NOISE


def draw_comparison(record: Record, rows: list[dict[str, Any]]) -> RenderableType:
    """Draw the comparison, its rule below."""
    table = Table(title=record.submission.name, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("official", "published", "found", "difference", "allowed", ""):
        table.add_column(column, justify="left" if column in ("official", "") else "right")
    for row in rows:
        sd = f" ± {short(row['published_sd'])}" if row["published_sd"] is not None else ""
        verdict = Text("agrees", style="green") if row["agrees"] else Text("differs", style="red")
        table.add_row(
            MEASURES[row["measure"]],
            f"{short(row['published'])}{sd}",
            short(row["found"]),
            ("+" if row["difference"] >= 0 else "") + short(row["difference"]),
            short(row["allowed"]),
            verdict,
        )
    rule = f"allowed: {DEVIATIONS:g} published deviations over folds, at least {short(NOISE, 2)}."
    source = f"published: {record.submission.expect.get('source', 'no source given')}."
    notes = [rule, source]
    if not any(system.times_asked for system in record.finished):
        notes.append(
            "found: no epoch was chosen on the held-out folds; where the published one was, expect to be below it."
        )
    notes += [words] if (words := describe_folds(record.data)) else []
    caveat = [Text(record.caveat, style="bold yellow")] if record.caveat else []
    return Group(*caveat, table, *(Text(note, style="dim") for note in notes))
