"""Commands that analyse finished runs: compare, analyse."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blemore_harness.cli.completion import complete_runs
from blemore_harness.cli.files import open_reference, reference_option
from blemore_harness.cli.root import cli, data_option, find_run, json_option, runs_option


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
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.analysis_tables import draw_difference
    from blemore_harness.scoring.analysis import compare_systems
    from blemore_harness.scoring.loaded_files import labels_of, load_file
    from blemore_harness.scoring.reading import load_system

    if second is None and second_system is None:
        raise click.UsageError("expected a SECOND run or file, or --second-system for another system of FIRST")
    names = (first, first if second is None else second)
    paths = [Path(name) if is_score_file(name) else None for name in names]
    if reference is not None and None in paths:
        run = names[paths.index(None)]
        raise click.UsageError(f"--reference is for files: '{run}' is a run, compare its submission.zip instead")
    loaded = [
        None if path else load_system(runs, str(find_run(runs, name)), chosen, data)
        for path, name, chosen in zip(paths, names, (system, second_system or system), strict=True)
    ]
    run_of_both = loaded[0] or loaded[1]
    labels = open_reference(data, reference) if run_of_both is None else labels_of(run_of_both)
    one, two = (
        each if each is not None else load_file(Path(name), labels) for each, name in zip(loaded, names, strict=True)
    )
    found = compare_systems(one, two, thresholds)
    click.echo(json.dumps(found, indent=2)) if as_json else answer_console().print(draw_difference(found))


def is_score_file(name: str) -> bool:
    """Return whether an argument names a file that can be scored, and not a run by its record."""
    from blemore_harness.files.runs import RECORD_FILE
    from blemore_harness.files.scoring import ENDINGS

    path = Path(name)
    return path.suffix.lower() in ENDINGS and path.name != RECORD_FILE


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
