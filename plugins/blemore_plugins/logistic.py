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

LEFT = 100.0
"""Largest part of the gradient that may be left where rounding hides whether a step helps, in tolerances."""

PRODUCT = 2**18
"""Multiplications of a matrix product at most: OpenBLAS computes it in one thread then. More would wait for each other
on a busy machine (5 times as long), and round by their number.
"""


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


def fit(problem: Problem, strength: float, start: FloatArray | None = None, tolerance: float = TOLERANCE) -> FloatArray:
    """Return the W, float64 (F, K), that minimises mean cross-entropy + strength / 2 * |W|^2.

    By Newton's method in a trust region (`trust-ncg` of scipy), which needs products with the matrix of second
    derivatives only. Weights are scaled so that a bound on these derivatives (Boehning 1992: half the matrix of second
    moments of the inputs) becomes the identity: inputs of different sizes, or alike, then take no more steps.

    Args:
        strength: above 0; infinity gives zeros, as do no rows.
        start: W to begin with, such as that of a similar strength; zeros if None.
        tolerance: length of the gradient, in scaled weights, at which the minimum counts as found.

    Raises:
        DataError: no minimum: inputs that are not finite or of absurd size.
    """
    from scipy.optimize import minimize

    count, shape = len(problem.inputs), (problem.targets.shape[1], problem.inputs.shape[1])
    if np.isinf(strength) or not count:
        return np.zeros(shape[::-1])
    scale = _even_out(0.5 * problem.inputs.T @ problem.inputs / count + strength * np.eye(shape[1]))
    objective = _Objective(problem, scale, strength)
    begin = np.zeros(shape[0] * shape[1])
    if start is not None:
        begin[:] = np.linalg.solve(scale, start).T.ravel()
    if not np.isfinite(objective.value(begin)[1]).all():  # the method would never end
        raise _no_minimum(np.inf)
    found = minimize(
        objective.value,
        begin,
        jac=True,
        hessp=objective.curve,
        method="trust-ncg",
        options={"gtol": tolerance, "maxiter": STEPS},
    )
    left = float(np.abs(np.linalg.solve(scale.T, found.jac.reshape(shape).T)).max())
    if not left < LEFT * tolerance:
        raise _no_minimum(left)
    return np.asarray(scale @ found.x.reshape(shape).T)


class _Objective:
    """Mean cross-entropy plus penalty as a function of scaled weights V, flat (K F), with W = scale V'.

    Arrays are held class by class, so that sums over classes add whole rows, and in blocks of rows, (B, K, R); the last
    block is filled with zeros, which add nothing. The probabilities at the last weights are kept, because many products
    with the second derivatives are taken at the same ones.
    """

    def __init__(self, problem: Problem, scale: FloatArray, strength: float) -> None:
        self._shape = problem.targets.shape[1], problem.inputs.shape[1]
        self._count = len(problem.inputs)
        rows = max(1, min(self._count, PRODUCT // (self._shape[0] * self._shape[1])))
        self._inputs = _in_blocks(problem.inputs @ scale, rows)
        self._penalty = strength * scale.T @ scale
        self._across, self._offset, self._targets = (
            np.ascontiguousarray(blocks.transpose(0, 2, 1))
            for blocks in (self._inputs, _in_blocks(problem.offset, rows), _in_blocks(problem.targets, rows))
        )
        self._last, self._likely = np.full(self._shape[0] * self._shape[1], np.nan), self._offset

    def value(self, flat: FloatArray) -> tuple[float, FloatArray]:
        """Return value and gradient."""
        weights = flat.reshape(self._shape)
        logits = weights @ self._across
        logits += self._offset
        logits -= logits.max(axis=1, keepdims=True)
        likely = np.exp(logits)
        total = likely.sum(axis=1, keepdims=True)
        likely /= total
        logits -= np.log(total)
        self._last, self._likely = flat.copy(), likely
        pull = weights @ self._penalty
        value = -float((self._targets * logits).sum()) / self._count + 0.5 * float((weights * pull).sum())
        return value, self._back(likely - self._targets, pull)

    def curve(self, flat: FloatArray, direction: FloatArray) -> FloatArray:
        """Return the product of the second derivatives with a direction."""
        if not np.array_equal(flat, self._last):
            self.value(flat)
        moved = direction.reshape(self._shape)
        change = moved @ self._across
        change *= self._likely
        change -= self._likely * change.sum(axis=1, keepdims=True)
        return self._back(change, moved @ self._penalty)

    def _back(self, change: FloatArray, pull: FloatArray) -> FloatArray:
        """Return what changes of logits (B, K, R) are as changes of V, averaged over rows, with the penalty's pull."""
        slopes: FloatArray = (change @ self._inputs).sum(axis=0) / self._count + pull
        return slopes.ravel()


def _in_blocks(values: FloatArray, rows: int) -> FloatArray:
    """Return values (N, C) in blocks (B, rows, C), zeros at the end."""
    blocks = np.zeros((-(-len(values) // rows), rows, values.shape[1]))
    blocks.reshape(-1, values.shape[1])[: len(values)] = values
    return blocks


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
