"""How good an epoch is on clips that were not trained on: what early stopping compares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clips
from blemore_harness.protocol.grid import GridCounter

LEAST = 1e-12
"""A probability below counts as that much in a likelihood."""


class InnerJudge:
    """Grades rows of labelled clips, those that an inner split keeps back.

    Args:
        clips: with labels.
    """

    def __init__(self, clips: Clips) -> None:
        self._counter = GridCounter(clips.labels)
        self._targets = clips.targets.astype(np.float64)

    def grade(self, rows: NDArray[np.float64]) -> tuple[float, float]:
        """Return the official Score and, for the equal ones that few clips often have, the mean log-likelihood.

        Args:
            rows: probabilities (N, 6), in the order of the clips.
        """
        likelihood = (self._targets * np.log(np.maximum(rows, LEAST))).sum(axis=1).mean()
        return self._counter.count(rows).choose().scores.score, float(likelihood)
