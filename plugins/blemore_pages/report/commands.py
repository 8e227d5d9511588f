"""Commands of the report: `report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemore_harness.cli.root import Command, data_option, open_reporter, runs_option

if TYPE_CHECKING:
    from blemore_harness.drawing.result_text import Form


@click.command(cls=Command)
@click.argument("run_names", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the page [default: report.html in the folder of the first run].",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also write every chart as PNG, SVG and PDF.",
)
@click.option(
    "--table",
    "form",
    type=click.Choice(["latex", "markdown", "csv"]),
    help="Print the table of each run for a paper or another program; where the page is then stands on stderr.",
)
@click.option(
    "--thumbnails", is_flag=True, help="Show a frame of each clip. The page then shows people: mind who gets it."
)
@data_option
@runs_option
def report(
    run_names: tuple[str, ...], output: Path | None, figures: Path | None,
    form: Form | None, thumbnails: bool, data: Path | None, runs: Path,
) -> None:  # fmt: skip
    """Write a page that shows finished runs.

    RUN is a finished run; several ones must be on the same clips. The page is one file that opens in any browser,
    without a network: results, charts of every system, and all clips, to sort, filter and compare.
    """
    from blemore_harness.data.download import read_dataset
    from blemore_harness.disk import write_atomically
    from blemore_harness.drawing.result_text import format_results
    from blemore_harness.scoring.analysis import compare_with_best
    from blemore_pages.charts.every import run_charts, system_charts
    from blemore_pages.contents import read_contents
    from blemore_pages.figures import write_figures
    from blemore_pages.report.clips import interesting_first
    from blemore_pages.report.entries import list_entries
    from blemore_pages.report.page import LIMIT, render_page, size_of
    from blemore_pages.report.thumbnails import make_thumbnails

    reporter = open_reporter()
    found = [read_contents(runs, name, data) for name in run_names]
    contents = list({run.folder.resolve(): run for run in found}.values())
    entries = list_entries(contents)
    overview, charts = run_charts(contents), [system_charts(entry.system) for entry in entries]

    def add_thumbnails(budget: int) -> dict[str, str]:
        dataset = read_dataset(data or Path(contents[0].record.data.root))
        ids = entries[0].system.ids
        return make_thumbnails(dataset, [ids[k] for k in interesting_first(entries)], budget, reporter)

    page = render_page(contents, entries, overview, charts, add_thumbnails if thumbnails else None)
    for path in write_figures([*overview, *(c for each in charts for c in each)], figures) if figures else ():
        reporter.log(f"wrote {path}")
    target = output or contents[0].folder / "report.html"
    write_atomically(target, page)
    if size_of(page) > LIMIT:
        reporter.warn(f"{target} has {size_of(page) / 1e6:.1f} MB: give fewer runs to stay below {LIMIT / 1e6:.0f} MB")
    if form is None:
        click.echo(str(target))
        return
    reporter.log(f"wrote {target}")
    for run in contents:
        adjusted = compare_with_best([each.loaded for each in run.systems]) if len(run.systems) > 1 else None
        click.echo(format_results(run.record, form, adjusted), nl=False)
