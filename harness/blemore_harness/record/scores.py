"""Scores as the record keeps them: shares from 0 to 1, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Interval = tuple[float, float]
"""Lower and upper end of a 95 % interval over actors."""


@dataclass(frozen=True)
class Mean:
    """A number over folds.

    Attributes:
        mean: mean over folds.
        sd: sample standard deviation over folds (ddof=1); 0 for one fold.
    """

    mean: float
    sd: float


@dataclass(frozen=True)
class Means:
    """The official measures over folds.

    Attributes:
        acc_presence: ACC_P, share of clips whose set of emotions is right.
        acc_salience: ACC_S, share of blends whose set and saliences are right.
        score: mean of the two.
    """

    acc_presence: Mean
    acc_salience: Mean
    score: Mean

    def by_measure(self) -> dict[str, Mean]:
        """Return the three by their names."""
        return {"acc_presence": self.acc_presence, "acc_salience": self.acc_salience, "score": self.score}


@dataclass(frozen=True)
class Intervals:
    """Intervals of the cross-fitted measures.

    Attributes:
        acc_presence: of ACC_P.
        acc_salience: of ACC_S.
        score: of the Score.
    """

    acc_presence: Interval
    acc_salience: Interval
    score: Interval


@dataclass(frozen=True)
class Spread:
    """A threshold over folds.

    Attributes:
        mean: mean over folds.
        sd: sample standard deviation (ddof=1); 0 for one fold.
        min: smallest of a fold.
        max: largest of a fold.
    """

    mean: float
    sd: float
    min: float
    max: float


@dataclass(frozen=True)
class Drop:
    """Official minus cross-fitted Score.

    Attributes:
        difference: what choosing thresholds and fusion weights on the scored folds adds.
        interval: of the difference; null for fewer than three actors.
    """

    difference: float
    interval: Interval | None


@dataclass(frozen=True)
class Sensitivity:
    """How much depends on alpha and beta.

    Attributes:
        alpha: best alpha of each fold, summarised.
        beta: best beta of each fold, summarised.
        transfer_loss: mean loss of Score with the best thresholds of another fold.
        drop: official minus cross-fitted Score.
    """

    alpha: Spread
    beta: Spread
    transfer_loss: float
    drop: Drop


@dataclass(frozen=True, kw_only=True)
class StrategyScores(Means):
    """What one threshold strategy reaches; measures as of `Means`.

    Attributes:
        sees: what it is chosen on: the `others`, which is out of sample, the fold `itself`, or `all` folds.
        transductive: whether it looks at other clips of the same actor and is told which they are.
    """

    sees: Literal["others", "itself", "all"]
    transductive: bool


@dataclass(frozen=True)
class FoldChoice:
    """Thresholds and what they score on one fold.

    Attributes:
        alpha: presence threshold.
        beta: salience threshold.
        acc_presence: ACC_P of the fold.
        acc_salience: ACC_S of the fold.
        score: mean of the two.
    """

    alpha: float
    beta: float
    acc_presence: float
    acc_salience: float
    score: float


@dataclass(frozen=True)
class FoldScores:
    """The scores of one fold.

    Attributes:
        fold: its number.
        clips: how many it holds out.
        official: with thresholds, and a fusion's weights, chosen on this fold and the others.
        cross_fitted: with both chosen on the other folds.
    """

    fold: int
    clips: int
    official: FoldChoice
    cross_fitted: FoldChoice


@dataclass(frozen=True)
class FoldRecord(FoldScores):
    """One fold of a system; scores as of `FoldScores`.

    Attributes:
        times_asked: how often the system asked for scores of the held-out clips.
        seconds: time of training and prediction.
        warnings: what was warned of.
    """

    times_asked: int
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where a fold was computed; no number depends on it.

    Attributes:
        fold: its number; null for the final fit.
        host: name of the machine; null for folds of earlier versions.
        worker: its process, or the engine's name for its job; null in the harness's own process.
        device: cpu or cuda; null where no call needed to know.
        gpu: its name; null without one.
    """

    fold: int | None
    host: str | None = None
    worker: str | None = None
    device: str | None = None
    gpu: str | None = None


@dataclass(frozen=True)
class Difference:
    """The two systems with the best cross-fitted Score, compared.

    Attributes:
        systems: their names, the better first.
        difference: of their cross-fitted Scores, first minus second.
        interval: of the difference, paired over actors; null for fewer than three actors.
        p: two-sided, from a permutation test by actor, corrected by Holm's method for all pairs of the run's systems.
        minimum: true difference that a comparison of these two finds in 80 % of cases; null for fewer than six actors,
            with whom none is found, and for systems that differ alike with all actors.
    """

    systems: tuple[str, str]
    difference: float
    interval: Interval | None
    p: float
    minimum: float | None
