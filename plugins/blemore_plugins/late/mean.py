"""A weighted mean of base models' rows: what late fusion predicts with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from blemore_harness.clips import Clips
from blemore_harness.context import Context
from blemore_harness.predictions import FloatArray, Probabilities


@dataclass(frozen=True)
class WeightedMean:
    """Weights by base model; they sum to 1."""

    weights: Mapping[str, float]

    def predict(self, clips: Clips, base_models: Mapping[str, Probabilities], context: Context) -> Probabilities:
        """Return the weighted mean of the base models' rows."""
        rows = np.stack([base_models[name].values for name in self.weights])
        return Probabilities(clips.ids, mean_rows(rows, np.array(list(self.weights.values()))))


def mean_rows(rows: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted mean, float64 (N, 6), of rows (M, N, 6).

    Added up base model by base model: a matrix product would round a row differently among other rows.
    """
    total = weights[0] * rows[0]
    for weight, values in zip(weights[1:], rows[1:], strict=True):
        total += weight * values
    # Weights such as .4, .3, .2 and .1 add up to a little more than 1 in floating point.
    clipped: FloatArray = np.minimum(total, 1.0)
    return clipped
