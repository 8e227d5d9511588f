"""Frames and sound of a clip, for encoder authors: one place that opens files, resizes and says what is wrong.

Frames come from decord, sound from PyAV; both are imported when first needed. A file that cannot be used is a
`MediaError` that names the clip.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemore_harness.dataset import Clip
from blemore_harness.errors import ExtraMissing, MediaError

Frames = NDArray[np.uint8]

BATCH = 16
"""Frames that are decoded at a time while streaming: 100 MB at full HD."""

CUT_SHARE = 0.9
"""A sound track with less than this share of its length was cut off: FFmpeg itself reads to the cut without a word."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself.

    Attributes:
        frames: number of frames that can be decoded.
        fps: average frames per second.
        width, height: in pixels, as decoded.
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
    with _open_video(clip) as reader:
        height, width = reader[0].shape[:2]
        return VideoInfo(len(reader), float(reader.get_avg_fps()), int(width), int(height))


def read_frames(clip: Clip, indices: Sequence[int] | None = None, size: tuple[int, int] | None = None) -> Frames:
    """Decode frames of a clip.

    Args:
        indices: which frames, in any order and with repetitions; None for all.
        size: (height, width) to resize to without keeping the aspect, bilinear with antialiasing; None leaves it.

    Returns:
        uint8 (T, height, width, 3), RGB.

    Raises:
        MediaError: as of `video_info`, or an index beyond the last frame.
    """
    with _open_video(clip) as reader:
        wanted = np.arange(len(reader)) if indices is None else np.asarray(indices, dtype=np.int64)
        outside = wanted[(wanted < 0) | (wanted >= len(reader))]
        if outside.size:
            raise MediaError(f"clip {clip.id} has {len(reader)} frames, frame {outside[0]} was asked for", clip.id)
        parts = [
            _resized(_to_numpy(reader.get_batch(wanted[i : i + BATCH].tolist())), size)
            for i in range(0, len(wanted), BATCH)
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
    with _open_video(clip) as reader:
        wanted = range(0, len(reader), stride)
        for start in range(0, len(wanted), BATCH):
            yield from _resized(_to_numpy(reader.get_batch(list(wanted[start : start + BATCH]))), size)


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


def read_sound(clip: Clip, rate: int = 16_000) -> NDArray[np.float32]:
    """Decode the sound of a clip.

    Args:
        rate: samples per second of the result.

    Returns:
        float32 (N,), the mean of the channels; full scale is -1 to 1. Codecs end on a block: the sound may be some
        milliseconds longer than the picture.

    Raises:
        MediaError: no file, no sound track, a sound track without samples, or a file that cannot be decoded.
    """
    av = _import_av()
    path = clip.audio
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise MediaError(f"clip {clip.id} has no sound track", clip.id)
            stream = container.streams.audio[0]
            # FFmpeg's own mix to mono makes two equal channels louder by 3 dB: the mean is taken here.
            resampler = av.AudioResampler(format="fltp", rate=rate)
            decoded = (part for frame in container.decode(stream) for part in resampler.resample(frame))
            parts = [part.to_ndarray() for part in decoded]
            if parts:
                parts += [part.to_ndarray() for part in resampler.resample(None)]
            promised = float(stream.duration * stream.time_base) if stream.duration else 0.0
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"clip {clip.id}: the sound cannot be decoded ({_brief(error, clip)})", clip.id) from None
    sound = np.concatenate(parts or [np.empty((1, 0))], axis=1).mean(axis=0, dtype=np.float32)
    if not sound.size:
        raise MediaError(f"clip {clip.id} has a sound track without a single sample", clip.id)
    if sound.size / rate < CUT_SHARE * promised:
        found = f"{sound.size / rate:.1f} of {promised:.1f} s"
        raise MediaError(f"clip {clip.id}: the sound ends after {found}: copy the file again", clip.id)
    if not np.isfinite(sound).all():
        raise MediaError(f"clip {clip.id} has NaN or infinite samples in its sound track", clip.id)
    return sound


def check_media(clip: Clip, kind: Literal["video", "audio"]) -> None:
    """Open a clip's file and look for a stream, without decoding.

    Raises:
        MediaError: no file, not a media file, or no stream of that kind.
    """
    av = _import_av()
    path = clip.video
    try:
        with av.open(str(path)) as container:
            found = container.streams.video if kind == "video" else container.streams.audio
            if not found:
                raise MediaError(f"clip {clip.id} has no {'picture' if kind == 'video' else 'sound track'}", clip.id)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"clip {clip.id}: the file cannot be opened ({_brief(error, clip)})", clip.id) from None


@contextmanager
def _open_video(clip: Clip) -> Iterator[Any]:
    check_media(clip, "video")  # decord writes noise to stderr and dies oddly on files that are no media
    decord = _import_decord()
    try:
        # One thread each: encoders decode several clips side by side.
        reader = decord.VideoReader(str(clip.video), ctx=decord.cpu(0), num_threads=1)
        if not len(reader):
            raise MediaError(f"clip {clip.id} has a video stream without frames", clip.id)
        yield reader
    except (decord.DECORDError, RuntimeError) as error:
        raise MediaError(f"clip {clip.id}: the video cannot be decoded ({_brief(error, clip)})", clip.id) from None


def _to_numpy(batch: Any) -> Frames:
    # A bridge to torch may be set by someone else in the process; both kinds convert.
    return np.asarray(batch.asnumpy() if hasattr(batch, "asnumpy") else batch, dtype=np.uint8)


def _resized(frames: Frames, size: tuple[int, int] | None) -> Frames:
    if size is None or frames.shape[1:3] == size:
        return frames
    try:
        from PIL import Image
    except ImportError as error:
        raise _missing("pillow", error) from error
    height, width = size
    pictures = [Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR) for frame in frames]
    return np.stack([np.asarray(picture) for picture in pictures])


def _import_decord() -> Any:
    # decord opens its library for all to see: torch loaded after it takes up its symbols and crashes (decord2 3.4).
    with suppress(ImportError):
        import torch  # noqa: F401
    try:
        import decord
    except ImportError as error:
        raise _missing("decord", error) from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _import_av() -> Any:
    try:
        import av
        import av.error
    except ImportError as error:
        raise _missing("av", error) from error
    return av


def _missing(package: str, error: ImportError) -> ExtraMissing:
    return ExtraMissing(f"reading clips needs '{package}' ({error}): pip install 'blemore-harness[encoders]'")


def _brief(error: Exception, clip: Clip) -> str:
    """Give the first line of a decoder's complaint without the path: the clip is named already."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.replace(f"{os.fspath(clip.video)!r}", "the file").replace(os.fspath(clip.video), "the file")[:160]
