"""Commands over finished runs: compare two systems, take one apart."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blemore_harness.cli.root import cli, data_option, find_run, json_option, runs_option


@cli.command()
@click.argument("first")
@click.argument("second")
@click.option("--system", help="Which system of both runs [default: the last one of each].")
@click.option("--second-system", help="Which system of the SECOND run [default: as --system].")
@click.option("--thresholds", default="other-folds", show_default=True, metavar="STRATEGY", help="How both decode.")
@data_option
@runs_option
@json_option
def compare(
    first: str, second: str, system: str | None, second_system: str | None, thresholds: str, data: Path | None,
    runs: Path, as_json: bool,
) -> None:  # fmt: skip
    """Test whether two runs differ by more than noise.

    FIRST and SECOND have to be on the same clips. Actors are resampled for the interval; p is from a permutation test
    by actor.
    """
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.analysis_tables import draw_difference
    from blemore_harness.records.analysis import compare_systems
    from blemore_harness.records.reading import load_system

    one = load_system(runs, str(find_run(runs, first)), system, data)
    two = load_system(runs, str(find_run(runs, second)), second_system or system, data)
    found = compare_systems(one, two, thresholds)
    click.echo(json.dumps(found, indent=2)) if as_json else answer_console().print(draw_difference(found))


@cli.command()
@click.argument("run")
@click.option("--system", help="Which system of the run [default: the last one].")
@data_option
@runs_option
@json_option
def analyse(run: str, system: str | None, data: Path | None, runs: Path, as_json: bool) -> None:
    """Break down a system's errors, calibration and thresholds.

    RUN is a finished run. Everything is on out-of-fold probabilities, with thresholds chosen on the
    other folds; --json has every number.
    """
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.analysis_tables import draw_analysis
    from blemore_harness.records.analysis import analyse_system
    from blemore_harness.records.reading import load_system

    found = analyse_system(load_system(runs, str(find_run(runs, run)), system, data))
    click.echo(json.dumps(found, indent=2)) if as_json else answer_console().print(draw_analysis(found))
