"""Opening and checking media files before they are decoded.

Only the file itself is read: playlists of other files (HLS, concat) and URLs are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from blemore_harness.clips import Clip
from blemore_harness.errors import ExtraMissing, MediaError

CUT_SHARE = 0.9
"""A track with less than this share of its declared length is truncated; FFmpeg reads it without an error."""

MOST_PIXELS = 8192 * 4320
"""Maximum number of pixels of a frame (8K video); such a frame takes 106 MB."""

LISTS = {"concat", "dash", "hls", "imf", "rtsp", "sap", "sdp"}
"""Formats of FFmpeg that refer to other files or URLs."""

OPTIONS = {"protocol_whitelist": "file"}
"""FFmpeg options: only local files are opened, whatever a file refers to."""


@dataclass(frozen=True)
class Promise:
    """Declared properties of a track, read without decoding.

    Attributes:
        frames: number of frames; 0 if unknown, and for audio.
        seconds: length in seconds; 0 if unknown.
        pixels: pixels of a frame; 0 for audio.
    """

    frames: int
    seconds: float
    pixels: int


def check_media(clip: Clip, kind: Literal["video", "audio"]) -> Promise:
    """Check that a clip's file has a video or audio stream, without decoding it.

    Raises:
        MediaError: no file, not a media file, a playlist, no stream of that kind, or frames too large.
    """
    with open_file(clip) as container:
        return promise_of(find_stream(container, kind, clip), kind)


@contextmanager
def open_file(clip: Clip) -> Iterator[Any]:
    """Open a clip's file with PyAV.

    Raises:
        MediaError: no file, not a media file, a playlist, or a single image.
    """
    av = import_av()
    try:
        container = av.open(str(clip.video), options=OPTIONS)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"clip {clip.id}: {brief(error)}", clip.id) from error
    with container:
        formats = container.format.name.split(",")
        names = LISTS & set(formats)
        if names:
            raise MediaError(
                f"clip {clip.id}: expected a video file, found a playlist of other files ({', '.join(names)})", clip.id
            )
        if formats[0] == "image2" or formats[0].endswith("_pipe"):
            raise MediaError(f"clip {clip.id}: expected a video file, found a single image", clip.id)
        yield container


def find_stream(container: Any, kind: Literal["video", "audio"], clip: Clip) -> Any:
    """Return the stream to decode: the video stream that the `ffmpeg` command selects, or the first of `audio_tracks`.

    Raises:
        MediaError: no stream, only a cover image, a format that FFmpeg does not support, or frames too large.
    """
    streams = container.streams.video if kind == "video" else container.streams.audio
    what = f"{kind} track"
    if not streams:
        raise MediaError(f"clip {clip.id} has no {what}: copy the file again, or use a dataset with {kind}", clip.id)
    if kind == "video":
        stream = max(streams, key=_prominence)
        if _is_cover(stream):
            raise MediaError(f"clip {clip.id} has no video track, only a cover image", clip.id)
    else:
        stream = next(iter(audio_tracks(container)), streams[0])
    if stream.codec_context is None:
        raise MediaError(f"clip {clip.id}: FFmpeg does not support the format of the {what}; convert the file", clip.id)
    pixels = promise_of(stream, kind).pixels
    if pixels > MOST_PIXELS:
        found = f"{pixels / 1e6:.0f} million pixels"
        raise MediaError(f"clip {clip.id} has frames of {found}, expected at most 8192 x 4320; convert it", clip.id)
    return stream


def audio_tracks(container: Any) -> list[Any]:
    """Return the audio tracks in supported formats, in FFmpeg's order of preference.

    Default tracks come first, then those with more channels, then in the order of the file.
    """
    known = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return sorted(known, key=lambda stream: ("default" not in repr(stream.disposition), -stream.channels))


def _prominence(stream: Any) -> tuple[bool, int]:
    """Rank video streams as the `ffmpeg` command does: covers last, then by pixels, plus 5 million for the default."""
    context = stream.codec_context
    pixels = context.width * context.height if context is not None else 0
    return not _is_cover(stream), pixels + 5_000_000 * ("default" in repr(stream.disposition))


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in repr(stream.disposition)


def promise_of(stream: Any, kind: str) -> Promise:
    """Return the declared properties of a track."""
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
    """Return the error for a missing package for reading clips."""
    return ExtraMissing(
        f"reading clips requires the package '{package}' ({error}): pip install 'blemore-harness[encoders]'"
    )


def brief(error: Exception) -> str:
    """Return in plain words why a file cannot be opened; the library's own message stays in the chained exception."""
    reasons = {
        FileNotFoundError: "the video file does not exist; copy it again",
        PermissionError: "no permission to read the video file; check its permissions (ls -l)",
        IsADirectoryError: "expected a video file, found a folder",
    }
    for kind, reason in reasons.items():
        if isinstance(error, kind):
            return reason
    return "not a readable video file (truncated or not a video); copy it again or run with --skip-bad-clips"
