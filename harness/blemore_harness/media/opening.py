"""Opening the file of a clip for its frames or its sound, and saying what is wrong with it before a decoder does.

Only the file itself is read: lists of other files (HLS, concat) and addresses are refused.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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

_ORIGIN = re.compile(r"^\[[\d:]+\] \S+:\d+: ")
"""What decord puts before its messages: the time and a line of its sources."""


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
    av = import_av()
    path = clip.video
    try:
        with av.open(str(path), options=OPTIONS) as container:
            names = LISTS & set(container.format.name.split(","))
            if names:
                raise MediaError(
                    f"clip {clip.id}: the file is a list of other files ({', '.join(names)}), not a video", clip.id
                )
            return _promise(_find_stream(container, kind, clip), kind)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"clip {clip.id}: the file cannot be opened ({brief(error, clip)})", clip.id) from None


def _find_stream(container: Any, kind: Literal["video", "audio"], clip: Clip) -> Any:
    """Give the stream that is decoded: FFmpeg's choice for the picture, as decord's is, and the first for the sound.

    Raises:
        MediaError: none, none but a cover, or one in a format that FFmpeg does not know.
    """
    streams = container.streams.video if kind == "video" else container.streams.audio
    what = "picture" if kind == "video" else "sound track"
    if not streams:
        raise MediaError(f"clip {clip.id} has no {what}", clip.id)
    stream = (container.streams.best("video") or streams[0]) if kind == "video" else streams[0]
    if kind == "video" and "attached_pic" in repr(stream.disposition):
        raise MediaError(f"clip {clip.id} has no picture but a cover", clip.id)
    if stream.codec_context is None:
        raise MediaError(f"clip {clip.id} has a {what} in a format that FFmpeg does not know: convert it", clip.id)
    return stream


def _promise(stream: Any, kind: str) -> Promise:
    seconds = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if kind == "audio":
        return Promise(0, seconds, 0)
    return Promise(stream.frames, seconds, stream.codec_context.width * stream.codec_context.height)


def _as_decord_takes_it(clip: Clip) -> Any:
    """Give the path; where its bytes are no UTF-8, which decord expects, the content of the file."""
    try:
        str(clip.video).encode()
    except UnicodeEncodeError:
        return io.BytesIO(Path(str(clip.video)).read_bytes())
    return str(clip.video)


@contextmanager
def open_video(clip: Clip) -> Iterator[tuple[Any, Promise]]:
    """Open a clip with decord, which turns frames upright where the file says how; gives what was promised as well.

    Raises:
        MediaError: as of `check_media`, no frames, a file that was cut off, or one that cannot be decoded.
    """
    promise = check_media(clip, "video")  # decord writes noise to stderr and dies oddly on files that are no media
    if promise.pixels > MOST_PIXELS:
        found = f"{promise.pixels / 1e6:.0f} million pixels"
        raise MediaError(f"clip {clip.id} has frames of {found}: expected at most 8192 x 4320, convert it", clip.id)
    decord = import_decord()
    try:
        # One thread each: encoders decode several clips side by side.
        reader = decord.VideoReader(_as_decord_takes_it(clip), ctx=decord.cpu(0), num_threads=1)
        count = len(reader)
        if not count:
            raise MediaError(f"clip {clip.id} has a video stream without frames", clip.id)
        if count < CUT_SHARE * promise.frames:
            # An edit list may leave frames out, but then the track is shorter as well.
            seconds = float(reader.get_frame_timestamp(count - 1)[1] - reader.get_frame_timestamp(0)[0])
            if seconds > LONGEST_FRAME * count:
                found = f"{count} of {promise.frames} frames over {seconds:.0f} s"
                raise MediaError(f"clip {clip.id}: {found}: the times in the file are damaged, convert it", clip.id)
            if seconds < CUT_SHARE * promise.seconds:
                found = f"{count} of {promise.frames} frames"
                raise MediaError(f"clip {clip.id}: the video ends after {found}: copy the file again", clip.id)
        yield reader, promise
    except (decord.DECORDError, RuntimeError) as error:
        reason = brief(error, clip)
        if "The size must exactly match" in reason:  # rows that decord pads and does not cut again
            reason = "its width is one that decord fails on: convert it to another, such as a multiple of 64"
        if "DECORD_" in reason:  # advice to have decord repeat frames in place of those that it cannot find
            reason = "frames are not where the file says: convert it, or copy it again"
        raise MediaError(f"clip {clip.id}: the video cannot be decoded ({reason})", clip.id) from None


def import_decord() -> Any:
    """Import decord; `ExtraMissing` where it is not installed."""
    # decord opens its library for all to see: torch loaded after it takes up its symbols and crashes (decord2 3.4).
    with suppress(ImportError):
        import torch  # noqa: F401
    try:
        import decord
    except ImportError as error:
        raise missing_extra("decord", error) from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord


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


def brief(error: Exception, clip: Clip) -> str:
    """Give the first line of a decoder's complaint without paths: the clip is named already."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = _ORIGIN.sub("", text)
    return text.replace(f"{os.fspath(clip.video)!r}", "the file").replace(os.fspath(clip.video), "the file")[:160]
