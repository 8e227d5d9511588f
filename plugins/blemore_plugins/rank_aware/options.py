"""Options of the rank-aware fusion; does not import torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from blemore_harness.errors import InvalidOption
from blemore_harness.options import searched

LANES = 16
"""Latent widths are multiples of this: otherwise the last bits of matrix products on a CPU depend on the position
of a row in its block, and so a clip's probabilities would depend on the other clips of its batch."""


@dataclass(frozen=True)
class RankAwareOptions:
    """Architecture and training of the fusion. The paper's constants are not public; all defaults are chosen here.

    Attributes:
        width: length of the latent embedding of each base model, a multiple of 16 (`LANES`).
        top_n: number of base models selected for a clip; all if there are fewer.
        dropout: dropout rate of latent values, of each base model and after fusion.
        modality_dropout: probability with which a whole base model is left out for a clip of a training batch; at least
            one stays. The default is measured on the demo.
        presence_loss: weight of the presence head's binary cross-entropy, relative to the KL of the probabilities.
        salience_loss: weight of the salience head's KL, relative to the same.
        rank_loss: weight of the pairwise ranking loss on the salience head, relative to the same.
        learning_rate, weight_decay: of AdamW.
        gate_rate: factor of the gate's learning rate. The gate must learn to distinguish base models before their
            projections overfit the training clips, when all base models seem equally good.
        epochs: maximum number of epochs.
        patience: number of epochs without improvement after which training stops.
        batch_size: clips per step, and unlabelled clips per step with domain adaptation.
        adapt: domain adaptation between training clips and unlabelled held-out clips: `coral` aligns the covariances
            of their latent embeddings, `mmd` their distributions; both are transductive. `none` does not use held-out
            clips.
        adapt_weight: weight of that loss; without effect where `adapt` is `none`.
    """

    width: int = 128
    top_n: int = 3
    dropout: float = searched(0.3, 0.0, 0.6)
    modality_dropout: float = searched(0.2, 0.0, 0.5)
    presence_loss: float = 1.0
    salience_loss: float = 1.0
    rank_loss: float = 0.1
    learning_rate: float = searched(5e-4, 1e-5, 1e-2, log=True)
    weight_decay: float = searched(1e-2, 1e-5, 1e-1, log=True)
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
        for name in ("dropout", "modality_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InvalidOption(f"{name}: expected from 0 to below 1, found {getattr(self, name)}")
        for name in ("presence_loss", "salience_loss", "rank_loss", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidOption(f"{name}: expected a number of at least 0, found {getattr(self, name)}")
        for name in ("learning_rate", "gate_rate", "adapt_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidOption(f"{name}: expected a number above 0, found {getattr(self, name)}")
        if self.adapts and self.batch_size < 2:
            raise InvalidOption("batch_size: domain adaptation requires at least 2 clips per step, found 1")

    @property
    def adapts(self) -> bool:
        """Whether unlabelled held-out clips are used in training."""
        return self.adapt != "none"
