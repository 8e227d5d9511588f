"""A run on what is left of a dataset when clips that cannot be used are left out; its results are not comparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from blemore_harness.containers import check_media
from blemore_harness.data.download import Dataset
from blemore_harness.data.views import View
from blemore_harness.dataset import Clip
from blemore_harness.errors import DataError, ExtraMissing, MediaError, first_and_count
from blemore_harness.pipeline import Workshop, evaluate
from blemore_harness.places import open_dataset_view
from blemore_harness.preparation import prepare_submission
from blemore_harness.submission import Submission
from blemore_harness.systems.plugins import Plugins


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
            reasons = _alike(view, error.clip, str(error))
            dataset = leave_out(dataset, {view.real[name]: reason for name, reason in reasons.items()})
            workshop.reporter.warn(
                f"left out: {first_and_count([view.real[name] for name in reasons], 'clip')}: {error}"
            )
            view = open_dataset_view(dataset, workshop.reporter)


def leave_out(dataset: Dataset, reasons: Mapping[str, str]) -> Dataset:
    """Give a dataset without some clips; `left_out` of it says why.

    Args:
        dataset: as read from disk.
        reasons: why it cannot be used, by real clip id.

    Raises:
        DataError: no test clips are left, or a fold has none.
    """
    kept = [i for i, name in enumerate(dataset.ids) if name not in reasons]
    truth, folds = dataset.truth[kept], dataset.folds[kept]
    gone = set(dataset.fold_numbers) - set(folds.tolist())
    if gone:
        raise DataError(
            f"fold {min(gone)} has no usable clip: {first_and_count(sorted(reasons), 'clip')} cannot be used "
            f"({next(iter(reasons.values()))})"
        )
    for array in (truth, folds):
        array.setflags(write=False)
    return replace(
        dataset,
        ids=tuple(dataset.ids[i] for i in kept),
        actors=tuple(dataset.actors[i] for i in kept),
        genders=tuple(dataset.genders[i] for i in kept),
        truth=truth,
        folds=folds,
        test_ids=tuple(name for name in dataset.test_ids if name not in reasons),
        videos=_without(dataset.videos, reasons),
        features={store: _without(paths, reasons) for store, paths in dataset.features.items()},
        aggregates={
            store: replace(aggregate, places=_without(aggregate.places, reasons))
            for store, aggregate in dataset.aggregates.items()
        },
        left_out={**dataset.left_out, **reasons},
    )


def _without(found: Mapping[str, Any], reasons: Mapping[str, str]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in reasons}


def _alike(view: View, culprit: str, message: str) -> dict[str, str]:
    """Give the clips, by opaque id, that have every visible fault of one that cannot be used; that one at least.

    Encoders go through clips in order: a fault that an earlier clip has as well is not why this one was refused.
    """
    clips = view.everything().items
    faults = {clip.id: _faults(clip, view.stores) for clip in clips}
    names = [clip.id for clip in clips]
    others = {name for name in names if faults[culprit] and faults[culprit] <= faults[name]}
    if len(others) == len(names) or names.index(culprit) > min(map(names.index, others), default=0):
        others = {culprit}
    shared = f"it lacks the same ({', '.join(sorted(faults[culprit]))}) as {view.real[culprit]}"
    return {name: message if name == culprit else shared for name in names if name in others | {culprit}}


def _faults(clip: Clip, stores: frozenset[str]) -> set[str]:
    """Say what a clip lacks, as far as that is seen without decoding."""
    found = {f"features {store}" for store in stores if store not in clip.feature_files}
    for kind, word in (("video", "picture"), ("audio", "sound")):
        try:
            check_media(clip, kind)  # type: ignore[arg-type]
        except MediaError:
            found.add(word)
        except ExtraMissing:
            break  # features are all that can be used without a decoder
    return found
