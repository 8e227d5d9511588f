"""What systems return: class probabilities or an embedding per clip, validated on construction and read-only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemore_harness.clips import EMOTIONS
from blemore_harness.errors import InvalidEmbeddings, InvalidProbabilities, first_and_count

Scalar = TypeVar("Scalar", bound=np.generic)
FloatArray: TypeAlias = NDArray[np.float64]

SUM_TOLERANCE = 1e-6
"""How far the probabilities of a clip may deviate from a sum of 1 and from [0, 1]: weighted sums are rounded."""


@dataclass(frozen=True)
class Probabilities:
    """Six emotion probabilities per clip; clips may be in any order.

    Args:
        ids: clip ids, unique.
        values: float64 (N, 6) in the order of `EMOTIONS`: finite, in [0, 1], rows summing to 1, both within 1e-6.
            Values outside [0, 1] by at most 1e-6 are set to 0 or 1; all others are kept bit for bit.

    Raises:
        InvalidProbabilities: naming the first offending clip and how many there are.
    """

    ids: tuple[str, ...]
    values: FloatArray

    def __post_init__(self) -> None:
        ids = tuple(self.ids)
        try:
            values = _readonly(self.values, np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidProbabilities(
                f"expected probabilities as an array of numbers (N, {len(EMOTIONS)}), found values that are not numbers"
            ) from error
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "values", values)
        if values.shape != (len(ids), len(EMOTIONS)):
            raise InvalidProbabilities(
                f"expected an array of shape ({len(ids)}, {len(EMOTIONS)}), one row per clip in the order "
                f"{' '.join(EMOTIONS)}; found {values.shape}"
            )
        if len(set(ids)) != len(ids):
            duplicates = sorted(name for name, count in Counter(ids).items() if count > 1)
            raise InvalidProbabilities(f"expected every clip once: {first_and_count(duplicates, 'duplicated clip')}")
        self._refuse(~np.isfinite(values).all(axis=1), "NaN or infinite values", "check the model's training")
        logits = "these look like logits: apply softmax first"
        self._refuse((values < -SUM_TOLERANCE).any(axis=1), "negative values", logits)
        self._refuse((values > 1 + SUM_TOLERANCE).any(axis=1), "values above 1", logits)
        if ((values < 0) | (values > 1)).any():
            values = _readonly(values.clip(0, 1), np.float64)
            object.__setattr__(self, "values", values)
        sums = values.sum(axis=1)
        off = np.abs(sums - 1) > SUM_TOLERANCE
        seen = f"probabilities that sum to {sums[np.flatnonzero(off)[0]]:.6g}" if off.any() else ""
        self._refuse(off, seen, f"the probabilities of a clip must sum to 1 within {SUM_TOLERANCE:g}: normalise them")

    def _refuse(self, bad: ArrayLike, found: str, advice: str) -> None:
        if np.any(bad):
            names = [self.ids[i] for i in np.flatnonzero(bad)]
            raise InvalidProbabilities(f"{found} in {first_and_count(names, 'clip')}; {advice}")

    def aligned(self, ids: Sequence[str]) -> Probabilities:
        """Return the probabilities in the order of `ids`.

        Raises:
            InvalidProbabilities: unless the clips are exactly those of `ids`, each once.
        """
        index = {name: i for i, name in enumerate(self.ids)}
        missing = [name for name in ids if name not in index]
        unknown = sorted(set(self.ids) - set(ids))
        if missing or unknown:
            first = (missing or unknown)[0]
            raise InvalidProbabilities(
                f"{len(missing)} of {len(ids)} clips missing, {len(unknown)} unknown (first: '{first}'); "
                "expected exactly one row per clip"
            )
        return self.pick(ids)

    def pick(self, ids: Sequence[str]) -> Probabilities:
        """Return the probabilities of some clips, in the order of `ids`; `KeyError` for an unknown clip."""
        return Probabilities(tuple(ids), self.values[_positions(self.ids, ids)])


@dataclass(frozen=True)
class Embeddings:
    """An embedding per clip, computed without labels.

    Args:
        ids: clip ids, unique.
        values: float32 (N, D), finite.

    Raises:
        InvalidEmbeddings: any other array; names the first offending clip where there is one.
    """

    ids: tuple[str, ...]
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        try:
            with np.errstate(over="ignore"):  # numbers beyond the range of float32 become infinite: an error below
                values = _readonly(self.values, np.float32)
        except (TypeError, ValueError) as error:
            raise InvalidEmbeddings(
                "expected embeddings as an array of numbers (N, D), found values that are not numbers"
            ) from error
        object.__setattr__(self, "ids", tuple(self.ids))
        object.__setattr__(self, "values", values)
        if values.ndim != 2 or len(values) != len(self.ids) or len(set(self.ids)) != len(self.ids):
            raise InvalidEmbeddings(
                f"expected one embedding per clip ({len(self.ids)} unique ids), found shape {values.shape}"
            )
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if bad.size:
            raise InvalidEmbeddings(
                f"NaN or infinite embedding in {first_and_count([self.ids[i] for i in bad], 'clip')}"
            )

    def pick(self, ids: Sequence[str]) -> Embeddings:
        """Return the embeddings of some clips, in the order of `ids`; `KeyError` for an unknown clip."""
        return Embeddings(tuple(ids), self.values[_positions(self.ids, ids)])


def embeddings_of(given: object, ids: Sequence[str]) -> Embeddings:
    """Check what `embed` returned, and return it in the order of `ids`.

    Raises:
        InvalidEmbeddings: not an `Embeddings`, or clips are missing.
    """
    if not isinstance(given, Embeddings):
        raise InvalidEmbeddings(f"expected `embed` to return Embeddings(ids, values), found {type(given).__name__}")
    there = set(given.ids)
    missing = [name for name in ids if name not in there]
    if missing:
        found = first_and_count(missing, "clip")
        raise InvalidEmbeddings(f"`embed` returned no embedding for {found}: expected one per clip under the clip's id")
    return given.pick(ids)


def _positions(there: Sequence[str], wanted: Sequence[str]) -> list[int]:
    index = {name: i for i, name in enumerate(there)}
    return [index[name] for name in wanted]


def _readonly(values: ArrayLike, dtype: type[Scalar]) -> NDArray[Scalar]:
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax of logits (N, K): probabilities that sum to 1 per row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
