"""Late fusion: a weighted mean of the members' probabilities, weights on the simplex chosen to maximise Score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from blemore_harness.context import Context
from blemore_harness.dataset import Fold
from blemore_harness.hookspecs import Fusion, hookimpl
from blemore_harness.rows import Probabilities
from blemore_plugins.late.mean import WeightedMean, mean_rows
from blemore_plugins.late.options import LateOptions, share_out
from blemore_plugins.late.search import WeightSearch, choose_grid, explain_grid, make_scorer

__all__ = ["LateFusion", "LateOptions", "WeightedMean", "blemore_fusions", "mean_rows"]


class LateFusion(Fusion):
    """A weighted mean of the members' probabilities."""

    name = "late"
    summary = "weighted mean of members' probabilities, weights chosen to maximise Score"
    Options = LateOptions

    def identify(self, options: LateOptions) -> Mapping[str, object]:
        """Let given weights count by what they are, not by the path of a file."""
        return {"weights": options.given()} if options.weights else {}

    def fit(
        self, fold: Fold, members: Mapping[str, Probabilities], options: LateOptions, context: Context
    ) -> WeightedMean:
        """Choose the weights on the members' out-of-fold rows, with alpha and beta at their best for each point."""
        # Sorted: the order in which members were named must not decide between equally good weights.
        names = sorted(members)
        if options.weights:
            found = share_out(options.given(), names, options.renormalise)
        else:
            found = self._search(names, fold, members, options, context)
        context.note("weights", {name: round(found[name], 6) for name in members})
        return WeightedMean(found)

    def _search(
        self,
        names: list[str],
        fold: Fold,
        members: Mapping[str, Probabilities],
        options: LateOptions,
        context: Context,
    ) -> dict[str, float]:
        grid = choose_grid(len(names), options)
        if reason := explain_grid(grid, options):
            context.warn(reason)
        rows = np.stack([members[name].values for name in names])
        scorer = make_scorer(rows, fold.train.labels, grid.size, options.backend, context)
        search = WeightSearch(scorer, len(names), options)
        weights = search.best(context)
        context.note("points tried", search.tried)
        context.note("grid step", round(1 / grid.parts, 6))
        return {name: float(weight) for name, weight in zip(names, weights, strict=True)}


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Offer late fusion."""
    return [LateFusion()]
