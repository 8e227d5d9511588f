"""The whole evaluation, top to bottom: prepare, fit every fold, fuse, choose thresholds, score, predict."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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
from blemore_harness.running.preparation import prepare_submission
from blemore_harness.running.run_log import LOG_FILE, RunLog
from blemore_harness.running.skipping import find_alike, leave_out
from blemore_harness.running.steps import Stage, part_name
from blemore_harness.running.workshop import Workshop
from blemore_harness.scoring.results import SystemRows, score_system
from blemore_harness.scoring.test_clips import find_strategy, predict_test
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.resolved import Entrant, resolve_entrants
from blemore_harness.systems.submission import Submission

Folders = Mapping[str, SystemFolder]


def evaluate(
    submission: Submission, dataset: Dataset, view: View, plugins: Plugins, workshop: Workshop
) -> tuple[dict[str, Any], Path]:
    """Evaluate a submission on a dataset, taking from disk whatever is finished.

    Returns:
        the record, as written to `record.json`, and the run's folder.

    Raises:
        BlemoreError: something that the user can fix; the record says `failed`, what was finished stays finished.
        PluginFailed: never from here: a plugin that fails becomes a row, and the record says `failed`.
    """
    started = time.perf_counter()
    strategy = None if submission.thresholds is None else find_strategy(submission.thresholds)
    entrants = resolve_entrants(submission, plugins, view, dataset.demo)
    folders = {e.name: workshop.runs.system(e.name, e.identity, e.digest) for e in entrants}
    folder = workshop.runs.run(submission.name, entrants[-1].digest)
    reporter = RunLog(workshop.reporter, folder / LOG_FILE, workshop.command)
    stage = Stage(view, workshop.cache, workshop.device, reporter, workshop.isolation)
    recorder = Recorder(folder, start_record(submission, entrants, dataset, workshop.command), plugins, started)
    with stage.holding(folder) as stage, recorder.closing(workshop.device):
        encoders = [e for e in entrants if not e.members]
        _check_media([e for e in encoders if not e.identity["stores"]], dataset, reporter)
        rows: dict[str, SystemRows] = {}
        for entrant in _prepare_all(encoders, dataset, stage, folders, recorder):
            try:
                rows[entrant.name] = _run_encoder(entrant, dataset, stage, folders[entrant.name], recorder)
            except PluginFailed as error:
                recorder.fail(entrant, error)
        for fusion in entrants[len(encoders) :]:
            if len(rows) < len(encoders):
                recorder.skip(fusion, "a member failed, and a fusion of the others would be another system")
                continue
            try:
                rows[fusion.name] = _run_fusion(fusion, rows, dataset, stage, folders, recorder)
            except PluginFailed as error:
                recorder.fail(fusion, error)
        scores = {name: score_system(done, view) for name, done in rows.items()}
        for entrant in entrants:
            if entrant.name in rows:
                recorder.add(entrant, scores[entrant.name], rows[entrant.name], folders[entrant.name].prepared())
        last = entrants[-1]
        if dataset.test_ids and last.name in rows and not dataset.left_out:
            vectors = _vectors_of(encoders, stage, folders) if strategy and strategy.transductive else None
            done = rows[last.name]
            recorder.predict(last, predict_test(done, view, scores[last.name], submission.thresholds, vectors))
    return recorder.record, folder


def _run_encoder(
    entrant: Entrant, dataset: Dataset, stage: Stage, folder: SystemFolder, recorder: Recorder
) -> SystemRows:
    """Take or train every fold of an encoder, then the final fit where there are test clips to predict."""
    with stage.holding(folder.path) as held:
        parts = _parts(dataset)
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
    parts = (*dataset.fold_numbers, None)
    vectors: Mapping[str, Embeddings] = {}
    if _takes_vectors(fusion) and any(folder.finished(part_name(index)) is None for index in parts):
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
    found = {index: folder.finished(part_name(index)) for index in parts}
    results = {index: result for index, result in found.items() if result is not None}
    for index, result in results.items():
        folder.drop_workspace(part_name(index))  # of a process that was killed before it could
        recorder.tell_fold(entrant, index, result, stage.view)
    return results


def _takes_vectors(fusion: Entrant) -> bool:
    return isinstance(fusion.system, Fusion) and fusion.system.takes == "embeddings"


def _vectors_of(encoders: Sequence[Entrant], stage: Stage, folders: Folders) -> dict[str, Embeddings]:
    """Give the label-free vectors of all clips of every encoder that has some."""
    return {e.name: stage.embed(e, folders[e.name]) for e in encoders if e.gives_vectors}


def _prepare_all(
    encoders: list[Entrant], dataset: Dataset, stage: Stage, folders: Folders, recorder: Recorder
) -> list[Entrant]:
    """Prepare every encoder that has something to do, before the first is trained: what is missing shows early.

    Gives those that can be trained; one that crashes becomes a row.
    """
    ready = []
    if any(_unfinished(folders[entrant.name], dataset) for entrant in encoders):
        sweep_leftovers(stage.cache.root, alone=False)
    for entrant in encoders:
        folder = folders[entrant.name]
        try:
            if _unfinished(folder, dataset):
                with stage.holding(folder.path) as held:
                    if _unfinished(folder, dataset):  # whoever held it may have done everything
                        held.prepare(entrant, folder)
            ready.append(entrant)
        except PluginFailed as error:
            recorder.fail(entrant, error)
    return ready


def _unfinished(folder: SystemFolder, dataset: Dataset) -> bool:
    return any(folder.finished(part_name(index)) is None for index in _parts(dataset))


def _parts(dataset: Dataset) -> tuple[int | None, ...]:
    return (*dataset.fold_numbers, None) if dataset.test_ids else dataset.fold_numbers


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
