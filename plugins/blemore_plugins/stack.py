"""Stacking: a small regularised regression on base models' log-probabilities that starts from their mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.disk import read_json, write_json
from blemore_harness.hookspecs import Card, Fusion, hookimpl
from blemore_harness.predictions import FloatArray, Probabilities, softmax
from blemore_plugins.cards import fusion_card
from blemore_plugins.logistic import Problem, as_inputs, predict_logs
from blemore_plugins.means import MODEL_FILE, log_rows, mean_logs, require_all
from blemore_plugins.regularisation import LogisticOptions, fit_regularised, strength_folds


@dataclass(frozen=True)
class StackOptions(LogisticOptions):
    """How strongly the regression is regularised; see `LogisticOptions`."""


@dataclass(frozen=True)
class StackModel:
    """A correction of the logit mean.

    Attributes:
        names: the base models, in the order of the inputs.
        weights: float64 (6 M + 1, 6).
        epsilon: probabilities below it count as this much.
    """

    names: tuple[str, ...]
    weights: FloatArray
    epsilon: float

    def predict(self, clips: Clips, base_models: Mapping[str, Probabilities], context: Context) -> Probabilities:
        """Return the corrected logit mean of the base models' rows.

        Raises:
            DataError: a base model is missing.
        """
        require_all(self.names, base_models, "stack")
        logs = log_rows(self.names, base_models, self.epsilon)
        return Probabilities(clips.ids, softmax(predict_logs(as_inputs(logs), mean_logs(logs), self.weights)))

    def save(self, folder: Path) -> None:
        """Write names, weights and epsilon."""
        write_json(folder / MODEL_FILE, {**vars(self), "weights": self.weights.tolist()})


class Stack(Fusion):
    """Multinomial regression on all base models' log-probabilities, trained on soft labels, shrunk towards the logit
    mean.

    With infinite strength it is `logit-mean`; the strength is chosen on actors that were not trained on.
    """

    name = "stack"
    summary = "regularised regression on base models' log-probabilities, shrunk towards their mean"
    Options = StackOptions

    def card(self, options: StackOptions) -> Card:
        """Return the card of a fusion."""
        return fusion_card()

    def fit(
        self, fold: Fold, base_models: Mapping[str, Probabilities], options: StackOptions, context: Context
    ) -> StackModel:
        """Fit on the base models' out-of-fold rows."""
        # Sorted: the order in which base models were named must change nothing.
        names = tuple(sorted(base_models))
        logs = log_rows(names, base_models, options.epsilon)
        problem = Problem(as_inputs(logs), fold.train.labels.astype(np.float64) / 100, mean_logs(logs))
        held = strength_folds(fold.train, options, context)
        with context.progress("stack: strengths", len(options.strengths) + 1) as bar:
            fitted = fit_regularised(problem, held, options.strengths, bar.advance)
        for name, value in fitted.describe().items():
            context.note(name, value)
        return StackModel(names, fitted.weights, options.epsilon)

    def load(self, folder: Path, options: StackOptions, context: Context) -> StackModel:
        """Read names, weights and epsilon."""
        facts = read_json(folder / MODEL_FILE)
        return StackModel(tuple(facts["names"]), np.array(facts["weights"]), facts["epsilon"])


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Offer stacking."""
    return [Stack()]
