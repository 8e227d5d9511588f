"""The two trivial baselines of the challenge: always the most frequent single emotion, or the most frequent blend.

They use only the training labels and are the lower bound for any other system.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.disk import read_json, write_json
from blemore_harness.errors import DataError
from blemore_harness.hookspecs import Card, Encoder, NoOptions, hookimpl
from blemore_harness.predictions import FloatArray, Probabilities
from blemore_plugins.cards import NO_WEIGHTS


@dataclass(frozen=True)
class ConstantModel:
    """Predicts the same label for every clip, as probabilities: 70/30 is .7 and .3."""

    row: FloatArray

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        """Return the same probabilities for every clip."""
        return Probabilities(clips.ids, np.tile(self.row, (len(clips), 1)))

    def save(self, folder: Path) -> None:
        """Write the row."""
        write_json(folder / "row.json", {"row": self.row.tolist()})


def load_constant(folder: Path) -> ConstantModel:
    """Read what `ConstantModel.save` wrote."""
    return ConstantModel(np.array(read_json(folder / "row.json")["row"]))


class TrivialSingle(Encoder):
    """Predicts the most frequent single emotion of the training clips; ties are broken by label order."""

    name = "trivial-single"
    summary = "baseline: always the most frequent single emotion"
    modality = "video"

    def card(self, options: NoOptions) -> Card:
        """Return the card of a system without weights."""
        return NO_WEIGHTS

    def fit(self, fold: Fold, options: NoOptions, context: Context) -> ConstantModel:
        """Count single emotions."""
        counts = (fold.train.labels == 100).sum(axis=0)
        if not counts.any():
            raise DataError("trivial-single requires at least one training clip with a single emotion, found none")
        return ConstantModel(np.eye(counts.size)[int(counts.argmax())])

    def load(self, folder: Path, options: NoOptions, context: Context) -> ConstantModel:
        """Read the row."""
        return load_constant(folder)


class TrivialBlend(Encoder):
    """Predicts the most frequent pair with its most frequent salience; ties are broken by label order."""

    name = "trivial-blend"
    summary = "baseline: always the most frequent blend with its most frequent salience"
    modality = "video"

    def card(self, options: NoOptions) -> Card:
        """Return the card of a system without weights."""
        return NO_WEIGHTS

    def fit(self, fold: Fold, options: NoOptions, context: Context) -> ConstantModel:
        """Count pairs, then the saliences of the most frequent pair."""
        labels = fold.train.labels
        blends = labels[(labels > 0).sum(axis=1) == 2]
        if not len(blends):
            raise DataError("trivial-blend requires at least one training clip with a blend, found none")
        pair = _most_frequent(blends > 0)
        row = _most_frequent(blends[((blends > 0) == pair).all(axis=1)])
        return ConstantModel(row / 100)

    def load(self, folder: Path, options: NoOptions, context: Context) -> ConstantModel:
        """Read the row."""
        return load_constant(folder)


@hookimpl
def blemore_encoders() -> Iterable[Encoder]:
    """Return both baselines."""
    return [TrivialSingle(), TrivialBlend()]


def _most_frequent(rows: np.ndarray[tuple[int, int], np.dtype[np.generic]]) -> FloatArray:
    """Return the most frequent row; ties are broken by label order (`ang` before `disg`)."""
    values, counts = np.unique(rows, axis=0, return_counts=True)
    last = len(values) - 1 - int(counts[::-1].argmax())
    return values[last].astype(np.float64)
