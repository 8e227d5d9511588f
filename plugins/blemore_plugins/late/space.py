"""What is searched: the points of a grid of weights, numbered, and the sets of clips that weights are chosen on.

Each set is all clips but one group, as the training parts of folds are: one pass over the points serves them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import comb

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Fold, LabelArray
from blemore_harness.predictions import FloatArray, Probabilities

PartsArray = NDArray[np.int64]

NONE = -1
"""Stands for no group: the set is all clips."""


@dataclass(frozen=True)
class SimplexGrid:
    """Every way to hand out `parts` equal parts of weight to `base_models`, in lexicographic order.

    Attributes:
        base_models: how many base models there are, at least 1.
        parts: how many parts make the whole weight of 1, at least 1.
        lowest: parts that every base model gets at least.
        highest: parts that a base model gets at most.
    """

    base_models: int
    parts: int
    lowest: int
    highest: int

    @property
    def size(self) -> int:
        """How many points there are; 0 where the bounds leave none."""
        return self._ways(self.base_models, self.parts)

    def _ways(self, base_models: int, parts: int) -> int:
        """Count the ways to hand out parts to so many base models within the bounds, by inclusion and exclusion."""
        free, room = parts - base_models * self.lowest, self.highest - self.lowest + 1
        if free < 0 or room < 1:
            return 0
        if base_models == 0:
            return int(free == 0)
        terms = range(min(base_models, free // room) + 1)
        return sum(
            (-1) ** k * comb(base_models, k) * comb(free - k * room + base_models - 1, base_models - 1) for k in terms
        )

    def block(self, start: int, stop: int) -> PartsArray:
        """Return the parts, int64 (stop - start, M), of the points with these numbers.

        >>> SimplexGrid(2, 2, 0, 2).block(0, 3).tolist()
        [[0, 2], [1, 1], [2, 0]]
        """
        rank = np.arange(start, stop, dtype=np.int64)
        left = np.full(len(rank), self.parts, dtype=np.int64)
        found = np.empty((len(rank), self.base_models), dtype=np.int64)
        for place in range(self.base_models):
            ways = np.array([self._ways(self.base_models - 1 - place, parts) for parts in range(self.parts + 1)])
            given = np.full(len(rank), self.lowest, dtype=np.int64)
            while True:
                skipped = np.where(given <= left, ways[np.maximum(left - given, 0)], 0)
                further = (rank >= skipped) & (given < self.highest)
                if not further.any():
                    break
                rank -= np.where(further, skipped, 0)
                given += further
            found[:, place] = given
            left -= given
        return found

    def weights(self, parts: PartsArray) -> FloatArray:
        """Return the weights, float64, that parts stand for."""
        weights: FloatArray = parts / self.parts
        return weights


def bounded_grid(base_models: int, parts: int, min_weight: float = 0.0, max_weight: float = 1.0) -> SimplexGrid:
    """Return the grid with a step of 1/`parts` of weights that are neither below `min_weight` nor above
    `max_weight`.
    """
    # Bounds such as .3 of 10 parts miss a whole number in the last bits.
    slack = 1e-9
    lowest, highest = int(np.ceil(min_weight * parts - slack)), int(np.floor(max_weight * parts + slack))
    return SimplexGrid(base_models, parts, lowest, highest)


@dataclass(frozen=True)
class Subsets:
    """Which sets of clips there are.

    A clip's label at a point does not depend on who else is counted, so right answers are counted by group once, and a
    set's are the total less those of the group that it leaves out.

    Attributes:
        group: int64 (N,), number of the group that each clip is of.
        left_out: by set, number of the group that it leaves out, or `NONE`.
    """

    group: NDArray[np.int64]
    left_out: tuple[int, ...]

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.group.max(initial=0)) + 1

    def mask(self, number: int) -> NDArray[np.bool_]:
        """Return the mask (N,) of a set's clips."""
        return self.group != self.left_out[number]


def whole(clips: int) -> Subsets:
    """Return the single set of all clips."""
    return Subsets(np.zeros(clips, dtype=np.int64), (NONE,))


def find_subsets(sets: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], Subsets] | None:
    """Return the names of all clips, and the sets as all of them but a group; None where two sets leave out one clip.

    >>> find_subsets([["b", "c"], ["a", "c"], ["a", "b", "c"]])
    (('b', 'c', 'a'), Subsets(group=array([1, 2, 0]), left_out=(0, 1, -1)))
    """
    names = tuple(dict.fromkeys(chain.from_iterable(sets)))
    place = {name: number for number, name in enumerate(names)}
    absent = np.ones((len(sets), len(names)), dtype=bool)
    for number, base_models in enumerate(sets):
        absent[number, [place[name] for name in base_models]] = False
    if (absent.sum(axis=0) > 1).any():
        return None
    # Clips that every set has are a group that none leaves out.
    missed_by = np.where(absent.any(axis=0), absent.argmax(axis=0), len(sets))
    numbers, group = np.unique(missed_by, return_inverse=True)
    position = {int(number): i for i, number in enumerate(numbers)}
    return names, Subsets(group.astype(np.int64), tuple(position.get(number, NONE) for number in range(len(sets))))


@dataclass(frozen=True)
class Joined:
    """All clips that any of the folds trains on.

    Attributes:
        base_models: names, sorted.
        rows: float64 (M, N, 6), their probabilities.
        truth: int8 (N, 6) percentages.
        subsets: which clips each fold trains on.
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
