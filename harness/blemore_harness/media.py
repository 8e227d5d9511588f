"""Frames and sound of a clip, for encoder authors: one place that decodes, the same everywhere.

Frames come from decord (the package `decord2`), sound from PyAV; both in the extra `encoders`. Every function raises
`MediaError`, which knows the clip, for a file that is missing, empty, damaged or without the track asked for, and
`ExtraMissing` where the decoders are not installed. Same file, same result, bit for bit, on the same versions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.dataset import Clip
from blemore_harness.errors import ExtraMissing, MediaError

SOUND_RATE = 16_000
"""Samples per second that speech encoders such as wav2vec2, HuBERT and WavLM take."""

CHUNK = 16
"""Frames decoded at a time where they are resized: bounds the memory at full size."""


@dataclass(frozen=True)
class VideoInfo:
    """What the picture of a clip is.

    Attributes:
        frames: number of frames, exact (counted, not taken from the header).
        fps: frames per second, averaged over the clip.
        width, height: of a decoded frame, in pixels.
        seconds: frames / fps.
    """

    frames: int
    fps: float
    width: int
    height: int
    seconds: float


def video_info(clip: Clip) -> VideoInfo:
    """Say how long and how large the picture of a clip is.

    Raises:
        MediaError: no picture, or a damaged file.
    """
    with _open_video(clip) as reader:
        height, width = reader[0].shape[:2]
        fps = float(reader.get_avg_fps())
        return VideoInfo(len(reader), fps, width, height, len(reader) / fps)


def read_frames(
    clip: Clip, indices: Sequence[int] | NDArray[np.integer[Any]] | None = None, *, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Decode frames of a clip.

    Args:
        clip: the clip.
        indices: which frames, in any order, repeats allowed; None for all (mind the memory: `iter_frames` streams).
        size: (height, width) to resize to, see `resize`; None leaves the frames as they are.

    Returns:
        uint8 (T, height, width, 3), RGB.

    Raises:
        MediaError: no picture, a damaged file, or an index outside 0 .. frames - 1.

    The frames are decoded in one pass over a file, so ask once for all that you need.
    """
    with _open_video(clip) as reader:
        wanted = np.arange(len(reader)) if indices is None else np.asarray(indices, dtype=np.int64)
        outside = wanted[(wanted < 0) | (wanted >= len(reader))]
        if outside.size:
            raise MediaError(
                f"clip {clip.id}: expected frames 0 to {len(reader) - 1}, was asked for {outside[0]}", clip.id
            )
        if not wanted.size:
            height, width = size or reader[0].shape[:2]
            return np.empty((0, height, width, 3), dtype=np.uint8)
        if size is None:
            return np.asarray(reader.get_batch(wanted.tolist()).asnumpy())
        parts = [wanted[start : start + CHUNK].tolist() for start in range(0, len(wanted), CHUNK)]
        return np.concatenate([resize(reader.get_batch(part).asnumpy(), size) for part in parts])


def iter_frames(clip: Clip, stride: int = 1, *, size: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
    """Yield every `stride`-th frame of a clip, from the first, one at a time: memory does not grow with the length.

    Args:
        clip: the clip.
        stride: 1 for every frame, 4 for frames 0, 4, 8, ...
        size: as in `read_frames`.

    Yields:
        uint8 (height, width, 3), RGB; exactly the frames of `read_frames`.

    Raises:
        MediaError: as in `read_frames`.
        ValueError: a stride below 1.
    """
    if stride < 1:
        raise ValueError(f"expected a stride of at least 1, found {stride}")
    with _open_video(clip) as reader:
        for index in range(0, len(reader), stride):
            if index:
                reader.skip_frames(stride - 1)
            frame: NDArray[np.uint8] = reader.next().asnumpy()
            yield frame if size is None else resize(frame[None], size)[0]


def resize(frames: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize frames; libraries differ in this by several grey levels, so that everything resizes here.

    Args:
        frames: uint8 (T, height, width, 3).
        size: (height, width) wanted.

    Returns:
        uint8 (T, *size, 3). Pillow's bilinear filter, whose support widens when shrinking (so without aliasing); the
        aspect is not kept: crop first where it matters.
    """
    from PIL import Image

    height, width = size
    if frames.shape[1:3] == (height, width):
        return frames
    pictures = [Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR) for frame in frames]
    return np.stack([np.asarray(picture) for picture in pictures])


def uniform_indices(n_frames: int, count: int) -> NDArray[np.int64]:
    """Spread `count` frames evenly over a clip: the middle frame of each of `count` equal parts.

    A clip with fewer frames than `count` has some of them repeated.

    Args:
        n_frames: number of frames of the clip, at least 1.
        count: how many to choose, at least 1.

    Returns:
        int64 (count,), ascending, within 0 .. n_frames - 1.

    >>> uniform_indices(100, 4).tolist()
    [12, 37, 62, 87]
    >>> uniform_indices(2, 4).tolist()
    [0, 0, 1, 1]
    """
    if n_frames < 1 or count < 1:
        raise ValueError(f"expected at least 1 frame and 1 to choose, found {n_frames} and {count}")
    return (2 * np.arange(count, dtype=np.int64) + 1) * n_frames // (2 * count)


def read_sound(clip: Clip, rate: int = SOUND_RATE) -> NDArray[np.float32]:
    """Decode the sound track of a clip, mixed to one channel and resampled.

    Args:
        clip: the clip.
        rate: samples per second wanted.

    Returns:
        float32 (N,), full scale is -1 to 1. Some codecs end on a block: the sound may be a few milliseconds longer
        than the picture.

    Raises:
        MediaError: no sound track, nothing in it, or a damaged file.
    """
    av = _import_av()
    with _open_file(clip) as container:
        if not container.streams.audio:
            raise MediaError(f"clip {clip.id} has no sound track: expected one in {clip.audio.name}", clip.id)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        parts: list[NDArray[np.float32]] = []
        # The final None flushes what the filter still holds.
        for frame in (*_decode_sound(container, clip), None):
            parts += [block.to_ndarray().reshape(-1) for block in resampler.resample(frame)]
    sound = np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)
    if not sound.size or not np.isfinite(sound).all():
        found = "NaN or infinite samples" if sound.size else "not one sample"
        raise MediaError(f"clip {clip.id}: expected sound, found {found} in its sound track", clip.id)
    return np.asarray(sound, dtype=np.float32)


def _decode_sound(container: Any, clip: Clip) -> Iterator[Any]:
    av = _import_av()
    try:
        yield from container.decode(audio=0)
    except av.error.FFmpegError as error:
        raise _damaged(clip, "sound track", error) from error


@contextlib.contextmanager
def _open_file(clip: Clip) -> Iterator[Any]:
    """Open the file of a clip with PyAV."""
    av = _import_av()
    path = clip.video
    if not path.is_file():
        raise MediaError(f"clip {clip.id}: expected a video at {path}, found no such file", clip.id)
    if not path.stat().st_size:
        raise MediaError(f"clip {clip.id}: expected a video, found an empty file: copy it again", clip.id)
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise _damaged(clip, "video file", error) from error
    with container:
        yield container


@contextlib.contextmanager
def _open_video(clip: Clip) -> Iterator[Any]:
    """Open the picture of a clip with decord, one thread per reader: encoders decode several clips at once."""
    # PyAV looks first: it tells apart what is wrong, where decord prints to stderr and says little.
    with _open_file(clip) as container:
        if not container.streams.video:
            raise MediaError(f"clip {clip.id} has no picture: expected a video stream in {clip.video.name}", clip.id)
    try:
        import decord
    except ImportError as error:
        raise _extra_missing("decord2", error) from error
    broken = (RuntimeError, decord.DECORDError)
    try:
        reader = decord.VideoReader(str(clip.video), num_threads=1)
    except broken as error:
        raise _damaged(clip, "picture", error) from error
    if not len(reader):
        raise MediaError(f"clip {clip.id}: expected a video, found no frames in it", clip.id)
    try:
        yield reader
    except (*broken, StopIteration) as error:
        raise _damaged(clip, "picture", error) from error


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise _extra_missing("av", error) from error
    return av


def _damaged(clip: Clip, part: str, error: BaseException) -> MediaError:
    reason = " ".join(str(error).split())[-120:] or type(error).__name__
    return MediaError(f"clip {clip.id}: expected a {part} that decodes, found a damaged one ({reason})", clip.id)


def _extra_missing(package: str, error: ImportError) -> ExtraMissing:
    return ExtraMissing(
        f'decoding clips needs the package {package} ({error}): pip install "blemore-harness[encoders]"'
    )
