"""A run on what is left of a dataset when clips that cannot be used are left out; its results are not comparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from blemore_harness.clips import Clip
from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.data.download import Dataset
from blemore_harness.data.opening import open_blinded
from blemore_harness.errors import DataError, ExtraMissing, MediaError, first_and_count
from blemore_harness.media.opening import check_media
from blemore_harness.running.run import Run


def skip_clips(run: Run, error: MediaError) -> Run:
    """Return a run without the clip that an encoder cannot use, nor those with the same visible faults.

    Raises:
        MediaError: `error`, where it names no clip of the dataset.
        DataError: as of `leave_out`.
    """
    real = run.blinded.real
    if error.clip is None or error.clip not in real:
        raise error
    reasons = find_alike(run.blinded, error.clip, str(error))
    dataset = leave_out(run.dataset, {real[name]: reason for name, reason in reasons.items()})
    run.reporter.warn(f"left out: {first_and_count([real[name] for name in reasons], 'clip')}: {error}")
    return run.on(dataset, open_blinded(dataset, run.reporter))


def leave_out(dataset: Dataset, reasons: Mapping[str, str], all_folds: bool = True) -> Dataset:
    """Return a dataset without some clips; `left_out` of it says why.

    Args:
        dataset: as read from disk.
        reasons: why it cannot be used, by real clip id.
        all_folds: whether each fold must keep a clip, as where folds are held out.

    Raises:
        DataError: no test clips are left, or a fold has none.
    """
    extra = []
    for each in dataset.extra:
        prefix = f"{each.corpus}:"
        own = {name.removeprefix(prefix): reason for name, reason in reasons.items() if name.startswith(prefix)}
        extra.append(leave_out(each, own, all_folds=False))
    kept = [i for i, name in enumerate(dataset.ids) if name not in reasons]
    truth, folds = dataset.truth[kept], dataset.folds[kept]
    gone = set(dataset.fold_numbers) - set(folds.tolist())
    if gone and all_folds:
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
        extra=tuple(extra),
    )


def _without(found: Mapping[str, Any], reasons: Mapping[str, str]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in reasons}


def find_alike(blinded: BlindedDataset, culprit: str, message: str) -> dict[str, str]:
    """Return the clips, by opaque id, that have every visible fault of one that cannot be used; that one at least.

    Encoders go through clips in order: a fault that an earlier clip has as well is not why this one was refused.
    """
    clips = blinded.everything().items
    faults = {clip.id: _faults(clip, blinded.feature_sets) for clip in clips}
    names = [clip.id for clip in clips]
    others = {name for name in names if faults[culprit] and faults[culprit] <= faults[name]}
    if len(others) == len(names) or names.index(culprit) > min(map(names.index, others), default=0):
        others = {culprit}
    shared = f"it lacks the same ({', '.join(sorted(faults[culprit]))}) as {blinded.real[culprit]}"
    return {name: message if name == culprit else shared for name in names if name in others | {culprit}}


def _faults(clip: Clip, feature_sets: frozenset[str]) -> set[str]:
    """Report what a clip lacks, as far as that is seen without decoding."""
    found = {f"features {store}" for store in feature_sets if store not in clip.feature_files}
    for kind, word in (("video", "picture"), ("audio", "sound")):
        try:
            check_media(clip, kind)  # type: ignore[arg-type]
        except MediaError:
            found.add(word)
        except ExtraMissing:
            break  # features are all that can be used without a decoder
    return found
