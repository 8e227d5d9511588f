"""Checks of embeddings that a service answered with."""

from __future__ import annotations

from typing import Any

import numpy as np

from blemore_harness.predictions import FloatArray
from blemore_plugins.hosted.refusals import Refusal


def check_vectors(vectors: list[Any], size: int, option: str) -> FloatArray:
    """Return the one embedding of an answer, float64 (size,).

    Args:
        vectors: lists of numbers, of which there must be one.
        size: its length.
        option: that decides the size, for messages.

    Raises:
        Refusal: `retry` for values that are not finite numbers; `stop` for another number or size, which would not
            change.
    """
    if len(vectors) != 1:
        raise Refusal("stop", f"expected 1 embedding for 1 clip, found {len(vectors)}")
    try:
        vector = np.asarray(vectors[0] or [], dtype=np.float64)
    except (TypeError, ValueError):
        raise Refusal("retry", "expected numbers in the embedding, found other values") from None
    if vector.shape != (size,):
        raise Refusal("stop", f"expected an embedding of {size} values, found {vector.size}: check {option}")
    if not np.isfinite(vector).all():
        raise Refusal("retry", "NaN or infinite values in the embedding")
    return vector
