"""A run on what is left of a dataset when clips that cannot be used are left out; its results are not comparable."""

from __future__ import annotations

from blemore_harness.clips import Clip
from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.data.download import leave_out
from blemore_harness.data.opening import open_blinded
from blemore_harness.errors import ExtraMissing, MediaError, first_and_count
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
