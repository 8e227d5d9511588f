"""The whole evaluation, top to bottom: prepare, fit every fold, fuse, choose thresholds, score, predict."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from blemore_harness.context import Reporter
from blemore_harness.data.download import Dataset
from blemore_harness.data.opening import open_dataset_view
from blemore_harness.data.views import View
from blemore_harness.disk import sweep_leftovers
from blemore_harness.errors import MediaError, PluginFailed, first_and_count
from blemore_harness.files.runs import FoldResult, SystemFolder
from blemore_harness.hookspecs import Fusion
from blemore_harness.predictions import Embeddings, Probabilities
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
from blemore_harness.systems.resolved import RESOLVING, Entrant, resolve_entrants
from blemore_harness.systems.submission import Submission

Folders = Mapping[str, SystemFolder]


def evaluate(
    submission: Submission, dataset: Dataset, view: View, plugins: Plugins, workshop: Workshop
) -> tuple[dict[str, Any], Path]:
    """Evaluate a submission on a dataset, taking from disk whatever is finished.

    Returns:
        the record, as written to `record.json`, and the run's folder.

    Raises:
        BlemoreError: the harness found something that the user can fix; the record says `failed`, what was finished
            stays finished. Whatever a plugin raises becomes a row instead, and the record says `failed`.
    """
    started = time.perf_counter()
    strategy = None if submission.thresholds is None else find_strategy(submission.thresholds)
    entrants = resolve_entrants(submission, plugins, view, dataset.demo)
    folders = {e.name: workshop.runs.system(e.name, e.identity, e.digest) for e in entrants}
    folder = workshop.runs.run(submission.name, entrants[-1].digest)
    reporter = RunLog(workshop.reporter, folder / LOG_FILE, workshop.command)
    stage = workshop.stage(view, reporter)
    recorder = Recorder(
        folder,
        start_record(submission, entrants, dataset, workshop.command, view.warnings),
        plugins,
        started,
        workshop.draw,
    )
    with stage.holding(folder) as stage, recorder.closing(stage.device):
        encoders = [e for e in entrants if not e.members]
        transductive = bool(strategy and strategy.transductive and dataset.test_ids and not dataset.left_out)
        vectors: dict[str, Embeddings] = {}
        _check_media([e for e in encoders if not e.identity["stores"]], dataset, reporter)
        rows: dict[str, SystemRows] = {}
        for entrant in _prepare_all(encoders, dataset, stage, folders, recorder):
            try:
                done = _run_encoder(entrant, dataset, stage, folders[entrant.name], recorder)
                vectors |= _vectors_of([entrant] if transductive else [], stage, folders)
                rows[entrant.name] = done
            except PluginFailed as error:
                recorder.fail(entrant, error)
        for fusion in entrants[len(encoders) :]:
            if fusion.trouble is not None:
                recorder.fail(fusion, _name_trouble(fusion, stage, folders))
                continue
            if len(rows) < len(encoders):
                recorder.skip(fusion, "a member failed, and a fusion of the others would be another system")
                continue
            try:
                rows[fusion.name] = _run_fusion(fusion, rows, dataset, stage, folders, recorder)
            except PluginFailed as error:
                recorder.fail(fusion, error)
        scores = {name: score_system(done, view) for name, done in rows.items()}
        if not dataset.demo and not dataset.left_out:
            for text in suspect_leaks(scores):
                workshop.reporter.warn(text)
                recorder.record["warnings"].append(text)
        for entrant in entrants:
            if entrant.name in rows:
                recorder.add(entrant, scores[entrant.name], rows[entrant.name], folders[entrant.name].prepared())
        last = entrants[-1]
        if dataset.test_ids and last.name in rows and not dataset.left_out:
            given = vectors if transductive else None
            recorder.predict(last, predict_test(rows[last.name], view, scores[last.name], submission.thresholds, given))
    return recorder.record, folder


def _run_encoder(
    entrant: Entrant, dataset: Dataset, stage: Stage, folder: SystemFolder, recorder: Recorder
) -> SystemRows:
    """Take or train every fold of an encoder, then the final fit where there are test clips to predict."""
    with stage.holding(folder.path) as held:
        parts = _parts(entrant, dataset)
        results = _take_finished(entrant, parts, stage, folder, recorder)
        for index, result in held.fit_encoder(entrant, folder, [index for index in parts if index not in results]):
            results[index] = result
            recorder.tell_fold(entrant, index, result, stage.view)
    return SystemRows.gather({index: results[index] for index in parts}, stage.view)


def _run_fusion(
    fusion: Entrant,
    members: Mapping[str, SystemRows],
    dataset: Dataset,
    stage: Stage,
    folders: Folders,
    recorder: Recorder,
) -> SystemRows:
    """Fuse fold by fold from rows that never saw the clips they are for; then the fit on all training clips."""
    folder = folders[fusion.name]
    parts = _parts(fusion, dataset)
    vectors: Mapping[str, Embeddings] = {}
    if _takes_vectors(fusion) and _unfinished(fusion, folder, dataset):
        vectors = _vectors_of(fusion.members, stage, folders)
    train = {name: rows.out_of_fold for name, rows in members.items()}
    tests = {name: _test_rows(rows) for name, rows in members.items()}
    with stage.holding(folder.path) as held:
        results = _take_finished(fusion, parts, stage, folder, recorder)
        asked = {i: vectors or (tests if i is None else train) for i in parts if i not in results}
        for index, result in held.fit_fusion(fusion, folder, vectors or train, asked):
            results[index] = result
            recorder.tell_fold(fusion, index, result, stage.view)
    return SystemRows.gather({index: results[index] for index in parts}, stage.view)


def _take_finished(
    entrant: Entrant, parts: Sequence[int | None], stage: Stage, folder: SystemFolder, recorder: Recorder
) -> dict[int | None, FoldResult]:
    """Take the folds that are on disk already."""
    found = {index: _find_finished(entrant, folder, index) for index in parts}
    results = {index: result for index, result in found.items() if result is not None}
    for index, result in results.items():
        folder.drop_workspace(part_name(index))  # of a process that was killed before it could
        recorder.tell_fold(entrant, index, result, stage.view)
    return results


def _find_finished(entrant: Entrant, folder: SystemFolder, index: int | None) -> FoldResult | None:
    """Give a fold's result from disk; None where it is not finished, or is a final fit for other test clips."""
    result = folder.finished(part_name(index))
    return result if index is not None or result is None or result.facts.get("covers") == entrant.covers else None


def _takes_vectors(fusion: Entrant) -> bool:
    return isinstance(fusion.system, Fusion) and fusion.system.takes == "embeddings"


def _vectors_of(encoders: Sequence[Entrant], stage: Stage, folders: Folders) -> dict[str, Embeddings]:
    """Give the label-free vectors of all clips of every encoder that has some."""
    return {e.name: stage.embed(e, folders[e.name]) for e in encoders if e.gives_vectors}


def _prepare_all(
    encoders: list[Entrant], dataset: Dataset, stage: Stage, folders: Folders, recorder: Recorder
) -> list[Entrant]:
    """Prepare every encoder that has something to do, before the first is trained: what is missing shows early.

    Gives those that can be trained; one that fails becomes a row.
    """
    ready = []
    for entrant in encoders:
        if entrant.trouble is not None:
            recorder.fail(entrant, _name_trouble(entrant, stage, folders))
    encoders = [entrant for entrant in encoders if entrant.trouble is None]
    if any(_unfinished(entrant, folders[entrant.name], dataset) for entrant in encoders):
        sweep_leftovers(stage.cache.root, alone=False)
    for entrant in encoders:
        folder = folders[entrant.name]
        try:
            if _unfinished(entrant, folder, dataset):
                with stage.holding(folder.path) as held:
                    if _unfinished(entrant, folder, dataset):  # whoever held it may have done everything
                        held.prepare(entrant, folder)
            ready.append(entrant)
        except PluginFailed as error:
            recorder.fail(entrant, error)
    return ready


def _name_trouble(entrant: Entrant, stage: Stage, folders: Folders) -> PluginFailed:
    """Name what kept a system from being resolved."""
    assert entrant.trouble is not None
    return name_failure(entrant.trouble, entrant, stage.view, RESOLVING, folders[entrant.name])


def _unfinished(entrant: Entrant, folder: SystemFolder, dataset: Dataset) -> bool:
    return any(_find_finished(entrant, folder, index) is None for index in _parts(entrant, dataset))


def _parts(entrant: Entrant, dataset: Dataset) -> tuple[int | None, ...]:
    """List folds, and the final fit where something comes from it: test rows, or a fusion's official numbers."""
    refitted = isinstance(entrant.system, Fusion) and not _takes_vectors(entrant)
    return (*dataset.fold_numbers, None) if dataset.test_ids or refitted else dataset.fold_numbers


def _test_rows(rows: SystemRows) -> Probabilities:
    return rows.test if rows.test is not None else Probabilities((), rows.out_of_fold.values[:0])


def _check_media(encoders: list[Entrant], dataset: Dataset, reporter: Reporter) -> None:
    without = [name for name in (*dataset.ids, *dataset.test_ids) if name not in dataset.videos]
    if without and encoders:
        reporter.warn(
            f"{len(without)} of {len(dataset.ids) + len(dataset.test_ids)} clips have no video below {dataset.root} "
            f"(first: '{without[0]}'): encoders that need it will stop there"
        )


def evaluate_remainder(
    submission: Submission, dataset: Dataset, view: View, plugins: Plugins, workshop: Workshop
) -> tuple[dict[str, Any], Path]:
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
            prepare_submission(submission, dataset, view, plugins, workshop)
            return evaluate(submission, dataset, view, plugins, workshop)
        except MediaError as error:
            if error.clip is None or error.clip not in view.real:
                raise
            reasons = find_alike(view, error.clip, str(error))
            dataset = leave_out(dataset, {view.real[name]: reason for name, reason in reasons.items()})
            workshop.reporter.warn(
                f"left out: {first_and_count([view.real[name] for name in reasons], 'clip')}: {error}"
            )
            view = open_dataset_view(dataset, workshop.reporter)
