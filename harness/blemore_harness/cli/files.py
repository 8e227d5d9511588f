"""Commands for files and folders: score, submit, data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blemore_harness.cli.completion import complete_runs
from blemore_harness.cli.root import cli, data_option, find_run, json_option, open_reporter, runs_option
from blemore_harness.errors import BlemoreError, printable

if TYPE_CHECKING:
    from blemore_harness.files.scoring import Reference


reference_option = click.option(
    "--reference", type=click.Path(path_type=Path), metavar="FILE",
    help="Score by the labels in this file, in the format of train_metadata.csv.",
)  # fmt: skip
"""`--reference`: a path or None, as `reference`."""


@cli.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@data_option
@reference_option
@click.option("--fold", type=int, help="Score the clips of this fold [default: all training clips].")
@click.option("--alpha", type=float, help="Presence threshold [default: best on the official grid].")
@click.option("--beta", type=float, help="Salience threshold [default: best on the official grid].")
@json_option
def score(
    files: tuple[Path, ...], data: Path | None, reference: Path | None, fold: int | None, alpha: float | None,
    beta: float | None, as_json: bool,
) -> int:  # fmt: skip
    """Score files of probabilities or decoded labels.

    FILES hold probabilities (.csv, .npz) or decoded labels (.json, or .zip as for Codabench) of the training clips, or
    of the clips of --reference. The 95 % CI is over actors.
    """
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.score_tables import draw_scores, render_score
    from blemore_harness.scoring.intervals import LEVEL
    from blemore_harness.scoring.ranking import score_file

    labels = open_reference(data, reference, fold)
    if len(files) == 1:
        result = score_file(files[0], labels, alpha, beta)
        click.echo(json.dumps(result, indent=2) if as_json else render_score(result))
        return 0
    rows: list[dict[str, Any]] = []
    for file in files:
        try:
            rows.append({"file": str(file), **score_file(file, labels, alpha, beta)})
        except BlemoreError as error:
            rows.append({"file": str(file), "error": str(error)})
    if as_json:
        click.echo(json.dumps({"files": rows}, indent=2))
    else:
        answer_console().print(draw_scores(rows, labels.where, LEVEL))
    return int(any("error" in row for row in rows))


def open_reference(data: Path | None, reference: Path | None, fold: int | None = None) -> Reference:
    """Return the labels to score by, as `api.scores.open_reference`.

    Raises:
        UsageError: a file and a fold.
    """
    from blemore_harness.api import scores

    if reference is not None and fold is not None:
        raise click.UsageError("--fold is a fold of the dataset of --data: leave it out with --reference")
    return scores.open_reference(data, reference, fold, open_reporter())


@cli.command()
@click.argument("targets", nargs=-1, metavar="RUN", shell_complete=complete_runs)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File or folder to copy the zip file to.")
@click.option("--check", is_flag=True, help="Check leaderboard files instead: submit --check FILE...")
@data_option
@runs_option
@json_option
def submit(
    targets: tuple[str, ...], output: Path | None, check: bool, data: Path | None, runs: Path, as_json: bool
) -> int:
    """Write or check a leaderboard file for Codabench.

    Writes the file of a RUN, or checks files and lists every reason why Codabench would reject one.
    The exit code is 1 if one would be rejected. With --data, missing test clips of the dataset are listed as well.
    """
    from blemore_harness.api.listing import check_submissions
    from blemore_harness.files.leaderboard import check_submission
    from blemore_harness.files.runs import copy_submission, read_record
    from blemore_harness.protocol.rules import TEST_CLIPS, official_test_ids

    if not targets or (len(targets) > 1 and not check):
        raise click.UsageError("expected either one RUN or --check FILE...")
    if check:
        found = check_submissions(targets, data)
        ready = f"ready to upload, valid labels for all {TEST_CLIPS} test clips"
        return _answer_check(found, ready, as_json)
    folder = find_run(runs, targets[0])
    record = read_record(folder)
    written, caveat = copy_submission(folder, record, output), record.caveat
    if record.data.demo:
        return _answer_run(written, f"do not upload this file to Codabench ({caveat})", False, as_json)
    if problems := check_submission(written, official_test_ids()):
        return _answer_check({str(written): [*map(str, problems)]}, "", as_json)
    said = f" and report this caveat with the result: {caveat}" if caveat else ""
    return _answer_run(written, f"upload this file to Codabench{said}", True, as_json)


def _answer_check(found: Mapping[str, list[str]], ready: str, as_json: bool) -> int:
    """Print what is wrong with each file; return the exit code."""
    if as_json:
        files = [{"file": file, "accepted": not reasons, "problems": reasons} for file, reasons in found.items()]
        click.echo(json.dumps({"files": files}, indent=2))
    for file, reasons in () if as_json else found.items():
        for reason in reasons:
            click.echo(printable(f"{file}: {reason}" if len(found) > 1 else reason))
        verdict = "Codabench would reject this file for the reasons above" if reasons else ready
        click.echo(printable(f"{file}: {verdict}"))
    return int(any(found.values()))


def _answer_run(written: Path, said: str, upload: bool, as_json: bool) -> int:
    """Print what to do with the file of a run; return the exit code."""
    answer = json.dumps({"file": str(written), "upload": upload, "message": said}, indent=2)
    click.echo(answer if as_json else printable(f"{written}: {said}"))
    return 0


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
    from blemore_harness.api.listing import inspect
    from blemore_harness.data.inspection import render_inspection

    found = inspect(folder, audio, decode, open_reporter())
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
