"""How heads are built and trained: the published recipes, and the options that choose and change them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from blemore_harness.errors import InvalidOption
from blemore_harness.options import searched

HEADS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        **{
            name: {
                "hidden": "1024-512", "batch_norm": True, "dropout": 0.3, "epochs": 500, "patience": 80,
                "optimiser": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-2, "batch_size": 64, "queries": queries,
            }
            for name, queries in (("mlp-1024-512", 0), ("attentive", 2))
        },
        **{
            name: {
                "hidden": hidden, "batch_norm": False, "dropout": 0.0, "epochs": epochs, "patience": None,
                "optimiser": "adam", "learning_rate": 5e-6, "weight_decay": 1e-3, "batch_size": batch_size,
                "queries": 0,
            }
            for name, hidden, epochs, batch_size in (
                ("mlp-512", "512", 200, 32), ("mlp-256", "256", 200, 32), ("linear", "", 200, 32),
                ("mlp-512-subsampled", "512", 300, 512), ("mlp-1024-subsampled", "1024", 300, 512),
            )
        },
    }
)  # fmt: skip
"""Settings by head. `mlp-1024-512` is the UZH paper's (arXiv 2603.23650; optimiser, rates and batch are not in it and
are ours), the others are the organisers' baselines (docs/reference/heads.md), which train for all epochs and keep the
best one (`selection=held-out`). `attentive` is the first with attention over frame-level features
(`attention.py`). Those called subsampled are theirs for rows that are single embeddings
(`subsampled.py`): their published rows have 512 hidden units, as their recorded folds show; 1024 is what a script of
theirs has."""

BY_HEAD: Any = None
"""Default of a field whose value stands in `HEADS` under the chosen head."""


@dataclass(frozen=True)
class HeadOptions:
    """How a head is built and trained.

    Fields from `hidden` to `batch_size`, and `queries`, that are not given take the values of `head` (see `HEADS`), so
    that an instance always holds what is really used. `dataclasses.replace` therefore changes the fields that it names
    and no others: for the settings of another head make a new instance.

    Attributes:
        head: a published recipe: `mlp-1024-512` (UZH), `mlp-512`, `mlp-256`, `linear`, `mlp-512-subsampled`,
            `mlp-1024-subsampled` (organisers); or `attentive`, ours, the UZH head that also attends to frame-level
            features.
        hidden: widths of the hidden layers, joined by dashes: `1024-512`, `512`; empty for a linear head.
        batch_norm: batch normalisation after each hidden layer.
        dropout: share of hidden units dropped in training.
        epochs: at most so many passes over the training part.
        patience: stop after so many epochs without a better choice; the organisers' heads have as much as epochs.
        optimiser: `adamw` decays weights apart from the gradient, `adam` through it (L2), as torch names them.
        learning_rate, weight_decay: of the optimiser.
        batch_size: clips per step; embeddings per step where each is a row.
        selection: how the epoch is chosen: `inner` on an actor-disjoint part of the training clips (honest);
            `held-out` on the very fold that is scored, as the papers do, through `context.score` (on the final fit,
            where nothing can be asked, as `inner`).
        refit: after an `inner` choice, train again on all training clips for the number of epochs that was best.
        normalise_actors: shrink the directions of embeddings in which the training actors differ (`identity.py`).
        queries: number of queries that attend to a clip's frame-level features; 0 uses the embedding alone. With
            `inner` selection, a fold whose actors of the inner part show no gain by attention above a standard error
            is trained without.
    """

    head: Literal[
        "mlp-1024-512", "mlp-512", "mlp-256", "linear", "mlp-512-subsampled", "mlp-1024-subsampled", "attentive"
    ] = "mlp-1024-512"
    hidden: str = searched(BY_HEAD, choices=("256", "512", "1024-512"))
    batch_norm: bool = BY_HEAD
    dropout: float = searched(BY_HEAD, 0.0, 0.6)
    epochs: int = BY_HEAD
    patience: int = BY_HEAD
    optimiser: Literal["adamw", "adam"] = BY_HEAD
    learning_rate: float = searched(BY_HEAD, 1e-5, 1e-2, log=True)
    weight_decay: float = searched(BY_HEAD, 1e-5, 1e-1, log=True)
    batch_size: int = searched(BY_HEAD, choices=("32", "64", "128"))
    selection: Literal["inner", "held-out"] = "inner"
    refit: bool = True
    normalise_actors: bool = searched(False, choices=("true", "false"))
    queries: int = BY_HEAD

    def __post_init__(self) -> None:
        self._require("head", HEADS)
        for name, value in HEADS[self.head].items():
            if getattr(self, name) is BY_HEAD:
                object.__setattr__(self, name, value)
        if self.patience is None:
            object.__setattr__(self, "patience", self.epochs)
        self._require("optimiser", ("adamw", "adam"))
        self._require("selection", ("inner", "held-out"))
        if any(width < 1 for width in self.widths):
            raise InvalidOption(f"hidden: expected widths of at least 1, found '{self.hidden}'")
        for name in ("epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise InvalidOption(f"{name}: expected at least 1, found {getattr(self, name)}")
        if self.queries < 0:
            raise InvalidOption(f"queries: expected at least 0, found {self.queries}")
        if self.batch_norm and self.widths and self.batch_size < 2:
            raise InvalidOption("batch_size: batch_norm needs at least 2 clips per step, found 1; set batch_norm=false")
        if not 0 <= self.dropout < 1:
            raise InvalidOption(f"dropout: expected from 0 to below 1, found {self.dropout}")
        if not 0 < self.learning_rate < np.inf:
            raise InvalidOption(f"learning_rate: expected a number above 0, found {self.learning_rate}")
        if not 0 <= self.weight_decay < np.inf:
            raise InvalidOption(f"weight_decay: expected a number of at least 0, found {self.weight_decay}")

    def _require(self, name: str, choices: Collection[str]) -> None:
        if getattr(self, name) not in choices:
            raise InvalidOption(f"{name}: expected one of {', '.join(choices)}, found '{getattr(self, name)}'")

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers as numbers."""
        try:
            return tuple(int(part) for part in self.hidden.split("-")) if self.hidden.strip() else ()
        except ValueError:
            raise InvalidOption(f"hidden: expected widths such as 1024-512, found '{self.hidden}'") from None
