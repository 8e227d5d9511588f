"""Intervals for the mean of a few paired differences, without a statistics package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma, pi, sqrt

import numpy as np

LEVEL = 0.95
"""Share of repetitions in which the interval holds the mean that infinitely many replicates would have."""


@dataclass(frozen=True)
class Interval:
    """A mean and what it may be off by.

    Attributes:
        mean: of the values.
        half: half the width of the 95 % interval (Student's t); None for a single value.
    """

    mean: float
    half: float | None

    @property
    def is_clear(self) -> bool:
        """Return whether zero lies outside."""
        return self.half is not None and abs(self.mean) > self.half


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean of values and its 95 % interval.

    >>> found = mean_interval([1.0, 2.0, 3.0])
    >>> round(found.mean, 3), round(found.half, 3)
    (2.0, 2.484)
    """
    if len(values) < 2:
        return Interval(float(np.mean(values)), None)
    error = float(np.std(values, ddof=1)) / sqrt(len(values))
    return Interval(float(np.mean(values)), student_quantile(len(values) - 1) * error)


def student_quantile(freedom: int) -> float:
    """Return x with P(|T| <= x) = `LEVEL` for Student's t with so many degrees of freedom, to about 1e-6.

    >>> round(student_quantile(19), 4)
    2.093
    """
    scale = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(freedom * pi)

    def inside(limit: float) -> float:
        points = np.linspace(0.0, limit, 2001)
        heights = scale * (1 + points**2 / freedom) ** (-(freedom + 1) / 2)
        weights = np.ones(2001)
        weights[1:-1:2], weights[2:-1:2] = 4, 2
        return 2 * float((weights * heights).sum()) * limit / 2000 / 3

    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < LEVEL else (low, middle)
    return (low + high) / 2
