"""The whole evaluation, in the order of `evaluate`.

Every encoder is prepared (`_prepare`), then fitted fold by fold (`_fit_encoders`); the fusion is fitted on what they
predict for clips that they were not trained on (`_fuse`); every system is scored (`_score`), the labels of the test
clips are written (`_predict_test_clips`), and how each system is decoded is kept (`_keep_decoders`). What is on disk
already is taken from there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from blemore_harness.decoding.strategies import describe_decoder
from blemore_harness.errors import MediaError, PluginFailed
from blemore_harness.files.runs import SCORES_FILE, keep_decoders
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.record.types import Record
from blemore_harness.running.keeping import parts_of
from blemore_harness.running.preparation import name_trouble, prepare_encoders, warn_of_missing_videos
from blemore_harness.running.progress import FoldProgress
from blemore_harness.running.recording import Recorder, start_record
from blemore_harness.running.run import Run
from blemore_harness.running.run_log import LOG_FILE, RunLog
from blemore_harness.running.skipping import skip_clips
from blemore_harness.running.steps import embed, fit
from blemore_harness.scoring.kept_scores import score_once
from blemore_harness.scoring.results import ScoredSystem, SystemPredictions, suspect_leaks
from blemore_harness.scoring.test_clips import choose_decoder, find_strategy, predict_test
from blemore_harness.systems.resolved import ResolvedSystem


def evaluate(run: Run) -> tuple[Record, Path]:
    """Evaluate a submission on a dataset, taking from disk whatever is finished.

    Returns:
        the record, as written to `record.json`, and the run's folder.

    Raises:
        BlemoreError: the harness found something that the user can fix; the record says `failed`, what was finished
            stays finished. Whatever a plugin raises becomes a row instead, and the record says `failed`.
    """
    started = time.perf_counter()
    transductive = _looks_at_other_test_clips(run)
    folder = run.folder
    log = RunLog(run.reporter, folder / LOG_FILE, run.command, run.show)
    run = replace(run, reporter=log, show=log.show)
    record = start_record(run.submission, run.systems, run.dataset, run.command, run.blinded.warnings, run.group())
    recorder = Recorder(folder, record, run.plugins, started, run.draw, run.systems)
    parts = {system.name: len(parts_of(run, system)) for system in run.systems}
    with run.holding(folder) as run, recorder.closing(), FoldProgress.shown(parts, run.show) as progress:
        warn_of_missing_videos(run)
        ready = _prepare(run, recorder)
        predictions, embeddings = _fit_encoders(run, ready, recorder, progress, transductive)
        _fuse(run, predictions, recorder, progress)
        scores = _score(run, predictions, recorder)
        _predict_test_clips(run, predictions, scores, embeddings if transductive else None, recorder)
        _keep_decoders(run, predictions, scores)
    return recorder.record, folder


def _looks_at_other_test_clips(run: Run) -> bool:
    """Check which strategy is asked for, and return whether it looks at other test clips."""
    strategy = None if run.submission.thresholds is None else find_strategy(run.submission.thresholds)
    return bool(strategy and strategy.transductive and run.dataset.test_ids and not run.dataset.left_out)


def _prepare(run: Run, recorder: Recorder) -> list[ResolvedSystem]:
    """Prepare every encoder before the first is trained, so that what is missing shows early."""
    ready = []
    for resolved, error in prepare_encoders(run):
        if error is None:
            ready.append(resolved)
        else:
            recorder.fail(resolved, error)
    return ready


def _fit_encoders(
    run: Run, encoders: list[ResolvedSystem], recorder: Recorder, progress: FoldProgress, with_embeddings: bool
) -> tuple[dict[str, SystemPredictions], dict[str, Embeddings]]:
    """Fit every fold of every encoder; embed all clips where a strategy needs that."""
    predictions: dict[str, SystemPredictions] = {}
    embeddings: dict[str, Embeddings] = {}
    for resolved in encoders:
        try:
            predicted = _fit_system(run, resolved, recorder, progress)
            if with_embeddings and resolved.has_embeddings:
                embeddings[resolved.name] = embed(run, resolved)
            predictions[resolved.name] = predicted
        except PluginFailed as error:
            recorder.fail(resolved, error)
    return predictions, embeddings


def _fuse(run: Run, predictions: dict[str, SystemPredictions], recorder: Recorder, progress: FoldProgress) -> None:
    """Fit the fusion, if there is one, and add its predictions to those of its base models."""
    fusion = run.fusion
    if fusion is None:
        return
    try:
        if fusion.trouble is not None:
            raise name_trouble(run, fusion)
        if len(predictions) < len(run.encoders):
            recorder.skip(fusion, "a base model failed, and a fusion of the others would be another system")
            return
        train = {name: predicted.out_of_fold for name, predicted in predictions.items()}
        test = {name: predicted.test or predicted.out_of_fold.pick(()) for name, predicted in predictions.items()}
        predictions[fusion.name] = _fit_system(run, fusion, recorder, progress, train, test)
    except PluginFailed as error:
        recorder.fail(fusion, error)


def _fit_system(
    run: Run,
    resolved: ResolvedSystem,
    recorder: Recorder,
    progress: FoldProgress,
    *base_models: Mapping[str, Probabilities],
) -> SystemPredictions:
    """Take or fit every fold of a system, and the final fit where something comes from it."""
    results = {}
    progress.begin(resolved.name)
    for index, result in fit(run, resolved, *base_models):
        results[index] = result
        recorder.tell_fold(resolved, index, result, run.blinded)
        progress.finish(resolved.name, result.facts["seconds"])
    return SystemPredictions.gather({index: results[index] for index in parts_of(run, resolved)}, run.blinded)


def _score(run: Run, predictions: Mapping[str, SystemPredictions], recorder: Recorder) -> dict[str, ScoredSystem]:
    """Score every system that was fitted, and warn of scores that are too good to be true."""
    scores = {
        resolved.name: score_once(predictions[resolved.name], run.blinded, run.folder_of(resolved).path / SCORES_FILE)
        for resolved in run.systems
        if resolved.name in predictions
    }
    if not run.dataset.demo and not run.dataset.left_out:
        for text in suspect_leaks(scores):
            run.reporter.warn(text)
            recorder.warn(text)
    for resolved in run.systems:
        if resolved.name in predictions:
            prepared = run.folder_of(resolved).prepared()
            recorder.add(resolved, scores[resolved.name], predictions[resolved.name], prepared)
    return scores


def _predict_test_clips(
    run: Run,
    predictions: Mapping[str, SystemPredictions],
    scores: Mapping[str, ScoredSystem],
    embeddings: Mapping[str, Embeddings] | None,
    recorder: Recorder,
) -> None:
    """Decode the test clips as the last system predicts them, and write the leaderboard file."""
    last = run.systems[-1]
    if run.dataset.test_ids and last.name in predictions and not run.dataset.left_out:
        wanted = run.submission.thresholds
        labels = predict_test(predictions[last.name], run.blinded, scores[last.name], wanted, embeddings)
        recorder.predict(last, labels)


def _keep_decoders(run: Run, predictions: Mapping[str, SystemPredictions], scores: Mapping[str, ScoredSystem]) -> None:
    """Write down how each system's probabilities become labels, for clips that are none of the dataset's."""
    found = {}
    for name, predicted in predictions.items():
        strategy, decoder = choose_decoder(predicted, run.blinded, scores[name], run.submission.thresholds)
        found[name] = {"strategy": strategy, **describe_decoder(decoder)}
    keep_decoders(run.folder, found)


def evaluate_without_bad_clips(run: Run) -> tuple[Record, Path]:
    """Evaluate as `evaluate` does, leaving out for every system what one of them cannot use.

    Encoders prepare until one names a clip. Left out are then that clip and those with the same visible faults: the
    same missing streams or features. The rest is another dataset with an identity of its own, and preparing begins
    again, with what was extracted taken from the cache.

    Returns:
        as of `evaluate`; the record's `data.left_out` gives the reason by clip, its caveat counts them, and no labels
        of test clips are written. Where nothing is left out this is an ordinary run.

    Raises:
        DataError: a fold has no usable clip.
        BlemoreError: as of `evaluate`.
    """
    run = replace(run, stop_at_bad_clips=True)
    while True:
        try:
            for _ in prepare_encoders(run):
                pass  # an encoder that fails otherwise is reported by the evaluation
            return evaluate(run)
        except MediaError as error:
            run = skip_clips(run, error)
