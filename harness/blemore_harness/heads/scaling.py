"""Standardises embeddings by the mean and the standard deviation of the training part, as the organisers' trainer
does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_harness.heads.identity import ActorDirections

Vectors: TypeAlias = NDArray[np.float32]

BLOCK = 512
"""Rows that are widened to float64 at a time: many rows must not need a second copy of themselves."""


@dataclass(frozen=True)
class Scaler:
    """What standardisation subtracts and divides by.

    Attributes:
        mean, scale: float64 (D,); the scale of a dimension that does not vary is 1.
        identity: directions of standardised embeddings that are shrunk, or None.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    identity: ActorDirections | None = None

    def apply(self, vectors: Vectors) -> Vectors:
        """Return standardised embeddings, float32 (N, D)."""
        return self.apply_in_place(vectors.copy())

    def apply_in_place(self, vectors: Vectors) -> Vectors:
        """Standardise embeddings (N, D) where they lie; each step is computed in float64 and rounded once."""
        for block in _blocks(vectors):
            # In float32 a dimension that varies little around a large mean would lose what it says.
            np.subtract(block, self.mean, out=block, casting="same_kind")
            np.divide(block, self.scale, out=block, casting="same_kind")
        return self.shrink_identity(vectors)

    def shrink_identity(self, vectors: Vectors) -> Vectors:
        """Shrink directions of standardised embeddings (N, D) where they lie."""
        if self.identity is not None:
            for block in _blocks(vectors):
                block[:] = self.identity.apply(block)
        return vectors

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return all that it consists of, by name; see `make_scaler`."""
        found = {"mean": self.mean, "scale": self.scale}
        if self.identity is not None:
            found |= {f"identity.{name}": value for name, value in vars(self.identity).items()}
        return {name: np.ascontiguousarray(value) for name, value in found.items()}


def make_scaler(arrays: Mapping[str, Any]) -> Scaler:
    """Return the scaler whose `arrays` these are."""
    directions = {name.partition(".")[2]: value for name, value in arrays.items() if name.startswith("identity.")}
    return Scaler(arrays["mean"], arrays["scale"], ActorDirections(**directions) if directions else None)


def fit_scaler(vectors: Vectors) -> Scaler:
    """Measure the mean and the standard deviation (ddof 0) of each dimension, in float64.

    Args:
        embeddings: float32 (N, D), N at least 1.
    """
    mean = np.sum([block.sum(axis=0, dtype=np.float64) for block in _blocks(vectors)], axis=0) / len(vectors)
    squares = np.sum([np.square(block - mean).sum(axis=0) for block in _blocks(vectors)], axis=0)
    variance = squares / len(vectors)
    return Scaler(mean, np.where(variance > _rounding(mean, variance, len(vectors)), np.sqrt(variance), 1.0))


def _rounding(mean: NDArray[np.float64], variance: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the variance that rounding alone can leave over `count` equal values: the bound of sklearn's scaler.

    Below it a dimension does not vary, and must not be blown up.
    """
    unit = np.finfo(np.float64).eps * count
    return np.asarray(unit * variance + np.square(unit * mean))


def _blocks(vectors: Vectors) -> Iterator[Vectors]:
    for start in range(0, len(vectors), BLOCK):
        yield vectors[start : start + BLOCK]
