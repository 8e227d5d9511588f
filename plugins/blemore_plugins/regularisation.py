"""How strongly a regression is regularised, chosen on held-out training actors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clips
from blemore_harness.context import Context
from blemore_harness.errors import DataError, InvalidOption
from blemore_harness.options import searched
from blemore_harness.predictions import FloatArray
from blemore_plugins.logistic import Problem, fit, mean_loss
from blemore_plugins.means import EPSILON, check_epsilon

STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
"""Strengths of the L2 penalty that are tried, against a loss that is a mean over clips."""

COMPARABLE = 1e-7
"""Tolerance of fits that only compare strengths: their losses are then right to far more than the 6 decimals shown."""

INNER_FOLDS = 5
"""Parts of the actors that a strength is chosen on, as many as the official folds."""


@dataclass(frozen=True)
class LogisticOptions:
    """How a regression on base models' log-probabilities is regularised; Options of fusions extend it.

    Attributes:
        strengths: strengths of the L2 penalty to choose from, infinity besides; a single one is used as it is.
        inner_folds: parts of the training actors that the strength is chosen on.
        epsilon: probabilities below it count as this much before logarithms are taken.
    """

    strengths: tuple[float, ...] = STRENGTHS
    inner_folds: int = INNER_FOLDS
    epsilon: float = searched(EPSILON, 1e-6, 1e-2, log=True)

    def __post_init__(self) -> None:
        if not self.strengths or not all(each > 0 for each in self.strengths):
            raise InvalidOption(f"strengths: expected numbers above 0, found {self.strengths}")
        if self.inner_folds < 2:
            raise InvalidOption(f"inner_folds: expected at least 2, found {self.inner_folds}")
        check_epsilon(self.epsilon)


@dataclass(frozen=True)
class Fitted:
    """Fitted weights and how strongly they were regularised.

    Attributes:
        weights: float64 (F, K).
        strength: of the penalty.
        losses: mean cross-entropy on actors that were not trained on, by strength as text.
    """

    weights: FloatArray
    strength: float
    losses: Mapping[str, float]

    def describe(self) -> dict[str, object]:
        """Return what a record shows, as JSON types."""
        return {"strength": f"{self.strength:g}", "loss by strength on other actors": dict(self.losses)}


def actor_folds(clips: Clips, count: int, seed: int) -> list[NDArray[np.bool_]]:
    """Return the masks (N,) of at most `count` parts of clips, no actor in two of them.

    Raises:
        DataError: fewer than two actors, or clips without actors.
    """
    if clips.actors is None:
        raise DataError("these clips have no actors: only the training clips of a fold can be split by actor")
    names = np.random.default_rng(seed).permutation(sorted(set(clips.actors)))
    if len(names) < 2:
        raise DataError(f"choosing a strength on other actors needs at least 2 actors, found {len(names)}")
    parts = np.array_split(names, min(count, len(names)))
    actors = np.array(clips.actors)
    return [np.isin(actors, part) for part in parts]


def strength_folds(clips: Clips, options: LogisticOptions, context: Context) -> list[NDArray[np.bool_]]:
    """Return the parts that a strength is chosen on; none where nothing is chosen, or no other actors are there.

    `fit_regularised` then leaves the offset alone: with one training actor no strength can be compared on others.
    """
    if len(options.strengths) == 1:
        return []
    if clips.actors is not None and len(set(clips.actors)) < 2:
        context.warn(
            "one training actor: no regularisation strength can be chosen, the mean of log-probabilities is used"
        )
        return []
    return actor_folds(clips, options.inner_folds, context.seed)


def choose_strength(losses: Mapping[float, FloatArray], actors: Sequence[str]) -> float:
    """Return the greatest strength whose mean loss is within one standard error of the least.

    The error is that of the difference from the least, over actors (sandwich estimator).

    Args:
        losses: by strength, a loss of each clip, float64 (N,), with what was fitted on other actors.
        actors: of each clip (N,).
    """
    least = min(sorted(losses, reverse=True), key=lambda strength: float(losses[strength].mean()))
    index = np.unique(np.asarray(actors), return_inverse=True)[1]
    count = int(index.max()) + 1
    for strength in sorted(losses, reverse=True):
        apart = losses[strength] - losses[least]
        excess = np.bincount(index, weights=apart - apart.mean(), minlength=count)
        error = np.sqrt(count / max(count - 1, 1) * np.square(excess).sum()) / len(apart)
        if apart.mean() <= error:
            return strength
    return least


def fit_regularised(
    problem: Problem,
    held: Sequence[NDArray[np.bool_]],
    strengths: Sequence[float],
    advance: Callable[[int], object],
) -> Fitted:
    """Fit all rows with the strength of least cross-entropy on held-out parts; of equals the greatest.

    Leaving the offset alone (infinite strength) is always among the choices. One strength alone is not questioned. On
    each part a fit begins where that of the next greater strength ended.

    Args:
        held: masks (N,) of the parts; one without any row is passed over. Without any part the offset is left alone.
        strengths: what to try.
        advance: told of every strength done.
    """
    if len(strengths) == 1:
        return Fitted(fit(problem, strengths[0]), strengths[0], {})
    parts = [(problem.take(mask), problem.take(~mask)) for mask in held if mask.any() and not mask.all()]
    size = max(1, sum(len(checked.inputs) for checked, _ in parts))
    weights: list[FloatArray | None] = [None] * len(parts)
    losses: dict[float, float] = {}
    for strength in sorted({*strengths, np.inf}, reverse=True):
        total = 0.0
        for number, (checked, rest) in enumerate(parts):
            weights[number] = fitted = fit(rest, strength, weights[number], COMPARABLE)
            total += mean_loss(checked, fitted) * len(checked.inputs)
        advance(1)
        losses[strength] = total / size
    # The greatest comes first, and of equals `min` takes the first.
    best = min(losses, key=lambda each: losses[each])
    return Fitted(fit(problem, best), best, {f"{each:g}": round(loss, 6) for each, loss in losses.items()})
