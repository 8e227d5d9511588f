"""The command line: the only module that prints or exits. stdout is the answer, stderr is the story."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from blemore_harness.devices import CHOICES
from blemore_harness.errors import ConfigError, HarnessError, printable

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="BLEMORE_DATA",
    help="Folder of a BLEMORE download [BLEMORE_DATA].",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout.")
runs_option = click.option(
    "--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("blemore-runs"), show_default=True,
    envvar="BLEMORE_RUNS", help="Where runs are kept [BLEMORE_RUNS].",
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="blemore-harness")
def cli() -> None:
    """Evaluate systems on the BLEMORE challenge by its official protocol.

    Try `blemore-harness run --plugin s4d,wav2vec2,gemini`: it needs no data, weights or key.
    """


@cli.command()
@click.argument("name", required=False)
@click.option("--plugin", "plugins", multiple=True, metavar="A,B,...", help="Encoders to run, separated by commas.")
@click.option("--fusion", default="late", show_default=True, help="How several encoders are fused.")
@click.option("--set", "settings", multiple=True, metavar="PLUGIN.OPTION=VALUE", help="Set an option of a plugin.")
@click.option("--seed", type=int, help="Base seed of everything random [default: the submission's, else 0].")
@click.option("--device", type=click.Choice(CHOICES), default="auto", show_default=True)
@click.option("--fold-seed", type=int, default=0, help="Seed of the folds made where the metadata has none.")
@data_option
@runs_option
@json_option
def run(
    name: str | None, plugins: tuple[str, ...], fusion: str, settings: tuple[str, ...], seed: int | None, device: str,
    fold_seed: int, data: Path | None, runs: Path, as_json: bool,
) -> int:  # fmt: skip
    """Train, fuse and score a system: a submission NAME, or a list of plugins.

    The same command again takes what is finished from disk.
    """
    from blemore_harness.cache import Cache
    from blemore_harness.devices import resolve_device
    from blemore_harness.entrants import resolve_entrants
    from blemore_harness.options import parse_settings
    from blemore_harness.pipeline import Workshop, evaluate
    from blemore_harness.places import cache_root, is_demo, open_dataset, open_dataset_view
    from blemore_harness.plugins import load_plugins
    from blemore_harness.runs import Runs
    from blemore_harness.submission import find_submission, from_plugins
    from blemore_harness.terminal import open_reporter

    if (name is None) == (not plugins):
        raise click.UsageError("give either the NAME of a submission or --plugin, as in: run --plugin s4d,wav2vec2")
    reporter = open_reporter()
    if name is None:
        submission = from_plugins(plugins, fusion)
    else:
        submission, remark = find_submission(name, Path.cwd())
        if remark:
            reporter.warn(remark)
    submission = submission.with_options(parse_settings(settings), seed)
    found = load_plugins()
    # Before anything slow: a misspelt name, a wrong value or a missing GPU should fail at once.
    resolve_entrants(submission, found, view=None, demo=is_demo(data))
    resolve_device(device)
    dataset = open_dataset(data, reporter, fold_seed)
    view = open_dataset_view(dataset, reporter)
    workshop = Workshop(Runs(runs), Cache(cache_root() / "arrays"), device, reporter, tuple(sys.argv))
    record, folder = evaluate(submission, dataset, view, found, workshop)
    if as_json:
        click.echo(json.dumps(record, indent=2, ensure_ascii=False))
    else:
        _show_results(record, folder, data)
    return 0 if record["status"] == "finished" else 3


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@data_option
@click.option("--fold", type=int, help="Expect exactly this fold's clips.")
@click.option("--alpha", type=float, help="Presence threshold [default: chosen on the official grid, on these clips].")
@click.option("--beta", type=float, help="Salience threshold [default: likewise].")
@json_option
def score(
    file: Path, data: Path | None, fold: int | None, alpha: float | None, beta: float | None, as_json: bool
) -> None:
    """Score probabilities (.csv, .npz) or decoded labels (.json) of training clips."""
    from blemore_harness.places import open_labels
    from blemore_harness.scoring import render_score, score_file
    from blemore_harness.terminal import open_reporter

    result = score_file(file, open_labels(data, open_reporter()), fold, alpha, beta)
    click.echo(json.dumps(result, indent=2) if as_json else render_score(result, chosen=alpha is None))


@cli.command()
@click.argument("run", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write the zip.")
@click.option("--check", type=click.Path(path_type=Path), metavar="FILE", help="Check a leaderboard file instead.")
@data_option
@runs_option
def submit(run: str | None, output: Path | None, check: Path | None, data: Path | None, runs: Path) -> int:
    """Write a RUN's leaderboard file for Codabench, or --check one: every reason that it would be rejected."""
    from blemore_harness.leaderboard import check_submission, official_test_ids
    from blemore_harness.places import open_dataset
    from blemore_harness.runs import Runs, copy_submission
    from blemore_harness.terminal import open_reporter

    if (run is None) == (check is None):
        raise click.UsageError("give either a RUN, or --check FILE")
    if check is None:
        written, mark = copy_submission(Runs(runs).find(str(run)), output)
        click.echo(
            f"{written}: upload this file to Codabench" if not mark else f"{written} ({mark}: not for Codabench)"
        )
        return 0
    expected = official_test_ids() if data is None else open_dataset(data, open_reporter()).test_ids
    if not expected:
        raise ConfigError(f"no test clips in {data}: without --data, the official test clips are expected")
    problems = check_submission(check, expected)
    for problem in problems:
        click.echo(printable(str(problem)))
    if not problems:
        click.echo(f"{check}: ready to upload, all {len(expected)} test clips with valid labels")
    return 1 if problems else 0


@cli.group()
def data() -> None:
    """Look at a BLEMORE download, or write the demo dataset."""


@data.command("check")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def data_check(folder: Path, as_json: bool) -> None:
    """Print what a download holds: clips, actors, folds, labels, media and features, present and missing."""
    from blemore_harness.download import read_dataset
    from blemore_harness.inspection import inspect_dataset, render_inspection

    found = inspect_dataset(read_dataset(folder))
    click.echo(json.dumps(found, indent=2) if as_json else render_inspection(found))


@data.command("demo")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed draws other actors and clips.")
def data_demo(folder: Path, seed: int) -> None:
    """Write the generated demo dataset: real video files of drawn faces with synthesised voices."""
    from blemore_harness.places import make_demo
    from blemore_harness.terminal import open_reporter

    make_demo(folder, open_reporter(), seed)
    click.echo(f"{folder}: complete; run with --data {folder}")


@cli.command("plugins")
@json_option
def list_plugins(as_json: bool) -> None:
    """List encoders and fusions, who offers them, and plugins that failed to load."""
    from dataclasses import asdict

    from blemore_harness.plugins import load_plugins
    from blemore_harness.tables import draw_rows
    from blemore_harness.terminal import answer_console

    rows = [asdict(row) for row in load_plugins().rows()]
    click.echo(json.dumps(rows, indent=2)) if as_json else answer_console().print(draw_rows(rows))


@cli.command("submissions")
@json_option
def show_submissions(as_json: bool) -> None:
    """List the named systems that ship with the harness, for `run NAME`."""
    from blemore_harness.submission import list_submissions
    from blemore_harness.tables import draw_rows
    from blemore_harness.terminal import answer_console

    rows = [
        {"name": s.name, "encoders": ", ".join(s.encoders), "fusion": s.fusion or "", "summary": s.summary}
        for s in list_submissions()
    ]
    click.echo(json.dumps(rows, indent=2)) if as_json else answer_console().print(draw_rows(rows))


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    # Schedulers end a job with SIGTERM: it leaves a usable run as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: what was finished is kept, the same command resumes", err=True)
        code = INTERRUPTED
    except HarnessError as error:
        click.echo(f"error: {printable(str(error))}", err=True)
        code = error.exit_code
    except BrokenPipeError:
        # The reader of stdout went away, as `| head` does; nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        # A disk that is full, a folder without permission: the machine's answer, not a bug.
        if error.filename is None and error.errno is None:
            raise
        click.echo(f"error: {printable(str(error))}", err=True)
        code = HarnessError.exit_code
    sys.exit(code if isinstance(code, int) else 0)


def _show_results(record: dict[str, Any], folder: Path, data: Path | None) -> None:
    from blemore_harness.tables import draw_next_steps, draw_results
    from blemore_harness.terminal import answer_console

    console = answer_console()
    console.print(draw_results(record))
    console.print(draw_next_steps(record, folder, data), soft_wrap=True)
