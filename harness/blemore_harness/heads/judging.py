"""How good an epoch or a head is on clips that were not trained on: what early stopping and attention depend on."""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clips
from blemore_harness.protocol.grid import GridCounter, GridScores

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


def measure_gain(clips: Clips, rows: NDArray[np.float64], others: NDArray[np.float64]) -> tuple[float, float]:
    """Return by how much one head is better than another on some clips, and the standard error of that over actors.

    The official Score of each actor, at the thresholds that are best for all clips of a head; the mean of the
    differences, and their standard deviation (ddof 1) over the square root of the number of actors. With one actor
    nothing is known of others: the error is infinite.

    Args:
        clips: with labels and actors.
        rows, others: probabilities (N, 6) by the one head and the other, in the order of the clips.
    """
    index = np.unique(np.asarray(clips.actors), return_inverse=True)[1]
    counter = GridCounter(clips.labels, index)

    def score(values: NDArray[np.float64]) -> NDArray[np.float64]:
        actors = counter.per_fold(values).values()
        best = reduce(GridScores.__add__, actors).argbest()
        return np.array([each.scores_at(*best).score for each in actors])

    gains = score(rows) - score(others)
    return float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else np.inf
