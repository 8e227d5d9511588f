"""Small clips with known pictures and audio, written with PyAV."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

from blemore_harness.clips import Clip
from blemore_harness.errors import BlemoreError, MediaError

FPS = 25


def gradient_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth pictures that differ from frame to frame: uint8 (count, height, width, 3)."""
    down, across = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    frames = [
        np.stack([40 + 150 * down, 30 + 170 * across, np.full_like(down, 30 + 6 * (number % 32))], axis=-1)
        for number in range(count)
    ]
    return np.round(frames).astype(np.uint8)


ENCODING = {"crf": "4", "g": "12", "threads": "1", "x264-params": "mbtree=0"}
"""With B-frames, as cameras write; the same bytes each time, which needs one thread and no macroblock tree."""


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
    """Write a file with H.264 picture and audio (float32, (samples,) or (channels, samples)), either or both."""
    import av

    with av.open(str(path), "w", options=options) as container:
        video = audio = None
        if frames is not None:
            video = container.add_stream("libx264", rate=FPS, options=ENCODING)
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


def drifting_blocks(side: int) -> np.ndarray:
    """Sixty frames of pale blocks that change a little, uint8 (60, side, side, 3)."""
    noise, count = np.random.default_rng(0).integers(0, 255, (side, side, 3)), side // 8
    means = [np.roll(noise, shift, 0).reshape(count, 8, count, 8, 3).mean(axis=(1, 3)) for shift in range(60)]
    return np.stack([np.kron(mean, np.ones((8, 8, 1))) for mean in means]).astype(np.uint8)


def printed_with_other_memory(code: str, *arguments: str) -> set[str]:
    """What code prints in processes whose fresh memory is filled with one byte or another (glibc: MALLOC_PERTURB_)."""
    words = [sys.executable, "-c", code, *arguments]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    found = set()
    for byte in ("0", "1", "90"):
        environment = os.environ | {"MALLOC_PERTURB_": byte, "PYTHONPATH": path}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout.strip())
    return found


def clip_of(path: Path, name: str = "k7") -> Clip:
    """The clip of a file, as the harness hands it out."""
    content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "0"
    return Clip(name, path, content=content)


def refusal(error: BlemoreError, clip: Clip) -> str:
    """The line that a clip is refused with."""
    assert isinstance(error, MediaError), repr(error)
    assert error.clip == clip.id
    assert f"clip {clip.id}" in str(error)
    assert str(error).isprintable()
    return str(error)
