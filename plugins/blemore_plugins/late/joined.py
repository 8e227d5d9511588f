"""The training parts of several folds as one set of clips, where each is all of them but a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blemore_harness.clips import Fold, LabelArray
from blemore_harness.predictions import FloatArray, Probabilities
from blemore_plugins.late.subsets import Subsets, find_subsets


@dataclass(frozen=True)
class Joined:
    """All clips that any of the folds learns from.

    Attributes:
        base_models: names, sorted.
        rows: float64 (M, N, 6), their probabilities.
        truth: int8 (N, 6) percentages.
        subsets: which clips each fold learns from.
    """

    base_models: tuple[str, ...]
    rows: FloatArray
    truth: LabelArray
    subsets: Subsets


def join_folds(folds: Sequence[Fold], base_models: Sequence[Mapping[str, Probabilities]]) -> Joined | None:
    """Join training parts; None where two leave out one clip, one is empty, or a clip's rows or labels differ.

    Args:
        folds: at least one.
        base_models: by fold and base model, rows for the fold's training clips, in its order.
    """
    found = find_subsets([fold.train.ids for fold in folds])
    names = tuple(sorted(base_models[0]))
    if (
        found is None
        or not all(len(fold.train) for fold in folds)
        or any(tuple(sorted(m)) != names for m in base_models)
    ):
        return None
    ids, subsets = found
    place = {name: i for i, name in enumerate(ids)}
    rows = np.zeros((len(names), len(ids), 6))
    truth = np.zeros((len(ids), 6), dtype=np.int8)
    parts = []
    for fold, given in zip(folds, base_models, strict=True):
        where = [place[name] for name in fold.train.ids]
        parts.append((where, np.stack([given[name].values for name in names]), fold.train.labels))
        rows[:, where], truth[where] = parts[-1][1], parts[-1][2]
    # Written over by later folds: what differs between two of them differs from what is there now.
    same = all(np.array_equal(rows[:, w], values) and np.array_equal(truth[w], labels) for w, values, labels in parts)
    return Joined(names, rows, truth, subsets) if same else None
