"""A fusion that takes the median of its members' rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.hookspecs import Fusion, NoOptions
from blemore_harness.predictions import Probabilities


class MedianModel:
    """There is nothing to learn."""

    def predict(self, clips: Clips, members: Mapping[str, Probabilities], context: Context) -> Probabilities:
        """Give the median of the members by clip and emotion, summing to one."""
        middle = np.median([members[name].values for name in sorted(members)], axis=0) + 1e-9
        return Probabilities(clips.ids, middle / middle.sum(axis=1, keepdims=True))


class Median(Fusion):
    """The median of the members' probabilities."""

    name = "median"
    summary = "median of members' probabilities (an example)"

    def fit(
        self, fold: Fold, members: Mapping[str, Probabilities], options: NoOptions, context: Context
    ) -> MedianModel:
        """Learn nothing."""
        return MedianModel()
