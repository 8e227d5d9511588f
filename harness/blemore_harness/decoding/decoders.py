"""Ways to turn rows of probabilities into labels: the official thresholds, and others that give valid labels too."""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, sqrt
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemore_harness.clips import LabelArray
from blemore_harness.errors import DataError
from blemore_harness.predictions import FloatArray, softmax
from blemore_harness.protocol.grid import Thresholds
from blemore_harness.protocol.rules import NEUTRAL, as_rows, decode, top_two

Groups: TypeAlias = NDArray[np.int64]
"""Which clips are of one actor: a number per clip (N,), without saying who."""

FLOOR = 1e-6
"""Probabilities below this count as this where logarithms are taken."""

Measure = Literal["rank", "normal"]


class Decoder(Protocol):
    """Decodes probabilities into a label for every clip."""

    def decode(self, values: FloatArray, groups: Groups | None) -> LabelArray:
        """Return int8 (N, 6) percentages for rows float64 (N, 6).

        `groups` where it looks at other clips of an actor.
        """


@dataclass(frozen=True)
class ThresholdDecoder:
    """The official decoding."""

    thresholds: Thresholds

    def decode(self, values: FloatArray, groups: Groups | None) -> LabelArray:
        """Decode by alpha and beta."""
        return decode(values, self.thresholds.alpha, self.thresholds.beta)


@dataclass(frozen=True)
class CentredDecoder:
    """The official decoding after every actor's mean logit was moved to the mean of the training clips.

    An encoder that reads one face as angrier than others adds about the same to every logit of that actor; every actor
    plays every emotion about equally often, so what an actor's mean has in excess is the encoder's.

    Attributes:
        thresholds: alpha and beta for the moved rows.
        centre: float64 (6,), mean log-probabilities of the training clips.
    """

    thresholds: Thresholds
    centre: FloatArray

    def decode(self, values: FloatArray, groups: Groups | None) -> LabelArray:
        """Move and decode."""
        moved = centre_rows(values, _needed(groups), self.centre)
        return decode(moved, self.thresholds.alpha, self.thresholds.beta)


@dataclass(frozen=True)
class GapDecoder:
    """The official decoding with the gap of the two largest probabilities seen relative to the actor's own gaps.

    Attributes:
        thresholds: alpha as ever; beta is compared with the measured gap.
        measure: see `measure_gaps`.
    """

    thresholds: Thresholds
    measure: Measure

    def decode(self, values: FloatArray, groups: Groups | None) -> LabelArray:
        """Measure and decode."""
        gaps = measure_gaps(values, _needed(groups), self.measure)
        return decode(values, self.thresholds.alpha, self.thresholds.beta, gaps)


def log_rows(values: ArrayLike) -> FloatArray:
    """Return natural logarithms of rows, float64 (N, 6), values below `FLOOR` counted as that."""
    return np.asarray(np.log(np.maximum(as_rows(values), FLOOR)))


def centre_rows(values: ArrayLike, groups: Groups, centre: FloatArray) -> FloatArray:
    """Move every group's mean log-probabilities to `centre` and give probabilities again.

    Args:
        values: (N, 6) probabilities.
        groups: (N,) numbers of groups.
        centre: (6,) where the means go.
    """
    logs = log_rows(values)
    return softmax(logs - group_means(logs, groups) + centre)


def group_means(columns: FloatArray, groups: Groups) -> FloatArray:
    """Return for every clip the mean of its group's rows, float64 (N, D) as `columns`."""
    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), columns.shape[1]))
    np.add.at(sums, index, columns)
    return np.asarray((sums / counts[:, None])[index])


def measure_gaps(values: ArrayLike, groups: Groups, measure: Measure) -> FloatArray:
    """Measure the gap of the two largest values of each row against the gaps of the same group, in [0, 1].

    Args:
        values: (N, 6) probabilities.
        groups: (N,) numbers of groups.
        measure: `rank` gives the share of the group's rows with a smaller gap, ties counted half; `normal` the
            cumulative normal probability of the gap standardised by the group's mean and deviation. Rows with neutral
            among the two largest never blend, and are not counted.

    Returns:
        float64 (N,); 1 for rows that never blend.
    """
    rows = as_rows(values)
    first, second, high, low = top_two(rows)
    gaps = high - low
    measured = np.ones(len(rows))
    may_blend = (first != NEUTRAL) & (second != NEUTRAL)
    for group in np.unique(groups):
        base_models = np.flatnonzero((groups == group) & may_blend)
        if base_models.size:
            own = gaps[base_models]
            measured[base_models] = _ranks(own) if measure == "rank" else _normal(own)
    return measured


def _ranks(gaps: FloatArray) -> FloatArray:
    order = np.sort(gaps)
    below, upto = np.searchsorted(order, gaps, side="left"), np.searchsorted(order, gaps, side="right")
    return np.asarray((below + upto) / (2 * len(gaps)))


def _normal(gaps: FloatArray) -> FloatArray:
    spread = gaps.std()
    if spread < FLOOR:
        return np.full(len(gaps), 0.5)
    return np.array([0.5 * (1 + erf(z / sqrt(2))) for z in (gaps - gaps.mean()) / spread])


def _needed(groups: Groups | None) -> Groups:
    if groups is None:
        raise DataError("this decoding looks at other clips of the same actor, and nobody said which these are")
    return groups
