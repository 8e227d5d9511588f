"""How far scores may lie off by the choice of actors: intervals over actors.

Clips of one actor are alike, so actors are the sample and not clips. A score weighs the accuracy of each actor by the
share of the actor's clips in the fold, over the number of folds. The variance of a score follows from these weights and
from the variance of accuracies between actors, which is estimated from the actors of all folds together: a fold of two
actors says next to nothing by itself. The interval is that of Wilson for a share of as many independent clips as would
vary like this, with a quantile of Student's t for the number of actors (Franco et al., 2019, on surveys in clusters):
it lies within 0 and 1, and further up than down for small shares, as it must. Differences of two systems get the
interval of a paired t-test over actors. Models and thresholds are held fixed, so the intervals speak of other actors
and not of another training; only `paired_tests` adds to differences what choosing thresholds adds.

`benchmarks/interval_coverage.py` measures how often intervals hold the truth; docs/reference/results.md has figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemore_harness.clips import LabelArray
from blemore_harness.errors import DataError, InvalidPredictions
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.grid import ActorGrids, Choice, IntArray, number_actors, place_on_grid

LEVEL = 95
"""Percentage of cases in which an interval holds the truth."""

POWER = 80
"""Percentage of cases in which a difference as large as the minimum is found."""

FEWEST = 3
"""Actors that an interval needs. Two are too few: their interval would reach over most of the range from 0 to 1."""

MEASURES = ("acc_presence", "acc_salience", "score")

SMALLEST = 1e-20
"""Variances at most this large are rounding."""


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


def score_counts(counts: ActorCounts) -> dict[str, float]:
    """Return ACC_P, ACC_S and Score by measure, each a mean over folds.

    A fold without blends has ACC_S 0, as the official code has it.
    """
    presence, salience = _rates(counts)
    means = float(presence.rates @ presence.weights), float(salience.rates @ salience.weights)
    return dict(zip(MEASURES, (*means, sum(means) / 2), strict=True))


def find_intervals(counts: ActorCounts) -> dict[str, list[float]] | None:
    """Return the 95 % interval of ACC_P, ACC_S and Score: `{measure: [low, high]}`.

    None for fewer than `FEWEST` actors, or with so few that have blends. Without any blends ACC_S is 0 by rule.
    """
    rates, scores = _rates(counts), score_counts(counts)
    spreads = _spreads(*rates)
    if spreads is None:
        return None
    clips = [each.independent_clips() for each in rates]
    return {
        name: list(wilson_interval(scores[name], spreads[name], clips[name == "acc_salience"])) for name in MEASURES
    }


def share_interval(right: IntArray, clips: IntArray) -> list[float] | None:
    """Return the 95 % interval of the share of clips that are right, all clips together.

    Args:
        right, clips: int64 (A,), how many clips each actor has and how many of them are right.

    Returns:
        None where fewer than `FEWEST` actors have clips.
    """
    total = max(int(clips.sum()), 1)
    rates = _Rates.of(right, clips, clips / total)
    if rates.actors < FEWEST:
        return None
    spread = Spread(rates.covariance(rates) * float(rates.weights @ rates.weights), rates.actors - 1)
    return list(wilson_interval(float(right.sum()) / total, spread, rates.independent_clips()))


def find_differences(
    first: ActorCounts, second: ActorCounts, added: ArrayLike = (0.0, 0.0, 0.0)
) -> dict[str, dict[str, Any]]:
    """Return what two systems on the same clips differ by, first minus second.

    Args:
        added: variance (3,) of the differences besides that between actors, such as by choosing thresholds.

    Returns:
        per measure: `difference`, `interval` (paired over actors; None where `find_intervals` gives none) and
        `minimum`, the true difference that is found in 80 % of cases, see `least_difference`.

    Raises:
        DataError: counts of other clips.
    """
    check_alike(first, second)
    one, two = score_counts(first), score_counts(second)
    presence, salience = (mine.minus(other) for mine, other in zip(_rates(first), _rates(second), strict=True))
    spreads = _spreads(presence, salience)
    if spreads is not None:
        spreads = {
            name: Spread(spreads[name].variance + more, spreads[name].freedom)
            for name, more in zip(MEASURES, np.asarray(added).tolist(), strict=True)
        }
    found: dict[str, dict[str, Any]] = {}
    for name in MEASURES:
        difference, spread = one[name] - two[name], None if spreads is None else spreads[name]
        half = 0.0 if spread is None else spread.quantile * math.sqrt(spread.variance)
        found[name] = {
            "difference": difference,
            "interval": None if spread is None else [difference - half, difference + half],
            "minimum": None if spread is None else least_difference(spread, len(first.folds)),
        }
    return found


def check_alike(first: ActorCounts, second: ActorCounts) -> None:
    """Refuse counts of other clips.

    Raises:
        DataError: folds, clips or blends per actor differ.
    """
    for name in ("folds", "clips", "blends"):
        if not np.array_equal(getattr(first, name), getattr(second, name)):
            raise DataError("both systems must have answered the same clips in the same folds")


@dataclass(frozen=True)
class Spread:
    """How a score, or a difference, varies with the choice of actors.

    Attributes:
        variance: of the score.
        freedom: degrees of freedom of its estimate.
    """

    variance: float
    freedom: float

    @property
    def quantile(self) -> float:
        """Student's t for a two-sided interval of `LEVEL` percent."""
        from scipy.special import stdtrit  # takes .2 s, which commands that show stored intervals need not wait for

        return float(stdtrit(self.freedom, (1 + LEVEL / 100) / 2))


def wilson_interval(share: float, spread: Spread, clips: float) -> tuple[float, float]:
    """Return the interval of a share (Wilson, 1927) for as many independent clips as give its variance.

    Args:
        clips: number of independent clips that the share counts for where its variance is 0, which says nothing.

    >>> low, high = wilson_interval(0.3, Spread(0.3 * 0.7 / 100, 10_000), 1)  # 30 of 100 clips
    >>> round(low, 3), round(high, 3)
    (0.219, 0.396)
    """
    if spread.variance > SMALLEST:
        clips = share * (1 - share) / spread.variance
    k = spread.quantile**2 / clips
    half = math.sqrt(k * (share * (1 - share) + k / 4))
    return max((share + k / 2 - half) / (1 + k), 0.0), min((share + k / 2 + half) / (1 + k), 1.0)


def least_difference(spread: Spread, actors: int) -> float | None:
    """Return the true difference at which a paired two-sided test at .05 finds a difference in 80 % of cases.

    Args:
        spread: of the difference of two systems.

    Returns:
        None where no difference at all can be found: with five actors or fewer a permutation test has no p below .05;
        and where all actors differ alike, which says nothing of others.
    """
    from scipy.special import nctdtrinc

    if _least_p(actors) > (100 - LEVEL) / 100 or spread.variance <= SMALLEST:
        return None
    # The noncentrality with which Student's t stays below its quantile in 20 % of cases.
    return float(nctdtrinc(spread.freedom, 1 - POWER / 100, spread.quantile)) * math.sqrt(spread.variance)


@dataclass(frozen=True)
class _Rates:
    """Accuracies of actors on one measure, all arrays float64 (A,).

    Attributes:
        rates: of each actor; 0 where the actor has no clips.
        clips: number of clips that count.
        weights: what each actor's accuracy counts for in the score.
    """

    rates: FloatArray
    clips: FloatArray
    weights: FloatArray

    @classmethod
    def of(cls, right: IntArray, clips: IntArray, weights: FloatArray) -> _Rates:
        return cls(right / np.maximum(clips, 1), clips.astype(np.float64), weights)

    @property
    def actors(self) -> int:
        """How many have clips."""
        return int((self.clips > 0).sum())

    def minus(self, other: _Rates) -> _Rates:
        return _Rates(self.rates - other.rates, self.clips, self.weights)

    def covariance(self, other: _Rates) -> float:
        """Return the covariance of accuracies between the actors that have clips here, who weigh by their clips."""
        share = self.clips / self.clips.sum()
        one, two = self.rates - share @ self.rates, other.rates - share @ other.rates
        return float((share * one) @ two / (1 - share @ share))

    def independent_clips(self) -> float:
        """Return the number of clips that the score would be as good as if clips of an actor were not alike."""
        mine = self.clips > 0
        return 1 / float((self.weights[mine] ** 2 / self.clips[mine]).sum()) if mine.any() else math.inf


def _rates(counts: ActorCounts) -> tuple[_Rates, _Rates]:
    """Return what makes up ACC_P and ACC_S."""
    numbers, fold = np.unique(counts.folds, return_inverse=True)

    def weigh(right: IntArray, clips: IntArray) -> _Rates:
        of_fold = np.bincount(fold, weights=clips)
        return _Rates.of(right, clips, clips / np.maximum(of_fold, 1)[fold] / len(numbers))

    return weigh(counts.presence, counts.clips), weigh(counts.salience, counts.blends)


def _spreads(presence: _Rates, salience: _Rates) -> dict[str, Spread] | None:
    """Return the spread of ACC_P, ACC_S and Score by measure; None for too few actors."""
    if presence.actors < FEWEST or 0 < salience.actors < FEWEST:
        return None
    between = presence.covariance(presence)
    alone, within, both = between * float(presence.weights @ presence.weights), 0.0, 0.0
    if salience.actors:
        exact = salience.covariance(salience)
        within = exact * float(salience.weights @ salience.weights)
        # Of the actors with blends; no larger than the variances of all allow.
        shared = min(salience.covariance(presence), math.sqrt(between * exact))
        both = max(shared, -math.sqrt(between * exact)) * float(presence.weights @ salience.weights)
    score = max(alone + within + 2 * both, 0.0) / 4
    freedom = presence.actors - 1.0, (salience.actors or presence.actors) - 1.0
    # Half of the Score is of all actors, half of those with blends.
    found = Spread(alone, freedom[0]), Spread(within, freedom[1]), Spread(score, sum(freedom) / 2)
    return dict(zip(MEASURES, found, strict=True))


def say_difference(first: str, second: str, found: Mapping[str, Any], what: str = "cross-fitted Score") -> str:
    """Put a difference (a value of `compare_counts`) into a sentence.

    Beyond noise means that the interval leaves out 0 and that p, where there is one, is below .05. Where only one of
    them speaks for a difference, the sentence says `but`. Where p is corrected for the number of pairs (`adjusted`),
    that one counts and is shown.

    >>> say_difference("late", "s4d", {"difference": 0.017, "interval": [-0.01, 0.044]})
    'late is .017 above s4d in cross-fitted Score: within noise (95 % -.010 to .044, paired over actors).'
    """
    difference = found["difference"]
    side = "above" if difference > 0 else "below"
    equal = abs(difference) < 1e-12  # sums in another order differ in the last bits
    start = f"{first} and {second} are equal" if equal else f"{first} is {short(abs(difference))} {side} {second}"
    if found["interval"] is None:
        return f"{start} in {what}; no interval, fewer than {FEWEST} actors."
    low, high = found["interval"]
    p = found.get("adjusted", found.get("p"))
    clear, rare = not low <= 0 <= high, p is None or p < (100 - LEVEL) / 100
    chance = "" if p is None else f", {'but ' * (clear != rare)}p {show_p(p)}{' corrected' * ('adjusted' in found)}"
    noise = "beyond noise" if clear and rare else "within noise"
    return f"{start} in {what}: {noise} ({LEVEL} % {short(low)} to {short(high)}{chance}, paired over actors)."


def say_minimum(minimum: float | None, actors: int) -> list[str]:
    """Put the least difference that a comparison finds into a sentence; none where all actors differ alike.

    >>> say_minimum(0.0312, 47)
    ['With 47 actors, differences under .031 cannot be told from noise reliably (power 80 %).']
    """
    if minimum is not None:
        under = f"differences under {short(minimum)} cannot be told from noise reliably (power {POWER} %)"
        return [f"With {actors} actors, {under}."]
    least = _least_p(actors)
    if least <= (100 - LEVEL) / 100:
        return []
    return [f"With {actors} actors, no difference can be told from noise: p cannot fall below {short(least)}."]


def _least_p(actors: int) -> float:
    """Return the smallest p of a two-sided permutation test by actor."""
    return float(2.0 ** (1 - actors))


def show_p(p: float) -> str:
    """Write a p-value for people.

    >>> show_p(0.0001), show_p(0.07)
    ('<.001', '.070')
    """
    return "<.001" if p < 0.0005 else short(p)


UNDEFINED = "not defined"
"""What stands in the place of ACC_S and the Score of clips without blends."""


def short(value: float | None, digits: int = 3) -> str:
    """Write a number below 1 without its leading zero; None is not defined.

    >>> short(0.25, 2), short(-0.01), short(1.0, 2), short(None)
    ('.25', '-.010', '1.00', 'not defined')
    """
    if value is None:
        return UNDEFINED
    text = f"{value:.{digits}f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return text.replace("0.", ".", 1) if text.removeprefix("-").startswith("0.") else text
