"""Measure decoding: `media.iter_frames` against decord and PyAV, each as their documentation reads a file.

    python benchmarks/decoding.py [--seconds 4] [--rounds 5]

Writes H.264 clips of 192 px and 720p to a temporary folder and reads them in this one process, all ways in turns; the
best round counts. The ratio is to the faster of the two others; decord is left out where it is not installed
(`pip install decord2`). CPU time is printed as well: on a shared machine it says more than the wall clock.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from videos import Format, write_videos

from blemore_harness.clips import Clip
from blemore_harness.media.frames import iter_frames

SIZES = ((192, 192), (720, 1280))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for height, width in SIZES:
            folder = Path(name) / str(height)
            folder.mkdir()
            [clip] = write_videos(folder, 1, Format(options.seconds, height, width))
            measure(clip, f"{width}x{height}", options.rounds)


def measure(clip: Clip, title: str, rounds: int) -> None:
    """Print a line for every way of reading a clip."""
    ways = {"harness": read_here, "harness, every 2nd": read_every_second, "PyAV": read_pyav, "decord": read_decord}
    try:
        import decord  # noqa: F401
    except ImportError:
        del ways["decord"]
    counts = {name: way(clip) for name, way in ways.items()}  # imports, and the file into memory
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(timed(way, clip))
    best = {name: np.array(found).min(axis=0) for name, found in times.items()}
    others = np.min([best[name] for name in ("PyAV", "decord") if name in best], axis=0)
    for name, found in best.items():
        wall, cpu = found / others
        print(
            f"{title} {name:<18} {counts[name]} frames, {1000 * found[0]:.0f} ms ({wall:.2f} times the faster of PyAV "
            f"and decord), CPU {1000 * found[1]:.0f} ms ({cpu:.2f} times)"
        )


def timed(way: Callable[[Clip], int], clip: Clip) -> tuple[float, float]:
    """Return seconds on the wall clock and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    way(clip)
    return time.perf_counter() - wall, time.process_time() - cpu


def read_here(clip: Clip) -> int:
    return sum(1 for _ in iter_frames(clip))


def read_every_second(clip: Clip) -> int:
    return sum(1 for _ in iter_frames(clip, 2))


def read_pyav(clip: Clip) -> int:
    import av

    with av.open(str(clip.video)) as container:
        return len([frame.to_ndarray(format="rgb24").shape for frame in container.decode(video=0)])


def read_decord(clip: Clip) -> int:
    import decord

    reader = decord.VideoReader(str(clip.video))
    return len([reader[number].asnumpy().shape for number in range(len(reader))])


if __name__ == "__main__":
    main()
