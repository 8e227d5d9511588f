"""What users can set of the rank-aware fusion, each value checked; no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from blemore_harness.errors import InvalidOption

LANES = 16
"""What latent widths are multiples of: for other widths matrix products on a CPU depend, in the last bits, on where in
a block a row stands, and so a clip's row would depend on its company."""


@dataclass(frozen=True)
class RankAwareOptions:
    """How the fusion is built and trained. The paper's constants are not public: all defaults are ours.

    Attributes:
        width: length of the latent vector that each base model's vector is projected to, a multiple of 16 (`LANES`).
        top_n: base models that are kept for a clip; all where there are fewer.
        dropout: share of latent values dropped in training, of each base model and after fusing.
        presence_loss: weight of the presence head's binary cross-entropy, beside 1 for the KL of the reconciled row.
        salience_loss: weight of the salience head's KL, likewise.
        rank_loss: weight of the pairwise ranking loss on the salience head, likewise.
        learning_rate, weight_decay: of AdamW.
        gate_rate: how many times faster the gate learns than the rest. It has to tell base models apart before their
            projections have trained the training clips by heart, when all base models look equally good.
        epochs: at most so many passes over the training clips.
        patience: stop after so many epochs without a better one.
        batch_size: clips per step, and unlabelled clips per step where these are adapted to.
        adapt: what is held alike between training clips and unlabelled held-out clips: `coral` the covariances of
            their latent embeddings, `mmd` their distributions; both are transductive. `none` never looks at held-out
            clips.
        adapt_weight: weight of that loss; without effect where `adapt` is `none`.
    """

    width: int = 128
    top_n: int = 3
    dropout: float = 0.3
    presence_loss: float = 1.0
    salience_loss: float = 1.0
    rank_loss: float = 0.1
    learning_rate: float = 5e-4
    weight_decay: float = 1e-2
    gate_rate: float = 10.0
    epochs: int = 100
    patience: int = 20
    batch_size: int = 64
    adapt: Literal["none", "coral", "mmd"] = "none"
    adapt_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.adapt not in ("none", "coral", "mmd"):
            raise InvalidOption(f"adapt: expected one of none, coral, mmd, found '{self.adapt}'")
        for name in ("width", "top_n", "epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise InvalidOption(f"{name}: expected at least 1, found {getattr(self, name)}")
        if self.width % LANES:
            raise InvalidOption(f"width: expected a multiple of {LANES}, found {self.width}")
        if not 0 <= self.dropout < 1:
            raise InvalidOption(f"dropout: expected from 0 to below 1, found {self.dropout}")
        for name in ("presence_loss", "salience_loss", "rank_loss", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidOption(f"{name}: expected a number of at least 0, found {getattr(self, name)}")
        for name in ("learning_rate", "gate_rate", "adapt_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidOption(f"{name}: expected a number above 0, found {getattr(self, name)}")
        if self.adapts and self.batch_size < 2:
            raise InvalidOption("batch_size: adapting compares at least 2 clips of each kind per step, found 1")

    @property
    def adapts(self) -> bool:
        """Whether unlabelled held-out clips are trained on."""
        return self.adapt != "none"
