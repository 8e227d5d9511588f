"""Cuts what is sent out of a clip: a silent MP4 of the window, and its audio as WAV.

The picture is copied without loss where that cuts exactly at the end of the window, and encoded again (H.264, visually
lossless) everywhere else. Neither carries the audio track, the tags or the name of the file.
"""

from __future__ import annotations

import contextlib
import io
import wave
from dataclasses import dataclass
from typing import Any

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.clips import Clip
from blemore_harness.errors import MediaError
from blemore_harness.media.audio import audio_facts, read_audio
from blemore_harness.media.opening import OPTIONS, check_media, find_stream
from blemore_plugins.gemini.options import MAX_VIDEO_SECONDS, Input

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
"""Largest video in one request: the documented 20 MB hold 4 / 3 times as many letters of base64, and some JSON."""

SOUND_RATE = 16_000
"""Samples a second of the WAV: what speech encoders take."""

ENCODING = {"preset": "veryfast", "crf": "18", "threads": "1", "x264-params": "mbtree=0"}
"""H.264 that the eye cannot tell from the original; in one thread and without x264's macroblock tree, so that the bytes
are the same each time (the tree depends on what memory held before)."""


@dataclass(frozen=True)
class Window:
    """The part of a clip that is sent.

    Attributes:
        start: seconds from the first frame.
        seconds: length; 0 takes all that is left.
    """

    start: float
    seconds: float

    @property
    def end(self) -> float:
        """Seconds at which the window ends, infinite for the rest of the clip."""
        return self.start + self.seconds if self.seconds else float("inf")


def cut_video(clip: Clip, window: Window) -> bytes:
    """Return the picture of a window as a silent MP4.

    Raises:
        MediaError: no such file, no picture, nothing in the window, or too much for one request.
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
            f"clip {clip.id} makes {len(data) / 1e6:.1f} MB of video, at most {MAX_BYTES / 1e6:g} MB go into one "
            "request: use a shorter window",
            clip.id,
        )
    return data


def cut_sound(clip: Clip, window: Window, cache: Cache | None = None) -> bytes:
    """Return the audio of a window as WAV: 16 kHz, one channel, 16 bits; `cache` as of `read_audio`.

    Raises:
        MediaError: no such file, no audio track, or nothing in the window.
    """
    samples = read_audio(clip, SOUND_RATE, cache)
    _check_length(len(samples) / SOUND_RATE, clip, window)
    end = round(window.end * SOUND_RATE) if window.seconds else None
    samples = samples[round(window.start * SOUND_RATE) : end]
    if not samples.size:
        raise MediaError(f"clip {clip.id} has no audio from second {window.start:g} on: use a smaller start", clip.id)
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SOUND_RATE)
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return target.getvalue()


def _check_length(length: float, clip: Clip, window: Window) -> None:
    """Refuse what the service would cut off without a word; `length` is the whole clip's, in seconds."""
    seconds = length - window.start
    if not window.seconds and seconds > MAX_VIDEO_SECONDS:
        raise MediaError(
            f"clip {clip.id} is {seconds:.0f} s long and the service looks at {MAX_VIDEO_SECONDS:g} s at most: "
            "set a window with seconds",
            clip.id,
        )


def find_rule(clip: Clip, kind: Input, window: Window, cache: Cache) -> int:
    """Report since which `CUT_RULE` the bytes that are sent for a clip are what they are: 1 for almost every clip.

    Rule 2 changed what is encoded again of full-range or HDTV colours, files whose first video stream is not the one
    that is shown, and audio with gaps or on another than the first track. Embeddings of all other clips stay paid for.
    """
    if kind != "video":
        with contextlib.suppress(MediaError):  # said when it is cut
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
        return 1  # said when it is cut
    return 2 if data is None or len(data) > MAX_BYTES else 1


def _copy(source: Any, stream: Any, window: Window) -> bytes | None:
    """Copy packets into a new file; None where only encoding again gives exactly the window.

    That is where it does not begin with the clip, the codec is not among the documented ones, an edit list hides
    frames, the picture is stored turned, two packets share a time, or a frame in the window needs one behind its end.
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
    """Encode the frames of the window again as H.264, upright, in limited range; None where there is none."""
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
        last = max(frame.pts - first, last + 1)  # frames may share a time, in the new file they must not
        picture.pts, picture.time_base = last, frame.time_base
        picture.pict_type = 0  # or the encoder would repeat the key frames of the original
        output.mux(encoder.encode(picture))
    if output is None or encoder is None:
        return None
    output.mux(encoder.encode(None))
    output.close()
    return target.getvalue()
