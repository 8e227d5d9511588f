"""Scores as the record keeps them: shares from 0 to 1, times in seconds.

Without blends among the clips, as in a corpus of single emotions, ACC_S and the Score are not defined, and null here:
ACC_P takes the place of the Score, which ranks systems elsewhere.
"""

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
        acc_salience: ACC_S, share of blends whose set and saliences are right; null without blends.
        score: mean of the two; null without blends.
    """

    acc_presence: Mean
    acc_salience: Mean | None
    score: Mean | None

    @property
    def ranked(self) -> Mean:
        """What systems are ranked by: the Score, or ACC_P where the Score is not defined."""
        return self.score or self.acc_presence

    def by_measure(self) -> dict[str, Mean | None]:
        """Return the three by their names; None for what is not defined."""
        return {"acc_presence": self.acc_presence, "acc_salience": self.acc_salience, "score": self.score}


@dataclass(frozen=True)
class Intervals:
    """Intervals of the cross-fitted measures.

    Attributes:
        acc_presence: of ACC_P.
        acc_salience: of ACC_S; null without blends.
        score: of the Score; null without blends.
    """

    acc_presence: Interval
    acc_salience: Interval | None
    score: Interval | None

    @property
    def ranked(self) -> Interval:
        """Of what systems are ranked by, as `Means.ranked`."""
        return self.score or self.acc_presence


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
    """Official minus cross-fitted Score (ACC_P without blends).

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
        transfer_loss: mean loss of Score (of ACC_P without blends) with the best thresholds of another fold.
        drop: official minus cross-fitted Score (ACC_P without blends).
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
        acc_salience: ACC_S of the fold; null where no fold has blends.
        score: mean of the two; null where no fold has blends.
    """

    alpha: float
    beta: float
    acc_presence: float
    acc_salience: float | None
    score: float | None


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
class Difference:
    """The two systems with the best cross-fitted Score, compared.

    Attributes:
        systems: their names, the better first.
        difference: of their cross-fitted Scores (ACC_P without blends), first minus second.
        interval: of the difference, paired over actors; null for fewer than three actors.
        p: two-sided, from a permutation test by actor, corrected for all pairs of the run's systems.
        minimum: true difference that a comparison of these two finds in 80 % of cases; null for fewer than six actors,
            with whom none is found, and for systems that differ alike with all actors.
    """

    systems: tuple[str, str]
    difference: float
    interval: Interval | None
    p: float
    minimum: float | None
