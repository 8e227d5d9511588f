"""Commands that analyse finished runs: compare, analyse."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blemore_harness.cli.completion import complete_runs
from blemore_harness.cli.files import reference_option
from blemore_harness.cli.root import cli, data_option, find_run, json_option, open_reporter, runs_option


@cli.command()
@click.argument("first", shell_complete=complete_runs)
@click.argument("second", required=False, shell_complete=complete_runs)
@click.option("--system", help="System to compare [default: the last one of each run].")
@click.option("--second-system", help="System of the SECOND run, or a second one of FIRST [default: as --system].")
@click.option(
    "--thresholds", default="other-folds", show_default=True, metavar="STRATEGY", help="Threshold strategy of both."
)
@data_option
@reference_option
@runs_option
@json_option
def compare(
    first: str, second: str | None, system: str | None, second_system: str | None, thresholds: str, data: Path | None,
    reference: Path | None, runs: Path, as_json: bool,
) -> None:  # fmt: skip
    """Test whether two systems differ significantly.

    FIRST and SECOND are runs on the same clips, or files that `score` takes; without SECOND, two systems of one run
    are compared. The 95 % CI is over actors; p is from a permutation test by actor. A line below the table gives the
    difference that such a comparison finds in 80 % of cases.
    """
    from blemore_harness.api.scores import compare as compare_both
    from blemore_harness.api.scores import is_run
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.analysis_tables import draw_difference

    if second is None and second_system is None:
        raise click.UsageError("expected a SECOND run or file, or --second-system for another system of FIRST")
    named = [name for name in (first, first if second is None else second) if is_run(name)]
    if reference is not None and named:
        raise click.UsageError(f"--reference is for files: '{named[0]}' is a run, compare its submission.zip instead")
    for name in dict.fromkeys(named):
        find_run(runs, name)
    found = compare_both(
        first, second, system=system, second_system=second_system, thresholds=thresholds, data=data,
        reference=reference, runs=runs, reporter=open_reporter(),
    )  # fmt: skip
    click.echo(json.dumps(found, indent=2)) if as_json else answer_console().print(draw_difference(found))


@cli.command()
@click.argument("run", shell_complete=complete_runs)
@click.option("--system", help="System to analyse [default: the last one of the run].")
@data_option
@runs_option
@json_option
def analyse(run: str, system: str | None, data: Path | None, runs: Path, as_json: bool) -> None:
    """Analyse a system's errors, calibration and thresholds.

    RUN is a finished run. All numbers are based on out-of-fold predictions and thresholds of the other folds; --json
    prints all of them.
    """
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.analysis_tables import draw_analysis
    from blemore_harness.scoring.analysis import analyse_system
    from blemore_harness.scoring.reading import load_system

    found = analyse_system(load_system(runs, str(find_run(runs, run)), system, data))
    click.echo(json.dumps(found, indent=2)) if as_json else answer_console().print(draw_analysis(found))
