"""Decoding the frames of a clip in order, as the `ffmpeg` command does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip
from blemore_harness.errors import MediaError
from blemore_harness.media.opening import CUT_SHARE, find_stream, import_av, open_file, promise_of
from blemore_harness.networks import usable_cpus

LONGEST_FRAME = 10.0
"""Maximum mean duration of a frame in seconds where frames are missing; beyond it the timestamps are wrong."""

MOST_THREADS = 8
"""Maximum number of threads that decode one file; encoders decode several clips in parallel."""

THREAD_PIXELS = 200_000
"""Pixels of a frame per decoding thread."""

THREAD_BYTES = 100_000_000
"""Maximum bytes of the frames that the threads of one file decode at a time, one each."""


class Video:
    """The video stream of an open file, decoded in order from the first frame.

    Frames are identical to the output of `ffmpeg -i FILE -f rawvideo -pix_fmt rgb24`: the same frames in the same
    order, with the same conversion to RGB and the declared rotation applied. Decoding never seeks: in many files
    (open GOPs, intra refresh, equal timestamps) it cannot start correctly at a key frame.
    """

    def __init__(self, clip: Clip, container: Any, stream: Any) -> None:
        self.promise = promise_of(stream, "video")
        self.fps = float(stream.average_rate or 0)
        self._clip, self._container, self._stream = clip, container, stream
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = _threads(self.promise.pixels)

    def decode(self, wanted: Callable[[int], bool]) -> Iterator[NDArray[np.uint8] | None]:
        """Decode to the end; may be called once.

        Args:
            wanted: returns whether a frame index is wanted; other frames are dropped before conversion.

        Yields:
            For every frame uint8 (height, width, 3), RGB, writable; None if it is not wanted. All have the size of the
            first wanted frame.

        Raises:
            MediaError: a damaged file; after the last frame, also no frames or a truncated file.
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
                f"clip {self._clip.id}: the video is damaged {where} and cannot be decoded; copy the file again or run "
                "with --skip-bad-clips",
                self._clip.id,
            ) from error
        self._check_whole(number, end)

    def _check_whole(self, count: int, end: float) -> None:
        """Raise `MediaError` for a truncated file; FFmpeg reads it without an error."""
        clip, promise = self._clip, self.promise
        if not count:
            raise MediaError(f"clip {clip.id}: the video track has no frames; copy the file again", clip.id)
        if count >= CUT_SHARE * promise.frames:
            return
        # An edit list may drop frames, but then the declared length of the track is shorter as well.
        seconds = end - float((self._stream.start_time or 0) * self._stream.time_base)
        if seconds > LONGEST_FRAME * count:
            found = f"{count} of {promise.frames} frames over {seconds:.0f} s"
            raise MediaError(f"clip {clip.id}: {found}, the timestamps are damaged; convert the file", clip.id)
        if seconds < CUT_SHARE * promise.seconds:
            found = f"{count} of {promise.frames} frames"
            raise MediaError(f"clip {clip.id}: the video ends after {found} (truncated); copy the file again", clip.id)


class _Converter:
    """Converts decoded frames to RGB as the `ffmpeg` command does, with FFmpeg's own filters and their defaults."""

    def __init__(self) -> None:
        self._layout: tuple[object, ...] = ()
        self._size: tuple[int, int] | None = None
        self._graph: Any = None

    def __call__(self, frame: Any) -> NDArray[np.uint8]:
        # Streams may change their size and format; the output keeps the first size.
        layout = (frame.width, frame.height, frame.format.name)
        self._size = self._size or (frame.width, frame.height)
        if layout != self._layout:
            self._layout, self._graph = layout, self._build(frame)
        self._graph.push(frame)
        image = self._graph.pull().to_ndarray()
        matrix = frame.side_data.get("DISPLAYMATRIX")
        return image if matrix is None else _upright(image, np.frombuffer(matrix, dtype=np.int32))

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


def _upright(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Rotate and mirror an image according to a display matrix, to the nearest quarter turn."""
    a, b, c, d = (int(number) for number in matrix[[0, 1, 3, 4]])
    if abs(a) + abs(d) < abs(b) + abs(c):
        image, across, down = image.swapaxes(0, 1), c, b
    else:
        across, down = a, d
    return np.ascontiguousarray(image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


def _threads(pixels: int) -> int:
    """Return the number of threads that decode one file: one for small frames, where threads do not pay off, and few
    for very large ones, which each thread buffers.
    """
    return max(1, min(usable_cpus(), MOST_THREADS, pixels // THREAD_PIXELS, THREAD_BYTES // max(1, 3 * pixels)))


@contextmanager
def open_video(clip: Clip) -> Iterator[Video]:
    """Open the video stream of a clip.

    Raises:
        MediaError: as of `check_media`.
    """
    with open_file(clip) as container:
        yield Video(clip, container, find_stream(container, "video", clip))
