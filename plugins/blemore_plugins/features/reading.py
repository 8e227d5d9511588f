"""Reads the organisers' released features of a clip, whatever shape they were saved in, and says what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.dataset import Clip
from blemore_harness.errors import MediaError
from blemore_harness.sequences import STATISTICS


def read_released(clip: Clip, store: str, width: int | None) -> NDArray[np.float32]:
    """Read the features of a clip.

    Args:
        clip: whose.
        store: name of the released folder, such as `WavLM_large`.
        width: expected D; None takes any.

    Returns:
        float32 (T, D), T at least 1; an axis of length 1 in the middle is squeezed.

    Raises:
        MediaError: no file, not a plain array, another shape or width, or values that are not finite.
    """
    array = _read(clip, store)
    if array.ndim == 3 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 2 or not len(array) or (width is not None and array.shape[1] != width):
        expected = f"(T, {width or 'D'})"
        raise MediaError(f"clip {clip.id}: expected features {expected} in '{store}', found {array.shape}", clip.id)
    if not np.isfinite(array).all():
        raise MediaError(f"clip {clip.id}: NaN or infinite values in '{store}'", clip.id)
    return np.asarray(array, dtype=np.float32)


def read_statistics(clip: Clip, store: str, width: int | None) -> NDArray[np.float32]:
    """Read the seven statistics of a clip, float32 (7 x D,), which the harness took out of the aggregated file.

    Raises:
        MediaError: as of `read_released`.
    """
    array = _read(clip, store)
    wanted = None if width is None else STATISTICS * width
    if array.ndim != 1 or (wanted is not None and len(array) != wanted):
        raise MediaError(f"clip {clip.id}: expected {wanted} numbers in '{store}', found {array.shape}", clip.id)
    if not np.isfinite(array).all():
        raise MediaError(f"clip {clip.id}: NaN or infinite values in '{store}'", clip.id)
    return np.asarray(array, dtype=np.float32)


def _read(clip: Clip, store: str) -> NDArray[Any]:
    path = clip.features(store)
    try:
        with path.open("rb") as file:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # a damaged header makes numpy stumble in many ways
        raise MediaError(f"clip {clip.id}: the features in '{store}' cannot be read ({error})", clip.id) from None
    return array
