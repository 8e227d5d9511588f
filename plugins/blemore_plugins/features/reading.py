"""Reads and validates the organisers' released features of a clip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip, Clips
from blemore_harness.errors import MediaError, first_and_count, printable
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
        raise _refusal(clip, store, f"must be a .npy file, found {[*kinds, 'another file type'][0]}")
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


def refuse_missing(clips: Clips, name: str, source: str, extracting: str) -> None:
    """Raise for clips without features in the dataset.

    Args:
        clips: all required clips.
        name: name of the released folder or the aggregated file, without suffix.
        source: `released` or `statistics`.
        extracting: name of the encoder if it can extract the features; else empty.

    Raises:
        MediaError: names the first clip and their number.
    """
    missing = [clip.id for clip in clips if name not in clip.feature_files]
    if missing:
        where = f"a row in {name}.npz" if source == "statistics" else f"a file <clip id> in {_places(name)}"
        instead = f", or use --set {extracting}.source=media to extract them from the clips" if extracting else ""
        raise MediaError(
            f"{first_and_count(missing, 'clip')} of {len(clips)} without features in '{name}': expected {where}; "
            f"download the missing features{instead}",
            missing[0],
        )


def refuse_unseen(clips: Clips, store: str) -> None:
    """Raise for clips without a video, before weights are downloaded.

    Args:
        clips: all required clips.
        store: name of the released feature set that can be used instead; empty for none.

    Raises:
        MediaError: names the first clip and their number.
    """
    unseen = [clip.id for clip in clips if clip.video_file is None]
    if unseen:
        instead = f", or released features in {_places(store)}" if store else ""
        raise MediaError(
            f"{first_and_count(unseen, 'clip')} of {len(clips)} without a video to extract features from: expected "
            f"<clip id>.mov or .mp4 at any depth in the dataset{instead}",
            unseen[0],
        )


def refuse_widths(widths: Mapping[str, int], name: str) -> None:
    """Raise for features of different widths within one feature set; the most frequent width is the expected one.

    Args:
        widths: D by clip id.
        name: name of the feature set.

    Raises:
        MediaError: names the first clip of another width and their number.
    """
    counts = Counter(widths.values()).most_common()
    if len(counts) < 2:
        return
    usual = counts[0][0]
    other: Sequence[str] = [clip for clip, width in widths.items() if width != usual]
    raise MediaError(
        f"expected the same D for all clips in '{name}', found {usual} in {counts[0][1]} clips and "
        f"{widths[other[0]]} in {first_and_count(other, 'clip')}: use files of one encoder",
        other[0],
    )


def _places(store: str) -> str:
    return f"pre_extracted_train_data/{store}_train or pre_extracted_test_data/{store}_test"
