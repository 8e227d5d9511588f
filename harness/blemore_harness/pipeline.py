"""The whole evaluation, in the order of `evaluate`.

What is to be done is a plan (`_plan`): every encoder is prepared, then fitted fold by fold; the fusion is fitted on
what they predict for clips that they were not trained on. It is carried out in this process or by several workers
(`_carry_out`). Every system is scored (`_score`), the labels of the test clips are written (`_predict_test_clips`), and
how each system is decoded is kept (`_keep_decoders`). What is on disk already is taken from there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from blemore_harness.decoding.strategies import describe_decoder
from blemore_harness.errors import MediaError
from blemore_harness.files.runs import SCORES_FILE, keep_decoders
from blemore_harness.predictions import Embeddings
from blemore_harness.record.types import Record
from blemore_harness.running.keeping import parts_of
from blemore_harness.running.plan import Node, plan_run
from blemore_harness.running.preparation import prepare_encoders, sweep_cache, warn_of_missing_videos
from blemore_harness.running.progress import FoldProgress, PreparationProgress
from blemore_harness.running.recording import Recorder, start_record
from blemore_harness.running.run import Run
from blemore_harness.running.run_log import LOG_FILE, RunLog
from blemore_harness.running.skipping import skip_clips
from blemore_harness.running.work import SKIPPED, Work, count_blocks, count_jobs, fits_together
from blemore_harness.scoring.kept_scores import digest_all_code, score_once
from blemore_harness.scoring.results import ScoredSystem, SystemPredictions, suspect_leaks
from blemore_harness.scoring.test_clips import choose_decoder, find_strategy, predict_test


def evaluate(run: Run) -> tuple[Record, Path]:
    """Evaluate a submission on a dataset, taking from disk whatever is finished.

    Returns:
        the record, as written to `record.json`, and the run's folder.

    Raises:
        BlemoreError: the harness found something that the user can fix; the record says `failed`, what was finished
            stays finished. Whatever a plugin raises becomes a row instead, and the record says `failed`.
    """
    started = time.perf_counter()
    code = digest_all_code()  # as it is loaded now
    transductive = _looks_at_other_test_clips(run)
    folder = run.folder
    log = RunLog(run.reporter, folder / LOG_FILE, run.command, run.show)
    run = replace(run, reporter=log, show=log.show)
    record = start_record(run.submission, run.systems, run.dataset, run.command, run.blinded.warnings, run.group())
    recorder = Recorder(folder, record, run.plugins, started, run.draw, run.systems)
    parts = {system.name: len(parts_of(run, system)) for system in run.systems}
    jobs = count_jobs(run)
    with run.holding(folder) as run, recorder.closing(), FoldProgress.shown(parts, run.show, jobs) as progress:
        plan = _plan(run, transductive)
        work = _carry_out(run, plan, recorder, progress)
        scores = _score(run, work.predictions, code, recorder)
        _predict_test_clips(run, work.predictions, scores, work.embeddings if transductive else None, recorder)
        _keep_decoders(run, work.predictions, scores)
    return recorder.record, folder


def _looks_at_other_test_clips(run: Run) -> bool:
    """Check which strategy is asked for, and return whether it looks at other test clips."""
    strategy = None if run.submission.thresholds is None else find_strategy(run.submission.thresholds)
    return bool(strategy and strategy.transductive and run.dataset.test_ids and not run.dataset.left_out)


def _plan(run: Run, with_embeddings: bool) -> tuple[Node, ...]:
    """List what is to be done, and what must be done before; what is on disk is taken from there."""
    warn_of_missing_videos(run)
    sweep_cache(run)
    return plan_run(
        run, with_embeddings, lambda system: fits_together(run, system), lambda system: count_blocks(run, system)
    )


def _carry_out(run: Run, plan: tuple[Node, ...], recorder: Recorder, progress: FoldProgress) -> Work:
    """Prepare and fit every encoder, then the fusion; what fails is recorded, and the others continue."""
    work = Work(run, plan)
    preparing = PreparationProgress([each.name for each in run.encoders], run.show)
    with closing(work.carry_out()) as events:
        for event in events:
            name = event.resolved.name
            if event.node.step == "prepare":
                preparing.tell(event.kind, name)
            elif event.node.step == "fit":
                preparing.end()
                if event.kind == "began":
                    progress.begin(name)
            if event.result is not None:
                recorder.tell_fold(event.resolved, event.fold, event.result, run.blinded)
                progress.finish(name, event.result.facts["seconds"])
            if event.error is not None:
                recorder.fail(event.resolved, event.error)
                progress.drop(name)
            elif event.kind == "skipped":
                recorder.skip(event.resolved, SKIPPED)
    return work


def _score(
    run: Run, predictions: Mapping[str, SystemPredictions], code: str, recorder: Recorder
) -> dict[str, ScoredSystem]:
    """Score every system that was fitted, and warn of scores that are too good to be true."""
    scores = {
        name: score_once(predictions[name], run.blinded, folder.path / SCORES_FILE, code)
        for name, folder in ((resolved.name, run.folder_of(resolved)) for resolved in run.systems)
        if name in predictions
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
