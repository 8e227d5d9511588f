"""Audio files whose timestamps are chosen, written with PyAV."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from blemore_harness.clips import Clip
from media_files import clip_of

RATE = 16_000
BLOCK = 320
WAVE = (np.random.default_rng(0).integers(-9000, 9000, 2 * RATE) / 32768).astype(np.float32)


def write_times(path: Path, starts: Iterable[int], wave: np.ndarray = WAVE, codec: str = "pcm_s16le") -> Clip:
    """Write blocks of `BLOCK` samples whose timestamps are `starts`, in samples: NUT keeps both exactly."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono")
        for number, start in enumerate(starts):
            part = wave[number * BLOCK : (number + 1) * BLOCK]
            block = av.AudioFrame.from_ndarray(np.round(part * 32768).astype(np.int16)[None], "s16", "mono")
            block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return clip_of(path)


def in_order(*jumps: tuple[int, int]) -> list[int]:
    """Times of all blocks of `WAVE`, from each block on later by so many samples."""
    return [number * BLOCK + sum(by for block, by in jumps if number >= block) for number in range(len(WAVE) // BLOCK)]
