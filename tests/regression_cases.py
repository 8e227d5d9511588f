"""Regularised regression in the plainest way that has the same minimum: every fit from zeros, nothing kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize

from blemore_plugins.logistic import TOLERANCE, Problem, log_softmax, mean_loss

Array = np.ndarray[Any, Any]


def fit_plainly(problem: Problem, strength: float) -> Array:
    """Minimise mean cross-entropy + strength / 2 * |W|^2, row by row, with likelihoods computed for every product."""
    count, shape = len(problem.inputs), (problem.inputs.shape[1], problem.targets.shape[1])
    if np.isinf(strength):
        return np.zeros(shape)
    bound = 0.5 * problem.inputs.T @ problem.inputs / count + strength * np.eye(shape[0])
    scale = np.linalg.inv(np.linalg.cholesky(bound)).T
    inputs, penalty = problem.inputs @ scale, strength * scale.T @ scale

    def objective(flat: Array) -> tuple[float, Array]:
        weights = flat.reshape(shape)
        logs, pull = log_softmax(problem.offset + inputs @ weights), penalty @ weights
        value = -float((problem.targets * logs).sum()) / count + 0.5 * float((weights * pull).sum())
        return value, (inputs.T @ (np.exp(logs) - problem.targets) / count + pull).ravel()

    def curve(flat: Array, direction: Array) -> Array:
        likely, moved = np.exp(log_softmax(problem.offset + inputs @ flat.reshape(shape))), direction.reshape(shape)
        change = likely * (inputs @ moved)
        change -= likely * change.sum(axis=1, keepdims=True)
        return np.asarray(inputs.T @ change / count + penalty @ moved).ravel()

    start, options = np.zeros(shape).ravel(), {"gtol": TOLERANCE}
    found = minimize(objective, start, jac=True, hessp=curve, method="trust-ncg", options=options)
    return np.asarray(scale @ found.x.reshape(shape))


def choose_plainly(problem: Problem, held: Sequence[Array], strengths: Sequence[float]) -> tuple[float, Array]:
    """Return the strength of the least loss on held-out parts, of equals the greatest, and the weights of all rows."""
    losses = {
        strength: sum(
            mean_loss(problem.take(mask), fit_plainly(problem.take(~mask), strength)) * int(mask.sum()) for mask in held
        )
        for strength in sorted({*strengths, np.inf}, reverse=True)
    }
    best = min(losses, key=lambda each: losses[each])
    return best, fit_plainly(problem, best)
