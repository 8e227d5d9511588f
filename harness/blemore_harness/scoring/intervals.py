"""How far scores may lie off by the choice of actors: bootstrap intervals over actors.

Clips of one actor are alike, so actors are what is drawn again and not clips. The reported number is a mean over folds;
actors are therefore drawn within their folds, with replacement, one fewer than a fold has: with as many as it has, the
spread of a mean over n actors would come out too small by (n - 1) / n (Rao and Wu, 1988), which is half for two actors.
Models and thresholds are held fixed, so the intervals speak of other actors and not of another training.

On simulated actors, 95 % intervals hold the truth in 94 % of cases with the challenge's 47 actors, in 91 % with three a
fold and in 87 % with two a fold, as in the demo dataset (`benchmarks/bootstrap.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemore_harness.clips import LabelArray
from blemore_harness.errors import DataError, InvalidPredictions
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.grid import ActorGrids, Choice, IntArray, number_actors, place_on_grid

RESAMPLES = 10_000
"""Draws behind an interval or a p-value; the ends of a 95 % interval are then good to about .001."""

SEED = 20260221
"""Seed of all draws: the same rows give the same interval on every machine."""

LEVEL = 95
"""Percentage of draws that lie within an interval."""

MEASURES = ("acc_presence", "acc_salience", "score")


@dataclass(frozen=True)
class ActorCounts:
    """Right answers of a system per actor, all arrays (A,) in the order of folds, then actors.

    Attributes:
        folds: fold of each actor; an actor in two folds counts as two.
        clips, blends: how many clips and true blends each has.
        presence, salience: how many of them are right.
        grids: the same at all thresholds, where they are chosen cross-fitted, for a test that chooses them anew.
    """

    folds: IntArray
    clips: IntArray
    blends: IntArray
    presence: IntArray
    salience: IntArray
    grids: ActorGrids | None = None

    @property
    def table(self) -> FloatArray:
        """Clips, blends, presence and salience as float64 (A, 4)."""
        return np.stack([self.clips, self.blends, self.presence, self.salience], axis=1).astype(np.float64)


def count_actors(truth: LabelArray, labels: LabelArray, folds: ArrayLike, actors: ArrayLike) -> ActorCounts:
    """Count each actor's right answers.

    Args:
        truth, labels: int8 (N, 6) percentages of the same clips.
        folds, actors: fold and actor (a name or a number) of each clip (N,).

    Raises:
        InvalidPredictions: shapes that do not match, or no clips.
    """
    if truth.shape != labels.shape or not len(truth):
        raise InvalidPredictions(f"expected labels of the same clips, found {truth.shape} and {labels.shape}")
    numbers, fold_of = number_actors(folds, actors)
    blend = (truth > 0).sum(axis=1) == 2
    present = ((truth > 0) == (labels > 0)).all(axis=1)
    exact = (truth == labels).all(axis=1) & blend

    def count(mask: NDArray[np.bool_]) -> IntArray:
        return np.bincount(numbers[mask], minlength=len(fold_of)).astype(np.int64)

    return ActorCounts(fold_of, count(np.ones(len(truth), dtype=bool)), count(blend), count(present), count(exact))


def count_chosen(grids: ActorGrids, chosen: Mapping[int, Choice]) -> ActorCounts:
    """Count each actor's right answers with the thresholds that were chosen for the actor's fold.

    Args:
        grids: of a system.
        chosen: by fold, a pair of the official grid.
    """
    places = {fold: place_on_grid(choice.thresholds) for fold, choice in chosen.items()}
    alpha, beta = np.array([places[fold] for fold in grids.folds.tolist()]).T
    actors = np.arange(len(grids.folds))
    presence, salience = grids.presence[actors, alpha], grids.salience[actors, alpha, beta]
    return ActorCounts(grids.folds, grids.clips, grids.blends, presence, salience)


def draw_weights(folds: ArrayLike, resamples: int = RESAMPLES, seed: int = SEED) -> FloatArray | None:
    """Draw how often each actor is in each resample: float64 (R, A).

    Args:
        folds: fold per actor (A,).

    Returns:
        None where a fold has one actor only: nothing can be said about others from it.
    """
    fold_of = np.asarray(folds)
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, len(fold_of)))
    for fold in np.unique(fold_of):
        base_models = np.flatnonzero(fold_of == fold)
        if len(base_models) < 2:
            return None
        drawn = rng.multinomial(len(base_models) - 1, np.full(len(base_models), 1 / len(base_models)), size=resamples)
        weights[:, base_models] = drawn
    return weights


def score_counts(counts: ActorCounts, weights: FloatArray | None = None) -> FloatArray:
    """Return ACC_P, ACC_S and Score, each a mean over folds, for every row of weights: float64 (R, 3).

    Without weights every actor counts once: (1, 3). A fold without blends has ACC_S 0, as the official code has it. One
    that has blends, but none by the actors that were drawn, says nothing of ACC_S: the mean is over the others, and NaN
    where there is none.
    """
    used = np.ones((1, len(counts.folds))) if weights is None else weights
    table = counts.table
    numbers = np.unique(counts.folds)
    presence, salience, folds = np.zeros(len(used)), np.zeros(len(used)), np.zeros(len(used))
    for fold in numbers:
        mine = counts.folds == fold
        clips, blends, present, exact = (used[:, mine] @ table[mine]).T
        presence += present / np.maximum(clips, 1) / len(numbers)
        salience += exact / np.maximum(blends, 1)
        folds += (blends > 0) | (not counts.blends[mine].any())
    salience = np.where(folds > 0, salience / np.maximum(folds, 1), np.nan)
    return np.column_stack([presence, salience, (presence + salience) / 2])


def find_intervals(counts: ActorCounts, resamples: int = RESAMPLES) -> dict[str, list[float]] | None:
    """Return the 95 % percentile interval of ACC_P, ACC_S and Score: `{measure: [low, high]}`.

    None where a fold has one actor only.
    """
    weights = draw_weights(counts.folds, resamples)
    return None if weights is None else _percentiles(score_counts(counts, weights))


def find_differences(first: ActorCounts, second: ActorCounts) -> dict[str, dict[str, Any]]:
    """Return what two systems on the same clips differ by, first minus second.

    Returns:
        per measure: `difference`, and `interval` (bootstrap over actors; None where a fold has one actor only).

    Raises:
        DataError: counts of other clips.
    """
    check_alike(first, second)
    difference = (score_counts(first) - score_counts(second))[0]
    weights = draw_weights(first.folds)
    drawn = None if weights is None else score_counts(first, weights) - score_counts(second, weights)
    intervals = None if drawn is None else _percentiles(drawn)
    return {
        name: {"difference": float(difference[k]), "interval": None if intervals is None else intervals[name]}
        for k, name in enumerate(MEASURES)
    }


def check_alike(first: ActorCounts, second: ActorCounts) -> None:
    """Refuse counts of other clips.

    Raises:
        DataError: folds, clips or blends per actor differ.
    """
    for name in ("folds", "clips", "blends"):
        if not np.array_equal(getattr(first, name), getattr(second, name)):
            raise DataError("both systems must have answered the same clips in the same folds")


def _percentiles(drawn: FloatArray) -> dict[str, list[float]]:
    tail = (100 - LEVEL) / 2
    ends = np.percentile(drawn[np.isfinite(drawn).all(axis=1)], [tail, 100 - tail], axis=0)
    return {name: [float(ends[0, k]), float(ends[1, k])] for k, name in enumerate(MEASURES)}


def say_difference(first: str, second: str, found: Mapping[str, Any], what: str = "cross-fitted Score") -> str:
    """Put a difference (a value of `compare_counts`) into a sentence.

    Beyond noise means that the interval leaves out 0 and that p, where there is one, is below .05: with few actors the
    interval alone is too sure of itself. Where only one of them speaks for a difference, the sentence says `but`.

    >>> say_difference("late", "s4d", {"difference": 0.017, "interval": [-0.01, 0.044]})
    'late is .017 above s4d in cross-fitted Score: within noise (95 % -.010 to .044, paired over actors).'
    """
    difference = found["difference"]
    side = "above" if difference > 0 else "below"
    equal = abs(difference) < 1e-12  # sums in another order differ in the last bits
    start = f"{first} and {second} are equal" if equal else f"{first} is {short(abs(difference))} {side} {second}"
    if found["interval"] is None:
        return f"{start} in {what}; no interval, a fold has one actor only."
    low, high = found["interval"]
    p = found.get("p")
    clear, rare = not low <= 0 <= high, p is None or p < (100 - LEVEL) / 100
    chance = "" if p is None else f", {'but ' * (clear != rare)}p {show_p(p)}"
    noise = "beyond noise" if clear and rare else "within noise"
    return f"{start} in {what}: {noise} ({LEVEL} % {short(low)} to {short(high)}{chance}, paired over actors)."


def show_p(p: float) -> str:
    """Write a p-value for people.

    >>> show_p(0.0001), show_p(0.07)
    ('<.001', '.070')
    """
    return "<.001" if p < 0.0005 else short(p)


def short(value: float, digits: int = 3) -> str:
    """Write a number below 1 without its leading zero.

    >>> short(0.25, 2), short(-0.01), short(1.0, 2)
    ('.25', '-.010', '1.00')
    """
    text = f"{value:.{digits}f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return text.replace("0.", ".", 1) if text.removeprefix("-").startswith("0.") else text
