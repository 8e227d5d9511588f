"""Plain references for fusions: the equal mean of members' probabilities, and that of their logarithms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import InvalidOption
from blemore_harness.hookspecs import Fusion, NoOptions, hookimpl
from blemore_harness.predictions import FloatArray, Probabilities, softmax
from blemore_plugins.late.mean import WeightedMean

EPSILON = 1e-5
"""Probabilities below it count as this much: a member that is certain would otherwise outvote all others together."""


class Mean(Fusion):
    """The mean of the members' probabilities, each with the same weight."""

    name = "mean"
    summary = "mean of members' probabilities, equal weights"

    def fit(
        self, fold: Fold, members: Mapping[str, Probabilities], options: NoOptions, context: Context
    ) -> WeightedMean:
        """Learn nothing."""
        return WeightedMean({name: 1 / len(members) for name in sorted(members)})


@dataclass(frozen=True)
class LogitMeanOptions:
    """How logarithms are taken.

    Attributes:
        epsilon: probabilities below it count as this much.
    """

    epsilon: float = EPSILON

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)


@dataclass(frozen=True)
class LogitMeanModel:
    """The members that were there, and epsilon."""

    names: tuple[str, ...]
    epsilon: float

    def predict(self, clips: Clips, members: Mapping[str, Probabilities], context: Context) -> Probabilities:
        """Give the normalised geometric mean of the members' rows."""
        return Probabilities(clips.ids, softmax(mean_logs(log_rows(self.names, members, self.epsilon))))


class LogitMean(Fusion):
    """The mean of the members' log-probabilities, each with the same weight, made to sum to 1 by a softmax."""

    name = "logit-mean"
    summary = "mean of members' log-probabilities, equal weights, renormalised"
    Options = LogitMeanOptions

    def fit(
        self, fold: Fold, members: Mapping[str, Probabilities], options: LogitMeanOptions, context: Context
    ) -> LogitMeanModel:
        """Learn nothing."""
        return LogitMeanModel(tuple(sorted(members)), options.epsilon)


def check_epsilon(epsilon: float) -> None:
    """Refuse an epsilon that is no small probability (`InvalidOption`)."""
    if not 0 < epsilon <= 0.1:
        raise InvalidOption(f"epsilon: expected a probability above 0 and up to 0.1, found {epsilon}")


def log_rows(names: Iterable[str], members: Mapping[str, Probabilities], epsilon: float) -> FloatArray:
    """Give the members' log-probabilities, float64 (M, N, 6), of rows raised to `epsilon` and normalised again."""
    rows = np.maximum(np.stack([members[name].values for name in names]), epsilon)
    logs: FloatArray = np.log(rows / rows.sum(axis=2, keepdims=True))
    return logs


def mean_logs(logs: FloatArray) -> FloatArray:
    """Give the mean, float64 (N, 6), of members' log-probabilities (M, N, 6), added up member by member."""
    total = logs[0].copy()
    for member in logs[1:]:
        total += member
    mean: FloatArray = total / len(logs)
    return mean


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Offer the plain means."""
    return [Mean(), LogitMean()]
