"""Which frames of a clip the network sees, in training and at prediction; numbers only.

Indices count stored frames; `rate` is the distance between chosen ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IndexArray = NDArray[np.int64]


def training_indices(count: int, length: int, rate: int, start: float) -> IndexArray:
    """Choose `length` frames for training: a random window, or all of a short clip.

    The released rules: a clip of at most `length * rate` frames gives `count // rate` points spread over it, and the
    rest repeat its last frame. A longer one gives a window of `length * rate` frames, whose end is drawn from the whole
    numbers from `length * rate` to below `count`, and `length` points spread over it, rounded down.

    Args:
        count: frames of the clip, at least 1.
        length: frames to choose.
        rate: distance between them.
        start: draws the window, uniform in [0, 1).

    >>> training_indices(5, 4, 2, 0.0).tolist()
    [0, 4, 4, 4]
    >>> training_indices(20, 4, 2, 0.0).tolist()
    [0, 2, 5, 7]
    """
    span = length * rate
    if count <= span:
        points = np.linspace(0, count, count // rate)
        points = np.concatenate([points, np.full(length - len(points), count)])
        return np.clip(points, 0, count - 1).astype(np.int64)
    end = span + int(start * (count - span))
    points = np.linspace(end - span, end, length)
    return np.clip(points, end - span, end - 1).astype(np.int64)


def prediction_indices(count: int, length: int, rate: int, segments: int) -> IndexArray:
    """Choose the frames of evenly spaced windows, int64 (segments, length).

    The released rules: every `rate`-th frame, the last one repeated up to `length` of them; the windows start evenly
    from the first to the last possible place. A single window is the one in the middle.

    >>> prediction_indices(12, 4, 2, 2).tolist()
    [[0, 2, 4, 6], [4, 6, 8, 10]]
    >>> prediction_indices(5, 4, 2, 1).tolist()
    [[0, 2, 4, 4]]
    """
    sampled = np.arange(0, count, rate)
    if len(sampled) < length:
        sampled = np.concatenate([sampled, np.full(length - len(sampled), sampled[-1])])
    room = len(sampled) - length
    starts = [room // 2] if segments == 1 else [int(number * room / (segments - 1)) for number in range(segments)]
    return np.stack([sampled[start : start + length] for start in starts])
