"""Base models' embeddings as the network takes them: side by side and standardised by the training part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from blemore_harness.errors import DataError, first_and_count
from blemore_harness.heads.scaling import Scaler, fit_scaler
from blemore_harness.predictions import Embeddings

BaseModels: TypeAlias = Mapping[str, Embeddings]

LIMIT = 20.0
"""Standard deviations from the mean that a number counts as at most; ours. A dimension that hardly varies in training
can be thousands away in another clip, and would then be all that the network sees of it."""


@dataclass(frozen=True)
class Inputs:
    """Which base models there are and how their embeddings are standardised.

    Attributes:
        names: the base models, sorted: the order in which they were named changes nothing.
        scalers: one for each.
    """

    names: tuple[str, ...]
    scalers: tuple[Scaler, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of the base models' embeddings."""
        return tuple(len(scaler.mean) for scaler in self.scalers)

    def join(self, base_models: BaseModels, ids: Sequence[str]) -> Tensor:
        """Return the standardised embeddings of clips side by side, float32 (N, sum of sizes), on the CPU.

        Raises:
            DataError: a base model that is lacking, has embeddings of another length, or has none for a clip.
        """
        joined = np.empty((len(ids), sum(self.sizes)), dtype=np.float32)
        start = 0
        for name, scaler in zip(self.names, self.scalers, strict=True):
            values = _embeddings_of(name, base_models, ids).values
            size = len(scaler.mean)
            if values.shape[1] != size:
                raise DataError(
                    f"expected embeddings of {size} numbers of '{name}', as in training, found {values.shape[1]}"
                )
            with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and held to the limit
                np.clip(scaler.apply(values), -LIMIT, LIMIT, out=joined[:, start : start + size])
            start += size
        return torch.from_numpy(joined)


def fit_inputs(base_models: BaseModels, ids: Sequence[str]) -> Inputs:
    """Measure the embeddings of the clips that are trained on, and no others.

    Raises:
        DataError: an empty vector, or a clip without one.
    """
    names = tuple(sorted(base_models))
    scalers = tuple(fit_scaler(_embeddings_of(name, base_models, ids).values) for name in names)
    empty = [name for name, scaler in zip(names, scalers, strict=True) if not len(scaler.mean)]
    if empty:
        raise DataError(f"expected embeddings of at least one number, found empty ones of '{empty[0]}'")
    return Inputs(names, scalers)


def require_vectors(base_models: BaseModels, ids: Sequence[str]) -> None:
    """Check that there is something to fuse.

    Raises:
        DataError: no base model, no clips, or a clip without a vector.
    """
    if not base_models or not ids:
        raise DataError(
            f"expected base models with embeddings of clips, found {len(base_models)} base models and {len(ids)} clips"
        )
    for name in sorted(base_models):
        _require(name, base_models, ids)


def _embeddings_of(name: str, base_models: BaseModels, ids: Sequence[str]) -> Embeddings:
    _require(name, base_models, ids)
    return base_models[name].pick(ids)


def _require(name: str, base_models: BaseModels, ids: Sequence[str]) -> None:
    if name not in base_models:
        raise DataError(
            f"expected the base models of the training, found none called '{name}' ({', '.join(base_models)})"
        )
    known = set(base_models[name].ids)
    missing = [clip for clip in ids if clip not in known]
    if missing:
        raise DataError(f"'{name}' gives no vector for {first_and_count(missing, 'clip')}: expected one for each")
