"""Inputs of the network: base models' embeddings, concatenated and standardised by the training clips."""

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
"""Maximum absolute standardised value (chosen here). A dimension with little variation in training can be thousands of
standard deviations away in another clip, and would then dominate it."""


@dataclass(frozen=True)
class Inputs:
    """The base models and the standardisation of their embeddings.

    Attributes:
        names: the base models, sorted, so that the given order does not matter.
        scalers: one per base model.
    """

    names: tuple[str, ...]
    scalers: tuple[Scaler, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of the base models' embeddings."""
        return tuple(len(scaler.mean) for scaler in self.scalers)

    def join(self, base_models: BaseModels, ids: Sequence[str]) -> Tensor:
        """Return the concatenated standardised embeddings of clips, float32 (N, sum of sizes), on the CPU.

        The columns of a base model that is missing are 0.

        Raises:
            DataError: none of the base models, embeddings of another length, or a clip without an embedding.
        """
        if not set(self.names) & set(base_models):
            raise DataError(
                f"expected base models of the training ({', '.join(self.names)}), found none of them "
                f"({', '.join(base_models) or 'no base model'})"
            )
        joined = np.zeros((len(ids), sum(self.sizes)), dtype=np.float32)
        start = 0
        for name, scaler in zip(self.names, self.scalers, strict=True):
            size = len(scaler.mean)
            if name not in base_models:
                start += size
                continue
            values = _embeddings_of(name, base_models, ids).values
            if values.shape[1] != size:
                raise DataError(
                    f"expected embeddings of {size} values from '{name}' as in training, found {values.shape[1]}"
                )
            with np.errstate(over="ignore"):  # values out of range of float32 become infinite and are clipped
                np.clip(scaler.apply(values), -LIMIT, LIMIT, out=joined[:, start : start + size])
            start += size
        return torch.from_numpy(joined)


def fit_inputs(base_models: BaseModels, ids: Sequence[str]) -> Inputs:
    """Return the inputs, standardised by the training clips only.

    Raises:
        DataError: an empty embedding, or a clip without one.
    """
    names = tuple(sorted(base_models))
    scalers = tuple(fit_scaler(_embeddings_of(name, base_models, ids).values) for name in names)
    empty = [name for name, scaler in zip(names, scalers, strict=True) if not len(scaler.mean)]
    if empty:
        raise DataError(f"expected embeddings of at least one value, found empty embeddings of '{empty[0]}'")
    return Inputs(names, scalers)


def require_vectors(base_models: BaseModels, ids: Sequence[str]) -> None:
    """Check that there are base models with embeddings of all clips.

    Raises:
        DataError: no base model, no clips, or a clip without an embedding.
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
    known = set(base_models[name].ids)
    missing = [clip for clip in ids if clip not in known]
    if missing:
        raise DataError(
            f"expected an embedding of '{name}' for every clip, missing for {first_and_count(missing, 'clip')}"
        )
