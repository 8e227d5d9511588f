"""Frames of a clip, for encoder authors: decoding and resizing.

Frames are decoded by FFmpeg through PyAV, which is imported when first needed. Frames are numbered in presentation
order, and files are always decoded from their beginning: `iter_frames(clip, k)` yields every k-th frame of
`iter_frames(clip)`, and `read_frames(clip, indices)` returns the same frames by index. For a file that cannot be used,
a `MediaError` names the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemore_harness.clips import Clip
from blemore_harness.errors import MediaError
from blemore_harness.media.opening import missing_extra
from blemore_harness.media.video import open_video

Frames = NDArray[np.uint8]

BATCH = 16
"""Number of frames that are processed at a time while streaming."""

DECODER_VERSION = 2
"""Version of the decoding, increased whenever decoded frames change; see `decoder_versions`."""


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video.

    Attributes:
        frames: number of frames that can be decoded.
        fps: average frames per second; 0 if unknown.
        width, height: in pixels, after rotation to upright.
    """

    frames: int
    fps: float
    width: int
    height: int

    @property
    def seconds(self) -> float:
        """Length of the video in seconds."""
        return self.frames / self.fps if self.fps else 0.0


def decoder_versions() -> dict[str, object]:
    """Return what decoded frames depend on besides the file, for the cache keys of arrays computed from them.

    Raises:
        ExtraMissing: PyAV or pillow is not installed.
    """
    try:
        libraries = {name: version(name) for name in ("av", "pillow")}
    except PackageNotFoundError as error:
        raise missing_extra(str(error.name), error) from error
    return {"decoder": DECODER_VERSION, **libraries}


def video_info(clip: Clip) -> VideoInfo:
    """Return the properties of a clip's video, which is decoded because the metadata of files is unreliable.

    Raises:
        MediaError: no file, no video stream, no frames, a truncated file or one that cannot be decoded.
    """
    with open_video(clip) as video:
        frames = video.decode(lambda number: number == 0)
        first = next(frames)  # raises for a video without frames
        assert first is not None
        count = 1 + sum(1 for _ in frames)
        return VideoInfo(count, video.fps, int(first.shape[1]), int(first.shape[0]))


def read_frames(clip: Clip, indices: Sequence[int] | None = None, size: tuple[int, int] | None = None) -> Frames:
    """Decode frames of a clip.

    Args:
        indices: frame indices, in any order and with repetitions; None for all. Decoding stops after the last one.
        size: (height, width) to resize to without keeping the aspect ratio, bilinear with antialiasing; None keeps it.

    Returns:
        uint8 (T, height, width, 3), RGB, rotated to upright if the file declares a rotation.

    Raises:
        MediaError: as of `video_info`, or an index beyond the last frame.
    """
    if indices is None:
        return np.stack(list(iter_frames(clip, 1, size)))
    wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
    below = wanted[wanted < 0]
    if below.size:
        raise MediaError(f"clip {clip.id}: frame indices start at 0, frame {below[0]} was requested", clip.id)
    # Without a size, the first frame determines it.
    chosen, last = set(wanted.tolist()) or {0}, int(wanted.max(initial=0))
    found: dict[int, Frames] = {}
    with open_video(clip) as video:
        number = -1
        for number, frame in enumerate(video.decode(chosen.__contains__)):
            if frame is not None:
                found[number] = _resized(frame[None], size)[0]
            if number == last:
                break
    if last > number:
        beyond = wanted[wanted > number][0]
        raise MediaError(f"clip {clip.id} has {number + 1} frames, frame {beyond} was requested", clip.id)
    return np.stack([found[number] for number in wanted.tolist()]) if wanted.size else np.stack([found[0]])[:0]


def iter_frames(clip: Clip, stride: int = 1, size: tuple[int, int] | None = None) -> Iterator[Frames]:
    """Decode a clip frame by frame, with memory independent of its length.

    Args:
        stride: yield every `stride`-th frame, beginning with the first.
        size: as of `read_frames`.

    Yields:
        uint8 (height, width, 3), RGB: the frames of `read_frames`.

    Raises:
        MediaError: as of `video_info`; a truncated file is detected after its last frame.
        ValueError: a stride below 1.
    """
    if stride < 1:
        raise ValueError(f"expected a stride of at least 1, found {stride}")
    for frame in scan_frames(clip, lambda number: number % stride == 0):
        if frame is not None:
            yield _resized(frame[None], size)[0]


def scan_frames(clip: Clip, wanted: Callable[[int], bool]) -> Iterator[Frames | None]:
    """Decode a clip to its end, for those who need the number of its frames beside some of them.

    Args:
        wanted: says of a frame's number, counted from 0, whether it is wanted; others are not converted.

    Yields:
        For every frame what `iter_frames` gives, or None where it is not wanted.

    Raises:
        MediaError: as of `iter_frames`.
    """
    with open_video(clip) as video:
        yield from video.decode(wanted)


def uniform_indices(frames: int, count: int) -> NDArray[np.int64]:
    """Return `count` frame indices evenly spaced over a clip: the middles of `count` equal parts.

    If a clip has fewer frames than `count`, some are repeated.

    >>> uniform_indices(8, 4).tolist()
    [1, 3, 5, 7]
    >>> uniform_indices(2, 4).tolist()
    [0, 0, 1, 1]
    """
    if frames < 1 or count < 1:
        raise ValueError(f"expected at least 1 frame and a count of at least 1, found {frames} and {count}")
    # Integer arithmetic: floats could round up to the next frame.
    return (2 * np.arange(count, dtype=np.int64) + 1) * frames // (2 * count)


def resize(frames: ArrayLike, size: tuple[int, int]) -> Frames:
    """Resize frames, uint8 (T, H, W, 3), to `size` = (height, width) by Pillow's bilinear filter with antialiasing.

    All encoders use this function, because libraries differ by several grey levels.
    """
    return _resized(np.asarray(frames, dtype=np.uint8), size)


def _resized(frames: Frames, size: tuple[int, int] | None) -> Frames:
    if size is None or frames.shape[1:3] == size:
        return frames
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("pillow", error) from error
    height, width = size
    images = [Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR) for frame in frames]
    return np.stack([np.asarray(image) for image in images])
