"""A cache of decoded frames, shared by all encoders: reading it is faster than decoding the video again.

Frames are stored with their shorter side at 256 px (aspect ratio kept, never enlarged), all frames of a clip in one
file. Small clips are stored uncompressed. Larger ones are stored as JPEG of quality 95 without colour subsampling: the
mean error is 1 to 1.6 grey levels in photographs and 2.5 in dense texture with grain (`benchmarks/frame_cache.py`), and
the files are three to seven times smaller; uncompressed, the frames of BLEMORE would take about 150 GB. Encoders that
need lossless or larger frames decode them with `media.read_frames` and `media.iter_frames`.

All files together take at most `BLEMORE_FRAMES_GB` (default 40). Beyond that the least recently used files are removed,
but none that was used within a day: encoders process the same clips one after the other, and each clip would be removed
just before it is needed. Clips for which there is no space are not stored. Results do not depend on the cache: a clip
that is not in it is decoded again, to the same bytes. Several threads and processes may use the cache at once.
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
"""Version of the file contents, increased with every change."""

IN_USE_SECONDS = 24 * 3600
"""Files that were used within this time are not removed."""

NPY_HEADER = 128
"""Bytes of a `.npy` file before its array."""

WORKERS = 16
"""Maximum number of clips that are decoded in parallel."""

Indices = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True)
class FrameCache:
    """The frames of clips at one size.

    Attributes:
        store: the cache files, one per clip.
        short_side: pixels of the shorter side; smaller frames keep their size.
        limit: bytes that the files of all sizes may take together.
    """

    store: Store
    short_side: int
    limit: int

    def prepare(self, clips: Clips | Sequence[Clip], context: Context) -> None:
        """Decode the missing clips, several in parallel; after an interruption, finished clips are not decoded again.

        Raises:
            MediaError: a clip that cannot be used; the clips in progress are completed and stored.
        """
        missing = self.store.missing(clips)
        if not missing:
            return
        full = threading.Event()

        def fill(clip: Clip) -> None:
            # Clips that would not be stored are not decoded here.
            if not full.is_set() and not self._keep(clip, self._decode(clip)):
                full.set()

        with context.progress("frames: decoding", len(missing)) as bar:
            work_side_by_side(fill, missing, WORKERS, bar.advance)
        gone = len(self.store.missing(clips))
        if gone:
            context.warn(
                f"the frame cache ({self.limit / 1e9:.3g} GB) has no space for {gone} of {len(clips)} clips: these are "
                f"decoded each time they are needed; if the disk has space, set {LIMIT} to more gigabytes"
            )

    def count(self, clip: Clip) -> int:
        """Return the number of frames of a clip, which is decoded if it is not in the cache.

        Raises:
            MediaError: as of `media.video_info`.
        """
        blob = self._open(clip)
        return video_info(clip).frames if blob is None else count_of(blob)

    def read(self, clip: Clip, indices: Indices | Callable[[int], Indices] | None = None) -> Frames:
        """Return frames of a clip, which is decoded first if it is not in the cache.

        Args:
            clip: whose.
            indices: frame indices, in any order and with repetitions, or a function from the number of frames to
                indices; None for all frames.

        Returns:
            uint8 (T, height, width, 3), RGB: the same whether the clip was in the cache or not.

        Raises:
            MediaError: as of `media.video_info`, or an index outside the clip.
            DataError: a damaged cache file, named in the message.
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
            raise MediaError(f"clip {clip.id} has {count} frames, frame {outside[0]} was requested", clip.id)
        try:
            return unpack(blob, wanted)
        except (OSError, ValueError) as error:
            raise DataError(f"damaged cache file {self.store.path(clip)}: delete it and run again") from error

    def _open(self, clip: Clip) -> Blob | None:
        """Open a clip's cache file and mark it as used; None where it does not exist (any more)."""
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
            raise DataError(f"damaged cache file {path} (it does not hold frames): delete it and run again")
        return blob

    def _decode(self, clip: Clip) -> Blob:
        """Decode a clip and return the contents of its cache file."""
        return pack(_shrunk(frame, self.short_side) for frame in iter_frames(clip))

    def _keep(self, clip: Clip, blob: Blob) -> bool:
        """Store a clip, removing other files if necessary; return whether there was space."""
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
    """Open the frame cache for one size of frames.

    Args:
        cache: the harness's, `context.cache`.
        short_side: pixels of the shorter side. Encoders with the same number share the frames.

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
    """Return (height, width) with the shorter side at `short_side`, aspect ratio kept to a pixel; never enlarged.

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
    """Return all cache files of all sizes: time of last use, bytes, path."""
    found = []
    for path in folder.glob("*/*.npy"):
        with contextlib.suppress(FileNotFoundError):
            state = path.stat()
            found.append((state.st_mtime, state.st_size, path))
    return found


def _limit() -> int:
    """Return the limit in bytes."""
    text = os.environ.get(LIMIT, "")
    try:
        number = float(text) if text.strip() else DEFAULT_LIMIT
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ConfigError(f"{LIMIT}: expected a number of gigabytes such as 40, found '{text}'")
    return int(number * 1e9)


def _libraries() -> dict[str, object]:
    """Return the versions of the libraries that decode and compress."""
    versions = decoder_versions()
    try:
        from PIL import features
    except ImportError as error:
        raise ExtraMissing(f"reading clips needs pillow ({error}): pip install 'blemore-harness[encoders]'") from error
    return versions | {"jpeg": str(features.version("jpg"))}
