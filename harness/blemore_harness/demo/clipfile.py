"""Writes a clip as a QuickTime file: H.264 video and AAC audio, without tags, always of the same size and date."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.demo.faces import FRAME
from blemore_harness.demo.plan import FRAME_RATE
from blemore_harness.disk import write_atomically
from blemore_harness.errors import DataError

CLIP_BYTES = 64 * 1024
"""Size of every clip file, reached by a trailing `free` atom, so that the size carries no information."""
CLIP_TIME = 1_735_689_600
"""Modification time of every clip, 2025-01-01 00:00 UTC, so that it does not reveal the order of creation."""
VIDEO_OPTIONS = {
    "preset": "superfast", "crf": "24", "maxrate": "120k", "bufsize": "60k", "threads": "1", "x264-params": "mbtree=0",
}  # fmt: skip
"""Options of x264: a maximum rate, so that every clip fits; one thread, because the result depends on the number of
threads; without the macroblock tree, which is not deterministic."""
AUDIO_BITS = 64_000
"""Bits per second, a common rate of camera clips."""


def write_clip(path: Path, frames: Iterable[NDArray[np.uint8]], sound: NDArray[np.float32], rate: int) -> None:
    """Write one clip: H.264 and AAC in a QuickTime file of exactly `CLIP_BYTES`, without any tags.

    Args:
        path: the file, written atomically.
        frames: uint8 RGB frames of one size.
        audio: float32 (channels, samples) within -1 to 1.
        rate: sampling rate in Hz.

    Raises:
        DataError: the clip does not fit in `CLIP_BYTES`.
    """
    data = _encode(frames, sound, rate)
    # A QuickTime atom begins with its length, big-endian, and four letters; players skip `free` atoms.
    room = CLIP_BYTES - len(data)
    if room < 8:
        raise DataError(
            f"expected at most {CLIP_BYTES - 8} bytes for {path.name}, found {len(data)}: lower its bit rate"
        )
    write_atomically(path, data + room.to_bytes(4, "big") + b"free" + bytes(room - 8))
    os.utime(path, (CLIP_TIME, CLIP_TIME))


def _encode(frames: Iterable[NDArray[np.uint8]], sound: NDArray[np.float32], rate: int) -> bytes:
    import av

    file = io.BytesIO()
    # `bitexact` prevents the muxer from writing its version and the date.
    with av.open(file, "w", format="mov", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=FRAME_RATE, options=VIDEO_OPTIONS)
        video.width = video.height = FRAME
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        audio = container.add_stream("aac", rate=rate, layout="mono" if len(sound) == 1 else "stereo")
        audio.bit_rate = AUDIO_BITS
        audio.codec_context.options = {"aac_coder": "fast"}
        last, frame = None, None
        for index, picture in enumerate(frames):
            if frame is None or picture is not last:
                last, frame = picture, av.VideoFrame.from_ndarray(picture, format="rgb24")
                # In this thread: starting others for each frame takes longer than the conversion.
                frame = frame.reformat(format="yuv420p", threads=1)
            frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), "fltp", "mono" if len(sound) == 1 else "stereo")
        block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    return file.getvalue()
