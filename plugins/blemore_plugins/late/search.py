"""The search for weights: a whole grid of the simplex in one pass for all sets of clips, then finer moves for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations

import numpy as np

from blemore_harness.clips import LabelArray
from blemore_harness.context import Context
from blemore_harness.errors import InvalidOption
from blemore_harness.predictions import FloatArray
from blemore_plugins.late.options import LateOptions
from blemore_plugins.late.scorers import CompiledScorer, PlainScorer, Scorer
from blemore_plugins.late.space import PartsArray, SimplexGrid, Subsets, bounded_grid

CLIMB_POINTS = 4_000
"""Points of the coarse grid that `climb` starts from at most: all of step 0.1 up to 6 base models."""

FINER = (0.5, 0.2)
"""Shares of the step that the best point is improved with at the end, moving weight from one base model to another."""

PLAIN_POINTS = 2_000
"""Up to so many points plain numpy is done before a compiler has started."""


class WeightSearch:
    """Finds the weights with the best Score; of equals, the one nearest to equal weights.

    Args:
        scorer: scores points.
        base_models: how many base models there are.
        options: which points are tried.

    Attributes:
        grid: the grid that is tried whole: that of `options.step`, or a coarser one where that has too many points.
        tried: how many points were scored.

    Raises:
        InvalidOption: bounds that no weights of so many base models can keep.
    """

    def __init__(self, scorer: Scorer, base_models: int, options: LateOptions) -> None:
        self._scorer, self._members, self._options = scorer, base_models, options
        self.grid = choose_grid(base_models, options)
        self.tried = 0

    def best(self, context: Context) -> FloatArray:
        """Return the weights, float64 (M,), that sum to 1.

        Every point of the grid, and equal weights, are tried. Where the grid is coarser than the step, and then, as
        for finer moves, weight is moved between pairs of base models as long as that helps. Without bounds each base
        model alone is a point of every grid, so no single base model scores better than the result.
        """
        if not self.grid.size:
            return self.improve(None)
        with context.progress("late: weights", self.grid.size) as bar:
            return self.improve(self._scorer.best_of(self.grid, bar.advance)[0])

    def improve(self, found: PartsArray | None) -> FloatArray:
        """Go on from the grid's best point, int64 (M,), as `best` does; None where the grid has no points."""
        points = [np.full(self._members, 1 / self._members)]
        if found is not None:
            self.tried += self.grid.size - 1
            points.append(self.grid.weights(found))
        best = self._pick(points)
        if self.grid.parts < round(1 / self._options.step) or found is None:
            best = self._climb(best, self._options.step)
        for share in FINER if self._options.refine else ():
            best = self._climb(best, self._options.step * share)
        return best

    def _climb(self, start: FloatArray, move: float) -> FloatArray:
        best = start
        while True:
            pairs = permutations(range(self._members), 2)
            neighbours = [self._moved(best, giver, taker, move) for giver, taker in pairs]
            found = self._pick([best, *(point for point in neighbours if point is not None)])
            if found is best:
                return best
            best = found

    def _pick(self, points: Iterable[FloatArray]) -> FloatArray:
        """Return the best of points.

        Of equals the first, so that a climb moves to what is strictly better, and ends.
        """
        candidates = list(points)
        self.tried += len(candidates)
        scores = self._scorer.scores(np.stack(candidates)).tolist()
        equal = 1 / self._members
        # Rounded: points that mirror each other are equally far from equal weights but for the last bits.
        ranks = [
            (score, -round(float(((point - equal) ** 2).sum()), 9))
            for score, point in zip(scores, candidates, strict=True)
        ]
        return candidates[ranks.index(max(ranks))]

    def _moved(self, point: FloatArray, giver: int, taker: int, move: float) -> FloatArray | None:
        """Move weight between two base models; None where one has none to give or the other has no room."""
        given = min(move, float(point[giver]) - self._options.min_weight)
        if self._options.max_weight < 1:
            given = min(given, self._options.max_weight - float(point[taker]))
        if given <= 1e-12:
            return None
        moved = point.copy()
        moved[giver] -= given
        moved[taker] += given
        return moved / moved.sum()


def choose_weights(
    rows: FloatArray, truth: LabelArray, subsets: Subsets, options: LateOptions, contexts: Sequence[Context]
) -> list[FloatArray]:
    """Choose weights, float64 (M,), on every set of clips: bit for bit those of a search on its clips alone.

    Args:
        rows: float64 (M, N, 6), the base models' probabilities.
        truth: int8 (N, 6) percentages.
        subsets: the sets, none of them empty.
        options: which points are tried.
        contexts: of each set; the record says there how its weights were found. Progress is shown by the first.

    Raises:
        InvalidOption: bounds that no weights of so many base models can keep.
    """
    grid = choose_grid(len(rows), options)
    for context in contexts:
        if reason := explain_grid(grid, options):
            context.warn(reason)
    (backend,) = {choose_backend(grid.size, options.backend, context) for context in contexts}
    starts: Sequence[PartsArray | None] = [None] * len(contexts)
    if grid.size:
        with contexts[0].progress("late: weights", grid.size) as bar:
            starts = list(make_scorer(rows, truth, backend, contexts[0]).best_of(grid, bar.advance, subsets))
    found = []
    for number, (start, context) in enumerate(zip(starts, contexts, strict=True)):
        inside = subsets.mask(number)
        search = WeightSearch(make_scorer(rows[:, inside], truth[inside], backend, context), len(rows), options)
        found.append(search.improve(start))
        context.note("points tried", search.tried)
        context.note("grid step", round(1 / grid.parts, 6))
    return found


def choose_grid(base_models: int, options: LateOptions) -> SimplexGrid:
    """Return the grid of `options.step`, or the finest coarser one that has few enough points.

    Raises:
        InvalidOption: bounds that no weights of so many base models can keep.
    """
    low, high = options.min_weight, options.max_weight
    if base_models * low > 1 + 1e-9 or base_models * high < 1 - 1e-9:
        raise InvalidOption(
            f"min_weight and max_weight: {base_models} weights of {low} to {high} cannot sum to 1; "
            f"expected {1 / base_models:.6g} between them"
        )
    limit = options.limit if options.search == "exhaustive" else CLIMB_POINTS
    parts = round(1 / options.step)
    while (grid := bounded_grid(base_models, parts, low, high)).size > limit and parts > 1:
        parts -= 1
    return grid


def explain_grid(grid: SimplexGrid, options: LateOptions) -> str | None:
    """Report why the grid that is tried is not the one that was asked for; None where it is."""
    wanted = bounded_grid(grid.base_models, round(1 / options.step), options.min_weight, options.max_weight)
    if not grid.size:
        return (
            f"no point of step {options.step:g} lies between min_weight {options.min_weight:g} and max_weight "
            f"{options.max_weight:g} for {grid.base_models} base models: weights are climbed to from equal ones"
        )
    if options.search == "exhaustive" and grid.parts < wanted.parts:
        return (
            f"{wanted.size:,} points of step {options.step:g} for {grid.base_models} base models are more than the "
            f"limit of {options.limit:,}: a grid of step 1/{grid.parts} ({grid.size:,} points) is tried, then climbed "
            f"from in steps of {options.step:g}"
        )
    return None


def choose_backend(points: int, backend: str, context: Context) -> str:
    """Return what `auto` means here for so many points, and say so where that is slow; any other backend as it is."""
    if backend != "auto":
        return backend
    if points <= PLAIN_POINTS:
        return "numpy"
    try:
        import numba  # noqa: F401
    except ImportError as error:
        context.warn(
            f"{points:,} points are tried with numpy, in minutes instead of seconds, for want of numba ({error}): "
            "pip install 'blemore-harness[encoders]'"
        )
        return "numpy"
    return "numba"


def make_scorer(rows: FloatArray, truth: LabelArray, backend: str, context: Context) -> Scorer:
    """Return what scores points.

    Args:
        rows: float64 (M, N, 6), the base models' probabilities.
        truth: int8 (N, 6) percentages.
        backend: `numba` or `numpy`.
    """
    return CompiledScorer(rows, truth, cache=context.cache) if backend == "numba" else PlainScorer(rows, truth)
