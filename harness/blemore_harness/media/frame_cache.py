"""Decoded frames of clips, shared by all encoders: decoded once, kept small, read back faster than from the video.

A frame is kept with its shorter side at 256 px (its aspect kept, never enlarged), every frame of the clip in one file.
Small clips are kept as they are. Larger ones are kept as JPEG of quality 95 without colour subsampling: that costs 1
to 1.6 grey levels on average in photographs, 2.5 in dense texture with grain (`benchmarks/frame_cache.py`), and takes a
third to a seventh of the room; uncompressed, the frames of BLEMORE would fill some 150 GB. Who needs frames without any
loss, or larger ones, decodes them with `media.read_frames` and `media.iter_frames`.

The files of all sizes together take at most `BLEMORE_FRAMES_GB` (40 where it is not set). Beyond that the ones that
were not used for the longest time go, but none that was used within a day: encoders go through the same clips one after
the other, and each clip would make way just before its turn. What has no room is not kept. None of this changes a
number: a clip that is not there is decoded again, to the same bytes. Several threads and processes may use the cache at
once.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Cache, Store
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.errors import ConfigError, DataError, ExtraMissing, MediaError
from blemore_harness.media.frame_files import (
    QUALITY,
    RAW_BYTES,
    Blob,
    count_of,
    is_whole,
    pack,
    unpack,
    work_side_by_side,
)
from blemore_harness.media.frames import Frames, decoder_versions, iter_frames, resize, video_info

NAME = "frames"
LIMIT = "BLEMORE_FRAMES_GB"
DEFAULT_LIMIT = 40.0
SHORT_SIDE = 256
VERSION = 1
"""Counts changes of what the files hold."""

IN_USE_SECONDS = 24 * 3600
"""A file that was used within this time does not make way for another one."""

NPY_HEADER = 128
"""Bytes of a `.npy` file before its array."""

WORKERS = 16
"""Clips that are decoded side by side, where there are so many cores."""

Indices = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True)
class FrameCache:
    """The frames of clips at one size.

    Attributes:
        store: the files, one per clip.
        short_side: pixels of the shorter side; smaller frames keep their size.
        limit: bytes that the files of all sizes may take together.
    """

    store: Store
    short_side: int
    limit: int

    def prepare(self, clips: Clips | Sequence[Clip], context: Context) -> None:
        """Decode what is missing, several clips side by side; an interrupted one goes on where it stopped.

        Raises:
            MediaError: a clip that cannot be used; the others that were begun are kept.
        """
        missing = self.store.missing(clips)
        if not missing:
            return
        full = threading.Event()

        def fill(clip: Clip) -> None:
            # What would not be kept is not worth decoding here.
            if not full.is_set() and not self._keep(clip, self._decode(clip)):
                full.set()

        with context.progress("frames: decoding", len(missing)) as bar:
            work_side_by_side(fill, missing, WORKERS, bar.advance)
        gone = len(self.store.missing(clips))
        if gone:
            context.warn(
                f"the frame cache ({self.limit / 1e9:.3g} GB) has no room for {gone} of {len(clips)} clips: they are "
                f"decoded each time they are needed; set {LIMIT} to more GB if the disk has them"
            )

    def count(self, clip: Clip) -> int:
        """Return the number of frames of a clip, which is decoded for this if it is not in the cache.

        Raises:
            MediaError: as of `media.video_info`.
        """
        blob = self._open(clip)
        return video_info(clip).frames if blob is None else count_of(blob)

    def read(self, clip: Clip, indices: Indices | Callable[[int], Indices] | None = None) -> Frames:
        """Return frames of a clip, which is decoded first if it is not in the cache.

        Args:
            clip: whose.
            indices: which frames, in any order and with repetitions, or a function that says which of so many; None
                for all.

        Returns:
            uint8 (T, height, width, 3), RGB: the same whether the clip was in the cache or not.

        Raises:
            MediaError: as of `media.video_info`, or an index outside the clip.
            DataError: a damaged file of the cache, which is named.
        """
        blob = self._open(clip)
        if blob is None:
            blob = self._decode(clip)
            self._keep(clip, blob)
        count = count_of(blob)
        chosen = indices(count) if callable(indices) else indices
        wanted = np.arange(count) if chosen is None else np.asarray(chosen, dtype=np.int64)
        outside = wanted[(wanted < 0) | (wanted >= count)]
        if outside.size:
            raise MediaError(f"clip {clip.id} has {count} frames, frame {outside[0]} was asked for", clip.id)
        try:
            return unpack(blob, wanted)
        except (OSError, ValueError) as error:
            raise DataError(f"damaged cache file {self.store.path(clip)} ({error}): delete it and run again") from error

    def _open(self, clip: Clip) -> Blob | None:
        """Open a clip's file and mark it as used; None where there is none (or none any more)."""
        path = self.store.path(clip)
        if not path.exists():
            return None
        try:
            os.utime(path)
            blob = self.store.load(clip, mmap=True)
        except FileNotFoundError:  # another process has just removed it
            return None
        except DataError:
            if not path.exists():
                return None
            raise
        if blob.dtype != np.uint8 or blob.ndim != 1 or not is_whole(blob):
            raise DataError(f"damaged cache file {path} (not frames): delete it and run again")
        return blob

    def _decode(self, clip: Clip) -> Blob:
        """Decode a clip into what its file holds."""
        return pack(_shrunk(frame, self.short_side) for frame in iter_frames(clip))

    def _keep(self, clip: Clip, blob: Blob) -> bool:
        """Keep a clip, and remove others for it; returns whether there was room."""
        files = sorted(_files(self.store.folder.parent))
        total = sum(size for _, size, _ in files)
        wanted = blob.nbytes + NPY_HEADER
        in_use = time.time() - IN_USE_SECONDS
        for used, size, path in files:
            if total + wanted <= self.limit or (total <= self.limit and used > in_use):
                break
            path.unlink(missing_ok=True)
            total -= size
        if total + wanted > self.limit:
            return False
        self.store.save(clip, blob)
        return True


def open_frames(cache: Cache, short_side: int = SHORT_SIDE) -> FrameCache:
    """Open the frames of all clips at one size.

    Args:
        cache: the harness's, `context.cache`.
        short_side: pixels of the shorter side. Encoders that ask for the same number share the frames.

    Raises:
        ValueError: a side below 1.
        ConfigError: `BLEMORE_FRAMES_GB` is not a number of gigabytes.
        ExtraMissing: pillow or PyAV is not installed.
    """
    if short_side < 1:
        raise ValueError(f"expected a shorter side of at least 1 px, found {short_side}")
    store = cache.store(
        NAME, version=VERSION, short_side=short_side, quality=QUALITY, raw=RAW_BYTES, libraries=_libraries()
    )
    return FrameCache(store, short_side, _limit())


def shrunk_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return (height, width) with the shorter side at `short_side`, the aspect kept to a pixel; never enlarged.

    >>> shrunk_size(1080, 1920, 256)
    (256, 455)
    >>> shrunk_size(144, 176, 256)
    (144, 176)
    """
    shorter = min(height, width)
    if shorter <= short_side:
        return height, width
    return tuple(max(1, (2 * side * short_side + shorter) // (2 * shorter)) for side in (height, width))  # type: ignore[return-value]


def _shrunk(frame: Frames, short_side: int) -> Frames:
    height, width = frame.shape[:2]
    return np.ascontiguousarray(resize(frame[None], shrunk_size(height, width, short_side))[0])


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """List the files of all sizes: when each was last used, its bytes, its path."""
    found = []
    for path in folder.glob("*/*.npy"):
        with contextlib.suppress(FileNotFoundError):
            state = path.stat()
            found.append((state.st_mtime, state.st_size, path))
    return found


def _limit() -> int:
    """Read the limit in bytes."""
    text = os.environ.get(LIMIT, "")
    try:
        number = float(text) if text.strip() else DEFAULT_LIMIT
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ConfigError(f"{LIMIT}: expected a number of gigabytes such as 40, found '{text}'")
    return int(number * 1e9)


def _libraries() -> dict[str, object]:
    """Name what decodes and compresses."""
    versions = decoder_versions()
    try:
        from PIL import features
    except ImportError as error:
        raise ExtraMissing(f"reading clips needs pillow ({error}): pip install 'blemore-harness[encoders]'") from error
    return versions | {"jpeg": str(features.version("jpg"))}
