"""Small clips with known pictures and sound, written with PyAV."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np

from blemore_harness.dataset import Clip

FPS = 25


def gradient_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth pictures that differ from frame to frame: uint8 (count, height, width, 3)."""
    down, across = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    frames = [
        np.stack([40 + 150 * down, 30 + 170 * across, np.full_like(down, 30 + 6 * (number % 32))], axis=-1)
        for number in range(count)
    ]
    return np.round(frames).astype(np.uint8)


def sine(seconds: float, rate: int, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    """A pure tone, float32 (samples,)."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_media(
    path: Path,
    frames: np.ndarray | None = None,
    sound: np.ndarray | None = None,
    rate: int = 44_100,
    codec: str = "aac",
    **options: str,
) -> Path:
    """Write a file with H.264 picture and sound (float32, (samples,) or (channels, samples)), either or both."""
    import av

    with av.open(str(path), "w", options=options) as container:
        video = audio = None
        if frames is not None:
            video = container.add_stream("libx264", rate=FPS, options={"crf": "4", "g": "12"})
            video.height, video.width = frames.shape[1:3]
            video.pix_fmt = "yuv420p"
        if sound is not None:
            sound = np.atleast_2d(sound)
            audio = container.add_stream(codec, rate=rate, layout="mono" if len(sound) == 1 else "stereo")
        if video is not None:
            for number, picture in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if audio is not None:
            planar = codec == "aac"
            values = sound if planar else np.round(sound.T.reshape(1, -1) * 32767).astype(np.int16)
            block = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(values), "fltp" if planar else "s16", "mono" if len(sound) == 1 else "stereo"
            )
            block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def clip_of(path: Path, name: str = "k7") -> Clip:
    """The clip of a file, as the harness hands it out."""
    content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "0"
    return Clip(name, path, content=content)
