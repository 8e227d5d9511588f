"""Frames and audio of a clip as files in memory: JPEG and WAV."""

from __future__ import annotations

import io
import wave

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip
from blemore_harness.errors import ExtraMissing
from blemore_harness.media.frames import read_frames, uniform_indices, video_info

SOUND_RATE = 16_000
"""Sampling rate of WAV files in Hz, as expected by speech encoders."""


def make_wav(samples: NDArray[np.float32], rate: int) -> bytes:
    """Return a WAV of one channel and 16 bits; full scale is -1 to 1."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return target.getvalue()


def make_jpegs(clip: Clip, count: int, side: int, quality: int) -> list[bytes]:
    """Return `count` evenly spaced frames as JPEG files, reduced so that no side is longer than `side`.

    Raises:
        MediaError: as of `read_frames`.
        ExtraMissing: pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ExtraMissing('frames need pillow: pip install "blemore-harness[encoders]"') from error
    info = video_info(clip)
    scale = min(1.0, side / max(info.width, info.height))
    size = (max(1, round(info.height * scale)), max(1, round(info.width * scale)))
    found = []
    for frame in read_frames(clip, uniform_indices(info.frames, count).tolist(), size):
        target = io.BytesIO()
        Image.fromarray(frame).save(target, "JPEG", quality=quality)
        found.append(target.getvalue())
    return found
