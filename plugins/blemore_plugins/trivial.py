"""The two trivial baselines of the challenge: always the most frequent single emotion, always the most frequent blend.

They look at nothing but the training labels, and tell what any real system must beat.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import DataError
from blemore_harness.hookspecs import Encoder, NoOptions, hookimpl
from blemore_harness.predictions import FloatArray, Probabilities


@dataclass(frozen=True)
class ConstantModel:
    """Gives every clip the same row: a label as probabilities, 70/30 as .7 and .3."""

    row: FloatArray

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        """Return the row once per clip."""
        return Probabilities(clips.ids, np.tile(self.row, (len(clips), 1)))


class TrivialSingle(Encoder):
    """Always the most frequent single emotion of the training clips; of equals, the first in label order."""

    name = "trivial-single"
    summary = "baseline: always the most frequent single emotion"
    modality = "video"

    def fit(self, fold: Fold, options: NoOptions, context: Context) -> ConstantModel:
        """Count single emotions."""
        counts = (fold.train.labels == 100).sum(axis=0)
        if not counts.any():
            raise DataError("trivial-single needs at least one training clip with a single emotion")
        return ConstantModel(np.eye(counts.size)[int(counts.argmax())])


class TrivialBlend(Encoder):
    """Always the most frequent pair with its most frequent salience; of equals, the first in label order."""

    name = "trivial-blend"
    summary = "baseline: always the most frequent blend with its most frequent salience"
    modality = "video"

    def fit(self, fold: Fold, options: NoOptions, context: Context) -> ConstantModel:
        """Count pairs, then saliences within the winning pair."""
        labels = fold.train.labels
        blends = labels[(labels > 0).sum(axis=1) == 2]
        if not len(blends):
            raise DataError("trivial-blend needs at least one training clip with a blend")
        pair = _most_frequent(blends > 0)
        row = _most_frequent(blends[((blends > 0) == pair).all(axis=1)])
        return ConstantModel(row / 100)


@hookimpl
def blemore_encoders() -> Iterable[Encoder]:
    """Offer both baselines."""
    return [TrivialSingle(), TrivialBlend()]


def _most_frequent(rows: np.ndarray[tuple[int, int], np.dtype[np.generic]]) -> FloatArray:
    """Return the most frequent row; of equals, the one whose leading entries are larger (`ang` before `disg`)."""
    values, counts = np.unique(rows, axis=0, return_counts=True)
    last = len(values) - 1 - int(counts[::-1].argmax())
    return values[last].astype(np.float64)
