"""Frames of a clip, for encoder authors: one place that opens files, resizes and says what is wrong.

Both come from FFmpeg, through PyAV, which is imported when first needed. A frame is known by its place in the order in
which frames are shown, and files are always decoded from their beginning: `iter_frames(clip, k)` is every k-th frame of
`iter_frames(clip)`, and `read_frames(clip, indices)` the same frames by number. A file that cannot be used is a
`MediaError` that names the clip.
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
"""Frames that are worked on at a time while streaming."""

DECODER_VERSION = 2
"""Counts changes of which frames come and how they look; see `decoder_versions`."""


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


def decoder_versions() -> dict[str, object]:
    """Name what decides how frames come out: belongs to the key of all that is computed from frames and kept.

    Raises:
        ExtraMissing: PyAV or pillow is not installed.
    """
    try:
        libraries = {name: version(name) for name in ("av", "pillow")}
    except PackageNotFoundError as error:
        raise missing_extra(str(error.name), error) from error
    return {"decoder": DECODER_VERSION, **libraries}


def video_info(clip: Clip) -> VideoInfo:
    """Describe a clip's video, which is decoded for this: what files say of their frames is not always so.

    Raises:
        MediaError: no file, no picture, no frames, a file that was cut off or cannot be decoded.
    """
    with open_video(clip) as video:
        frames = video.decode(lambda number: number == 0)
        first = next(frames)  # a video without frames is refused
        assert first is not None
        count = 1 + sum(1 for _ in frames)
        return VideoInfo(count, video.fps, int(first.shape[1]), int(first.shape[0]))


def read_frames(clip: Clip, indices: Sequence[int] | None = None, size: tuple[int, int] | None = None) -> Frames:
    """Decode frames of a clip.

    Args:
        indices: which frames, in any order and with repetitions; None for all. Decoding ends with the last of them.
        size: (height, width) to resize to without keeping the aspect, bilinear with antialiasing; None leaves it.

    Returns:
        uint8 (T, height, width, 3), RGB, upright where the file says how it is turned.

    Raises:
        MediaError: as of `video_info`, or an index beyond the last frame.
    """
    if indices is None:
        return np.stack(list(iter_frames(clip, 1, size)))
    wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
    below = wanted[wanted < 0]
    if below.size:
        raise MediaError(f"clip {clip.id}: frames count from 0, frame {below[0]} was asked for", clip.id)
    # The first frame tells the size where none is wanted.
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
        raise MediaError(f"clip {clip.id} has {number + 1} frames, frame {beyond} was asked for", clip.id)
    return np.stack([found[number] for number in wanted.tolist()]) if wanted.size else np.stack([found[0]])[:0]


def iter_frames(clip: Clip, stride: int = 1, size: tuple[int, int] | None = None) -> Iterator[Frames]:
    """Decode a clip frame by frame, so that a long one needs no more memory than a short one.

    Args:
        stride: give every `stride`-th frame, beginning with the first.
        size: as of `read_frames`.

    Yields:
        uint8 (height, width, 3), RGB: the frames of `read_frames`.

    Raises:
        MediaError: as of `video_info`; that a file was cut off shows after its last frame.
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
    """Return `count` frame indices spread evenly over a clip: the middles of `count` equal parts.

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
