"""Late fusion: a weighted mean of the members' probabilities, weights on the simplex chosen to maximise Score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, permutations
from math import comb

import numpy as np

from blemore_harness.context import Context
from blemore_harness.dataset import Clips, Fold, LabelArray
from blemore_harness.errors import InvalidOption
from blemore_harness.hookspecs import Fusion, hookimpl
from blemore_harness.rows import FloatArray, Probabilities
from blemore_harness.thresholds import GridCounter

EXHAUSTIVE_POINTS = 4_000
"""Points tried on a grid at most: all of it up to 6 members at step 0.1, beyond that a coarser grid and a climb."""

FINER = (0.5, 0.2)
"""Shares of the step that the best point is improved with at the end, moving weight from one member to another."""


@dataclass(frozen=True)
class LateOptions:
    """How weights are searched.

    Attributes:
        step: distance between neighbouring weights of the grid; 1 must be a multiple of it.
        refine: whether to improve the best point of the grid with finer moves.
    """

    step: float = 0.1
    refine: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1 or abs(1 / self.step - round(1 / self.step)) > 1e-9:
            raise InvalidOption(f"step: expected a number that divides 1, such as 0.1 or 0.05, found {self.step}")


@dataclass(frozen=True)
class WeightedMean:
    """Weights by member; they sum to 1."""

    weights: Mapping[str, float]

    def predict(self, clips: Clips, members: Mapping[str, Probabilities], context: Context) -> Probabilities:
        """Give the weighted mean of the members' rows."""
        rows = np.stack([members[name].values for name in self.weights])
        return Probabilities(clips.ids, mean_rows(rows, np.array(list(self.weights.values()))))


class LateFusion(Fusion):
    """A weighted mean of the members' probabilities."""

    name = "late"
    summary = "weighted mean of members' probabilities, weights chosen to maximise Score"
    Options = LateOptions

    def fit(
        self, fold: Fold, members: Mapping[str, Probabilities], options: LateOptions, context: Context
    ) -> WeightedMean:
        """Choose the weights on the members' out-of-fold rows, with alpha and beta at their best for each point."""
        # Sorted: the order in which members were named must not decide between equally good weights.
        names = sorted(members)
        search = WeightSearch(np.stack([members[name].values for name in names]), fold.train.labels)
        weights = search.best(options.step, options.refine)
        found = {name: float(weight) for name, weight in zip(names, weights, strict=True)}
        context.note("weights", {name: round(found[name], 6) for name in members})
        context.note("points tried", search.tried)
        return WeightedMean(found)


class WeightSearch:
    """Finds the weights with the best Score; of equals, the one nearest to equal weights.

    Args:
        rows: float64 (M, N, 6), the members' probabilities.
        truth: int8 (N, 6) percentages.

    Attributes:
        tried: how many points were scored.
    """

    def __init__(self, rows: FloatArray, truth: LabelArray) -> None:
        self._rows = rows
        self._counter = GridCounter(truth)
        self.tried = 0

    def best(self, step: float, refine: bool) -> FloatArray:
        """Give the weights, float64 (M,), that sum to 1.

        Every point of the simplex grid of `step`, and equal weights, are tried; of a coarser grid where those are too
        many, and then, as for finer moves, weight is moved between pairs of members as long as that helps. Each
        member alone is a point of every grid, so no single member scores better than the result.
        """
        members = len(self._rows)
        wanted = parts = round(1 / step)
        while comb(parts + members - 1, members - 1) > EXHAUSTIVE_POINTS and parts > 1:
            parts -= 1
        best = self._pick([np.full(members, 1 / members), *simplex_points(members, parts)])
        if parts < wanted:
            best = self._climb(best, step)
        for share in FINER if refine else ():
            best = self._climb(best, step * share)
        return best

    def _climb(self, start: FloatArray, move: float) -> FloatArray:
        best = start
        while True:
            neighbours = [_moved(best, giver, taker, move) for giver, taker in permutations(range(len(best)), 2)]
            found = self._pick([best, *(point for point in neighbours if point is not None)])
            if found is best:
                return best
            best = found

    def _pick(self, points: Iterable[FloatArray]) -> FloatArray:
        equal = 1 / len(self._rows)

        def rank(point: FloatArray) -> tuple[float, float]:
            self.tried += 1
            score = self._counter.count(mean_rows(self._rows, point)).choose().scores.score
            # Rounded: points that mirror each other are equally far from equal weights but for the last bits.
            return score, -round(float(((point - equal) ** 2).sum()), 9)

        # Of equals the first, so that a climb moves only to what is strictly better, and ends.
        return max(points, key=rank)


def mean_rows(rows: FloatArray, weights: FloatArray) -> FloatArray:
    """Give the weighted mean, float64 (N, 6), of rows (M, N, 6).

    Added up member by member: a matrix product would round a row differently among other rows.
    """
    total = weights[0] * rows[0]
    for weight, values in zip(weights[1:], rows[1:], strict=True):
        total += weight * values
    # Weights such as .4, .3, .2 and .1 add up to a little more than 1 in floating point.
    clipped: FloatArray = np.minimum(total, 1.0)
    return clipped


def simplex_points(members: int, parts: int) -> Iterator[FloatArray]:
    """Give every vector of `members` multiples of 1/`parts` that sum to 1.

    >>> [point.tolist() for point in simplex_points(2, 2)]
    [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    for bars in combinations(range(parts + members - 1), members - 1):
        edges = np.array([-1, *bars, parts + members - 1])
        yield (np.diff(edges) - 1) / parts


def _moved(point: FloatArray, giver: int, taker: int, move: float) -> FloatArray | None:
    """Move weight between two members; None where the giver has none to give."""
    given = min(move, float(point[giver]))
    if given <= 1e-12:
        return None
    moved = point.copy()
    moved[giver] -= given
    moved[taker] += given
    return moved / moved.sum()


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Offer late fusion."""
    return [LateFusion()]
