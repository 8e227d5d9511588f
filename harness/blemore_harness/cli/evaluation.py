"""Commands that run systems: run, prepare, table."""

from __future__ import annotations

import json
import re
import sys
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
from blemore_harness.systems.submission import DEFAULT_FUSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blemore_harness.api.run import Run as EndedRun
    from blemore_harness.drawing.result_text import Form
    from blemore_harness.record.types import Record
    from blemore_harness.running.run import Run


jobs_option = click.option(
    "--jobs", metavar="N|auto", envvar="BLEMORE_JOBS",
    help="Workers at the same time; 1 is this process [BLEMORE_JOBS; default: auto, as this machine has room for].",
)  # fmt: skip

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
@click.option(
    "--seeds", "seeds_text", metavar="N|A,B,...",
    help="Several runs: N base seeds, counted from the base seed, or a list of them; shows means over seeds.",
)  # fmt: skip
@click.option(
    "--average", is_flag=True, help="With --seeds: also score the mean of an encoder's probabilities over them."
)
@device_option
@click.option("--skip-bad-clips", is_flag=True, help="Leave out unusable clips; results are then not comparable.")
@click.option("--fold-seed", type=int, default=0, show_default=True, help="Seed of the folds if the metadata has none.")
@jobs_option
@click.option(
    "--executor",
    metavar="NAME",
    default="local",
    show_default=True,
    help="What starts the workers: local on this machine, or another one; `blemore-harness plugins` lists them.",
)
@click.option(
    "--executor-options", "executor_texts", metavar="KEY=VALUE,...", multiple=True,
    help="Options of the executor, such as partition=gpu,time=4:00:00.",
)  # fmt: skip
@click.option(
    "--detach", is_flag=True, help="Have the executor carry out the harness as well, and return at once (slurm)."
)
@click.option("--isolate", is_flag=True, help="Run every fold in a worker process of its own, for plugins that crash.")
@click.option(
    "--time-limit", type=click.FloatRange(min=0, min_open=True), metavar="MINUTES",
    help="With --isolate: limit for a fold, and for a preparation without progress [default: none].",
)  # fmt: skip
@click.option(
    "--keep-models", type=click.Choice(["final", "all", "none"]),
    help="Models that are kept: of the final fit on all training clips, which `predict` needs; of all folds, too; or "
    "none [default: final, where test clips call for that fit].",
)  # fmt: skip
@click.option(
    "--track", default="", metavar="NAME,NAME,...", shell_complete=complete_trackers,
    help="Experiment trackers that are told of the run; `blemore-harness plugins` lists them.",
)  # fmt: skip
@click.option(
    "--extra-train", multiple=True, metavar="NAME:FOLDER",
    help="Train every fold on another corpus too (external data); repeatable; `blemore-harness plugins` lists corpora.",
)  # fmt: skip
@data_option
@runs_option
@json_option
def run(
    name: str | None, plugins: tuple[str, ...], fusion: str | None, thresholds: str | None, settings: tuple[str, ...],
    seed: int | None, seeds_text: str | None, average: bool, device: str, skip_bad_clips: bool, fold_seed: int,
    jobs: str | None, executor: str, executor_texts: tuple[str, ...], detach: bool, isolate: bool,
    time_limit: float | None, keep_models: Literal["final", "all", "none"] | None, track: str,
    extra_train: tuple[str, ...],
    data: Path | None, runs: Path, as_json: bool,
) -> int:  # fmt: skip
    """Train, fuse and score encoders or a submission.

    Expects the NAME of a submission, or a list of plugins. If the command is repeated, finished folds are reused.
    """
    from blemore_harness.api.evaluation import detach_run, evaluate_run

    if time_limit is not None and not isolate:
        raise click.UsageError("--time-limit requires --isolate: only worker processes can be stopped")
    if time_limit is not None and not 0 < time_limit <= MOST_MINUTES:  # NaN is neither
        raise click.UsageError(f"--time-limit expects minutes, found {time_limit}: omit it for no limit")
    options = _read_executor_options(executor_texts)
    if average and seeds_text is None:
        raise click.UsageError("--average requires --seeds: one run has nothing to average over")
    if seeds_text is not None:
        _read_seeds(seeds_text, 0)  # refuses before anything slow

    def work(run: Run) -> EndedRun:
        return evaluate_run(run, keep_models, isolate, time_limit, skip_bad_clips, jobs, executor, options)

    with keeping_stdout():
        opened = open_named_run(
            "run", name, plugins, fusion, thresholds, settings, seed, device, fold_seed, data, runs, track, extra_train
        )
    if detach:
        click.echo(detach_run(opened, [word for word in sys.argv[1:] if word != "--detach"], executor, options))
        return 0
    if seeds_text is not None:
        return _run_seeds(opened, work, _read_seeds(seeds_text, opened.submission.seed), average, data, as_json)
    with keeping_stdout():
        ended = work(opened)
    record, folder = ended.record, ended.folder
    _show_traces(record)
    if as_json:
        click.echo(json.dumps(record.to_json(), indent=2))
    else:
        _show_results(record, folder, data)
    return 0 if record.status == "finished" else 3


def _read_executor_options(texts: tuple[str, ...]) -> dict[str, str]:
    """Read `partition=gpu,gres=gpu:1`; a comma that no `key=` follows belongs to the value before it."""
    found = {}
    for part in (part for text in texts for part in re.split(r",(?=[\w-]+=)", text)):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise click.UsageError(f"--executor-options expects key=value,..., found '{part}'")
        found[key.strip()] = value.strip()
    return found


def _read_seeds(text: str, base: int) -> tuple[int, ...]:
    """Read `5` as the five seeds from the base seed on, and `0,1,7` as these."""
    from blemore_harness.api.seeds import SEEDS_EXPECTED, list_seeds
    from blemore_harness.errors import ConfigError

    try:
        numbers = [int(part) for part in text.strip().strip(",").split(",")]
        return list_seeds(numbers if "," in text else numbers[0], base)
    except (ValueError, ConfigError) as error:
        raise click.UsageError(f"--seeds expects {SEEDS_EXPECTED}; found '{text}'") from error


def _run_seeds(
    opened: Run, work: Callable[[Run], EndedRun], seeds: tuple[int, ...], average: bool, data: Path | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Run a submission with each of several base seeds, and show what they have in common."""
    from blemore_harness.api.seeds import evaluate_seeds
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.seed_table import draw_seeds
    from blemore_harness.record.encoding import to_json

    with keeping_stdout():
        found = evaluate_seeds(opened, work, seeds, average)
    records = {seed: run.record for seed, run in found.runs.items()}
    last = found.average
    ended = [*records.values(), *([] if last is None else [last.record])]
    for record in ended:
        _show_traces(record)
    if as_json:
        content = {
            "seeds": to_json(found.scores()),
            "runs": [record.to_json() for record in records.values()],
            "average": None if last is None else last.record.to_json(),
        }
        click.echo(json.dumps(content, indent=2))
    else:
        console = answer_console()
        console.print(draw_seeds(records, len(seeds)))
        for seed, run in found.runs.items():
            console.print(f"seed {seed}   {run.folder / 'record.json'}", soft_wrap=True)
        if last is not None:
            _show_results(last.record, last.folder, data)
    return 0 if all(record.status == "finished" for record in ended) else 3


def _show_traces(record: Record) -> None:
    """Show the tracebacks of the systems that failed, with `--verbose`."""
    from blemore_harness.record.types import FailedSystem

    for system in record.systems:
        if isinstance(system, FailedSystem):
            show_trace(system.error.trace)


@cli.command()
@click.argument("name", required=False, shell_complete=complete_submissions)
@plugin_option
@click.option(
    "--export", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
    help="Also write frame-level features to FOLDER in the layout of the released ones.",
)  # fmt: skip
@set_option
@device_option
@jobs_option
@data_option
@runs_option
@json_option
def prepare(
    name: str | None, plugins: tuple[str, ...], export: Path | None, settings: tuple[str, ...], device: str,
    jobs: str | None, data: Path | None, runs: Path, as_json: bool,
) -> int:  # fmt: skip
    """Download weights and extract features before a run.

    Expects the NAME of a submission, or a list of plugins. An interrupted preparation continues with the next clip.
    """
    from blemore_harness.api.evaluation import prepare_with_workers
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.tables import draw_rows

    with keeping_stdout():
        opened = open_named_run("prepare", name, plugins, None, None, settings, None, device, 0, data, runs)
        rows = prepare_with_workers(opened, export, jobs)
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
    from blemore_harness.drawing.seed_table import draw_seeds
    from blemore_harness.drawing.tables import draw_results
    from blemore_harness.files.runs import Runs, read_record
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
        console = answer_console()
        console.print(drawn)
        group = {} if check else Runs(folder.parent).group(record)
        if group:
            console.print()
            console.print(draw_seeds(group, len(record.seeds)))
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


def open_named_run(
    verb: str, name: str | None, plugins: tuple[str, ...], fusion: str | None, thresholds: str | None,
    settings: tuple[str, ...], seed: int | None, device: str, fold_seed: int, data: Path | None, runs: Path,
    track: str = "", extra_train: Sequence[str] = (),
) -> Run:  # fmt: skip
    """Validate the arguments of a command that runs systems, open the dataset, and return the run.

    Args:
        verb: the command, for messages.
        name: of a submission; None where there are plugins.
        plugins, fusion, settings: as typed.
        seed, thresholds: where given, in place of the submission's.
        track: names of trackers, separated by commas.
        extra_train: other corpora to train on, `NAME:FOLDER`.

    Raises:
        BlemoreError: something that the user can mend; `click.UsageError` for arguments that do not go together.
    """
    from blemore_harness.api.submissions import open_evaluation, open_submission, with_settings
    from blemore_harness.drawing.tables import render_text
    from blemore_harness.options import parse_settings

    if (name is None) == (not plugins):
        raise click.UsageError(f"expected the NAME of a submission or --plugin, as in: {verb} --plugin s4d,wav2vec2")
    if name is not None and fusion is not None:
        raise click.UsageError(f"--fusion requires --plugin: the submission '{name}' defines its own fusion")
    reporter = open_reporter()
    submission, offered = open_submission(name, plugins, fusion, reporter)
    offered.track(filter(None, map(str.strip, track.split(","))))
    return open_evaluation(
        with_settings(submission, parse_settings(settings), seed, thresholds), offered, data, runs, reporter, device,
        fold_seed, sys.argv, render_text, extra_train, show=reporter.show,
    )  # fmt: skip


def _show_results(record: Record, folder: Path, data: Path | None) -> None:
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.tables import draw_next_steps, draw_results

    console = answer_console()
    console.print(draw_results(record))
    console.print(draw_next_steps(record, folder, data), soft_wrap=True)
