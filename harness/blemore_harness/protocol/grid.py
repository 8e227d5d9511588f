"""Every score of the official grid of thresholds, counted at once instead of decoded 400 times.

A pair (alpha, beta) changes a row's label in two places only: the row blends while alpha is at most its second largest
value, and the blend is even while beta is at least the difference of its two largest. So a row is a point on the grid
of thresholds, one histogram of those points holds every score of the grid, and histograms of folds add up.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.errors import ConfigError, DataError, InvalidPredictions, InvalidProbabilities
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.rules import EQUAL, NEUTRAL, Scores, as_rows, top_two

IntArray: TypeAlias = NDArray[np.int64]

OFFICIAL_GRID: FloatArray = np.linspace(0.05, 0.95, 20)
"""Alphas and betas of the official search (organisers' released trainer, 2026-02)."""
OFFICIAL_GRID.setflags(write=False)

_SIZE = len(OFFICIAL_GRID)
_BINS = _SIZE + 1
"""A value lies before, between or after the grid's points."""


class _Right(IntEnum):
    """What a row gets right."""

    NOTHING = 0
    SINGLE = 1  # its emotion, while it does not blend
    PAIR = 2  # its emotions, while it blends, but the saliences never
    UNEVEN = 3  # its emotions, and the saliences while the blend is uneven
    EVEN = 4  # its emotions, and the saliences while the blend is even


@dataclass(frozen=True)
class Thresholds:
    """A presence threshold (alpha) and a salience threshold (beta), both in [0, 1], as `rules.decode` takes them."""

    alpha: float
    beta: float


@dataclass(frozen=True)
class Choice:
    """Chosen thresholds and what they score.

    Attributes:
        thresholds: the chosen pair.
        scores: what it scores on the clips that the choice is reported for.
        best_presence: the best ACC_P that any pair of the grid reaches on those clips, whatever its ACC_S.
        best_salience: the best ACC_S that any pair reaches on them, whatever its ACC_P.
    """

    thresholds: Thresholds
    scores: Scores
    best_presence: float
    best_salience: float


@dataclass(frozen=True)
class GridScores:
    """Right answers at every pair of the official grid.

    Attributes:
        clips: how many clips were counted.
        blends: how many of them are truly blends.
        presence: int64 (20, 20), clips with the right set of emotions by alpha (rows) and beta (columns).
        salience: int64 (20, 20), blends with the right emotions and saliences.
    """

    clips: int
    blends: int
    presence: IntArray
    salience: IntArray

    def __add__(self, other: GridScores) -> GridScores:
        """Count both sets of clips together."""
        return GridScores(
            self.clips + other.clips,
            self.blends + other.blends,
            self.presence + other.presence,
            self.salience + other.salience,
        )

    @property
    def surface(self) -> FloatArray:
        """Score at every pair, float64 (20, 20), rounded exactly as the official loop rounds it."""
        # Two pairs with mathematically equal scores can differ in the last bit, and the official loop then takes the
        # larger; so the choice is made on these floats and not on the counts.
        return 0.5 * (self.presence / self.clips) + 0.5 * (self.salience / max(self.blends, 1))

    def scores_at(self, alpha_index: int, beta_index: int) -> Scores:
        """Return the accuracies at one pair of the grid."""
        return Scores(
            int(self.presence[alpha_index, beta_index]) / self.clips,
            int(self.salience[alpha_index, beta_index]) / max(self.blends, 1),
        )

    def argbest(self) -> tuple[int, int]:
        """Return the (alpha, beta) position of the best score; ties to the smallest alpha, then the smallest beta."""
        alpha_index, beta_index = divmod(int(self.surface.argmax()), _SIZE)
        return alpha_index, beta_index

    def best_alone(self) -> Scores:
        """Return the best ACC_P anywhere on the grid, and the best ACC_S; usually not at the same pair."""
        return Scores(int(self.presence.max()) / self.clips, int(self.salience.max()) / max(self.blends, 1))

    def choose(self) -> Choice:
        """Make the official choice on these clips."""
        return self.choice_at(*self.argbest())

    def choice_at(self, alpha_index: int, beta_index: int) -> Choice:
        """Describe one pair of the grid, chosen on whatever clips, on these clips."""
        thresholds = Thresholds(float(OFFICIAL_GRID[alpha_index]), float(OFFICIAL_GRID[beta_index]))
        best = self.best_alone()
        return Choice(thresholds, self.scores_at(alpha_index, beta_index), best.presence, best.salience)


class GridCounter:
    """Counts right answers over the official grid; keeps what depends on the truth only, for many calls.

    Args:
        truth: int8 (N, 6) percentages.
        folds: fold number per clip (N,), for `per_fold`; by default all clips are fold 0.

    Raises:
        InvalidPredictions: no clips, or truth of another shape.
        DataError: folds of another length.

    >>> counter = GridCounter(np.array([[70, 30, 0, 0, 0, 0], [0, 0, 0, 0, 0, 100]], dtype=np.int8))
    >>> grid = counter.count([[.6, .3, .1, 0, 0, 0], [.2, 0, 0, 0, 0, .8]])
    >>> grid.presence[[5, 6], 0].tolist(), grid.salience[5, [5, 6]].tolist()  # alpha .287, .334; beta .287, .334
    ([2, 1], [1, 0])
    """

    def __init__(self, truth: LabelArray, folds: ArrayLike | None = None) -> None:
        if truth.ndim != 2 or truth.shape[1] != len(EMOTIONS) or not len(truth):
            raise InvalidPredictions(f"expected labels of shape (N, {len(EMOTIONS)}) with N >= 1, found {truth.shape}")
        numbers = np.zeros(len(truth), dtype=np.int64) if folds is None else np.asarray(folds)
        if numbers.shape != (len(truth),):
            raise DataError(f"expected a fold number for each of {len(truth)} clips, found shape {numbers.shape}")
        names, fold_index = np.unique(numbers, return_inverse=True)
        blend = (truth > 0).sum(axis=1) == 2
        self._names: list[int] = names.tolist()
        self._offset = fold_index.astype(np.intp) * len(_Right)
        self._clips: list[int] = np.bincount(fold_index, minlength=len(names)).tolist()
        self._blends: list[int] = np.bincount(fold_index[blend], minlength=len(names)).tolist()
        self._right = _tabulate(truth, blend)
        self._rows = np.arange(len(truth))

    def count(self, values: ArrayLike, gaps: FloatArray | None = None) -> GridScores:
        """Count over all clips together.

        Args:
            values: float64 (N, 6), the rows of the clips of `truth`, in that order.
            gaps: float64 (N,), what beta is compared with in place of the difference of the two largest values.

        Raises:
            InvalidProbabilities: another shape, or values that are not finite.
        """
        return reduce(GridScores.__add__, self.per_fold(values, gaps).values())

    def per_fold(self, values: ArrayLike, gaps: FloatArray | None = None) -> dict[int, GridScores]:
        """Count every fold by itself, in the order of fold numbers; arguments and errors as of `count`."""
        rows = as_rows(values)
        if len(rows) != len(self._rows):
            raise InvalidProbabilities(f"expected one row for each of {len(self._rows)} clips, found {len(rows)}")
        first, second, high, low = top_two(rows)
        right = self._right[self._rows, first, second]
        hits = np.flatnonzero(right)
        low, difference = low[hits], high[hits] - low[hits] if gaps is None else gaps[hits]
        # How many alphas the smaller value survives; none where either is neutral, which never blends.
        survived = np.searchsorted(OFFICIAL_GRID, low, side="right")
        survived[(first[hits] == NEUTRAL) | (second[hits] == NEUTRAL)] = 0
        # How many betas are too small to make the blend even.
        uneven = np.searchsorted(OFFICIAL_GRID, difference, side="left")
        bins = ((self._offset[hits] + right[hits]) * _BINS + survived) * _BINS + uneven
        counts = np.bincount(bins, minlength=len(self._names) * len(_Right) * _BINS**2)
        shaped = counts.reshape(len(self._names), len(_Right), _BINS, _BINS)
        return {name: self._sum(k, shaped[k]) for k, name in enumerate(self._names)}

    def _sum(self, fold: int, counts: IntArray) -> GridScores:
        """Add up a fold's histogram, (kinds, survived alphas, uneven betas)."""
        alone = counts[_Right.SINGLE].sum(axis=1)
        pair = counts[_Right.PAIR :].sum(axis=(0, 2))
        # At alpha number k a row blends if it survives more than k alphas.
        presence = alone.cumsum()[:_SIZE] + _above(pair)
        # At beta number l a blend is even if at most l betas are too small.
        even = counts[_Right.EVEN].cumsum(axis=1)[:, :_SIZE]
        uneven = _above(counts[_Right.UNEVEN].T).T
        salience = _above(even + uneven)
        return GridScores(
            self._clips[fold],
            self._blends[fold],
            np.repeat(presence[:, None], _SIZE, axis=1),
            np.ascontiguousarray(salience),
        )


@dataclass(frozen=True)
class ActorGrids:
    """Right answers of a system per actor at every pair of the official grid: what its scores are sums of.

    Attributes:
        folds: int64 (A,), fold of each actor; an actor in two folds counts as two. Ordered by fold, then actor.
        clips, blends: int64 (A,), how many clips and true blends each has.
        presence: int64 (A, 20), clips with the right set of emotions by alpha; beta makes no difference to them.
        salience: int64 (A, 20, 20), blends with the right emotions and saliences by alpha and beta.
    """

    folds: IntArray
    clips: IntArray
    blends: IntArray
    presence: IntArray
    salience: IntArray

    def take(self, folds: Collection[int]) -> ActorGrids:
        """Return the actors of some folds."""
        mine = np.isin(self.folds, list(folds))
        return ActorGrids(
            self.folds[mine], self.clips[mine], self.blends[mine], self.presence[mine], self.salience[mine]
        )

    def pooled(self) -> GridScores:
        """Return what `GridCounter.count` counts over all clips, as a sum over actors."""
        presence = np.repeat(self.presence.sum(axis=0)[:, None], _SIZE, axis=1)
        return GridScores(int(self.clips.sum()), int(self.blends.sum()), presence, self.salience.sum(axis=0))

    def per_fold(self) -> dict[int, GridScores]:
        """Return what `GridCounter.per_fold` counts, as sums over the actors of each fold."""
        return {fold: self.take([fold]).pooled() for fold in np.unique(self.folds).tolist()}


def number_actors(folds: ArrayLike, actors: ArrayLike) -> tuple[IntArray, IntArray]:
    """Number the actors in the order of folds, then names; an actor in two folds gets two numbers.

    Args:
        folds, actors: fold and actor (a name or a number) of each clip (N,).

    Returns:
        int64 (N,), the number of each clip's actor, and int64 (A,), the fold of each actor.

    >>> numbers, fold_of = number_actors([1, 0, 1], ["A9", "A2", "A1"])
    >>> numbers.tolist(), fold_of.tolist()
    ([2, 0, 1], [0, 1, 1])
    """
    fold_list, actor_list = np.asarray(folds), np.asarray(actors)
    names = np.unique(actor_list, return_inverse=True)[1]
    keys = fold_list.astype(np.int64) * (int(names.max()) + 1) + names
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return inverse.astype(np.int64), fold_list[first].astype(np.int64)


def count_grids(values: ArrayLike, truth: LabelArray, folds: ArrayLike, actors: ArrayLike) -> ActorGrids:
    """Count each actor's right answers at every pair of thresholds.

    Args:
        values: float64 (N, 6) probabilities.
        truth: int8 (N, 6) percentages of the same clips.
        folds, actors: fold and actor (a name or a number) of each clip (N,).

    Raises:
        InvalidPredictions, InvalidProbabilities, DataError: as of `GridCounter`.

    >>> truth = np.array([[70, 30, 0, 0, 0, 0], [0, 0, 0, 0, 0, 100]], dtype=np.int8)
    >>> grids = count_grids([[.6, .3, .1, 0, 0, 0], [.2, 0, 0, 0, 0, .8]], truth, [0, 1], ["A1", "A2"])
    >>> grids.clips.tolist(), grids.presence[:, 0].tolist(), grids.salience[:, 0, 0].tolist()
    ([1, 1], [1, 1], [1, 0])
    """
    numbers, fold_of = number_actors(folds, actors)
    grids = GridCounter(truth, numbers).per_fold(values).values()
    return ActorGrids(
        fold_of,
        np.array([grid.clips for grid in grids]),
        np.array([grid.blends for grid in grids]),
        np.array([grid.presence[:, 0] for grid in grids]),
        np.array([grid.salience for grid in grids]),
    )


def place_on_grid(thresholds: Thresholds) -> tuple[int, int]:
    """Return the (alpha, beta) position of a pair of the official grid.

    Raises:
        ConfigError: a pair that is not on the grid.

    >>> place_on_grid(Thresholds(0.05, 0.95))
    (0, 19)
    """
    found = [np.flatnonzero(each == OFFICIAL_GRID) for each in (thresholds.alpha, thresholds.beta)]
    if not all(each.size for each in found):
        raise ConfigError(f"expected a pair of the official grid, found {thresholds}")
    return int(found[0][0]), int(found[1][0])


def _tabulate(truth: LabelArray, blend: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Return what each clip's answer gets right, int8 (N, 6, 6) by larger and smaller emotion of the answer."""
    table = np.zeros((len(truth), len(EMOTIONS), len(EMOTIONS)), dtype=np.int8)
    one, two, share, _ = top_two(truth.astype(np.float64))
    alone, both = np.flatnonzero(~blend), np.flatnonzero(blend)
    table[alone, one[alone]] = _Right.SINGLE
    even = share[both] == EQUAL
    table[both, one[both], two[both]] = np.where(even, _Right.EVEN, _Right.UNEVEN)
    table[both, two[both], one[both]] = np.where(even, _Right.EVEN, _Right.PAIR)
    return table


def _above(counts: IntArray) -> IntArray:
    """Sum, for each k below the last bin of the first axis, what lies in bins above k."""
    return counts[:0:-1].cumsum(axis=0)[::-1]
