"""Generated clips for benchmarks: moving patterns and a tone with noise, as real video files; frames of drawn faces."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Cache
from blemore_harness.clips import Clip
from blemore_harness.context import Context
from blemore_harness.demo.actors import make_actor
from blemore_harness.demo.faces import draw_frames, draw_portrait
from blemore_harness.demo.performance import play
from blemore_harness.demo.plan import make_plan

RATE, FPS = 16_000, 25
GRAINS = 8
"""Number of noise images that are reused in turn: generating a new one costs more than encoding it."""


class Silence:
    """A reporter that prints nothing."""

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Silence]:
        yield self

    def advance(self, count: int = 1) -> None: ...

    def log(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def note(self, name: str, value: object) -> None: ...


@dataclass(frozen=True)
class Format:
    """Length and size of clips: seconds, pixels."""

    seconds: float = 5.0
    height: int = 540
    width: int = 960

    @property
    def frames(self) -> int:
        """Number of frames of a clip."""
        return round(self.seconds * FPS)


def write_videos(folder: Path, count: int, form: Format) -> list[Clip]:
    """Write clips in parallel."""
    draw = np.random.default_rng(0)
    grain = draw.normal(0, 8, (GRAINS, form.height, form.width, 3)).astype(np.float32)

    def write(number: int) -> Clip:
        return write_video(folder / f"{number}.mp4", number, form, grain)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(write, range(count)))


def write_video(path: Path, number: int, form: Format, grain: np.ndarray) -> Clip:
    """Write one clip; `grain` is float32 (GRAINS, height, width, 3)."""
    import av

    draw = np.random.default_rng(number)
    down, across = (axis.astype(np.float32) / 40 for axis in np.mgrid[0 : form.height, 0 : form.width])
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "12"})
        video.height, video.width, video.pix_fmt = form.height, form.width, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for t in range(form.frames):
            wave = 128 + 70 * np.sin(down + across + np.float32(t / 5 + number))
            picture = (wave[..., None] + grain[t % GRAINS]).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = t, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        tone = 0.3 * np.sin(np.arange(round(form.seconds * RATE)) * (0.05 + 0.01 * number))
        sound = (tone + draw.normal(0, 0.05, tone.shape)).astype(np.float32)
        block = av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")
        block.sample_rate, block.pts, block.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    return Clip(f"film{number}", path, content=hashlib.sha256(path.read_bytes()).hexdigest())


def make_context(folder: Path, device: str) -> Context:
    """Return a context with a separate cache."""
    return Context(device, 0, folder / "work", Cache(folder / "cache"), Silence())


def draw_clips(count: int, length: int) -> Iterator[list[NDArray[np.uint8]]]:
    """Yield the frames, uint8 (192, 192, 3), of clips of different actors of the demo, cut to a length in frames."""
    plan = make_plan(0, count + 1, 1)
    for number in range(count):
        actor, rng = make_actor(0, number), np.random.default_rng(number)
        clip = next(clip for clip in plan.clips if clip.actor == number)
        frames = list(draw_frames(draw_portrait(actor, 0), play(clip, actor.style, rng), rng))
        yield frames[:length]
