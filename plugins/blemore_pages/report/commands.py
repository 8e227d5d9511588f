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
    from blemore_harness.drawing.result_text import format_results
    from blemore_harness.scoring.analysis import compare_with_best
    from blemore_pages.api import read_runs, write_report

    reporter = open_reporter()
    contents = read_runs(run_names, runs, data)
    target = write_report(contents, output, figures, thumbnails, data, reporter)
    if form is None:
        click.echo(str(target))
        return
    reporter.log(f"wrote {target}")
    for run in contents:
        adjusted = compare_with_best([each.loaded for each in run.systems]) if len(run.systems) > 1 else None
        click.echo(format_results(run.record, form, adjusted), nl=False)
