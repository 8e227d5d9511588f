"""The steps of a run that call into plugins: prepare an encoder, embed clips, fit the folds of a system."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.errors import MediaError, PluginFailed
from blemore_harness.files.runs import FoldResult
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.running.calls import call, guard, open_call
from blemore_harness.running.keeping import (
    Prepared,
    find_finished,
    keep_fold,
    keep_prepared,
    keeps_model,
    part_name,
    parts_of,
    takes_embeddings,
)
from blemore_harness.running.requests import Embedding, Fitting, Fusing, Preparing, fit_and_predict, plan_fusing
from blemore_harness.running.run import Run
from blemore_harness.systems.failures import blaming
from blemore_harness.systems.resolved import ResolvedSystem


def clips_to_prepare(run: Run, resolved: ResolvedSystem) -> Clips:
    """Return the clips that an encoder prepares: all that it is trained on or predicts."""
    return run.blinded.everything(extra=resolved.is_trained)


def prepare(run: Run, resolved: ResolvedSystem, blocks: Sequence[Prepared] = ()) -> None:
    """Let an encoder download and extract; what it noted is kept for the record.

    Args:
        blocks: what came of preparing some of the clips before.
    """
    done = _prepare(run, resolved, clips_to_prepare(run, resolved), "prepare")
    keep_prepared(run, resolved, [*blocks, done])


def prepare_block(run: Run, resolved: ResolvedSystem, block: int, count: int) -> Prepared:
    """Let an encoder prepare one of `count` blocks of the clips ahead of `prepare`, which then finds it in the cache.

    What it warns of or fails at is left to `prepare`, which meets it again and says it once, for all clips.

    Raises:
        RunError: as of `guard`.
    """
    clips = clips_to_prepare(run, resolved)
    own = clips.take(range(len(clips) * block // count, len(clips) * (block + 1) // count))
    part, folder = f"prepare-{block + 1}", run.folder_of(resolved)
    try:
        return _prepare(run, resolved, own, part, quiet=True)
    except (PluginFailed, MediaError):
        folder.traceback(part).unlink(missing_ok=True)
        return Prepared({}, (), 0.0)
    finally:
        folder.drop_workspace(part)


def _prepare(run: Run, resolved: ResolvedSystem, clips: Clips, part: str, quiet: bool = False) -> Prepared:
    started = time.perf_counter()
    _, log = call(run, resolved, Preparing(clips), part, quiet=quiet)
    return Prepared(log.notes, log.warnings, time.perf_counter() - started)


def embed(run: Run, resolved: ResolvedSystem) -> Embeddings:
    """Return an encoder's label-free embeddings of all clips, training and test."""
    given, _ = call(run, resolved, Embedding(run.blinded.everything()), "embed")
    assert isinstance(given, Embeddings)
    return given


def frame_features(
    run: Run, resolved: ResolvedSystem, part: ResolvedSystem, clips: Clips
) -> Iterator[tuple[Clip, NDArray[np.float32]]]:
    """Return the frame-level features, float32 (T, D), of an encoder or of a part of an early fusion, clip by clip."""
    system = part.system
    assert isinstance(system, Encoder)
    with guard(run, resolved, "export"), open_call(run, resolved, "export") as (context, _):
        for clip in clips:
            with blaming(system):
                found = system.frame_features(clip, part.options, context)
            yield clip, found


def fit(
    run: Run,
    resolved: ResolvedSystem,
    train: Mapping[str, Probabilities] | None = None,
    test: Mapping[str, Probabilities] | None = None,
    *,
    only: Sequence[int | None] | None = None,
    embeddings: Mapping[str, Embeddings] | None = None,
) -> Iterator[tuple[int | None, FoldResult]]:
    """Take a system's folds from disk, then fit those that are missing; each is on disk before it is given.

    Args:
        train: of a fusion, by base model: out-of-fold probabilities of all training clips, opaque ids.
        test: of a fusion, by base model: probabilities of the test clips.
        only: folds, and None for the final fit; without them all.
        embeddings: of a fusion of embeddings, by base model; those of others are asked for.
    """
    folder = run.folder_of(resolved)
    wanted = parts_of(run, resolved) if only is None else only
    with run.holding(folder.path) as held:
        finished = {index: found for index, found in find_finished(run, resolved).items() if index in wanted}
        for index in finished:
            folder.drop_workspace(part_name(index))  # of a process that was killed before it could
        yield from finished.items()
        missing = [index for index in wanted if index not in finished]
        if missing:
            requests = _make_requests(held, resolved, missing, train or {}, test or {}, embeddings or {})
            yield from fit_missing(held, resolved, requests)


def _make_requests(
    run: Run,
    resolved: ResolvedSystem,
    missing: Sequence[int | None],
    train: Mapping[str, Probabilities],
    test: Mapping[str, Probabilities],
    known: Mapping[str, Embeddings],
) -> Sequence[Fitting | Fusing]:
    """Return the request for each fold."""
    system = resolved.system
    # Out-of-fold predictions, which a fusion is trained on, there are of the scored corpus only.
    folds = [
        run.blinded.fold(index, extra=not isinstance(system, Fusion) or takes_embeddings(resolved)) for index in missing
    ]
    if not isinstance(system, Fusion):
        return [Fitting(fold, keeps_model(run, fold.index)) for fold in folds]
    if takes_embeddings(resolved):
        embeddings = {
            each.name: known[each.name] if each.name in known else embed(run, each) for each in resolved.base_models
        }
        return [plan_fusing(system, fold, embeddings, embeddings, keeps_model(run, fold.index)) for fold in folds]
    return [
        plan_fusing(system, fold, train, test if fold.index is None else train, keeps_model(run, fold.index))
        for fold in folds
    ]


def fit_missing(
    run: Run, resolved: ResolvedSystem, requests: Sequence[Fitting | Fusing]
) -> Iterator[tuple[int | None, FoldResult]]:
    """Fit folds and predict what they hold out, in workers fold by fold: no worker is sent labels of another fold."""
    if run.isolation is None:
        yield from _fit_here(run, resolved, requests)
        return
    for request in requests:
        part, started = part_name(request.fold.index), time.perf_counter()
        given, log = call(run, resolved, request, part, request.fold.index)
        assert isinstance(given, Probabilities)
        with guard(run, resolved, part):
            kept = keep_fold(run, resolved, request.fold.index, given, log, time.perf_counter() - started)
        yield request.fold.index, kept


def _fit_here(
    run: Run, resolved: ResolvedSystem, requests: Sequence[Fitting | Fusing]
) -> Iterator[tuple[int | None, FoldResult]]:
    """Call `fit_folds` and take its models one by one: those of a generator are fitted as they are taken."""
    indices = [request.fold.index for request in requests]
    names = [part_name(index) for index in indices]
    started = time.perf_counter()
    with ExitStack() as stack:
        contexts: list[Context] = []
        calls = []
        for index, name in zip(indices, names, strict=True):
            own = stack.enter_context(ExitStack())
            context, log = own.enter_context(open_call(run, resolved, name, index))
            contexts.append(context)
            calls.append((index, name, log, own))
        with guard(run, resolved, "folds" if len(names) > 1 else names[0]), blaming(resolved.system):
            predictions = fit_and_predict(resolved.system, resolved.options, requests, contexts)
        share = (time.perf_counter() - started) / len(requests)
        for index, name, log, own in calls:
            started = time.perf_counter() - share
            with guard(run, resolved, name):
                with blaming(resolved.system):
                    given = next(predictions)
                kept = keep_fold(run, resolved, index, given, log, time.perf_counter() - started)
            own.close()
            yield index, kept
