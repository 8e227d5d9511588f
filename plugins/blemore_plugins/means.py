"""Means of base models' rows: weighted, as late fusion predicts with; and the plain references with equal weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.disk import read_json, write_json
from blemore_harness.errors import ConfigError, DataError, InvalidOption, first_and_count
from blemore_harness.hookspecs import Card, Fusion, NoOptions, hookimpl
from blemore_harness.options import searched
from blemore_harness.predictions import FloatArray, Probabilities, softmax
from blemore_plugins.cards import fusion_card

MODEL_FILE = "model.json"
"""File of a fusion that is kept."""

EPSILON = 1e-5
"""Probabilities below it count as this much.

A base model that is certain would otherwise outvote all others together.
"""


@dataclass(frozen=True)
class WeightedMean:
    """Weights by base model; they sum to 1."""

    weights: Mapping[str, float]

    def predict(self, clips: Clips, base_models: Mapping[str, Probabilities], context: Context) -> Probabilities:
        """Return the weighted mean of the base models' rows; where one is missing, of the others.

        Raises:
            DataError: none of those with a weight is there.
        """
        there = weights_of_those_there(self.weights, base_models)
        rows = np.stack([base_models[name].values for name in there])
        return Probabilities(clips.ids, mean_rows(rows, np.array(list(there.values()))))

    def save(self, folder: Path) -> None:
        """Write the weights."""
        write_json(folder / MODEL_FILE, {"weights": dict(self.weights)})


def load_weighted_mean(folder: Path) -> WeightedMean:
    """Read what `WeightedMean.save` wrote."""
    return WeightedMean(read_json(folder / MODEL_FILE)["weights"])


def weights_of_those_there(weights: Mapping[str, float], base_models: Mapping[str, object]) -> dict[str, float]:
    """Return the weights of the base models that are there, which sum to 1 as those of all.

    Raises:
        DataError: none of those with a weight is there.
    """
    there = {name: weight for name, weight in weights.items() if name in base_models}
    total = sum(there.values())
    if not total:
        raise DataError(f"no base model with a weight is there (expected: {', '.join(weights)})")
    return there if len(there) == len(weights) else {name: weight / total for name, weight in there.items()}


def require_all(names: Iterable[str], base_models: Mapping[str, object], fusion: str) -> None:
    """Raise `DataError` where a base model is missing, for a fusion that has no rule for that."""
    missing = [name for name in names if name not in base_models]
    if missing:
        raise DataError(
            f"{fusion} needs all of its base models, and {first_and_count(missing, 'base model')} is missing: "
            "take the answer of another base model, or fuse with a mean (logit-mean, weighted-logit-mean, late)"
        )


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


class Mean(Fusion):
    """The mean of the base models' probabilities, each with the same weight."""

    name = "mean"
    summary = "mean of base models' probabilities, equal weights"

    def card(self, options: NoOptions) -> Card:
        """Return the card of a fusion."""
        return fusion_card()

    def fit(
        self, fold: Fold, base_models: Mapping[str, Probabilities], options: NoOptions, context: Context
    ) -> WeightedMean:
        """Learn nothing."""
        return WeightedMean({name: 1 / len(base_models) for name in sorted(base_models)})

    def load(self, folder: Path, options: NoOptions, context: Context) -> WeightedMean:
        """Read the weights."""
        return load_weighted_mean(folder)


class SeedAverage(Mean):
    """The mean of one encoder's probabilities over base seeds: what differs between them by chance cancels out."""

    name = "seed-average"
    summary = "mean of one encoder's probabilities over base seeds (wavlm@seed0, wavlm@seed1, ...)"

    def fit(
        self, fold: Fold, base_models: Mapping[str, Probabilities], options: NoOptions, context: Context
    ) -> WeightedMean:
        """Learn nothing.

        Raises:
            ConfigError: base models that are not variants of one encoder.
        """
        encoders = sorted({"+".join(part.partition("@")[0] for part in name.split("+")) for name in base_models})
        if len(encoders) > 1:
            raise ConfigError(
                f"{self.name}: expected variants of one encoder, such as {encoders[0]}@seed0,{encoders[0]}@seed1, "
                f"found {len(encoders)} encoders ({', '.join(encoders)}); `mean` averages different ones"
            )
        return super().fit(fold, base_models, options, context)


@dataclass(frozen=True)
class LogitMeanOptions:
    """How logarithms are taken.

    Attributes:
        epsilon: probabilities below it count as this much.
    """

    epsilon: float = searched(EPSILON, 1e-6, 1e-2, log=True)

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)


@dataclass(frozen=True)
class LogitMeanModel:
    """The base models that were there, and epsilon."""

    names: tuple[str, ...]
    epsilon: float

    def predict(self, clips: Clips, base_models: Mapping[str, Probabilities], context: Context) -> Probabilities:
        """Return the normalised geometric mean of the base models' rows; where one is missing, of the others.

        Raises:
            DataError: none is there.
        """
        there = [name for name in self.names if name in base_models]
        if not there:
            raise DataError(f"no base model is there (expected: {', '.join(self.names)})")
        return Probabilities(clips.ids, softmax(mean_logs(log_rows(there, base_models, self.epsilon))))

    def save(self, folder: Path) -> None:
        """Write the names and epsilon."""
        write_json(folder / MODEL_FILE, {"names": self.names, "epsilon": self.epsilon})


class LogitMean(Fusion):
    """The mean of the base models' log-probabilities, each with the same weight, made to sum to 1 by a softmax."""

    name = "logit-mean"
    summary = "mean of base models' log-probabilities, equal weights, renormalised"
    Options = LogitMeanOptions

    def card(self, options: LogitMeanOptions) -> Card:
        """Return the card of a fusion."""
        return fusion_card()

    def fit(
        self, fold: Fold, base_models: Mapping[str, Probabilities], options: LogitMeanOptions, context: Context
    ) -> LogitMeanModel:
        """Learn nothing."""
        return LogitMeanModel(tuple(sorted(base_models)), options.epsilon)

    def load(self, folder: Path, options: LogitMeanOptions, context: Context) -> LogitMeanModel:
        """Read the names and epsilon."""
        facts = read_json(folder / MODEL_FILE)
        return LogitMeanModel(tuple(facts["names"]), facts["epsilon"])


def check_epsilon(epsilon: float) -> None:
    """Refuse an epsilon that is no small probability (`InvalidOption`)."""
    if not 0 < epsilon <= 0.1:
        raise InvalidOption(f"epsilon: expected a probability above 0 and up to 0.1, found {epsilon}")


def log_rows(names: Iterable[str], base_models: Mapping[str, Probabilities], epsilon: float) -> FloatArray:
    """Return the base models' log-probabilities, float64 (M, N, 6), of rows raised to `epsilon` and normalised
    again.
    """
    rows = np.maximum(np.stack([base_models[name].values for name in names]), epsilon)
    logs: FloatArray = np.log(rows / rows.sum(axis=2, keepdims=True))
    return logs


def mean_logs(logs: FloatArray) -> FloatArray:
    """Return the mean, float64 (N, 6), of base models' log-probabilities (M, N, 6), added up base model by base
    model.
    """
    total = logs[0].copy()
    for base_model in logs[1:]:
        total += base_model
    mean: FloatArray = total / len(logs)
    return mean


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Return the plain means."""
    return [Mean(), SeedAverage(), LogitMean()]
