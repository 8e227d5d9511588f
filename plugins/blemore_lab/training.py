"""Heads on simulated embeddings, trained by the harness as in a run: out of fold, and finally on all training clips."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context, Silent
from blemore_harness.heads.fitting import fit_heads_together
from blemore_harness.heads.options import HeadOptions
from blemore_harness.options import build_options
from blemore_harness.predictions import Embeddings, FloatArray
from blemore_lab.embeddings import Vectors
from blemore_lab.labels import Groups

SMALL: Mapping[str, object] = MappingProxyType(
    {"hidden": "32", "dropout": 0.2, "epochs": 12, "patience": 4, "learning_rate": 4e-3, "batch_size": 128}
)
"""Settings of the simulated encoders' heads where they differ from the default of real ones: small and fast."""


@dataclass(frozen=True)
class HeadRows:
    """Probabilities of one encoder's heads.

    Attributes:
        train: float64 (N, 6) of the training clips, each by the head of its fold, which did not see its actor.
        unseen: float64 (T, 6) of the new actors' clips, by the head trained on all training clips.
        by_fold: float64 (K, T, 6) of the new actors' clips, by the head of each fold.
    """

    train: FloatArray
    unseen: FloatArray
    by_fold: FloatArray


def make_head_options(given: Mapping[str, object]) -> HeadOptions:
    """Return the settings of heads: `SMALL` with what a user gives; errors as of `build_options`."""
    options = build_options("head", HeadOptions, {**SMALL, **given})
    assert isinstance(options, HeadOptions)
    return options


def train_heads(
    vectors: Mapping[str, Vectors], train: Clips, folds: Groups, unseen: Clips | None, options: HeadOptions, seed: int
) -> dict[str, HeadRows]:
    """Train the heads of several encoders, all at once, and predict.

    Args:
        vectors: by encoder, float32 (N + T, D): of the training clips, then of the new actors' clips.
        train, folds: training clips with labels and actors, and int64 (N,) fold of each.
        unseen: the new actors' clips; None where there are none, and no final head is trained.
        options: how heads are trained.
        seed: of initial weights, batches, dropout and inner splits, as a run's.
    """
    index = {clip: place for place, clip in enumerate((*train.ids, *(unseen.ids if unseen else ())))}

    def embed(clips: Clips, context: Context) -> Embeddings:
        return Embeddings(clips.ids, vectors[context.workspace.name][[index[clip] for clip in clips.ids]])

    numbers = np.unique(folds).tolist()
    splits = [Fold(k, train.take(folds != k), train.take(folds == k).unlabelled()) for k in numbers]
    splits += [Fold(None, train, unseen)] if unseen else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contexts = [
            Context("cpu", seed, folder / encoder, Cache(folder / "cache"), Silent(), final=split.index is None)
            for encoder in vectors
            for split in splits
        ]
        models = fit_heads_together(embed, splits * len(vectors), options, contexts)
        predicted = [
            [model.predict(clips, context).values for clips in (split.held_out, unseen) if clips is not None]
            for model, split, context in zip(models, splits * len(vectors), contexts, strict=True)
        ]
    found = {}
    for place, encoder in enumerate(vectors):
        rows = predicted[place * len(splits) : (place + 1) * len(splits)]
        found[encoder] = _gather(rows, numbers, folds)
    return found


def _gather(rows: Sequence[Sequence[FloatArray]], numbers: Sequence[int], folds: Groups) -> HeadRows:
    train = np.zeros((len(folds), 6))
    for number, parts in zip(numbers, rows, strict=False):
        train[folds == number] = parts[0]
    if len(rows) == len(numbers):
        return HeadRows(train, np.zeros((0, 6)), np.zeros((len(numbers), 0, 6)))
    return HeadRows(train, rows[-1][0], np.stack([parts[1] for parts in rows[:-1]]))
