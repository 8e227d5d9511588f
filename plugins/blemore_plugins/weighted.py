"""The weighted geometric mean of probabilities, with weights that leave equal ones only where training actors agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.disk import read_json, write_json
from blemore_harness.hookspecs import Card, Fusion, hookimpl
from blemore_harness.predictions import FloatArray, Probabilities, softmax
from blemore_plugins.cards import fusion_card
from blemore_plugins.logistic import log_softmax
from blemore_plugins.means import MODEL_FILE, log_rows, mean_logs, weights_of_those_there
from blemore_plugins.regularisation import LogisticOptions, choose_strength, strength_folds

STRENGTHS = (1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""Strengths of the penalty that are tried, against a loss that is a mean over clips."""

TOLERANCE = 1e-11
"""Relative fall of the loss at which the minimum counts as found."""


@dataclass(frozen=True)
class WeightedLogitMeanOptions(LogisticOptions):
    """How strongly weights are drawn to equal ones; see `LogisticOptions`.

    With a single strength the weights are fitted with it; otherwise it is chosen, equal weights among the choices.
    """

    strengths: tuple[float, ...] = STRENGTHS


@dataclass(frozen=True)
class WeightedLogitMeanModel:
    """Weights by base model, which sum to 1, and epsilon."""

    weights: Mapping[str, float]
    epsilon: float

    def predict(self, clips: Clips, base_models: Mapping[str, Probabilities], context: Context) -> Probabilities:
        """Return the normalised weighted geometric mean of the base models' probabilities; where one is missing, of
        the others.

        Raises:
            DataError: none of those with a weight is there.
        """
        there = weights_of_those_there(self.weights, base_models)
        logs = log_rows(there, base_models, self.epsilon)
        return Probabilities(clips.ids, softmax(weigh_logs(logs, np.array(list(there.values())))))

    def save(self, folder: Path) -> None:
        """Write the weights and epsilon."""
        write_json(folder / MODEL_FILE, {"weights": dict(self.weights), "epsilon": self.epsilon})


class WeightedLogitMean(Fusion):
    """`logit-mean` with a weight per base model, 0 or more; the weights are shrunk towards equal ones.

    They minimise the cross-entropy of soft labels. The penalty's strength is the greatest whose loss on other actors is
    within one standard error of the least; an infinite one, which gives `logit-mean`, is among the choices.
    """

    name = "weighted-logit-mean"
    summary = "weighted mean of base models' log-probabilities, weights shrunk towards equal ones"
    Options = WeightedLogitMeanOptions

    def card(self, options: WeightedLogitMeanOptions) -> Card:
        """Return the card of a fusion."""
        return fusion_card()

    def load(self, folder: Path, options: WeightedLogitMeanOptions, context: Context) -> WeightedLogitMeanModel:
        """Read the weights and epsilon."""
        return WeightedLogitMeanModel(**read_json(folder / MODEL_FILE))

    def fit(
        self, fold: Fold, base_models: Mapping[str, Probabilities], options: WeightedLogitMeanOptions, context: Context
    ) -> WeightedLogitMeanModel:
        """Choose the strength on other actors, then fit the weights on all clips."""
        # Sorted: the order in which base models were named must change nothing.
        names = tuple(sorted(base_models))
        logs, targets = log_rows(names, base_models, options.epsilon), fold.train.labels.astype(np.float64) / 100
        held = strength_folds(fold.train, options, context)
        losses: dict[float, FloatArray] = {}
        with context.progress("weighted-logit-mean: strengths", len(options.strengths) + 1) as bar:
            for strength in sorted({*options.strengths, np.inf}, reverse=True) if held else ():
                losses[strength] = _losses_on_others(logs, targets, held, strength)
                bar.advance()
        if len(options.strengths) == 1:
            chosen = options.strengths[0]
        else:
            chosen = choose_strength(losses, fold.train.actors or ()) if losses else np.inf
        powers = fit_powers(logs, targets, chosen)
        total = float(powers.sum())
        weights = powers / total if total > 0 else np.full(len(names), 1 / len(names))
        found = dict(zip(names, weights.tolist(), strict=True))
        context.note("strength", f"{chosen:g}")
        if losses:
            means = {f"{strength:g}": round(float(loss.mean()), 6) for strength, loss in losses.items()}
            context.note("loss by strength on other actors", means)
        context.note("weights", {name: round(weight, 6) for name, weight in found.items()})
        return WeightedLogitMeanModel(found, options.epsilon)


def fit_powers(logs: FloatArray, targets: FloatArray, strength: float) -> FloatArray:
    """Return the powers b, float64 (M,), 0 or more, to which base models' probabilities are raised before they are
    multiplied.

    They minimise mean cross-entropy + strength / 2 * mean over base models of (M b - sum of b)^2: the penalty compares
    each weight with an equal one, whatever their sum, which is the sharpness of the product.

    Args:
        logs: float64 (M, N, 6), base models' log-probabilities.
        targets: float64 (N, 6), rows that sum to 1.
        strength: 0 or more; with infinity all powers are the same.
    """
    from scipy.optimize import minimize

    if not logs.shape[1]:
        return np.full(len(logs), 1 / len(logs))
    if np.isinf(strength):
        return np.full(len(logs), fit_powers(mean_logs(logs)[None], targets, 0.0)[0] / len(logs))
    count, centred = len(logs), logs - logs.mean(axis=2, keepdims=True)

    def objective(powers: FloatArray) -> tuple[float, FloatArray]:
        found = log_softmax(weigh_logs(centred, powers))
        apart = count * powers - powers.sum()
        value = -float((targets * found).sum()) / len(targets) + strength / 2 * float(np.square(apart).mean())
        # A matrix product would start threads, which cost more than they save here.
        slope = np.einsum("mnk,nk->m", centred, np.exp(found) - targets) / len(targets)
        return value, slope + strength / count * (count * apart - apart.sum())

    start, bounds = np.full(count, 1 / count), [(0.0, None)] * count
    settings = {"ftol": TOLERANCE, "gtol": 1e-9, "maxiter": 1000}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=settings)
    return np.asarray(found.x)


def weigh_logs(logs: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted sum, float64 (N, 6), of log-probabilities (M, N, 6), added up base model by base model."""
    total = weights[0] * logs[0]
    for weight, values in zip(weights[1:], logs[1:], strict=True):
        total += weight * values
    return np.asarray(total)


def _losses_on_others(
    logs: FloatArray, targets: FloatArray, held: Sequence[NDArray[np.bool_]], strength: float
) -> FloatArray:
    """Return each clip's cross-entropy, float64 (N,), with powers fitted on other actors."""
    losses = np.zeros(len(targets))
    for mask in held:
        powers = fit_powers(logs[:, ~mask], targets[~mask], strength)
        losses[mask] = -(targets[mask] * log_softmax(weigh_logs(logs[:, mask], powers))).sum(axis=1)
    return losses


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Return the weighted geometric mean."""
    return [WeightedLogitMean()]
