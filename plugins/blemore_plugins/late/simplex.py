"""The points of a grid on the simplex, numbered, so that they need not be stored."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from blemore_harness.predictions import FloatArray

PartsArray = NDArray[np.int64]


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
