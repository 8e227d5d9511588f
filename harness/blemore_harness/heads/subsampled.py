"""The organisers' subsampled variant: every embedding of a clip is a training row, a clip's logits are averaged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import DataError
from blemore_harness.heads.models import HeadModel, Rows, fit_models, load_model
from blemore_harness.heads.options import HeadOptions
from blemore_harness.heads.scaling import Vectors

SequenceOf: TypeAlias = Callable[[Clip], Vectors]


def fit_head_on_rows(sequence_of: SequenceOf, fold: Fold, options: HeadOptions, context: Context) -> HeadModel:
    """Train a head on every embedding of a fold's training clips; each row's target is its clip's.

    The organisers' settings are those of the head `mlp-512-subsampled`. Rows are standardised over all training rows
    and shuffled across clips. Every sequence is read twice, so that the rows lie in memory once.

    Args:
        sequence_of: gives the features of a clip over time, float32 (T, D), T at least 1 and D the same for all.
        fold: clips with labels to learn from, and clips without.
        options: how; `batch_size` counts rows.
        context: seed, device, and whom to ask for scores.

    Raises:
        DataError: no training clips, too few actors for an inner split, or a sequence of another shape.
        ExtraMissing: torch is not installed.
    """
    return fit_models([partial(_gather, sequence_of)], [fold], options, [context])[0]


def load_head_on_rows(folder: Path, sequence_of: SequenceOf, context: Context) -> HeadModel:
    """Read a head that `HeadModel.save` wrote; `sequence_of` as of `fit_head_on_rows`."""
    return load_model(folder, partial(_gather, sequence_of), context.device)


def _gather(sequence_of: SequenceOf, clips: Clips) -> Rows:
    """Return the rows of clips one after another, in one array that is filled clip by clip."""
    shapes = [_checked(clip, sequence_of(clip)).shape for clip in clips]
    widths = [width for _, width in shapes]
    for clip, width in zip(clips, widths, strict=True):
        if width != widths[0]:
            raise DataError(f"clip {clip.id}: expected features (T, {widths[0]}), as of the first clip, found {width}")
    counts = np.array([length for length, _ in shapes], dtype=np.int64)
    values = np.empty((counts.sum(), widths[0]), dtype=np.float32)
    end = 0
    for clip, count in zip(clips, counts, strict=True):
        start, end = end, end + count
        values[start:end] = sequence_of(clip)
    return Rows(values, counts)


def _checked(clip: Clip, frame_features: Vectors) -> Vectors:
    if frame_features.ndim != 2 or not frame_features.size:
        raise DataError(
            f"clip {clip.id}: expected features (T, D) with T and D at least 1, found {frame_features.shape}"
        )
    if not np.isfinite(frame_features).all():
        raise DataError(f"clip {clip.id}: expected finite features, found NaN or infinite values")
    return frame_features
