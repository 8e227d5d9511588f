"""Draws the results of a run as people read them: one row per system, marks and caveats below."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

TEXT_WIDTH = 118
"""Columns of `table.txt`."""


def render_text(record: Mapping[str, Any]) -> str:
    """Give the table as plain text."""
    console = Console(file=io.StringIO(), width=TEXT_WIDTH, color_system=None)
    console.print(draw_results(record))
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def draw_results(record: Mapping[str, Any]) -> RenderableType:
    """Draw the table of a record with everything that must be said about it."""
    data = record["data"]
    title = f"{record['submission']['name']}: {data['clips']} clips, {data['actors']} actors, {data['folds']} folds"
    table = Table(title=title, title_justify="left", caption_justify="left", title_style="bold")
    table.add_column("system", no_wrap=True)
    table.add_column("modality", no_wrap=True)
    for name in ("ACC_P", "ACC_S"):
        table.add_column(f"official\n{name} ± sd", justify="right", no_wrap=True)
    table.add_column("official\nScore", justify="right", no_wrap=True)
    table.add_column("cross-fitted\nScore", justify="right", no_wrap=True)
    table.add_column("remark")
    for system in record["systems"]:
        table.add_row(*_cells(system))
    return Group(*([Text(record["mark"], style="bold yellow")] if record["mark"] else []), table, *_remarks(record))


def _cells(system: Mapping[str, Any]) -> list[str | Text]:
    name, modality = Text(system["name"], style="bold"), system["modality"] or system["kind"]
    if system["status"] != "finished":
        reason = system["reason"] if system["status"] == "skipped" else system["error"]["message"]
        return [name, modality, "-", "-", "-", "-", Text(f"{system['status']}: {reason}", style="red")]
    official, honest = system["official"], system["cross_fitted"]
    return [
        name,
        modality,
        _with_sd(official["acc_presence"]),
        _with_sd(official["acc_salience"]),
        f"{official['score']['mean']:.3f}",
        Text(f"{honest['score']['mean']:.3f}", style="bold"),
        "; ".join(_system_remarks(system)),
    ]


def _system_remarks(system: Mapping[str, Any]) -> list[str]:
    remarks = [system["mark"]] if system["mark"] else []
    if system["times_asked"]:
        remarks.append(f"chosen on the held-out folds (asked {system['times_asked']} times)")
    weights = [note["weights"] for note in system["notes"] if note["fold"] is None and "weights" in note]
    if weights:
        remarks.append(", ".join(f"{name} {weight:.2f}" for name, weight in weights[0].items()))
    return remarks


def _remarks(record: Mapping[str, Any]) -> list[Text]:
    lines = [
        "official: alpha and beta (and a fusion's weights) chosen on the folds that are scored, as the papers do; "
        "mean over folds, sd with ddof=1.",
        "cross-fitted: everything chosen on the other folds: expect about this on new actors.",
    ]
    if record["data"]["fold_source"] == "made":
        lines.append("folds: made here from a seed, the metadata has none; not comparable with published folds.")
    expected = record["submission"]["expect"]
    if expected:
        numbers = ", ".join(f"{key} {value}" for key, value in expected.items() if key != "source")
        lines.append(f"published: {numbers} ({expected.get('source', 'no source given')}).")
    return [Text(line, style="dim") for line in lines] + [
        Text(f"warning: {text}", style="yellow") for text in record["warnings"]
    ]


def _with_sd(statistic: Mapping[str, float]) -> str:
    return f"{statistic['mean']:.3f} ± {statistic['sd']:.3f}"
