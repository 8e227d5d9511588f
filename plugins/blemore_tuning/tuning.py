"""Nested tuning: a study inside the training part of every fold, for an honest number, and one for the submission."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemore_harness.context import Silent
from blemore_harness.data.opening import open_blinded
from blemore_harness.disk import cache_root, digest_of
from blemore_harness.errors import BlemoreError, HarnessError
from blemore_harness.predictions import Probabilities
from blemore_harness.processes import open_pool
from blemore_harness.running.nested import fit_submission, open_inner, prepare_all
from blemore_harness.running.run import Run, open_run
from blemore_harness.scoring.results import ScoredSystem, SystemPredictions, score_system
from blemore_harness.systems.datasets import read_data
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.systems.submission import Submission
from blemore_tuning.spaces import Searched
from blemore_tuning.study import StudyResult, open_storage, run_study

FOLDER = "tuning"
"""Folder of all searches, below that of the runs."""

STUDIES_FILE = "studies.sqlite3"


@dataclass(frozen=True)
class Plan:
    """A search, as another process can be sent it.

    Attributes:
        submission: what is tuned.
        searched: its options.
        trials: of each study.
        inner_folds: of the training part of a fold.
        folder: of the search.
        data: folder of the dataset.
        fold_seed: seed of folds that are made, as of `read_data`.
        device: where to compute.
    """

    submission: Submission
    searched: tuple[Searched, ...]
    trials: int
    inner_folds: int
    folder: Path
    data: Path
    fold_seed: int
    device: str


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        final: study on all training clips: its best options make the submission.
        outer: study of each fold.
        honest: scores of the clips of every fold by what was tuned and trained on the others.
    """

    final: StudyResult
    outer: tuple[StudyResult, ...]
    honest: ScoredSystem


@dataclass(frozen=True)
class _Part:
    """What a study gave: its result, and predictions of the held-out clips under their real names."""

    result: StudyResult
    predicted: Probabilities | None


@dataclass(frozen=True)
class _Failure:
    """What went wrong in another process."""

    message: str


def plan_folder(runs: Path, run: Run, searched: Sequence[Searched], inner_folds: int) -> Path:
    """Return the folder of a search: the same for the same systems, clips, spaces and inner folds."""
    facts = [run.systems[-1].digest, [repr(each) for each in searched], inner_folds]
    name = run.submission.name.replace(",", "-")[:80]
    return runs / FOLDER / f"{name}-{digest_of(facts)[:12]}"


def tune(run: Run, plan: Plan, jobs: int, say: Callable[[str], object]) -> Tuned:
    """Search inside every fold and on all training clips.

    Args:
        run: on the whole dataset, its results in the folder of the search.
        jobs: processes, each of which works on a study; what is found does not depend on it.
        say: is told of trials, or of studies where other processes work.

    Raises:
        BlemoreError: a study without a scored trial, or a process that was ended.
    """
    folds: tuple[int | None, ...] = (*run.dataset.fold_numbers, None)
    prepare_all(run)  # before several processes would, and before the first trial
    open_storage(plan.folder / STUDIES_FILE)
    if jobs == 1:
        parts = {fold: _search(run, plan, fold, say) for fold in folds}
    else:
        parts = {}
        with _workers(min(jobs, len(folds))) as pool:
            futures = {pool.submit(_search_elsewhere, plan, fold): fold for fold in folds}
            try:
                for future in as_completed(futures):
                    part = future.result()
                    if isinstance(part, _Failure):
                        raise BlemoreError(part.message)
                    parts[futures[future]] = part
                    found = part.result
                    say(f"{len(parts)} of {len(folds)} studies: {found.trials} trials, inner Score {found.score:.3f}")
            except BrokenProcessPool as error:
                raise BlemoreError("a process of the search was ended, perhaps for want of memory") from error
    outer = [parts[fold] for fold in folds if fold is not None]
    honest = score_system(_join([part.predicted for part in outer if part.predicted], run), run.blinded)
    return Tuned(parts[None].result, tuple(part.result for part in outer), honest)


def _search(run: Run, plan: Plan, fold: int | None, say: Callable[[str], object]) -> _Part:
    """Carry out a study; train what it found on all clips that it may see, and predict what the fold holds out."""
    seed = run.submission.seed
    inner = open_inner(run, fold, plan.inner_folds, seed)
    result = run_study(inner, fold, plan.searched, plan.trials, plan.folder / STUDIES_FILE, say)
    if fold is None:
        return _Part(result, None)
    whole = open_inner(run, fold, plan.inner_folds, seed, held_out=True)
    predicted = fit_submission(whole.of(run.submission.with_options(result.options, None))).test
    assert predicted is not None
    real = whole.blinded.real
    return _Part(result, Probabilities(tuple(real[name] for name in predicted.ids), predicted.values))


def _search_elsewhere(plan: Plan, fold: int | None) -> _Part | _Failure:
    """Carry out a study in a process of its own."""
    try:
        reporter = Silent()
        dataset = read_data(plan.data, plan.fold_seed)
        blinded = open_blinded(dataset, reporter)
        plugins = load_plugins()
        where = (plan.folder, cache_root() / "arrays", reporter, plan.device)
        run = open_run(plan.submission, plugins, dataset, blinded, *where, keep_models="none")
        return _search(run, plan, fold, lambda _: None)
    except HarnessError as error:
        return _Failure(str(error))


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Give fresh processes, which end with the block, whatever they do: their studies go on where they ended."""
    others = multiprocessing.active_children()
    pool = open_pool(count)
    try:
        yield pool
    except BaseException:
        for process in multiprocessing.active_children():
            if process not in others:
                process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _join(predicted: Sequence[Probabilities], run: Run) -> SystemPredictions:
    rows = {name: row for part in predicted for name, row in zip(part.ids, part.values, strict=True)}
    ids = run.blinded.train.ids
    values = np.array([rows[run.blinded.real[name]] for name in ids])
    return SystemPredictions(Probabilities(ids, values), None, None, ())
