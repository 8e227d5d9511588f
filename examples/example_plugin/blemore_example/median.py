"""A fusion that takes the median of its base models' rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.disk import read_json, write_json
from blemore_harness.hookspecs import Card, Fusion, NoOptions
from blemore_harness.predictions import Probabilities


@dataclass(frozen=True)
class MedianModel:
    """There is nothing to learn but which base models there are."""

    names: tuple[str, ...]

    def predict(self, clips: Clips, base_models: Mapping[str, Probabilities], context: Context) -> Probabilities:
        """Return the median of the base models that are there, by clip and emotion, summing to one."""
        middle = np.median([base_models[name].values for name in self.names if name in base_models], axis=0) + 1e-9
        return Probabilities(clips.ids, middle / middle.sum(axis=1, keepdims=True))

    def save(self, folder: Path) -> None:
        """Write the names, so that it can answer for new clips."""
        write_json(folder / "median.json", {"names": self.names})


class Median(Fusion):
    """The median of the base models' probabilities."""

    name = "median"
    summary = "median of base models' probabilities (an example)"

    def card(self, options: NoOptions) -> Card:
        """Return the card of a system without weights."""
        return Card("Apache-2.0", "none", "none", "no", parameters=0, paid=False)

    def fit(
        self, fold: Fold, base_models: Mapping[str, Probabilities], options: NoOptions, context: Context
    ) -> MedianModel:
        """Learn nothing."""
        return MedianModel(tuple(sorted(base_models)))

    def load(self, folder: Path, options: NoOptions, context: Context) -> MedianModel:
        """Read the names."""
        return MedianModel(tuple(read_json(folder / "median.json")["names"]))
