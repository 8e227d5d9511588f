"""Reads and validates the organisers' released features of a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip
from blemore_harness.errors import MediaError, printable
from blemore_harness.pooling import STATISTICS

ARRAY = b"\x93NUMPY"
"""First bytes of `.npy` files."""

OTHERS = {
    b"": "an empty file",
    b"\x80": "a pickle, which is not read because it can execute code",
    b"PK": "an archive",
    b"version https://git-lfs": "a Git LFS pointer instead of the file",
}
"""Other file types, by their first bytes."""


def read_released(clip: Clip, store: str, width: int | None) -> NDArray[np.float32]:
    """Read the features of a clip.

    Args:
        clip: the clip.
        store: name of the feature set, such as `WavLM_large`.
        width: expected D; None for any.

    Returns:
        float32 (T, D), T at least 1; a middle axis of length 1 is removed.

    Raises:
        MediaError: no file, not a plain array, a wrong shape or width, or values that are not finite.
    """
    array = _read(clip, store)
    if array.ndim == 3 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 2 or not array.size or (width is not None and array.shape[1] != width):
        expected = f"(T, {width or 'D'})"
        raise MediaError(
            f"clip {clip.id}: expected features {expected} with T at least 1 in '{store}', found {array.shape}", clip.id
        )
    return _finite(clip, store, array)


def read_statistics(clip: Clip, store: str, width: int | None) -> NDArray[np.float32]:
    """Read the seven statistics of a clip, float32 (7 x D,), from the aggregated file.

    Raises:
        MediaError: as of `read_released`.
    """
    array = _read(clip, store)
    wanted = None if width is None else STATISTICS * width
    if array.ndim != 1 or not array.size or (wanted or array.size) != array.size or array.size % STATISTICS:
        expected = wanted or f"{STATISTICS} x D"
        raise MediaError(f"clip {clip.id}: expected {expected} numbers in '{store}', found {array.shape}", clip.id)
    return _finite(clip, store, array)


def _read(clip: Clip, store: str) -> NDArray[Any]:
    path = clip.features(store)
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        raise _refusal(clip, store, f"cannot be read ({error.strerror})") from None
    if not start.startswith(ARRAY):
        kinds = [kind for begins, kind in OTHERS.items() if (start.startswith(begins) if begins else not start)]
        raise _refusal(clip, store, f"are no .npy file but {[*kinds, 'something else'][0]}")
    return _load(clip, store, path)


def _load(clip: Clip, store: str, path: Path) -> NDArray[Any]:
    try:
        kind = _read_kind(path)
        if kind.hasobject:
            raise _refusal(clip, store, "hold Python objects, which are not read because they can execute code")
        if kind.kind not in "fiu":
            raise _refusal(clip, store, f"must be real numbers, found {printable(str(kind))}")
        # A memory map fails before anything is allocated if the header declares more than the file holds.
        return np.array(np.lib.format.open_memmap(path, mode="r"))
    except MediaError:
        raise
    except Exception as error:  # numpy raises many kinds of errors for damaged headers
        reason = printable(str(error) or type(error).__name__)[:200]
        raise _refusal(clip, store, f"are damaged ({reason})") from None


def _read_kind(path: Path) -> np.dtype[Any]:
    """Read the data type from a file's header."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        kind: np.dtype[Any] = read(file)[2]
    return kind


def _finite(clip: Clip, store: str, array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # values out of range of float32 become infinite: an error below
        values = np.asarray(array, dtype=np.float32)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise _refusal(clip, store, f"hold {bad} NaN or infinite of {values.size} values")
    return values


def _refusal(clip: Clip, store: str, what: str) -> MediaError:
    return MediaError(f"clip {clip.id}: the features in '{store}' {what}; download the file again", clip.id)
