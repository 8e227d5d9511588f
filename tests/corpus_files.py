"""Small stand-ins of CREMA-D and RAVDESS in the layout of a download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from builders import put

Write = Callable[[Path], object]

EMOTION_CODES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")


def write_crema(folder: Path, actors: int = 6, write: Write = put) -> Path:
    """Six emotions of each actor, as `VideoFlash/*.flv` and `AudioWAV/*.wav`."""
    for actor in range(1001, 1001 + actors):
        for emotion in EMOTION_CODES:
            stem = f"{actor}_DFA_{emotion}_XX"
            _write(folder / "VideoFlash" / f"{stem}.flv", write)
            _write(folder / "AudioWAV" / f"{stem}.wav", write)
    return folder


def write_ravdess(folder: Path, actors: int = 6, write: Write = put) -> Path:
    """Eight emotions of each actor, as `Actor_01/*.mp4`, with and without audio."""
    for actor in range(1, actors + 1):
        for emotion in range(1, 9):
            for modality in ("01", "02"):
                name = f"{modality}-01-{emotion:02d}-01-02-01-{actor:02d}.mp4"
                _write(folder / f"Actor_{actor:02d}" / name, write)
    return folder


def _write(path: Path, write: Write) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)


def write_tiny(path: Path) -> None:
    """Write real media of the kind that the ending says, which follow the name: Flash video with MP3, WAV, or MP4."""
    import av

    random = np.random.default_rng(list(path.name.encode()))
    codec, rate = {".flv": ("libmp3lame", 44_100), ".wav": ("pcm_s16le", 16_000)}.get(path.suffix, ("aac", 16_000))
    tone = 0.3 * np.sin(2 * np.pi * random.uniform(100, 400) * np.arange(rate) / rate)
    with av.open(str(path), "w") as container:
        video = audio = None
        if path.suffix != ".wav":
            video = container.add_stream("flv1" if path.suffix == ".flv" else "mpeg4", rate=10)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        if not path.name.startswith("02-"):
            audio = container.add_stream(codec, rate=rate, layout="mono")
        if video is not None:
            for _ in range(10):
                picture = np.full((48, 64, 3), random.integers(0, 255, 3), dtype=np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(video.encode(None))
        if audio is not None:
            block = av.AudioFrame.from_ndarray((tone * 32767).astype(np.int16)[None], "s16", "mono")
            block.sample_rate = rate
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))
