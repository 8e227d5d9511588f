"""Commands that run systems: run, prepare, table."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from blemore_harness.cli.completion import complete_fusions, complete_runs, complete_submissions, complete_trackers
from blemore_harness.cli.root import (
    cli,
    data_option,
    device_option,
    find_run,
    json_option,
    keeping_stdout,
    open_reporter,
    plugin_option,
    runs_option,
    seed_option,
    set_option,
    show_trace,
)
from blemore_harness.systems.submission import DEFAULT_FUSION, plain_name

if TYPE_CHECKING:
    from blemore_harness.context import Reporter
    from blemore_harness.drawing.result_text import Form
    from blemore_harness.record.types import Record
    from blemore_harness.running.run import Run
    from blemore_harness.systems.submission import Submission


MOST_MINUTES = 1_000_000
"""Maximum of a time limit (two years)."""


@cli.command()
@click.argument("name", required=False, shell_complete=complete_submissions)
@plugin_option
@click.option(
    "--fusion", metavar="NAME", shell_complete=complete_fusions,
    help=f"Fusion of several encoders [default: {DEFAULT_FUSION}].",
)  # fmt: skip
@click.option(
    "--thresholds", metavar="STRATEGY",
    help="Threshold strategy for test clips [default: the submission's, else by cross-fitted Scores].",
)  # fmt: skip
@set_option
@seed_option
@device_option
@click.option("--skip-bad-clips", is_flag=True, help="Leave out unusable clips; results are then not comparable.")
@click.option("--fold-seed", type=int, default=0, show_default=True, help="Seed of the folds if the metadata has none.")
@click.option("--isolate", is_flag=True, help="Run plugins in worker processes, so that a crash does not end the run.")
@click.option(
    "--time-limit", type=click.FloatRange(min=0, min_open=True), metavar="MINUTES",
    help="With --isolate: limit for a fold, and for a preparation without progress [default: none].",
)  # fmt: skip
@click.option(
    "--keep-models", type=click.Choice(["final", "all", "none"]), default="final", show_default=True,
    help="Models that are kept: of the final fits, which `predict` needs; of all folds; or none.",
)  # fmt: skip
@click.option(
    "--track", default="", metavar="NAME,NAME,...", shell_complete=complete_trackers,
    help="Experiment trackers that are told of the run; `blemore-harness plugins` lists them.",
)  # fmt: skip
@data_option
@runs_option
@json_option
def run(
    name: str | None, plugins: tuple[str, ...], fusion: str | None, thresholds: str | None, settings: tuple[str, ...],
    seed: int | None, device: str, skip_bad_clips: bool, fold_seed: int, isolate: bool, time_limit: float | None,
    keep_models: Literal["final", "all", "none"], track: str, data: Path | None, runs: Path, as_json: bool,
) -> int:  # fmt: skip
    """Train, fuse and score encoders or a submission.

    Expects the NAME of a submission, or a list of plugins. If the command is repeated, finished folds are reused.
    """
    from blemore_harness.pipeline import evaluate, evaluate_without_bad_clips
    from blemore_harness.record.types import FailedSystem
    from blemore_harness.running.isolation import Isolation

    if time_limit is not None and not isolate:
        raise click.UsageError("--time-limit requires --isolate: only worker processes can be stopped")
    if time_limit is not None and not 0 < time_limit <= MOST_MINUTES:  # NaN is neither
        raise click.UsageError(f"--time-limit expects minutes, found {time_limit}: omit it for no limit")
    isolation = Isolation(time_limit and time_limit * 60) if isolate else None
    work = evaluate_without_bad_clips if skip_bad_clips else evaluate
    with keeping_stdout():
        opened = open_planned_run(
            "run", name, plugins, fusion, thresholds, settings, seed, device, fold_seed, data, runs, track
        )
        record, folder = work(replace(opened, isolation=isolation, keep_models=keep_models))
    for system in record.systems:
        if isinstance(system, FailedSystem):
            show_trace(system.error.trace)
    if as_json:
        click.echo(json.dumps(record.to_json(), indent=2))
    else:
        _show_results(record, folder, data)
    return 0 if record.status == "finished" else 3


@cli.command()
@click.argument("name", required=False, shell_complete=complete_submissions)
@plugin_option
@click.option(
    "--export", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
    help="Also write frame-level features to FOLDER in the layout of the released ones.",
)  # fmt: skip
@set_option
@device_option
@data_option
@runs_option
@json_option
def prepare(
    name: str | None, plugins: tuple[str, ...], export: Path | None, settings: tuple[str, ...], device: str,
    data: Path | None, runs: Path, as_json: bool,
) -> int:  # fmt: skip
    """Download weights and extract features before a run.

    Expects the NAME of a submission, or a list of plugins. An interrupted preparation continues with the next clip.
    """
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.tables import draw_rows
    from blemore_harness.running.preparation import prepare_ahead

    with keeping_stdout():
        opened = open_planned_run("prepare", name, plugins, None, None, settings, None, device, 0, data, runs)
        rows = prepare_ahead(opened, export)
    click.echo(json.dumps(rows, indent=2)) if as_json else answer_console().print(draw_rows(rows))
    return 0 if all(row["status"] == "ready" for row in rows) else 3


@cli.command()
@click.argument("run", shell_complete=complete_runs)
@click.option("--check", is_flag=True, help="Compare the official numbers with published ones; exit 1 if they differ.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["latex", "markdown", "csv"]),
    help="Print the table for a paper or for another program, with significance marks.",
)
@data_option
@runs_option
@json_option
def table(run: str, check: bool, form: Form | None, data: Path | None, runs: Path, as_json: bool) -> int:
    """Show the results of a run again.

    With --check they are compared with the published ones. RUN is the name or folder of a run.
    """
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.published import draw_comparison
    from blemore_harness.drawing.tables import draw_results
    from blemore_harness.files.runs import read_record
    from blemore_harness.scoring.published import compare_with_published

    if form is not None and (check or as_json):
        raise click.UsageError("expected --format by itself, found --check or --json beside it")
    folder = find_run(runs, run)
    record = read_record(folder)
    if form is not None:
        click.echo(_format_table(record, folder, form, data), nl=False)
        return 0
    rows = compare_with_published(record) if check else []
    drawn = draw_comparison(record, rows) if check else draw_results(record)
    if as_json:
        click.echo(json.dumps(rows if check else record.to_json(), indent=2))
    else:
        answer_console().print(drawn)
    return 0 if all(row["agrees"] for row in rows) else 1


def _format_table(record: Record, folder: Path, form: Form, data: Path | None) -> str:
    """Return the table as text; where the predictions cannot be compared, say why, and mark nothing."""
    from blemore_harness.drawing.result_text import format_results
    from blemore_harness.errors import DataError, RunError
    from blemore_harness.scoring.analysis import compare_with_best
    from blemore_harness.scoring.reading import load_run

    adjusted = None
    if len(record.finished) > 1:
        try:
            adjusted = compare_with_best(load_run(folder.parent, str(folder), data))
        except (DataError, RunError) as error:
            open_reporter().warn(f"no significance marks: {error}")
    return format_results(record, form, adjusted)


def open_planned_run(
    verb: str, name: str | None, plugins: tuple[str, ...], fusion: str | None, thresholds: str | None,
    settings: tuple[str, ...], seed: int | None, device: str, fold_seed: int, data: Path | None, runs: Path,
    track: str = "",
) -> Run:  # fmt: skip
    """Validate the arguments of a command and open the dataset."""
    from blemore_harness.cli.opening import open_dataset
    from blemore_harness.data.download import is_demo
    from blemore_harness.data.opening import open_blinded
    from blemore_harness.disk import cache_root
    from blemore_harness.drawing.tables import render_text
    from blemore_harness.networks import resolve_device
    from blemore_harness.options import parse_settings
    from blemore_harness.running.run import open_run
    from blemore_harness.scoring.test_clips import find_strategy
    from blemore_harness.systems.plugins import load_plugins
    from blemore_harness.systems.resolved import find_systems

    if (name is None) == (not plugins):
        raise click.UsageError(f"expected the NAME of a submission or --plugin, as in: {verb} --plugin s4d,wav2vec2")
    if name is not None and fusion is not None:
        raise click.UsageError(f"--fusion requires --plugin: the submission '{name}' defines its own fusion")
    reporter = open_reporter()
    submission = _find(name, plugins, fusion, reporter).with_options(parse_settings(settings), seed, thresholds)
    if submission.thresholds is not None:
        find_strategy(submission.thresholds)
    offered = load_plugins()
    if fusion is not None and submission.fusion is None:
        offered.fusion(plain_name(fusion))
        reporter.warn(f"--fusion {fusion} is ignored: there is only one encoder")
    # Before anything slow, so that a misspelt name, a wrong value or a missing GPU fails at once.
    found = find_systems(submission, offered, is_demo(data))
    offered.track(filter(None, map(str.strip, track.split(","))))
    if device == "cuda":
        resolve_device(device)
    dataset = open_dataset(data, reporter, fold_seed)
    blinded = open_blinded(dataset, reporter)
    return open_run(
        submission, offered, dataset, blinded, runs, cache_root() / "arrays", reporter, device, found,
        command=tuple(sys.argv), draw=render_text, show=reporter.show,
    )  # fmt: skip


def _find(name: str | None, plugins: tuple[str, ...], fusion: str | None, reporter: Reporter) -> Submission:
    from blemore_harness.systems.submission import find_submission, from_plugins

    if name is None:
        return from_plugins(plugins, DEFAULT_FUSION if fusion is None else fusion)
    submission, remark = find_submission(name, Path.cwd())
    if remark:
        reporter.warn(remark)
    return submission


def _show_results(record: Record, folder: Path, data: Path | None) -> None:
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.tables import draw_next_steps, draw_results

    console = answer_console()
    console.print(draw_results(record))
    console.print(draw_next_steps(record, folder, data), soft_wrap=True)
