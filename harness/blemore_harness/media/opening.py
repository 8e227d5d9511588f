"""Opening the file of a clip for its frames or its sound, decoding frames in order, and saying what is wrong with it.

Only the file itself is read: lists of other files (HLS, concat) and addresses are refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip
from blemore_harness.errors import ExtraMissing, MediaError

CUT_SHARE = 0.9
"""A track with less than this share of its length was cut off: FFmpeg itself reads to the cut without a word."""

LONGEST_FRAME = 10.0
"""Seconds that frames may last on average where some are missing: beyond it the file's times are wrong."""

MOST_PIXELS = 8192 * 4320
"""Pixels of a frame, as of the largest video that is in use (8K); a frame of these takes 106 MB."""

LISTS = {"concat", "dash", "hls", "imf", "rtsp", "sap", "sdp"}
"""Formats of FFmpeg that name other files or addresses."""

OPTIONS = {"protocol_whitelist": "file"}
"""For FFmpeg: nothing but files is opened, whatever a file says."""

MOST_THREADS = 8
"""Threads that decode one file; encoders decode several clips side by side."""

THREAD_BYTES = 100_000_000
"""What the frames may take that the threads of one file have in work: one each."""


@dataclass(frozen=True)
class Promise:
    """What a track says about itself, before anything is decoded.

    Attributes:
        frames: number of frames; 0 where the file does not say, and for sound.
        seconds: its length; 0 likewise.
        pixels: of a frame; 0 for sound.
    """

    frames: int
    seconds: float
    pixels: int


def check_media(clip: Clip, kind: Literal["video", "audio"]) -> Promise:
    """Open a clip's file and look for a stream, without decoding.

    Raises:
        MediaError: no file, not a media file, a list of other files, no stream of that kind, or frames too large.
    """
    with _open(clip) as container:
        return _promise(_find_stream(container, kind, clip), kind)


@contextmanager
def _open(clip: Clip) -> Iterator[Any]:
    av = import_av()
    try:
        container = av.open(str(clip.video), options=OPTIONS)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"clip {clip.id}: the file cannot be opened ({brief(error)})", clip.id) from error
    with container:
        formats = container.format.name.split(",")
        names = LISTS & set(formats)
        if names:
            raise MediaError(
                f"clip {clip.id}: the file is a list of other files ({', '.join(names)}), not a video", clip.id
            )
        if formats[0] == "image2" or formats[0].endswith("_pipe"):
            raise MediaError(f"clip {clip.id}: the file is a single picture, not a video", clip.id)
        yield container


def _find_stream(container: Any, kind: Literal["video", "audio"], clip: Clip) -> Any:
    """Give the stream that is decoded: the picture that the `ffmpeg` command takes, the first sound track.

    Raises:
        MediaError: none, none but a cover, one in a format that FFmpeg does not know, or frames too large.
    """
    streams = container.streams.video if kind == "video" else container.streams.audio
    what = "picture" if kind == "video" else "sound track"
    if not streams:
        raise MediaError(f"clip {clip.id} has no {what}", clip.id)
    stream = max(streams, key=_prominence) if kind == "video" else streams[0]
    if kind == "video" and _is_cover(stream):
        raise MediaError(f"clip {clip.id} has no picture but a cover", clip.id)
    if stream.codec_context is None:
        raise MediaError(f"clip {clip.id} has a {what} in a format that FFmpeg does not know: convert it", clip.id)
    pixels = _promise(stream, kind).pixels
    if pixels > MOST_PIXELS:
        found = f"{pixels / 1e6:.0f} million pixels"
        raise MediaError(f"clip {clip.id} has frames of {found}: expected at most 8192 x 4320, convert it", clip.id)
    return stream


def _prominence(stream: Any) -> tuple[bool, int]:
    """Rank pictures as the `ffmpeg` command does: a cover last, then by size; the default one counts five million."""
    context = stream.codec_context
    pixels = context.width * context.height if context is not None else 0
    return not _is_cover(stream), pixels + 5_000_000 * ("default" in repr(stream.disposition))


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in repr(stream.disposition)


def _promise(stream: Any, kind: str) -> Promise:
    seconds = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if kind == "audio":
        return Promise(0, seconds, 0)
    return Promise(stream.frames, seconds, stream.codec_context.width * stream.codec_context.height)


class Video:
    """The picture of an open file: decoded in order, from the first frame on.

    Frames are what FFmpeg itself gives for `ffmpeg -i FILE -f rawvideo -pix_fmt rgb24`: the same frames in the same
    order, converted to RGB in the same way, and upright where the file says how it is turned. Nothing is ever sought:
    a key frame is no place to begin in many files (open groups of pictures, intra refresh, equal times).
    """

    def __init__(self, clip: Clip, container: Any, stream: Any) -> None:
        self.promise = _promise(stream, "video")
        self.fps = float(stream.average_rate or 0)
        self._clip, self._container, self._stream = clip, container, stream
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = _threads(self.promise.pixels)

    def decode(self, wanted: Callable[[int], bool]) -> Iterator[NDArray[np.uint8] | None]:
        """Decode to the end; may be called once.

        Args:
            wanted: says of a frame's number whether it is wanted; others are dropped before they are converted.

        Yields:
            For every frame uint8 (height, width, 3), RGB, which is the caller's own; None where it was not wanted. All
            are as large as the first wanted one.

        Raises:
            MediaError: no frames, or a file that was cut off, once all frames were given; a damaged one.
        """
        convert, number, end = _Converter(), 0, 0.0
        try:
            for frame in self._container.decode(self._stream):
                end = frame.time if frame.time is not None else end
                yield convert(frame) if wanted(number) else None
                number += 1
        except import_av().error.FFmpegError as error:
            where = f"near frame {number} (second {end:.1f})" if number else "at its beginning"
            raise MediaError(
                f"clip {self._clip.id}: the video is damaged {where} and cannot be decoded: copy the file again, or "
                "leave the clip out",
                self._clip.id,
            ) from error
        self._check_whole(number, end)

    def _check_whole(self, count: int, end: float) -> None:
        """Refuse a file that was cut off: FFmpeg reads to the cut without a word."""
        clip, promise = self._clip, self.promise
        if not count:
            raise MediaError(f"clip {clip.id} has a video stream without frames", clip.id)
        if count >= CUT_SHARE * promise.frames:
            return
        # An edit list may leave frames out, but then the track is shorter as well.
        seconds = end - float((self._stream.start_time or 0) * self._stream.time_base)
        if seconds > LONGEST_FRAME * count:
            found = f"{count} of {promise.frames} frames over {seconds:.0f} s"
            raise MediaError(f"clip {clip.id}: {found}: the times in the file are damaged, convert it", clip.id)
        if seconds < CUT_SHARE * promise.seconds:
            found = f"{count} of {promise.frames} frames"
            raise MediaError(f"clip {clip.id}: the video ends after {found}: copy the file again", clip.id)


class _Converter:
    """Turns decoded frames into RGB as the `ffmpeg` command does: by FFmpeg's own filters, with its defaults."""

    def __init__(self) -> None:
        self._layout: tuple[object, ...] = ()
        self._size: tuple[int, int] | None = None
        self._graph: Any = None

    def __call__(self, frame: Any) -> NDArray[np.uint8]:
        # Streams may change their size and format on the way; what comes out keeps the first size.
        layout = (frame.width, frame.height, frame.format.name)
        self._size = self._size or (frame.width, frame.height)
        if layout != self._layout:
            self._layout, self._graph = layout, self._build(frame)
        self._graph.push(frame)
        picture = self._graph.pull().to_ndarray()
        matrix = frame.side_data.get("DISPLAYMATRIX")
        return picture if matrix is None else _upright(picture, np.frombuffer(matrix, dtype=np.int32))

    def _build(self, frame: Any) -> Any:
        from av.filter import Graph

        assert self._size is not None
        graph = Graph()
        graph.threads = 1
        links = [
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
            graph.add("scale", "{}:{}:flags=bicubic".format(*self._size)),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*links).configure()
        return graph


def _upright(picture: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Turn and mirror a picture as a display matrix says, to the nearest quarter turn."""
    a, b, c, d = (int(number) for number in matrix[[0, 1, 3, 4]])
    if abs(a) + abs(d) < abs(b) + abs(c):
        picture, across, down = picture.swapaxes(0, 1), c, b
    else:
        across, down = a, d
    return np.ascontiguousarray(picture[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


def _threads(pixels: int) -> int:
    """Give the threads that decode one file: fewer for large frames, of which each thread holds some."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, MOST_THREADS, THREAD_BYTES // max(1, 3 * pixels)))


@contextmanager
def open_video(clip: Clip) -> Iterator[Video]:
    """Open the picture of a clip.

    Raises:
        MediaError: as of `check_media`.
    """
    with _open(clip) as container:
        yield Video(clip, container, _find_stream(container, "video", clip))


def import_av() -> Any:
    """Import PyAV; `ExtraMissing` where it is not installed."""
    try:
        import av
        import av.error
    except ImportError as error:
        raise missing_extra("av", error) from error
    return av


def missing_extra(package: str, error: ImportError) -> ExtraMissing:
    """Say which package is missing for reading clips."""
    return ExtraMissing(f"reading clips needs '{package}' ({error}): pip install 'blemore-harness[encoders]'")


def brief(error: Exception) -> str:
    """Say in plain words why a file cannot be opened or decoded; the library's own text stays with the error."""
    reasons = {
        FileNotFoundError: "there is no such file",
        PermissionError: "this user may not read it",
        IsADirectoryError: "it is a folder",
    }
    for kind, reason in reasons.items():
        if isinstance(error, kind):
            return reason
    return "it is cut off, damaged or no media file: copy it again"
