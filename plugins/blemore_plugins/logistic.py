"""Regularised multinomial regression.

The model corrects given logits: p = softmax(offset + X W), and W is shrunk towards zero, so that with a great strength
the offset alone is left. The objective is convex and has one minimum; the same rows always give the same W.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemore_harness.errors import DataError
from blemore_harness.predictions import FloatArray

TOLERANCE = 1e-8
"""Length of the gradient at which the minimum counts as found: far below what moves a probability by 1e-6."""

STEPS = 200
"""Newton steps at most; about ten are usual."""

LEFT = 1e-6
"""Largest part of the gradient that may be left where rounding hides whether a step helps."""


@dataclass(frozen=True)
class Problem:
    """Rows to fit.

    Attributes:
        inputs: float64 (N, F); a column of ones where a constant is wanted.
        targets: float64 (N, K), rows that sum to 1.
        offset: float64 (N, K), the logits that are corrected.
    """

    inputs: FloatArray
    targets: FloatArray
    offset: FloatArray

    def take(self, which: NDArray[np.bool_]) -> Problem:
        """Return the rows of a mask."""
        return Problem(self.inputs[which], self.targets[which], self.offset[which])


def predict_logs(inputs: FloatArray, offset: FloatArray, weights: FloatArray) -> FloatArray:
    """Return log-probabilities, float64 (N, K).

    Added up input by input: a matrix product would round a row differently among other rows.
    """
    logits = offset.copy()
    for column, row in zip(inputs.T, weights, strict=True):
        logits += column[:, None] * row
    return log_softmax(logits)


def as_inputs(logs: FloatArray) -> FloatArray:
    """Return inputs, float64 (N, 6 M + 1), of base models' log-probabilities (M, N, 6): centred by row, and a column
    of ones.

    Centred: a row's logits say nothing by their mean.
    """
    centred = logs - logs.mean(axis=2, keepdims=True)
    flat = centred.transpose(1, 0, 2).reshape(logs.shape[1], -1)
    return np.hstack([flat, np.ones((len(flat), 1))])


def log_softmax(logits: FloatArray) -> FloatArray:
    """Return log-probabilities of logits (N, K)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def mean_loss(problem: Problem, weights: FloatArray) -> float:
    """Return the mean cross-entropy of a problem's rows, without penalty."""
    logs = predict_logs(problem.inputs, problem.offset, weights)
    return -float((problem.targets * logs).sum()) / len(logs)


def fit(problem: Problem, strength: float) -> FloatArray:
    """Return the W, float64 (F, K), that minimises mean cross-entropy + strength / 2 * |W|^2.

    By Newton's method in a trust region (`trust-ncg` of scipy), which needs products with the matrix of second
    derivatives only. Weights are scaled so that a bound on these derivatives (Boehning 1992: half the matrix of second
    moments of the inputs) becomes the identity: inputs of different sizes, or alike, then take no more steps.

    Args:
        strength: above 0; infinity gives zeros, as do no rows.

    Raises:
        DataError: no minimum: inputs that are not finite or of absurd size.
    """
    from scipy.optimize import minimize

    count, shape = len(problem.inputs), (problem.inputs.shape[1], problem.targets.shape[1])
    if np.isinf(strength) or not count:
        return np.zeros(shape)
    scale = _even_out(0.5 * problem.inputs.T @ problem.inputs / count + strength * np.eye(shape[0]))
    inputs, penalty = problem.inputs @ scale, strength * scale.T @ scale

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        weights = flat.reshape(shape)
        logs, pull = log_softmax(problem.offset + inputs @ weights), penalty @ weights
        value = -float((problem.targets * logs).sum()) / count + 0.5 * float((weights * pull).sum())
        return value, (inputs.T @ (np.exp(logs) - problem.targets) / count + pull).ravel()

    def curve(flat: FloatArray, direction: FloatArray) -> FloatArray:
        """Multiply the second derivatives with a direction."""
        likely, moved = np.exp(log_softmax(problem.offset + inputs @ flat.reshape(shape))), direction.reshape(shape)
        change = likely * (inputs @ moved)
        change -= likely * change.sum(axis=1, keepdims=True)
        return np.asarray(inputs.T @ change / count + penalty @ moved).ravel()

    start = np.zeros(shape).ravel()
    if not np.isfinite(objective(start)[1]).all():  # the method would never end
        raise _no_minimum(np.inf)
    options = {"gtol": TOLERANCE, "maxiter": STEPS}
    found = minimize(objective, start, jac=True, hessp=curve, method="trust-ncg", options=options)
    left = float(np.abs(np.linalg.solve(scale.T, found.jac.reshape(shape))).max())
    if not left < LEFT:
        raise _no_minimum(left)
    return np.asarray(scale @ found.x.reshape(shape))


def _even_out(bound: FloatArray) -> FloatArray:
    """Return the S, float64 (F, F), with S' bound S = 1; errors as of `fit`."""
    try:
        return np.asarray(np.linalg.inv(np.linalg.cholesky(bound)).T)
    except np.linalg.LinAlgError:  # also of numbers that are not finite
        raise _no_minimum(np.inf) from None


def _no_minimum(left: float) -> DataError:
    return DataError(
        f"no minimum of the regression found in {STEPS} steps (gradient {left:.3g}): "
        "raise strength, or check the base models' rows"
    )
