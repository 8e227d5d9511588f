"""Members' vectors as the network takes them: side by side and standardised by the training part."""

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

Members: TypeAlias = Mapping[str, Embeddings]

LIMIT = 20.0
"""Standard deviations from the mean that a number counts as at most; ours. A dimension that hardly varies in training
can be thousands away in another clip, and would then be all that the network sees of it."""


@dataclass(frozen=True)
class Inputs:
    """Which members there are and how their vectors are standardised.

    Attributes:
        names: the members, sorted: the order in which they were named changes nothing.
        scalers: one for each.
    """

    names: tuple[str, ...]
    scalers: tuple[Scaler, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of the members' vectors."""
        return tuple(len(scaler.mean) for scaler in self.scalers)

    def join(self, members: Members, ids: Sequence[str]) -> Tensor:
        """Give the standardised vectors of clips side by side, float32 (N, sum of sizes), on the CPU.

        Raises:
            DataError: a member that is lacking, has vectors of another length, or has none for a clip.
        """
        joined = np.empty((len(ids), sum(self.sizes)), dtype=np.float32)
        start = 0
        for name, scaler in zip(self.names, self.scalers, strict=True):
            values = _vectors_of(name, members, ids).values
            size = len(scaler.mean)
            if values.shape[1] != size:
                raise DataError(
                    f"expected vectors of {size} numbers of '{name}', as in training, found {values.shape[1]}"
                )
            with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and held to the limit
                np.clip(scaler.apply(values), -LIMIT, LIMIT, out=joined[:, start : start + size])
            start += size
        return torch.from_numpy(joined)


def fit_inputs(members: Members, ids: Sequence[str]) -> Inputs:
    """Measure the vectors of the clips that are learnt from, and no others.

    Raises:
        DataError: an empty vector, or a clip without one.
    """
    names = tuple(sorted(members))
    scalers = tuple(fit_scaler(_vectors_of(name, members, ids).values) for name in names)
    empty = [name for name, scaler in zip(names, scalers, strict=True) if not len(scaler.mean)]
    if empty:
        raise DataError(f"expected vectors of at least one number, found empty ones of '{empty[0]}'")
    return Inputs(names, scalers)


def require_vectors(members: Members, ids: Sequence[str]) -> None:
    """Check that there is something to fuse.

    Raises:
        DataError: no member, no clips, or a clip without a vector.
    """
    if not members or not ids:
        raise DataError(f"expected members with vectors of clips, found {len(members)} members and {len(ids)} clips")
    for name in sorted(members):
        _require(name, members, ids)


def _vectors_of(name: str, members: Members, ids: Sequence[str]) -> Embeddings:
    _require(name, members, ids)
    return members[name].pick(ids)


def _require(name: str, members: Members, ids: Sequence[str]) -> None:
    if name not in members:
        raise DataError(f"expected the members of the training, found none called '{name}' ({', '.join(members)})")
    known = set(members[name].ids)
    missing = [clip for clip in ids if clip not in known]
    if missing:
        raise DataError(f"'{name}' gives no vector for {first_and_count(missing, 'clip')}: expected one for each")
