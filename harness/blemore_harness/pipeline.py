"""The whole evaluation, top to bottom: prepare, fit every fold, fuse, choose thresholds, score, predict."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from blemore_harness.context import Reporter
from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.data.download import Dataset
from blemore_harness.data.opening import open_blinded
from blemore_harness.disk import sweep_leftovers
from blemore_harness.errors import MediaError, PluginFailed, first_and_count
from blemore_harness.files.runs import FoldResult, SystemFolder
from blemore_harness.hookspecs import Fusion
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.record.types import Record
from blemore_harness.records.writing import Recorder, start_record
from blemore_harness.running.calls import name_failure
from blemore_harness.running.preparation import prepare_submission
from blemore_harness.running.run_log import LOG_FILE, RunLog
from blemore_harness.running.skipping import find_alike, leave_out
from blemore_harness.running.steps import Stage, part_name
from blemore_harness.running.workshop import Workshop
from blemore_harness.scoring.results import SystemRows, score_system, suspect_leaks
from blemore_harness.scoring.test_clips import find_strategy, predict_test
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.resolved import RESOLVING, ResolvedSystem, resolve_systems
from blemore_harness.systems.submission import Submission

Folders = Mapping[str, SystemFolder]


def evaluate(
    submission: Submission, dataset: Dataset, blinded: BlindedDataset, plugins: Plugins, workshop: Workshop
) -> tuple[Record, Path]:
    """Evaluate a submission on a dataset, taking from disk whatever is finished.

    Returns:
        the record, as written to `record.json`, and the run's folder.

    Raises:
        BlemoreError: the harness found something that the user can fix; the record says `failed`, what was finished
            stays finished. Whatever a plugin raises becomes a row instead, and the record says `failed`.
    """
    started = time.perf_counter()
    strategy = None if submission.thresholds is None else find_strategy(submission.thresholds)
    resolved_systems = resolve_systems(submission, plugins, blinded, dataset.demo)
    folders = {e.name: workshop.runs.system(e.name, e.identity, e.digest) for e in resolved_systems}
    folder = workshop.runs.run(submission.name, resolved_systems[-1].digest)
    reporter = RunLog(workshop.reporter, folder / LOG_FILE, workshop.command)
    stage = workshop.stage(blinded, reporter)
    recorder = Recorder(
        folder,
        start_record(submission, resolved_systems, dataset, workshop.command, blinded.warnings),
        plugins,
        started,
        workshop.draw,
    )
    with stage.holding(folder) as stage, recorder.closing(stage.device):
        encoders = [e for e in resolved_systems if not e.base_models]
        transductive = bool(strategy and strategy.transductive and dataset.test_ids and not dataset.left_out)
        vectors: dict[str, Embeddings] = {}
        _check_media([e for e in encoders if not e.identity["feature_sets"]], dataset, reporter)
        rows: dict[str, SystemRows] = {}
        for resolved in _prepare_all(encoders, dataset, stage, folders, recorder):
            try:
                done = _run_encoder(resolved, dataset, stage, folders[resolved.name], recorder)
                vectors |= _embeddings_of([resolved] if transductive else [], stage, folders)
                rows[resolved.name] = done
            except PluginFailed as error:
                recorder.fail(resolved, error)
        for fusion in resolved_systems[len(encoders) :]:
            if fusion.trouble is not None:
                recorder.fail(fusion, _name_trouble(fusion, stage, folders))
                continue
            if len(rows) < len(encoders):
                recorder.skip(fusion, "a base model failed, and a fusion of the others would be another system")
                continue
            try:
                rows[fusion.name] = _run_fusion(fusion, rows, dataset, stage, folders, recorder)
            except PluginFailed as error:
                recorder.fail(fusion, error)
        scores = {name: score_system(done, blinded) for name, done in rows.items()}
        if not dataset.demo and not dataset.left_out:
            for text in suspect_leaks(scores):
                workshop.reporter.warn(text)
                recorder.warn(text)
        for resolved in resolved_systems:
            if resolved.name in rows:
                recorder.add(resolved, scores[resolved.name], rows[resolved.name], folders[resolved.name].prepared())
        last = resolved_systems[-1]
        if dataset.test_ids and last.name in rows and not dataset.left_out:
            given = vectors if transductive else None
            recorder.predict(
                last, predict_test(rows[last.name], blinded, scores[last.name], submission.thresholds, given)
            )
    return recorder.record, folder


def _run_encoder(
    resolved: ResolvedSystem, dataset: Dataset, stage: Stage, folder: SystemFolder, recorder: Recorder
) -> SystemRows:
    """Take or train every fold of an encoder, then the final fit where there are test clips to predict."""
    with stage.holding(folder.path) as held:
        parts = _parts(resolved, dataset)
        results = _take_finished(resolved, parts, stage, folder, recorder)
        for index, result in held.fit_encoder(resolved, folder, [index for index in parts if index not in results]):
            results[index] = result
            recorder.tell_fold(resolved, index, result, stage.blinded)
    return SystemRows.gather({index: results[index] for index in parts}, stage.blinded)


def _run_fusion(
    fusion: ResolvedSystem,
    base_models: Mapping[str, SystemRows],
    dataset: Dataset,
    stage: Stage,
    folders: Folders,
    recorder: Recorder,
) -> SystemRows:
    """Fuse fold by fold from rows that never saw the clips they are for; then the fit on all training clips."""
    folder = folders[fusion.name]
    parts = _parts(fusion, dataset)
    vectors: Mapping[str, Embeddings] = {}
    if _takes_embeddings(fusion) and _unfinished(fusion, folder, dataset):
        vectors = _embeddings_of(fusion.base_models, stage, folders)
    train = {name: rows.out_of_fold for name, rows in base_models.items()}
    tests = {name: _test_rows(rows) for name, rows in base_models.items()}
    with stage.holding(folder.path) as held:
        results = _take_finished(fusion, parts, stage, folder, recorder)
        asked = {i: vectors or (tests if i is None else train) for i in parts if i not in results}
        for index, result in held.fit_fusion(fusion, folder, vectors or train, asked):
            results[index] = result
            recorder.tell_fold(fusion, index, result, stage.blinded)
    return SystemRows.gather({index: results[index] for index in parts}, stage.blinded)


def _take_finished(
    resolved: ResolvedSystem, parts: Sequence[int | None], stage: Stage, folder: SystemFolder, recorder: Recorder
) -> dict[int | None, FoldResult]:
    """Take the folds that are on disk already."""
    found = {index: _find_finished(resolved, folder, index) for index in parts}
    results = {index: result for index, result in found.items() if result is not None}
    for index, result in results.items():
        folder.drop_workspace(part_name(index))  # of a process that was killed before it could
        recorder.tell_fold(resolved, index, result, stage.blinded)
    return results


def _find_finished(resolved: ResolvedSystem, folder: SystemFolder, index: int | None) -> FoldResult | None:
    """Return a fold's result from disk; None where it is not finished, or is a final fit for other test clips."""
    result = folder.finished(part_name(index))
    return result if index is not None or result is None or result.facts.get("covers") == resolved.covers else None


def _takes_embeddings(fusion: ResolvedSystem) -> bool:
    return isinstance(fusion.system, Fusion) and fusion.system.takes == "embeddings"


def _embeddings_of(encoders: Sequence[ResolvedSystem], stage: Stage, folders: Folders) -> dict[str, Embeddings]:
    """Return the label-free embeddings of all clips of every encoder that has some."""
    return {e.name: stage.embed(e, folders[e.name]) for e in encoders if e.has_embeddings}


def _prepare_all(
    encoders: list[ResolvedSystem], dataset: Dataset, stage: Stage, folders: Folders, recorder: Recorder
) -> list[ResolvedSystem]:
    """Prepare every encoder that has something to do, before the first is trained: what is missing shows early.

    Gives those that can be trained; one that fails becomes a row.
    """
    ready = []
    for resolved in encoders:
        if resolved.trouble is not None:
            recorder.fail(resolved, _name_trouble(resolved, stage, folders))
    encoders = [resolved for resolved in encoders if resolved.trouble is None]
    if any(_unfinished(resolved, folders[resolved.name], dataset) for resolved in encoders):
        sweep_leftovers(stage.cache.root, alone=False)
    for resolved in encoders:
        folder = folders[resolved.name]
        try:
            if _unfinished(resolved, folder, dataset):
                with stage.holding(folder.path) as held:
                    if _unfinished(resolved, folder, dataset):  # whoever held it may have done everything
                        held.prepare(resolved, folder)
            ready.append(resolved)
        except PluginFailed as error:
            recorder.fail(resolved, error)
    return ready


def _name_trouble(resolved: ResolvedSystem, stage: Stage, folders: Folders) -> PluginFailed:
    """Name what kept a system from being resolved."""
    assert resolved.trouble is not None
    return name_failure(resolved.trouble, resolved, stage.blinded, RESOLVING, folders[resolved.name])


def _unfinished(resolved: ResolvedSystem, folder: SystemFolder, dataset: Dataset) -> bool:
    return any(_find_finished(resolved, folder, index) is None for index in _parts(resolved, dataset))


def _parts(resolved: ResolvedSystem, dataset: Dataset) -> tuple[int | None, ...]:
    """List folds, and the final fit where something comes from it: test rows, or a fusion's official numbers."""
    refitted = isinstance(resolved.system, Fusion) and not _takes_embeddings(resolved)
    return (*dataset.fold_numbers, None) if dataset.test_ids or refitted else dataset.fold_numbers


def _test_rows(rows: SystemRows) -> Probabilities:
    return rows.test if rows.test is not None else Probabilities((), rows.out_of_fold.values[:0])


def _check_media(encoders: list[ResolvedSystem], dataset: Dataset, reporter: Reporter) -> None:
    without = [name for name in (*dataset.ids, *dataset.test_ids) if name not in dataset.videos]
    if without and encoders:
        reporter.warn(
            f"{len(without)} of {len(dataset.ids) + len(dataset.test_ids)} clips have no video below {dataset.root} "
            f"(first: '{without[0]}'): encoders that need it will stop there"
        )


def evaluate_remainder(
    submission: Submission, dataset: Dataset, blinded: BlindedDataset, plugins: Plugins, workshop: Workshop
) -> tuple[Record, Path]:
    """Evaluate as `pipeline.evaluate` does, leaving out for every system what one of them cannot use.

    Encoders prepare until one names a clip. Left out are then that clip and those with the same visible faults: the
    same missing streams or features. The rest is another dataset with an identity of its own, and preparing begins
    again, with what was extracted taken from the cache.

    Returns:
        as of `evaluate`; the record's `data.left_out` gives the reason by clip, its mark counts them, and no labels of
        test clips are written. Where nothing is left out this is an ordinary run.

    Raises:
        DataError: a fold has no usable clip.
        BlemoreError: as of `evaluate`.
    """
    workshop = replace(workshop, stop_at_bad_clips=True)
    while True:
        try:
            prepare_submission(submission, dataset, blinded, plugins, workshop)
            return evaluate(submission, dataset, blinded, plugins, workshop)
        except MediaError as error:
            if error.clip is None or error.clip not in blinded.real:
                raise
            reasons = find_alike(blinded, error.clip, str(error))
            dataset = leave_out(dataset, {blinded.real[name]: reason for name, reason in reasons.items()})
            workshop.reporter.warn(
                f"left out: {first_and_count([blinded.real[name] for name in reasons], 'clip')}: {error}"
            )
            blinded = open_blinded(dataset, workshop.reporter)
