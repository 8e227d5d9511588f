"""The file that is sent: the window of a clip as MP4, with its audio as AAC if that is wanted."""

from __future__ import annotations

import io
from typing import Any

from blemore_harness.cache import Cache
from blemore_harness.clips import Clip
from blemore_harness.errors import MediaError
from blemore_harness.media.audio import read_audio
from blemore_plugins.gemini.clipping import Window, cut_video

RATE = 48_000
"""Sampling rate of the audio in Hz, as of films."""

BIT_RATE = 128_000
"""Bits per second of the audio, which is one channel."""


def cut_clip(clip: Clip, window: Window, audio: bool, cache: Cache) -> tuple[bytes, float]:
    """Return the window of a clip as MP4, without tags and names, and the length of its video in seconds.

    Raises:
        MediaError: no such file or track, an empty window, or too much for one request.
    """
    import av

    silent = cut_video(clip, window)
    with av.open(io.BytesIO(silent)) as source:
        seconds = (source.duration or 0) / av.time_base
        if not audio:
            return silent, seconds
        samples = read_audio(clip, RATE, cache)[round(window.start * RATE) : round(window.end * RATE)]
        if not samples.size:
            raise MediaError(
                f"clip {clip.id} has no audio from second {window.start:g} on: use nova.audio=false", clip.id
            )
        target = io.BytesIO()
        with av.open(target, "w", format="mp4") as output:
            video = output.add_stream_from_template(source.streams.video[0])
            sound: Any = output.add_stream("aac", rate=RATE, layout="mono", options={"threads": "1"})
            sound.bit_rate = BIT_RATE
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = video
                    output.mux(packet)
            block = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
            block.sample_rate, block.pts = RATE, 0
            output.mux(sound.encode(block))
            output.mux(sound.encode(None))
    return target.getvalue(), seconds
