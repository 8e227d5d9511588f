"""Commands that analyse finished runs: compare, analyse."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blemore_harness.cli.root import cli, data_option, find_run, json_option, runs_option


@cli.command()
@click.argument("first")
@click.argument("second")
@click.option("--system", help="System to compare [default: the last one of each run].")
@click.option("--second-system", help="System of the SECOND run [default: as --system].")
@click.option(
    "--thresholds", default="other-folds", show_default=True, metavar="STRATEGY", help="Threshold strategy of both."
)
@data_option
@runs_option
@json_option
def compare(
    first: str, second: str, system: str | None, second_system: str | None, thresholds: str, data: Path | None,
    runs: Path, as_json: bool,
) -> None:  # fmt: skip
    """Test whether two runs differ significantly.

    FIRST and SECOND must be runs on the same clips. The 95 % CI is over actors; p is from a permutation test by
    actor. A line below the table gives the difference that such a comparison finds in 80 % of cases.
    """
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.analysis_tables import draw_difference
    from blemore_harness.scoring.analysis import compare_systems
    from blemore_harness.scoring.reading import load_system

    one = load_system(runs, str(find_run(runs, first)), system, data)
    two = load_system(runs, str(find_run(runs, second)), second_system or system, data)
    found = compare_systems(one, two, thresholds)
    click.echo(json.dumps(found, indent=2)) if as_json else answer_console().print(draw_difference(found))


@cli.command()
@click.argument("run")
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
