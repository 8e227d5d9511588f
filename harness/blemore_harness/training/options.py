"""What users can set of the training of a network, each value checked; no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from blemore_harness.options import demand, incidental, searched

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained on soft labels.

    Attributes:
        epochs: at most so many passes over the training part.
        patience: stop after so many epochs without a better choice; of no meaning with `selection=last`.
        batch_size: clips per step.
        learning_rate: AdamW's full rate.
        warmup: epochs over which all rates rise in a line; may be a fraction.
        schedule: what follows the warm-up: `constant`, or `cosine`, which falls to 0 at the end of `epochs`.
        ema: decay of a running average of the weights, which then is what is judged and kept; 0 for none, .999 for
            trainings of some thousand steps. Early on it is shorter: at most (1 + step) / (10 + step).
        weight_decay: AdamW's; none on biases and norms.
        clip: longest gradient (its norm over all weights); 0 for no limit.
        precision: `auto` is bfloat16 (torch's autocast) on a GPU that computes in it, and float32 elsewhere; weights,
            softmax and loss are float32 in any case.
        selection: how the epoch is chosen: `inner` on an actor-disjoint part of the training clips (honest);
            `held-out` on the very fold that is scored, as the papers do (on the final fit, where nothing can be asked,
            as `inner`); `last` takes the last one.
        refit: after an `inner` choice, train again on all training clips for the number of epochs that was best, with
            the same rates. It doubles the work, and is the default as in all heads: the actors of the inner part are a
            fifth of the training actors.
        save_every: epochs between checkpoints that an interrupted fit goes on from.
        workers: threads that read clips ahead of the network; 0 for one per core.
    """

    epochs: int = 30
    patience: int = 10
    batch_size: int = 16
    learning_rate: float = searched(1e-3, 1e-5, 1e-2, log=True)
    warmup: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    ema: float = 0.0
    weight_decay: float = searched(0.05, 1e-3, 0.2, log=True)
    clip: float = 1.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    selection: Literal["inner", "held-out", "last"] = "inner"
    refit: bool = True
    save_every: int = incidental(5)
    workers: int = incidental(0)

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size", "save_every"):
            demand(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        demand(0 < self.learning_rate < 1, "learning_rate", "between 0 and 1", self.learning_rate)
        demand(0 <= self.warmup < self.epochs, "warmup", f"from 0, below epochs ({self.epochs})", self.warmup)
        demand(0 <= self.ema < 1, "ema", "from 0 to below 1", self.ema)
        demand(0 <= self.weight_decay < math.inf, "weight_decay", "at least 0", self.weight_decay)
        demand(0 <= self.clip < math.inf, "clip", "at least 0", self.clip)
        demand(self.workers >= 0, "workers", "at least 0", self.workers)
