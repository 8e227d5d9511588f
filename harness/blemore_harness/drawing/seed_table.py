"""Draws what a group of runs scores that differ in the base seed alone."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from blemore_harness.record.types import Record
from blemore_harness.scoring.intervals import LEVEL, short
from blemore_harness.scoring.measures import show_mean
from blemore_harness.scoring.seeds import summarise_seeds

_NAME = 19
"""Columns of a name, as in the table of a run."""


def draw_seeds(records: Mapping[int, Record], asked: int) -> RenderableType:
    """Draw a row per system, and what the two spreads mean.

    Args:
        records: by base seed; at least one.
        asked: number of seeds of the group, of which some may be missing.
    """
    first = next(iter(records.values()))
    found = summarise_seeds(records)
    seeds = ", ".join(str(seed) for seed in sorted(records))
    title = f"{first.submission.name}: {len(records)} seeds ({seeds})"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("system", overflow="fold", max_width=_NAME)
    ranked = first.data.ranked_by
    for head in ("ACC_P ± sd", "ACC_S ± sd", f"{ranked} ± sd [{LEVEL} % CI]", f"official\n{ranked} ± sd"):
        table.add_column(head, justify="right", no_wrap=True)
    for each in found:
        means = each.cross_fitted
        score = Text(show_mean(means.ranked), style="bold")
        if each.intervals is not None:
            low, high = each.intervals.ranked
            score.append(f" [{short(low)}, {short(high)}]", style="not bold")
        numbers = [show_mean(means.acc_presence), show_mean(means.acc_salience)]
        table.add_row(Text(each.name, style="bold"), *numbers, score, show_mean(each.official.ranked))
    lines = [
        f"{each.name}: {len(each.seeds)} of {asked} seeds were scored" for each in found if len(each.seeds) < asked
    ]
    legend = [
        "means over seeds of cross-fitted (out-of-sample) numbers; the last column is official (in-sample)",
        "± sd: between seeds, what training again with another seed changes",
        f"[{LEVEL} % CI]: over actors, what other actors would change in one run (mean of the runs' intervals)",
    ]
    caveat = [Text(first.caveat, style="bold yellow")] if first.caveat else []
    return Group(*caveat, table, *map(Text, lines), *(Text(line, style="dim") for line in legend if found))
