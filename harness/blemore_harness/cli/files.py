"""Commands for files and folders: score, submit, data."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blemore_harness.cli.completion import complete_runs
from blemore_harness.cli.root import cli, data_option, find_run, json_option, open_reporter, runs_option
from blemore_harness.errors import first_and_count, printable


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@data_option
@click.option("--fold", type=int, help="Score the clips of this fold [default: all training clips].")
@click.option("--alpha", type=float, help="Presence threshold [default: best on the official grid].")
@click.option("--beta", type=float, help="Salience threshold [default: best on the official grid].")
@json_option
def score(
    file: Path, data: Path | None, fold: int | None, alpha: float | None, beta: float | None, as_json: bool
) -> None:
    """Score a file of probabilities or decoded labels.

    FILE holds probabilities (.csv, .npz) or decoded labels (.json) of training clips.
    """
    from blemore_harness.cli.opening import open_labels
    from blemore_harness.files.scoring import render_score, score_file

    result = score_file(file, open_labels(data, open_reporter()), fold, alpha, beta)
    click.echo(json.dumps(result, indent=2) if as_json else render_score(result, chosen=alpha is None))


@cli.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File or folder to copy the zip file to.")
@click.option(
    "--check",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check this leaderboard file instead of writing one.",
)
@data_option
@runs_option
def submit(run: str | None, output: Path | None, check: Path | None, data: Path | None, runs: Path) -> int:
    """Write or check a leaderboard file for Codabench.

    Writes the file of a RUN, or checks FILE and lists every reason why Codabench would reject it.
    The exit code is 1 if it would be rejected. With --data, missing test clips of the dataset are listed as well.
    """
    from blemore_harness.files.leaderboard import check_submission
    from blemore_harness.files.runs import copy_submission, read_record
    from blemore_harness.protocol.rules import TEST_CLIPS, official_test_ids

    if (run is None) == (check is None):
        raise click.UsageError("expected either a RUN or --check FILE")
    if check is not None:
        gap = [] if data is None else _describe_gap(data)
        if problems := check_submission(check, official_test_ids()):
            return _refuse_upload(check, [*map(str, problems), *gap])
        click.echo(printable(f"{check}: ready to upload, valid labels for all {TEST_CLIPS} test clips"))
        return 0
    folder = find_run(runs, str(run))
    record = read_record(folder)
    written, caveat = copy_submission(folder, record, output), record.caveat
    if record.data.demo:
        click.echo(printable(f"{written}: do not upload this file to Codabench ({caveat})"))
        return 0
    if problems := check_submission(written, official_test_ids()):
        return _refuse_upload(written, [*map(str, problems)])
    said = f" and report this caveat with the result: {caveat}" if caveat else ""
    click.echo(printable(f"{written}: upload this file to Codabench{said}"))
    return 0


def _refuse_upload(file: Path, reasons: list[str]) -> int:
    for reason in reasons:
        click.echo(printable(reason))
    click.echo(printable(f"{file}: Codabench would reject this file for the reasons above"))
    return 1


def _describe_gap(data: Path) -> list[str]:
    """Return how the test clips of a dataset explain an invalid leaderboard file."""
    from blemore_harness.cli.opening import open_dataset
    from blemore_harness.data.inspection import find_missing_test_clips

    dataset = open_dataset(data, open_reporter())
    missing = find_missing_test_clips(dataset)
    if dataset.demo:
        return [f"{data} is the generated demo dataset: Codabench does not know its clips"]
    return [f"{data} lacks {first_and_count(missing, 'test clip')}: download the missing files"] if missing else []


@cli.group()
def data() -> None:
    """Check a BLEMORE download, or write the demo dataset."""


@data.command("check")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--audio", is_flag=True, help="Decode all audio and report silent and damaged clips.")
@click.option("--decode", is_flag=True, help="Decode every clip, frames and audio, and list broken ones.")
@json_option
def data_check(folder: Path, audio: bool, decode: bool, as_json: bool) -> int:
    """Report what a download contains and what is missing.

    Counts clips, actors, folds, labels, videos and features in FOLDER. With --decode the exit code is 1 where a clip is
    broken.
    """
    from blemore_harness.data.download import read_dataset
    from blemore_harness.data.inspection import inspect_audio, inspect_dataset, inspect_videos, render_inspection

    dataset = read_dataset(folder)
    found = inspect_dataset(dataset) | ({"audio": inspect_audio(dataset)} if audio else {})
    if decode:
        found |= {"decoded": inspect_videos(dataset, open_reporter())}
    click.echo(json.dumps(found, indent=2) if as_json else render_inspection(found))
    return 1 if decode and found["decoded"]["broken"] else 0


@data.command("demo")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the generated actors and clips.")
def data_demo(folder: Path, seed: int) -> None:
    """Write the generated demo dataset.

    FOLDER gets video files of drawn faces with synthesised voices.
    """
    from blemore_harness.demo.opening import make_demo

    make_demo(folder, open_reporter(), seed)
    click.echo(f"{folder}: complete; run with --data {folder}")
