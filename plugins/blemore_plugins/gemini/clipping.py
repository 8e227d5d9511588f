"""Cuts the window that is sent from a clip: a silent MP4, and its audio as WAV.

The video is copied without loss if this cuts exactly at the end of the window, and encoded again (H.264, visually
lossless) otherwise. The MP4 contains neither the audio track nor the tags nor the name of the file.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.clips import Clip
from blemore_harness.errors import MediaError
from blemore_harness.media.audio import audio_facts, read_audio
from blemore_harness.media.opening import OPTIONS, check_media, find_stream
from blemore_plugins.gemini.options import MAX_VIDEO_SECONDS, Input
from blemore_plugins.hosted.media import SOUND_RATE, make_wav

FULL_RANGE = 2
"""FFmpeg's number of JPEG's levels, 0 to 255: of phones, and of RGB."""

PLAIN_COLOURS = (0, 2, 5, 6)
"""FFmpeg's numbers of RGB, of no word, and of ITU-R BT.601 (twice), which decoders take for granted without a word."""


def upright(frame: Any) -> Any:
    """Turn a frame as its display matrix says, with even sides as H.264 wants them."""
    import av

    width, height = frame.width - frame.width % 2, frame.height - frame.height % 2
    if not through_rgb(frame):
        # Of limited range already, or of none that is known: its levels stay.
        ranges = {"src_color_range": "JPEG", "dst_color_range": "MPEG"} if full_range(frame) else {}
        return frame.reformat(format="yuv420p", **ranges)
    pixels = np.rot90(frame.to_ndarray(format="rgb24")[:height, :width], round(frame.rotation / 90))
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format="yuv420p")


def through_rgb(frame: Any) -> bool:
    """Whether a frame has to be turned, or has an odd side."""
    return bool(frame.rotation or frame.width % 2 or frame.height % 2)


def full_range(frame: Any) -> bool:
    """Whether a frame has JPEG's levels, 0 to 255."""
    return bool(frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj"))


COPIED_CODECS = ("h264", "hevc", "av1", "vp9")
"""Codecs that the service documents for MP4; others are encoded again."""

MAX_BYTES = 14_000_000
"""Maximum size of a video in one request: the documented 20 MB include base64 (4 / 3) and JSON."""

ENCODING = {"preset": "veryfast", "crf": "18", "threads": "1", "x264-params": "mbtree=0"}
"""Visually lossless H.264; in one thread and without x264's macroblock tree, which is not deterministic."""


@dataclass(frozen=True)
class Window:
    """The part of a clip that is sent.

    Attributes:
        start: seconds from the first frame.
        seconds: length; 0 for the rest of the clip.
    """

    start: float
    seconds: float

    @property
    def end(self) -> float:
        """End of the window in seconds, infinite for the rest of the clip."""
        return self.start + self.seconds if self.seconds else float("inf")


def cut_video(clip: Clip, window: Window) -> bytes:
    """Return the video of a window as a silent MP4.

    Raises:
        MediaError: no such file, no video track, an empty window, or too much for one request.
    """
    import av

    check_media(clip, "video")
    try:
        with av.open(str(clip.video), options=OPTIONS) as source:
            stream = find_stream(source, "video", clip)
            _check_length((source.duration or 0) / av.time_base, clip, window)
            data = _copy(source, stream, window)
        if data is None or len(data) > MAX_BYTES:
            with av.open(str(clip.video), options=OPTIONS) as source:
                data = _encode(source, find_stream(source, "video", clip), window)
    except (av.FFmpegError, OSError, ValueError):
        raise MediaError(
            f"clip {clip.id}: the video is damaged and cannot be cut: copy the file again or convert it", clip.id
        ) from None
    if data is None:
        raise MediaError(f"clip {clip.id} has no frame from second {window.start:g} on: use a smaller start", clip.id)
    if len(data) > MAX_BYTES:
        raise MediaError(
            f"clip {clip.id}: {len(data) / 1e6:.1f} MB of video, expected at most {MAX_BYTES / 1e6:g} MB per "
            "request: use a shorter window",
            clip.id,
        )
    return data


def cut_sound(clip: Clip, window: Window, cache: Cache | None = None) -> bytes:
    """Return the audio of a window as WAV: 16 kHz, one channel, 16 bits; `cache` as of `read_audio`.

    Raises:
        MediaError: no such file, no audio track, or an empty window.
    """
    samples = read_audio(clip, SOUND_RATE, cache)
    _check_length(len(samples) / SOUND_RATE, clip, window)
    end = round(window.end * SOUND_RATE) if window.seconds else None
    samples = samples[round(window.start * SOUND_RATE) : end]
    if not samples.size:
        raise MediaError(f"clip {clip.id} has no audio from second {window.start:g} on: use a smaller start", clip.id)
    return make_wav(samples, SOUND_RATE)


def _check_length(length: float, clip: Clip, window: Window) -> None:
    """Raise for a window that the service would truncate silently; `length` is that of the whole clip in seconds."""
    seconds = length - window.start
    if not window.seconds and seconds > MAX_VIDEO_SECONDS:
        raise MediaError(
            f"clip {clip.id}: {seconds:.0f} s of video, the service supports at most {MAX_VIDEO_SECONDS:g} s: "
            "set a window with gemini.seconds",
            clip.id,
        )


def find_rule(clip: Clip, kind: Input, window: Window, cache: Cache) -> int:
    """Return the first `CUT_RULE` with the current bytes of a clip: 1 for almost every clip.

    Rule 2 changed re-encoded full-range or HDTV colours, files whose first video stream is not the default one, and
    audio with gaps or on another than the first track. Embeddings of all other clips remain valid.
    """
    if kind != "video":
        with contextlib.suppress(MediaError):  # reported when it is cut
            facts = audio_facts(clip, cache)
            if facts.moved or facts.track:
                return 2
    return 1 if kind == "sound" else _video_rule(clip, window)


def _video_rule(clip: Clip, window: Window) -> int:
    import av

    try:
        with av.open(str(clip.video), options=OPTIONS) as source:
            stream = find_stream(source, "video", clip)
            if stream != source.streams.video[0]:
                return 2
            frame = next(source.decode(stream))
            if through_rgb(frame) or not (full_range(frame) or frame.colorspace not in PLAIN_COLOURS):
                return 1
        with av.open(str(clip.video), options=OPTIONS) as source:
            data = _copy(source, find_stream(source, "video", clip), window)
    except (av.FFmpegError, OSError, ValueError, MediaError, StopIteration):
        return 1  # reported when it is cut
    return 2 if data is None or len(data) > MAX_BYTES else 1


def _copy(source: Any, stream: Any, window: Window) -> bytes | None:
    """Copy packets into a new file; None where only re-encoding gives exactly the window.

    This is the case if the window does not begin with the clip, the codec is not documented, an edit list hides frames,
    the video is stored rotated, two packets share a timestamp, or a frame depends on one after the end of the window.
    """
    import av

    if window.start > 0 or stream.codec_context.name not in COPIED_CODECS:
        return None
    begin = stream.start_time or 0
    packets: list[Any] = []
    first_frame, behind = None, False
    for packet in source.demux(stream):
        if packet.dts is None:
            continue
        if packet.pts is None or packet.is_discard:
            return None
        if first_frame is None:
            first_frame = next(iter(packet.decode()), None)
        inside = float((packet.pts - begin) * stream.time_base) < window.end
        if inside and behind:
            return None
        behind = not inside
        if inside and packets and packet.dts <= packets[-1].dts:
            return None
        if inside:
            packets.append(packet)
        elif float((packet.dts - begin) * stream.time_base) >= window.end:
            break
    if not packets or not packets[0].is_keyframe or (first_frame is not None and first_frame.rotation):
        return None
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        copied = output.add_stream_from_template(stream)
        for packet in packets:
            packet.stream = copied
            output.mux(packet)
    return target.getvalue()


def _encode(source: Any, stream: Any, window: Window) -> bytes | None:
    """Encode the frames of the window as H.264, upright, in limited range; None if there are none."""
    import av

    begin = (stream.start_time or 0) * stream.time_base
    target = io.BytesIO()
    output = encoder = None
    last = -1
    for frame in source.decode(stream):
        if frame.pts is None:
            raise ValueError("a frame without a time")
        second = float(frame.pts * frame.time_base - begin)
        if second < window.start:
            continue
        if second >= window.end:
            break
        picture = upright(frame)
        if output is None or encoder is None:
            output, first = av.open(target, "w", format="mp4"), frame.pts
            encoder = output.add_stream("libx264", rate=stream.average_rate, options=ENCODING)
            encoder.width, encoder.height, encoder.pix_fmt = picture.width, picture.height, "yuv420p"
            encoder.codec_context.time_base = frame.time_base
            if picture.colorspace not in PLAIN_COLOURS:
                encoder.codec_context.color_range = picture.color_range
                encoder.codec_context.colorspace = picture.colorspace
                encoder.codec_context.color_primaries = frame.color_primaries
                encoder.codec_context.color_trc = frame.color_trc
        last = max(frame.pts - first, last + 1)  # timestamps must be unique in the new file
        picture.pts, picture.time_base = last, frame.time_base
        picture.pict_type = 0  # otherwise the encoder repeats the key frames of the original
        output.mux(encoder.encode(picture))
    if output is None or encoder is None:
        return None
    output.mux(encoder.encode(None))
    output.close()
    return target.getvalue()
