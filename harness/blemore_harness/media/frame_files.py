"""File format of the frame cache, one array of bytes per clip: a header, offsets, then each frame raw or as JPEG.

Single frames can be read through a memory map without reading the others.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.media.frames import Frames
from blemore_harness.networks import usable_cpus

QUALITY = 95
"""JPEG quality, without colour subsampling."""

RAW_BYTES = 16 << 20
"""Clips whose frames take no more bytes than this are stored uncompressed."""

HEADER = 4
"""Numbers before the offsets: whether the frames are JPEG, their number, height, width; all int64, little endian."""

MANY = 16
"""Minimum number of frames for which JPEG is decoded in threads."""

THREADS = 8
"""Maximum number of threads for the frames of one clip; several clips are often read in parallel."""

Blob = NDArray[np.uint8]


def pack(pictures: Iterable[Frames]) -> Blob:
    """Encode frames of one size, at least one, uint8 (height, width, 3), as one array of bytes.

    Frames are stored raw if they take no more than `RAW_BYTES`, else as JPEG; at most `RAW_BYTES` are in memory
    uncompressed.
    """
    raw: list[bytes] = []
    parts: list[bytes] = []
    held, size = 0, (0, 0)
    for picture in pictures:
        size = picture.shape[:2]
        held += picture.nbytes
        if held <= RAW_BYTES:
            raw.append(picture.tobytes())
            continue
        parts += [_to_jpeg(np.frombuffer(data, dtype=np.uint8).reshape(picture.shape)) for data in raw]
        raw.clear()
        parts.append(_to_jpeg(picture))
    compressed = bool(parts)
    parts = parts or raw
    offsets = np.cumsum([0, *map(len, parts)])
    header = np.array([compressed, len(parts), *size, *offsets], dtype="<i8")
    return np.frombuffer(header.tobytes() + b"".join(parts), dtype=np.uint8)


def count_of(blob: Blob) -> int:
    """Return the number of frames in a complete array of bytes."""
    return int(_numbers(blob, 0, HEADER)[1])


def is_whole(blob: NDArray[Any]) -> bool:
    """Return whether an array has the format of `pack`: type, header, offsets and length agree."""
    if blob.dtype != np.uint8 or blob.ndim != 1 or blob.size < 8 * (HEADER + 2):
        return False
    end = HEADER + 1 + count_of(blob)
    if not HEADER + 1 < end <= blob.size // 8:
        return False
    return bool(blob.size == 8 * end + _numbers(blob, end - 1, end)[0])


def unpack(blob: Blob, wanted: NDArray[np.int64]) -> Frames:
    """Return frames, uint8 (T, height, width, 3), as a writable copy.

    Raises:
        OSError, ValueError: damaged data.
    """
    compressed, count, height, width = (int(number) for number in _numbers(blob, 0, HEADER))
    start = 8 * (HEADER + count + 1)
    if not compressed:
        frames = blob[start:].reshape(count, height, width, 3)
        return np.array(frames) if np.array_equal(wanted, np.arange(count)) else np.asarray(frames[wanted])
    offsets = start + _numbers(blob, HEADER, HEADER + count + 1)
    result = np.empty((len(wanted), height, width, 3), dtype=np.uint8)

    def decode(place: int) -> None:
        frame = wanted[place]
        result[place] = _from_jpeg(blob[offsets[frame] : offsets[frame + 1]].tobytes())

    work_side_by_side(decode, range(len(wanted)), THREADS if len(wanted) >= MANY else 1)
    return result


def work_side_by_side(
    work: Callable[[Any], object], items: Sequence[Any], workers: int, done: Callable[[], object] | None = None
) -> None:
    """Call `work` for every item in threads and `done` after each; raise the first error once running calls finish."""
    workers = min(workers, usable_cpus(), len(items))
    if workers <= 1:
        for item in items:
            work(item)
            if done is not None:
                done()
        return
    pool = ThreadPoolExecutor(workers)
    try:
        for future in [pool.submit(work, item) for item in items]:
            future.result()
            if done is not None:
                done()
    finally:
        pool.shutdown(cancel_futures=True)


def _numbers(blob: Blob, first: int, end: int) -> NDArray[np.int64]:
    return np.frombuffer(blob[8 * first : 8 * end].tobytes(), dtype="<i8")


def _to_jpeg(picture: Frames) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def _from_jpeg(data: bytes) -> Frames:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)))
