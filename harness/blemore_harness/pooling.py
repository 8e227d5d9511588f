"""Pools frame-level features into one vector per clip: the seven statistics of the organisers' baselines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (10, 25, 50, 75, 90)
"""With mean and standard deviation the seven statistics of the organisers' aggregation, which the UZH paper uses."""

STATISTICS = 2 + len(PERCENTILES)
"""Numbers per dimension: 7 x 1024 = 7168 for a large model."""


def pool_statistics(frames: NDArray[np.float32], parts: int = 1) -> NDArray[np.float32]:
    """Return the statistics of a clip's frame-level features.

    Args:
        frames: float32 (T, D), T at least 1.
        parts: number of parts of equal length (to a frame) that the clip is cut into, at most T. The organisers use
            the whole clip (1).

    Returns:
        float32 (7 * D,), one statistic after the other: means of all dimensions, standard deviations (ddof 0), then the
        10th, 25th, 50th, 75th and 90th percentiles (linear between neighbours), each averaged over the parts.
    """
    cuts = np.array_split(frames.astype(np.float64), min(parts, len(frames)))
    described = np.mean([_describe(cut) for cut in cuts], axis=0)
    return np.asarray(described.reshape(-1), dtype=np.float32)


def _describe(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the statistics of one part, (7, D)."""
    return np.stack([frames.mean(axis=0), frames.std(axis=0), *np.percentile(frames, PERCENTILES, axis=0)])
