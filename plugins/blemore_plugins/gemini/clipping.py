"""Cuts what is sent out of a clip: a silent MP4 of the window, and its sound as WAV.

The picture is copied without loss where that cuts exactly at the end of the window, and encoded again (H.264, visually
lossless) everywhere else. Neither carries the sound track, the tags or the name of the file.
"""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from typing import Any

import numpy as np

from blemore_harness.clips import Clip
from blemore_harness.errors import MediaError
from blemore_harness.media.audio import read_sound
from blemore_plugins.gemini.options import MAX_VIDEO_SECONDS

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
    """Give the picture of a window as a silent MP4.

    Raises:
        MediaError: no such file, no picture, nothing in the window, or too much for one request.
    """
    import av

    try:
        with av.open(str(clip.video)) as source:
            if not source.streams.video:
                raise MediaError(f"clip {clip.id} has no picture: expected a video file", clip.id)
            _check_length((source.duration or 0) / av.time_base, clip, window)
            data = _copy(source, window)
        if data is None or len(data) > MAX_BYTES:
            with av.open(str(clip.video)) as source:
                data = _encode(source, window)
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"cannot cut clip {clip.id}: {error}; check the file", clip.id) from error
    if data is None:
        raise MediaError(f"clip {clip.id} has no frame from second {window.start:g} on: use a smaller start", clip.id)
    if len(data) > MAX_BYTES:
        raise MediaError(
            f"clip {clip.id} makes {len(data) / 1e6:.1f} MB of video, at most {MAX_BYTES / 1e6:g} MB go into one "
            "request: use a shorter window",
            clip.id,
        )
    return data


def cut_sound(clip: Clip, window: Window) -> bytes:
    """Give the sound of a window as WAV: 16 kHz, one channel, 16 bits.

    Raises:
        MediaError: no such file, no sound track, or nothing in the window.
    """
    samples = read_sound(clip, SOUND_RATE)
    _check_length(len(samples) / SOUND_RATE, clip, window)
    end = round(window.end * SOUND_RATE) if window.seconds else None
    samples = samples[round(window.start * SOUND_RATE) : end]
    if not samples.size:
        raise MediaError(f"clip {clip.id} has no sound from second {window.start:g} on: use a smaller start", clip.id)
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


def _copy(source: Any, window: Window) -> bytes | None:
    """Copy packets into a new file; None where only encoding again gives exactly the window.

    That is where it does not begin with the clip, the codec is not among the documented ones, an edit list hides
    frames, the picture is stored turned, or a frame in the window needs one behind its end.
    """
    import av

    stream = source.streams.video[0]
    if window.start > 0 or stream.codec_context.name not in COPIED_CODECS:
        return None
    begin = stream.start_time or 0
    packets, first_frame, behind = [], None, False
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


def _encode(source: Any, window: Window) -> bytes | None:
    """Encode the frames of the window again as H.264, upright; None where there is none."""
    import av

    stream = source.streams.video[0]
    begin = (stream.start_time or 0) * stream.time_base
    target = io.BytesIO()
    output = encoder = None
    for frame in source.decode(stream):
        second = float(frame.pts * frame.time_base - begin)
        if second < window.start:
            continue
        if second >= window.end:
            break
        picture = _upright(frame)
        if output is None or encoder is None:
            output, first = av.open(target, "w", format="mp4"), frame.pts
            encoder = output.add_stream("libx264", rate=stream.average_rate, options=ENCODING)
            encoder.width, encoder.height, encoder.pix_fmt = picture.width, picture.height, "yuv420p"
            encoder.codec_context.time_base = frame.time_base
        picture.pts, picture.time_base = frame.pts - first, frame.time_base
        picture.pict_type = 0  # or the encoder would repeat the key frames of the original
        output.mux(encoder.encode(picture))
    if output is None or encoder is None:
        return None
    output.mux(encoder.encode(None))
    output.close()
    return target.getvalue()


def _upright(frame: Any) -> Any:
    """Turn a frame as its display matrix says, with even sides as H.264 wants them."""
    import av

    width, height = frame.width - frame.width % 2, frame.height - frame.height % 2
    if not frame.rotation and (width, height) == (frame.width, frame.height):
        return frame.reformat(format="yuv420p")
    pixels = np.rot90(frame.to_ndarray(format="rgb24")[:height, :width], round(frame.rotation / 90))
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format="yuv420p")
