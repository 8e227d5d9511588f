"""Measure the cache of decoded frames: reading back against decoding the video, what JPEG costs, what a frame takes.

    python benchmarks/frame_cache.py [--frames 60] [--rounds 3]

Writes clips with the sharpness of camera pictures (smoothed noise that moves, and a little grain) to a temporary
folder, as H.264 with one key frame, and times both ways in this one process, in turns; the best round counts.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from blemore_harness.cache import Cache
from blemore_harness.clips import Clip
from blemore_harness.media.frame_cache import SHORT_SIDE, open_frames, shrunk_size
from blemore_harness.media.frames import iter_frames, resize

SIZES = ((1080, 1920), (720, 1280), (144, 192))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for height, width in SIZES:
            measure(Path(name), height, width, options.frames, options.rounds)


def measure(folder: Path, height: int, width: int, count: int, rounds: int) -> None:
    """Print one line about clips of one size."""
    path = folder / f"{height}.mov"
    write(path, pictures(height, width, count))
    clip = Clip("c", path, content=hashlib.sha256(path.read_bytes()).hexdigest())
    cache = open_frames(Cache(folder / "cache"))
    size = shrunk_size(height, width, SHORT_SIDE)

    def decode() -> np.ndarray:
        return np.stack([resize(frame[None], size)[0] for frame in iter_frames(clip)])

    exact = decode()
    filled, kept = timed(lambda: cache.read(clip))
    error = np.abs(kept.astype(np.int16) - exact).mean()
    times = [(timed(decode)[0], timed(lambda: cache.read(clip))[0]) for _ in range(rounds)]
    fresh, back = (min(column) for column in zip(*times, strict=True))
    stored = cache.store.path(clip).stat().st_size / count / 1024
    print(
        f"{width}x{height}, {count} frames: decode {1000 * fresh:.0f} ms, first read {1000 * filled:.0f} ms, read back "
        f"{1000 * back:.0f} ms: {fresh / back:.1f} times faster; {stored:.0f} KiB a frame, error {error:.2f} levels"
    )


def timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Return seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def pictures(height: int, width: int, count: int) -> Iterator[np.ndarray]:
    """Return moving pictures: noise at three scales, as cameras see surfaces, that drifts, with grain of 2 levels."""
    generator = np.random.default_rng(0)
    wide = (height + count, width + count)
    scene = np.zeros((*wide, 3))
    for divisor, level in ((64, 60), (16, 25), (4, 10)):
        small = generator.uniform(0, 255, (wide[0] // divisor + 1, wide[1] // divisor + 1, 3)).astype(np.uint8)
        blurred = np.asarray(Image.fromarray(small).resize(wide[::-1], Image.Resampling.BICUBIC), dtype=float)
        scene += level / 60 * (blurred - 128)
    for shift in range(count):
        grain = generator.normal(0, 2, (height, width, 1))
        blinded = scene[shift : shift + height, shift : shift + width] + 128 + grain
        yield blinded.clip(0, 255).astype(np.uint8)


def write(path: Path, frames: Iterator[np.ndarray]) -> None:
    """Write H.264 at 30 frames a second."""
    import av

    with av.open(str(path), "w") as container:
        stream = None
        for number, picture in enumerate(frames):
            if stream is None:
                stream = container.add_stream(
                    "libx264", rate=30, options={"crf": "20", "preset": "veryfast", "g": "250"}
                )
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
