"""Regularised multinomial regression in plain numpy.

The model corrects given logits: p = softmax(offset + X W), and W is shrunk towards zero, so that with a great strength
the offset alone is left. The objective is convex and has one minimum; the same rows always give the same W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemore_harness.errors import DataError
from blemore_harness.predictions import FloatArray

TOLERANCE = 1e-7
"""Largest part of the gradient at which the minimum counts as found: far below what moves a probability by 1e-6."""

STEPS = 2_000
"""Steps at most; some tens to a few hundred are usual."""

NEWTON_STEPS = 50
"""Newton steps at most, where those were not enough: two base models alike, and a weak penalty. A few are usual."""

ROUNDING = 1e3 * TOLERANCE
"""What may be left of the gradient where steps no longer show in the objective."""

MEMORY = 12
"""Past steps that the curvature is estimated from."""


@dataclass(frozen=True)
class Problem:
    """Rows to learn from.

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

    Limited-memory BFGS. It starts from a bound on the curvature (Boehning 1992: half the matrix of second moments of
    the inputs), which makes the first step a descent without any search and evens out inputs of different scales.
    Where it is still under way after `STEPS`, Newton's method goes on from there.

    Args:
        strength: above 0; infinity gives zeros, as do no rows.

    Raises:
        DataError: no minimum: inputs that are not finite or of absurd size.
    """
    shape = (problem.inputs.shape[1], problem.targets.shape[1])
    weights = np.zeros(shape)
    if np.isinf(strength) or not len(problem.inputs):
        return weights
    bound = 0.5 * problem.inputs.T @ problem.inputs / len(problem.inputs) + strength * np.eye(shape[0])
    inverse = np.asarray(np.linalg.inv(bound), dtype=np.float64)
    past: list[tuple[FloatArray, FloatArray, float]] = []
    value, gradient = _objective(problem, strength, weights)
    for _ in range(STEPS):
        if np.abs(gradient).max() < TOLERANCE:
            return weights
        direction = _direction(gradient, past, inverse)
        slope = float((gradient * direction).sum())
        length = 1.0
        while True:
            moved = weights + length * direction
            new_value, new_gradient = _objective(problem, strength, moved)
            if new_value <= value + 1e-4 * length * slope or length < 1e-12:
                break
            length /= 2
        step: FloatArray = moved - weights
        change: FloatArray = new_gradient - gradient
        product = float((step * change).sum())
        if length < 1e-12 or product <= 0:
            # Steps no longer show in the objective: what is left of the gradient is rounding.
            if np.abs(gradient).max() < ROUNDING:
                return weights
            break
        past = [*past[-MEMORY + 1 :], (step, change, product)]
        weights, value, gradient = moved, new_value, new_gradient
    return _finish(problem, strength, weights)


def _finish(problem: Problem, strength: float, weights: FloatArray) -> FloatArray:
    """Go on by Newton's method, which minds neither inputs that are alike nor a weak penalty; errors as of `fit`."""
    value, gradient = _objective(problem, strength, weights)
    for _ in range(NEWTON_STEPS):
        if np.abs(gradient).max() < TOLERANCE:
            return weights
        curvature = _curvature(problem, strength, weights)
        if not np.isfinite(curvature).all():
            break
        direction = -np.linalg.solve(curvature, gradient.ravel()).reshape(weights.shape)
        slope, length = float((gradient * direction).sum()), 1.0
        moved_value, moved_gradient = _objective(problem, strength, weights + direction)
        while not moved_value <= value + 1e-4 * length * slope and length > 1e-12:
            length /= 2
            moved_value, moved_gradient = _objective(problem, strength, weights + length * direction)
        if length <= 1e-12:
            if np.abs(gradient).max() < ROUNDING:
                return weights
            break
        weights, value, gradient = weights + length * direction, moved_value, moved_gradient
    raise DataError(
        f"no minimum of the regression found in {STEPS} steps (gradient {np.abs(gradient).max():.3g}): "
        "raise strength, or check the base models' rows"
    )


def _curvature(problem: Problem, strength: float, weights: FloatArray) -> FloatArray:
    """Return the second derivatives of the objective, float64 (F K, F K)."""
    likely = np.exp(log_softmax(problem.offset + problem.inputs @ weights))
    features, kinds = weights.shape
    found = np.zeros((features, kinds, features, kinds))
    for one in range(kinds):
        for two in range(one, kinds):
            share = likely[:, one] * ((one == two) - likely[:, two]) / len(likely)
            found[:, one, :, two] = found[:, two, :, one] = (problem.inputs * share[:, None]).T @ problem.inputs
    flat = found.reshape(features * kinds, features * kinds)
    return np.asarray(flat + strength * np.eye(len(flat)))


def _objective(problem: Problem, strength: float, weights: FloatArray) -> tuple[float, FloatArray]:
    logs = log_softmax(problem.offset + problem.inputs @ weights)
    count = len(logs)
    value = -float((problem.targets * logs).sum()) / count + 0.5 * strength * float((weights * weights).sum())
    gradient: FloatArray = problem.inputs.T @ (np.exp(logs) - problem.targets) / count + strength * weights
    return value, gradient


def _direction(
    gradient: FloatArray, past: Sequence[tuple[FloatArray, FloatArray, float]], inverse: FloatArray
) -> FloatArray:
    """Return the two-loop recursion's direction of descent."""
    rest = gradient.copy()
    shares = []
    for step, change, product in reversed(past):
        share = float((step * rest).sum()) / product
        rest -= share * change
        shares.append(share)
    found: FloatArray = inverse @ rest
    for (step, change, product), share in zip(past, reversed(shares), strict=True):
        found += (share - float((change * found).sum()) / product) * step
    return -found
