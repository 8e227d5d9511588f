"""A plugin whose score depends on its options: it knows a label from the clip, as far as its options let it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import InvalidOption
from blemore_harness.hookspecs import Encoder, hookimpl
from blemore_harness.options import searched
from blemore_harness.predictions import Probabilities
from builders import label_of, rows_of

ACTORS, FOLDS = 9, 3


@dataclass(frozen=True)
class TunableOptions:
    """What decides on the score.

    Attributes:
        skill: best at 0.7.
        mode: whether it works.
        size: of nothing.
    """

    skill: float = searched(0.1, 0.0, 1.0)
    mode: Literal["good", "bad", "refused"] = "good"
    size: int = 8

    def __post_init__(self) -> None:
        if self.mode == "refused":
            raise InvalidOption("mode: refused")


@dataclass(frozen=True)
class TunableModel:
    """Mixes noise with the label."""

    share: float

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        """Return a row per clip."""
        rows = rows_of(ACTORS, FOLDS)
        values = []
        for clip in clips:
            assert clip.video is not None
            number = int(clip.video.read_text().rpartition(" ")[2])
            noise = np.random.default_rng(number).dirichlet(np.ones(6))
            known = np.array(label_of(rows[number])) / 100 if number < len(rows) else noise
            values.append(self.share * known + (1 - self.share) * noise)
        return Probabilities(clips.ids, np.array(values))


class Tunable(Encoder):
    """Knows of a label as much as its skill is near to 0.7."""

    name = "tunable"
    summary = "has a best option"
    modality = "audio"
    Options = TunableOptions

    def __init__(self) -> None:
        self.fitted: list[tuple[int | None, float]] = []
        self.stop_at = -1

    def fit(self, fold: Fold, options: Any, context: Context) -> TunableModel:
        """Learn nothing."""
        if len(self.fitted) == self.stop_at:
            self.stop_at = -1
            raise KeyboardInterrupt
        self.fitted.append((fold.index, options.skill))
        if options.mode == "bad":
            raise RuntimeError("out of luck")
        return TunableModel(1 - min(abs(options.skill - 0.7), 1))


@hookimpl
def blemore_encoders() -> Iterable[Encoder]:
    """Return the encoder."""
    return [Tunable()]
