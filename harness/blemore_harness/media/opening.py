"""Opening the file of a clip for its frames or its audio, and saying what is wrong with it before a decoder does.

Only the file itself is read: lists of other files (HLS, concat) and addresses are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from blemore_harness.clips import Clip
from blemore_harness.errors import ExtraMissing, MediaError

CUT_SHARE = 0.9
"""A track with less than this share of its length was cut off: FFmpeg itself reads to the cut without a word."""

MOST_PIXELS = 8192 * 4320
"""Pixels of a frame, as of the largest video that is in use (8K); a frame of these takes 106 MB."""

LISTS = {"concat", "dash", "hls", "imf", "rtsp", "sap", "sdp"}
"""Formats of FFmpeg that name other files or addresses."""

OPTIONS = {"protocol_whitelist": "file"}
"""For FFmpeg: nothing but files is opened, whatever a file says."""


@dataclass(frozen=True)
class Promise:
    """What a track says about itself, before anything is decoded.

    Attributes:
        frames: number of frames; 0 where the file does not say, and for audio.
        seconds: its length; 0 likewise.
        pixels: of a frame; 0 for audio.
    """

    frames: int
    seconds: float
    pixels: int


def check_media(clip: Clip, kind: Literal["video", "audio"]) -> Promise:
    """Open a clip's file and look for a stream, without decoding.

    Raises:
        MediaError: no file, not a media file, a list of other files, no stream of that kind, or frames too large.
    """
    with open_file(clip) as container:
        return promise_of(find_stream(container, kind, clip), kind)


@contextmanager
def open_file(clip: Clip) -> Iterator[Any]:
    """Open a clip's file with PyAV.

    Raises:
        MediaError: no file, not a media file, a list of other files, or a single picture.
    """
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


def find_stream(container: Any, kind: Literal["video", "audio"], clip: Clip) -> Any:
    """Return the stream that is decoded: the video that the `ffmpeg` command takes, the first of `audio_tracks`.

    Raises:
        MediaError: none, none but a cover, one in a format that FFmpeg does not know, or frames too large.
    """
    streams = container.streams.video if kind == "video" else container.streams.audio
    what = "picture" if kind == "video" else "audio track"
    if not streams:
        raise MediaError(f"clip {clip.id} has no {what}", clip.id)
    if kind == "video":
        stream = max(streams, key=_prominence)
        if _is_cover(stream):
            raise MediaError(f"clip {clip.id} has no picture but a cover", clip.id)
    else:
        stream = next(iter(audio_tracks(container)), streams[0])
    if stream.codec_context is None:
        raise MediaError(f"clip {clip.id} has a {what} in a format that FFmpeg does not know: convert it", clip.id)
    pixels = promise_of(stream, kind).pixels
    if pixels > MOST_PIXELS:
        found = f"{pixels / 1e6:.0f} million pixels"
        raise MediaError(f"clip {clip.id} has frames of {found}: expected at most 8192 x 4320, convert it", clip.id)
    return stream


def audio_tracks(container: Any) -> list[Any]:
    """Return the audio tracks in a format that FFmpeg knows, by its own preference.

    Those marked as default first, then those with more channels, then in the order of the file.
    """
    known = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return sorted(known, key=lambda stream: ("default" not in repr(stream.disposition), -stream.channels))


def _prominence(stream: Any) -> tuple[bool, int]:
    """Rank pictures as the `ffmpeg` command does: a cover last, then by size; the default one counts five million."""
    context = stream.codec_context
    pixels = context.width * context.height if context is not None else 0
    return not _is_cover(stream), pixels + 5_000_000 * ("default" in repr(stream.disposition))


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in repr(stream.disposition)


def promise_of(stream: Any, kind: str) -> Promise:
    """Read what a track says about itself."""
    seconds = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if kind == "audio":
        return Promise(0, seconds, 0)
    return Promise(stream.frames, seconds, stream.codec_context.width * stream.codec_context.height)


def import_av() -> Any:
    """Import PyAV; `ExtraMissing` where it is not installed."""
    try:
        import av
        import av.error
    except ImportError as error:
        raise missing_extra("av", error) from error
    return av


def missing_extra(package: str, error: ImportError) -> ExtraMissing:
    """Report which package is missing for reading clips."""
    return ExtraMissing(f"reading clips needs '{package}' ({error}): pip install 'blemore-harness[encoders]'")


def brief(error: Exception) -> str:
    """Report in plain words why a file cannot be opened or decoded; the library's own text stays with the error."""
    reasons = {
        FileNotFoundError: "there is no such file",
        PermissionError: "this user may not read it",
        IsADirectoryError: "it is a folder",
    }
    for kind, reason in reasons.items():
        if isinstance(error, kind):
            return reason
    return "it is cut off, damaged or no media file: copy it again"
