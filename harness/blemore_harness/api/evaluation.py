"""Runs in Python: train, fuse and score; prepare ahead; look a machine over."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from blemore_harness.api.opening import data_folder, list_extra, runs_folder
from blemore_harness.api.reporting import LogReporter, keep_stdout, open_reporter
from blemore_harness.api.rows import Rows
from blemore_harness.api.run import Run
from blemore_harness.api.submissions import open_evaluation, open_submission, with_settings
from blemore_harness.context import Reporter
from blemore_harness.data.download import Dataset
from blemore_harness.errors import ConfigError
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.record.types import FailedSystem, Record
from blemore_harness.running.run import Run as EvaluatedRun
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.unregistered import SESSION

Jobs = int | str | None
"""How many workers carry a run out: a number or `auto`; None takes `BLEMORE_JOBS`, else `auto`."""

Settings = Mapping[str, Mapping[str, object]]
"""Options by plugin: `{"wavlm": {"epochs": 20}}`."""

PluginNames = str | Encoder | Sequence[str | Encoder]
"""Encoders: names, objects, or a list of both."""


def run(
    submission: str | None = None,
    *,
    plugins: PluginNames | None = None,
    fusion: str | Fusion | None = None,
    settings: Settings | None = None,
    data: str | Path | Dataset | None = None,
    runs: str | Path | None = None,
    seed: int | None = None,
    thresholds: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    fold_seed: int = 0,
    keep_models: Literal["final", "all", "none"] | None = None,
    isolate: bool = False,
    time_limit: float | None = None,
    skip_bad_clips: bool = False,
    track: str | Sequence[str] = (),
    extra_train: str | Path | Sequence[str | Path] = (),
    jobs: Jobs = None,
    executor: str = "local",
    executor_options: Mapping[str, str] | None = None,
) -> Run:
    """Train, fuse and score encoders, or a submission. Called again, it takes finished folds from disk.

    Args:
        submission: name of a submission; or give `plugins`.
        plugins: encoders: names as of `plugins()`, or objects of classes that extend `Encoder` and were defined here.
            The identity of an object's results follows its code (`systems.unregistered.digest_code`).
        fusion: of several encoders; None takes the default one.
        settings: options by plugin.
        data: folder of a BLEMORE download, `NAME:FOLDER` of another corpus as of `plugins()`, or a dataset; None takes
            `BLEMORE_DATA`, else the demo dataset.
        runs: where runs are kept; None takes `BLEMORE_RUNS`, else `blemore-runs`.
        seed: base seed of everything random; None takes the submission's.
        thresholds: threshold strategy for test clips; None takes the submission's, else chooses by cross-fitted Scores.
        device: where to compute.
        fold_seed: seed of the folds where the metadata has none.
        keep_models: models that are kept: of the final fit on all training clips, which `Run.predict` needs; of all
            folds, too; or none. None is final, where test clips call for that fit.
        isolate: run every fold in a worker process of its own, so that a crash does not end the run; for installed
            plugins only.
        time_limit: minutes that a fold may take; needs `isolate`.
        skip_bad_clips: leave out unusable clips; results are then not comparable.
        track: names of experiment trackers that are told of the run, as of `plugins()`.
        extra_train: other corpora, `NAME:FOLDER`, that every fold is trained on and none holds out (external data).
        jobs: how many workers carry it out at the same time; 1 is this process, `auto` as many as this machine has room
            for. None takes `BLEMORE_JOBS`, else `auto`. The results are the same.
        executor: what starts the workers: `local` on this machine, others as of `plugins()`.
        executor_options: options of another executor than `local`.

    Returns:
        The run. A system that failed is a warning and a row of `Run.table()`; the others are scored.

    Raises:
        BlemoreError: the same errors as the command's, such as `ConfigError` for a name that does not exist.

    >>> run = bh.run(plugins=["trivial-single", "trivial-blend"], fusion="mean", data="data", device="cpu")
    >>> [system.name for system in run.record.finished]
    ['trivial-single', 'trivial-blend', 'mean']
    """
    given = {"submission": submission, "plugins": plugins, "fusion": fusion, "settings": settings, "seed": seed,
             "extra_train": extra_train or None}  # fmt: skip
    reporter = open_reporter()
    with keep_stdout():
        opened = open_call(
            "run", given, submission, plugins, fusion, settings, data, runs, seed, thresholds, device, fold_seed,
            reporter, track, extra_train,
        )  # fmt: skip
        ended = evaluate_run(
            opened, keep_models, isolate, time_limit, skip_bad_clips, jobs, executor, executor_options
        )  # fmt: skip
    warn_of_failures(ended, reporter)
    return ended


def open_call(
    function: str,
    named: Mapping[str, Any],
    submission: str | None,
    plugins: PluginNames | None,
    fusion: str | Fusion | None,
    settings: Settings | None,
    data: str | Path | Dataset | None,
    runs: str | Path | None,
    seed: int | None,
    thresholds: str | None,
    device: str,
    fold_seed: int,
    reporter: LogReporter,
    track: str | Sequence[str] = (),
    extra_train: str | Path | Sequence[str | Path] = (),
) -> EvaluatedRun:
    """Open what a call evaluates.

    Args:
        function, named: the call, for the record.
        submission, and the others: as of `run`.
    """
    found, offered = open_submission(submission, plugins, fusion, reporter)
    offered.track([track] if isinstance(track, str) else track)
    return open_evaluation(
        with_settings(found, settings, seed, thresholds), offered,
        data if isinstance(data, Dataset) else data_folder(data), runs_folder(runs), reporter, device, fold_seed,
        _describe_call(function, named), _render, list_extra(extra_train), show=reporter.show,
    )  # fmt: skip


def warn_of_failures(run: Run, reporter: Reporter) -> None:
    """Warn of each system of a run that failed."""
    for system in run.record.systems:
        if isinstance(system, FailedSystem):
            reporter.warn(f"{system.name} failed: {system.error.message}")


def evaluate_run(
    opened: EvaluatedRun,
    keep_models: Literal["final", "all", "none"] | None = None,
    isolate: bool = False,
    time_limit: float | None = None,
    skip_bad_clips: bool = False,
    jobs: Jobs = None,
    executor: str = "local",
    executor_options: Mapping[str, str] | None = None,
) -> Run:
    """Evaluate what `open_evaluation` returns; arguments and errors as of `run`."""
    from blemore_harness.pipeline import evaluate, evaluate_without_bad_clips

    if time_limit is not None and not isolate:
        raise ConfigError("a time limit requires isolation: only worker processes can be stopped")
    here = [each.name for each in opened.systems if each.plugin == SESSION]
    if isolate and here:
        raise ConfigError(f"'{here[0]}' is defined in this session: worker processes know installed plugins only")
    opened = replace(opened, keep_models=keep_models)
    work = evaluate_without_bad_clips if skip_bad_clips else evaluate
    limit = None if time_limit is None else time_limit * 60
    with _with_workers(opened, jobs, executor, executor_options or {}, isolate, limit) as spread:
        record, folder = work(spread)
    return Run(folder, record, objects_of(opened.plugins))


def detach_run(opened: EvaluatedRun, words: Sequence[str], executor: str, options: Mapping[str, str]) -> str:
    """Have an executor carry out the command that gives this run; arguments and errors as of `Executor.detach`."""
    if executor == "local":
        raise ConfigError("--detach requires an executor that can carry out the harness itself: --executor slurm")
    with closing(opened.plugins.open_executor(executor, options)) as engine:
        return engine.detach(words, opened.folder)


@contextmanager
def _with_workers(
    opened: EvaluatedRun, jobs: Jobs, executor: str, options: Mapping[str, str], isolate: bool = False,
    limit: float | None = None, again: bool = False,
) -> Iterator[EvaluatedRun]:  # fmt: skip
    """Return a run that is carried out by workers, where there are to be several.

    Args:
        again: whether everything is to be done, what is finished too.
    """
    from blemore_harness.running.isolation import Isolation
    from blemore_harness.running.work import choose_jobs

    if options and executor == "local":
        raise ConfigError(f"the executor 'local' has no options, found '{next(iter(options))}'")
    count = _read_jobs(jobs)
    if executor != "local":
        engine = opened.plugins.open_executor(executor, options)
        engine.folder = opened.folder / "workers"
        with closing(engine):
            slots = engine.slots if count is None else min(count, engine.slots)
            yield replace(opened, isolation=Isolation(limit, jobs=slots, fresh=isolate, executor=engine))
        return
    count = choose_jobs(opened, again) if count is None else count
    isolation = Isolation(limit, jobs=count, fresh=isolate) if isolate or count > 1 else None
    yield replace(opened, isolation=isolation)


def _read_jobs(jobs: Jobs) -> int | None:
    """Return a number of jobs, or None for `auto`."""
    given: object = os.environ.get("BLEMORE_JOBS") or "auto" if jobs is None else jobs
    if given == "auto":
        return None
    try:
        count = int(str(given))
    except ValueError:
        count = 0
    if count < 1:
        raise ConfigError(f"jobs: expected a number of at least 1, or auto, found '{given}'")
    return count


def objects_of(plugins: Plugins) -> tuple[Encoder | Fusion, ...]:
    """Return the encoders and fusions that no installed plugin offers."""
    return tuple(offer.system for offers in plugins.offers.values() for offer in offers if offer.plugin == SESSION)


def prepare(
    submission: str | None = None,
    *,
    plugins: PluginNames | None = None,
    settings: Settings | None = None,
    export: str | Path | None = None,
    data: str | Path | Dataset | None = None,
    runs: str | Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    jobs: Jobs = None,
) -> Rows:
    """Download weights and extract features before a run. An interrupted preparation continues with the next clip.

    Args:
        export: folder that frame-level features are written to as well, in the layout of the released ones.
        submission, and the others: as of `run`.

    Returns:
        A row per encoder: name, status (`ready` or `failed`), seconds, features, remark.

    Raises:
        BlemoreError: the same errors as the command's.

    >>> bh.prepare(plugins="trivial-single", data="data", device="cpu")[0]["status"]
    'ready'
    """
    reporter = open_reporter()
    call = _describe_call("prepare", {"submission": submission, "plugins": plugins, "settings": settings})
    with keep_stdout():
        found, offered = open_submission(submission, plugins, None, reporter)
        opened = open_evaluation(
            with_settings(found, settings), offered, data if isinstance(data, Dataset) else data_folder(data),
            runs_folder(runs), reporter, device, command=call, show=reporter.show,
        )  # fmt: skip
        return Rows(prepare_with_workers(opened, None if export is None else Path(export), jobs))


def prepare_with_workers(opened: EvaluatedRun, export: Path | None = None, jobs: Jobs = None) -> list[dict[str, str]]:
    """Prepare what `open_evaluation` returns; arguments and rows as of `prepare`."""
    from blemore_harness.running.preparation import prepare_ahead

    with _with_workers(opened, jobs, "local", {}, again=True) as spread:
        return prepare_ahead(spread, export)


def diagnose(
    submission: str | None = None,
    *,
    plugins: PluginNames | None = None,
    settings: Settings | None = None,
    measure: bool = False,
    data: str | Path | None = None,
    runs: str | Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Rows:
    """Check this machine, and the requirements of a run where one is named; the command is `doctor`.

    Nothing is downloaded, only a generated clip is decoded, and no key is shown.

    Args:
        measure: where nothing is a problem, also estimate time and disk space of the run from about a minute of work;
            encoders are prepared for a few clips, for which they may download weights.
        submission, and the others: as of `run`.

    Returns:
        A row per finding: what was looked at, the verdict (`ok`, `warning` or `problem`), what was found, what to do.

    Raises:
        ConfigError: a system or an option that nobody offers, or settings or a measurement without systems.
    """
    from blemore_harness.doctor.diagnosis import examine, has_problem
    from blemore_harness.doctor.measuring import measure as estimate
    from blemore_harness.systems.plugins import load_plugins

    folder, kept, reporter = data_folder(data), runs_folder(runs), open_reporter()
    with keep_stdout():
        if submission is None and not plugins:
            if settings or measure:
                what = "settings go" if settings else "measure goes"
                raise ConfigError(f"{what} with the name of a submission or plugins")
            return Rows(finding.row() for finding in examine(None, load_plugins(), folder, device, kept))
        found, offered = open_submission(submission, plugins, None, reporter)
        found = with_settings(found, settings)
        findings = examine(found, offered, folder, device, kept)
        if measure and not has_problem(findings):
            findings += estimate(open_evaluation(found, offered, folder, kept, reporter, device))
        return Rows(finding.row() for finding in findings)


def _describe_call(function: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a call as the record keeps it."""

    def show(value: Any) -> str:
        if isinstance(value, Encoder | Fusion):
            return f"{type(value).__name__}()"
        return f"[{', '.join(map(show, value))}]" if isinstance(value, list | tuple) else repr(value)

    said = ", ".join(f"{name}={show(value)}" for name, value in given.items() if value is not None)
    return (f"blemore_harness.{function}({said})",)


def _render(record: Record) -> str:
    from blemore_harness.drawing.tables import render_text

    return render_text(record)
