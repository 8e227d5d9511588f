"""An encoder that knows how often each byte value occurs in a clip's file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Store
from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.disk import read_json, write_json
from blemore_harness.errors import InvalidOption
from blemore_harness.hookspecs import Card, Encoder
from blemore_harness.predictions import Embeddings, Probabilities

VERSION = 1
"""Raised whenever the embeddings change, so that old ones in the cache are not taken for new ones."""


@dataclass(frozen=True)
class FileBytesOptions:
    """How the regression is done.

    Attributes:
        strength: weight of the penalty on large coefficients.
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise InvalidOption(f"expected a strength above 0, found {self.strength}")


@dataclass(frozen=True)
class Ridge:
    """A linear map from embeddings to shares of emotions.

    Attributes:
        encoder: gives the embeddings.
        options: its options.
        centre: float64 (256,), mean of the training embeddings.
        weights: float64 (256, 6).
        prior: float64 (6,), mean shares of the training clips.
    """

    encoder: FileBytes
    options: FileBytesOptions
    centre: NDArray[np.float64]
    weights: NDArray[np.float64]
    prior: NDArray[np.float64]

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        """Return a row per clip: what the map says, kept above zero, summing to one."""
        vectors = self.encoder.embed(clips, self.options, context).values.astype(np.float64)
        shares = np.maximum((vectors - self.centre) @ self.weights + self.prior, 1e-6)
        return Probabilities(clips.ids, shares / shares.sum(axis=1, keepdims=True))

    def save(self, folder: Path) -> None:
        """Write the map, so that it can answer for new clips."""
        numbers = {"centre": self.centre, "weights": self.weights, "prior": self.prior}
        write_json(folder / "ridge.json", {name: values.tolist() for name, values in numbers.items()})


class FileBytes(Encoder):
    """How often each byte value occurs."""

    name = "file-bytes"
    summary = "how often each byte value occurs in the file (an example)"
    modality = "audiovisual"
    Options = FileBytesOptions

    def caveat(self, options: FileBytesOptions) -> str | None:
        """Report that nobody should take it seriously."""
        return "example encoder"

    def card(self, options: FileBytesOptions) -> Card:
        """Return the card of a system without weights."""
        return Card("Apache-2.0", "none", "none", "no", parameters=0, paid=False)

    def prepare(self, clips: Clips, options: FileBytesOptions, context: Context) -> None:
        """Count the bytes of every clip that is not in the cache yet."""
        store = _store(context)
        missing = store.missing(clips)
        with context.progress("counting bytes", len(missing)) as bar:
            for clip in missing:
                store.save(clip, _count(clip))
                bar.advance()

    def embed(self, clips: Clips, options: FileBytesOptions, context: Context) -> Embeddings:
        """Return the counts as shares, float32 (N, 256)."""
        store = _store(context)
        return Embeddings(clips.ids, _stacked([store.load(clip) for clip in clips]))

    def fit(self, fold: Fold, options: FileBytesOptions, context: Context) -> Ridge:
        """Solve the regression on the training clips."""
        vectors = self.embed(fold.train, options, context).values.astype(np.float64)
        targets = fold.train.targets.astype(np.float64)
        centre, prior = vectors.mean(axis=0), targets.mean(axis=0)
        centred = vectors - centre
        penalty = options.strength * np.eye(centred.shape[1])
        weights = np.linalg.solve(centred.T @ centred + penalty, centred.T @ (targets - prior))
        context.log(f"trained on {len(fold.train)} clips")
        context.note("coefficients", int(weights.size))
        return Ridge(self, options, centre, weights, prior)

    def load(self, folder: Path, options: FileBytesOptions, context: Context) -> Ridge:
        """Read the map."""
        numbers = {name: np.array(values) for name, values in read_json(folder / "ridge.json").items()}
        return Ridge(self, options, **numbers)


def _store(context: Context) -> Store:
    return context.cache.store("file-bytes", version=VERSION)


def _count(clip: Clip) -> NDArray[np.float32]:
    data = np.frombuffer(clip.video.read_bytes(), dtype=np.uint8)
    return (np.bincount(data, minlength=256) / max(len(data), 1)).astype(np.float32)


def _stacked(rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.stack(rows) if rows else np.zeros((0, 256), dtype=np.float32)
