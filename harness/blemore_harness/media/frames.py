"""Frames of a clip, for encoder authors: one place that opens files, resizes and says what is wrong.

Frames come from decord, which is imported when first needed. A file that cannot be used is a `MediaError` that names
the clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemore_harness.clips import Clip
from blemore_harness.errors import MediaError
from blemore_harness.media.opening import Promise, missing_extra, open_video

Frames = NDArray[np.uint8]

BATCH = 16
"""Frames that are decoded at a time while streaming."""

BATCH_BYTES = 100_000_000
"""What frames that are decoded at a time may take: larger frames than full HD come fewer at a time."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself.

    Attributes:
        frames: number of frames that can be decoded.
        fps: average frames per second; 0 where the file does not tell.
        width, height: in pixels, as decoded: upright.
    """

    frames: int
    fps: float
    width: int
    height: int

    @property
    def seconds(self) -> float:
        """Length of the picture in seconds."""
        return self.frames / self.fps if self.fps else 0.0


def video_info(clip: Clip) -> VideoInfo:
    """Describe a clip's video.

    Raises:
        MediaError: no file, no video stream, no frames, or a file that cannot be decoded.
    """
    with open_video(clip) as (reader, _):
        height, width = reader[0].shape[:2]
        fps = float(reader.get_avg_fps())
        return VideoInfo(len(reader), fps if math.isfinite(fps) else 0.0, int(width), int(height))


def read_frames(clip: Clip, indices: Sequence[int] | None = None, size: tuple[int, int] | None = None) -> Frames:
    """Decode frames of a clip.

    Args:
        indices: which frames, in any order and with repetitions; None for all.
        size: (height, width) to resize to without keeping the aspect, bilinear with antialiasing; None leaves it.

    Returns:
        uint8 (T, height, width, 3), RGB, upright where the file says how it is turned.

    Raises:
        MediaError: as of `video_info`, or an index beyond the last frame.
    """
    with open_video(clip) as (reader, promise):
        wanted = np.arange(len(reader)) if indices is None else np.asarray(indices, dtype=np.int64)
        outside = wanted[(wanted < 0) | (wanted >= len(reader))]
        if outside.size:
            raise MediaError(f"clip {clip.id} has {len(reader)} frames, frame {outside[0]} was asked for", clip.id)
        step = _at_a_time(promise)
        parts = [
            _resized(_to_numpy(reader.get_batch(wanted[i : i + step].tolist())), size)
            for i in range(0, len(wanted), step)
        ]
        return np.concatenate(parts) if parts else np.empty((0, *(size or reader[0].shape[:2]), 3), dtype=np.uint8)


def iter_frames(clip: Clip, stride: int = 1, size: tuple[int, int] | None = None) -> Iterator[Frames]:
    """Decode a clip frame by frame, so that a long one needs no more memory than a short one.

    Args:
        stride: give every `stride`-th frame, beginning with the first.
        size: as of `read_frames`.

    Yields:
        uint8 (height, width, 3), RGB: the frames of `read_frames`.

    Raises:
        MediaError: as of `video_info`.
        ValueError: a stride below 1.
    """
    if stride < 1:
        raise ValueError(f"expected a stride of at least 1, found {stride}")
    with open_video(clip) as (reader, promise):
        wanted, step = range(0, len(reader), stride), _at_a_time(promise)
        for start in range(0, len(wanted), step):
            yield from _resized(_to_numpy(reader.get_batch(list(wanted[start : start + step]))), size)


def uniform_indices(frames: int, count: int) -> NDArray[np.int64]:
    """Give `count` frame indices spread evenly over a clip: the middles of `count` equal parts.

    A clip with fewer frames than `count` has some of them repeated.

    >>> uniform_indices(8, 4).tolist()
    [1, 3, 5, 7]
    >>> uniform_indices(2, 4).tolist()
    [0, 0, 1, 1]
    """
    if frames < 1 or count < 1:
        raise ValueError(f"expected at least 1 frame and 1 to choose, found {frames} and {count}")
    # In whole numbers: halves of floats could round up to the next frame.
    return (2 * np.arange(count, dtype=np.int64) + 1) * frames // (2 * count)


def resize(frames: ArrayLike, size: tuple[int, int]) -> Frames:
    """Resize frames, uint8 (T, H, W, 3), to `size` = (height, width): Pillow's bilinear, which filters when shrinking.

    The one place that resizes: decoders and libraries differ by several grey levels.
    """
    return _resized(np.asarray(frames, dtype=np.uint8), size)


def _at_a_time(promise: Promise) -> int:
    return max(1, min(BATCH, BATCH_BYTES // max(1, 3 * promise.pixels)))


def _to_numpy(batch: Any) -> Frames:
    # A bridge to torch may be set by someone else in the process; both kinds convert.
    return np.asarray(batch.asnumpy() if hasattr(batch, "asnumpy") else batch, dtype=np.uint8)


def _resized(frames: Frames, size: tuple[int, int] | None) -> Frames:
    if size is None or frames.shape[1:3] == size:
        return frames
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("pillow", error) from error
    height, width = size
    pictures = [Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR) for frame in frames]
    return np.stack([np.asarray(picture) for picture in pictures])
