"""Late fusion: a weighted mean of the base models' probabilities, weights on the simplex chosen to maximise Score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from blemore_harness.clips import Fold
from blemore_harness.context import Context
from blemore_harness.hookspecs import Card, Fusion, FusionModel, hookimpl
from blemore_harness.predictions import Probabilities
from blemore_plugins.cards import fusion_card
from blemore_plugins.late.options import LateOptions, share_out
from blemore_plugins.late.search import choose_weights
from blemore_plugins.late.space import join_folds, whole
from blemore_plugins.means import WeightedMean, load_weighted_mean


class LateFusion(Fusion):
    """A weighted mean of the base models' probabilities."""

    name = "late"
    summary = "weighted mean of base models' probabilities, weights chosen to maximise Score"
    Options = LateOptions

    def card(self, options: LateOptions) -> Card:
        """Return the card of a fusion."""
        return fusion_card("arXiv 2603.23650")

    def identify(self, options: LateOptions) -> Mapping[str, object]:
        """Let given weights count by what they are, not by the path of a file."""
        return {"weights": options.given()} if options.weights else {}

    def fit(
        self, fold: Fold, base_models: Mapping[str, Probabilities], options: LateOptions, context: Context
    ) -> WeightedMean:
        """Choose the weights on the base models' out-of-fold rows, with alpha and beta at their best for each point."""
        # Sorted: the order in which base models were named must not decide between equally good weights.
        names = sorted(base_models)
        if options.weights:
            return _told(share_out(options.given(), names, options.renormalise), base_models, context)
        rows = np.stack([base_models[name].values for name in names])
        (found,) = choose_weights(rows, fold.train.labels, whole(len(fold.train)), options, [context])
        return _told(dict(zip(names, found.tolist(), strict=True)), base_models, context)

    def load(self, folder: Path, options: LateOptions, context: Context) -> WeightedMean:
        """Read the weights."""
        return load_weighted_mean(folder)

    def fit_folds(
        self,
        folds: Sequence[Fold],
        base_models: Sequence[Mapping[str, Probabilities]],
        options: LateOptions,
        contexts: Sequence[Context],
    ) -> Iterable[FusionModel]:
        """Choose the weights of all folds in one pass over the points, each on its own training clips: those of `fit`.

        Fold by fold where weights are given, or where the folds' training clips are not the same clips and
        probabilities but for a part each.
        """
        joined = None if options.weights or len(folds) < 2 else join_folds(folds, base_models)
        if joined is None:
            return super().fit_folds(folds, base_models, options, contexts)
        found = choose_weights(joined.rows, joined.truth, joined.subsets, options, contexts)
        return [
            _told(dict(zip(joined.base_models, weights.tolist(), strict=True)), given, context)
            for weights, given, context in zip(found, base_models, contexts, strict=True)
        ]


def _told(found: dict[str, float], base_models: Iterable[str], context: Context) -> WeightedMean:
    context.note("weights", {name: round(found[name], 6) for name in base_models})
    return WeightedMean(found)


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Offer late fusion."""
    return [LateFusion()]
