"""Plain statistics of frames and audio: what stand-in servers answer with in place of a model."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 3072
"""Length of an embedding."""

Floats = NDArray[np.float32]

SIDE = 80
"""Side of the analysed grey images in pixels."""

CELL = 8
"""Side of the squares over which edges are counted, in pixels."""

ORIENTATIONS = 8
"""Bins of edge orientation over half a turn."""

SHADES = 16
"""Number of squares per side of the image over which shades and movements are averaged."""

MOMENTS = 12
"""Maximum number of analysed frames, evenly spaced."""

BANDS, FFT = 32, 512
"""Bands of the audio's spectrum, and samples per window."""


class Embedder:
    """Converts media into embeddings of length 1, float32 (3072,), deterministically."""

    def __init__(self) -> None:
        self._rows = {name: _projection(seed, size) for seed, (name, size) in enumerate(BLOCKS.items())}

    def embed(self, video: bytes | None, sound: bytes | None) -> Floats:
        """Return the embedding of video, audio or both.

        Raises:
            ValueError: bytes that are no such media.
        """
        blocks: dict[str, Floats] = {}
        if video is not None:
            blocks |= describe_pictures(read_frames(video))
        if sound is not None:
            blocks |= describe_sound(*read_audio(sound))
        total = np.zeros(SIZE, np.float32)
        for name, values in blocks.items():
            total += _unit(values) @ self._rows[name]
        if not total.any():
            total[0] = 1  # black and silent media have no direction, and every vector has length 1
        return _unit(total)


GRID = SIDE // CELL
BLOCKS = {
    "edges": GRID * GRID * ORIENTATIONS,
    "edge changes": GRID * GRID * ORIENTATIONS,
    "shades": SHADES * SHADES,
    "shade changes": SHADES * SHADES,
    "motion": SHADES * SHADES,
    "sound": 4 * BANDS,
}
"""Blocks of a description and their sizes."""


def read_frames(video: bytes) -> Floats:
    """Decode up to `MOMENTS` frames, evenly spread: float32 (T, SIDE, SIDE), 0 to 1."""
    import av

    try:
        with av.open(io.BytesIO(video)) as source:
            frames = list(source.decode(video=0))
            chosen = np.linspace(0, len(frames) - 1, min(MOMENTS, len(frames))).round().astype(int)
            pictures = [frames[i].reformat(SIDE, SIDE, "gray", threads=1).to_ndarray() for i in chosen]
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise ValueError(f"no video ({type(error).__name__})") from None
    if not pictures:
        raise ValueError("a video without frames")
    return np.asarray(np.stack(pictures) / 255, dtype=np.float32)


def read_audio(sound: bytes) -> tuple[Floats, int]:
    """Decode a WAV of 16 bits and one channel: float32 samples within -1 to 1, and their rate."""
    try:
        with wave.open(io.BytesIO(sound)) as file:
            data, rate = file.readframes(file.getnframes()), file.getframerate()
    except (wave.Error, EOFError) as error:
        raise ValueError(f"no WAV ({error})") from None
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2")
    return np.asarray(samples / 32768, dtype=np.float32), rate


def describe_pictures(frames: Floats) -> dict[str, Floats]:
    """Describe (T, SIDE, SIDE) grey pictures: how they look, how that changes, and where things move."""
    edges = count_edges(frames)
    shades = _pool(frames, SIDE // SHADES)
    shades = shades - shades.mean(axis=(1, 2), keepdims=True)
    start, later = slice(0, max(1, len(frames) // 8)), slice(len(frames) // 3, None)
    moves = np.abs(np.diff(frames, axis=0)).mean(axis=0) if len(frames) > 1 else np.zeros_like(frames[0])
    return {
        "edges": edges[later].mean(axis=0).ravel(),
        "edge changes": (edges[later].mean(axis=0) - edges[start].mean(axis=0)).ravel(),
        "shades": shades[later].mean(axis=0).ravel(),
        "shade changes": (shades[later].mean(axis=0) - shades[start].mean(axis=0)).ravel(),
        "motion": np.sqrt(_pool(moves[None], SIDE // SHADES)[0]).ravel(),
    }


def count_edges(frames: Floats) -> Floats:
    """Return the share of each orientation in the edges of each square: float32 (T, GRID, GRID, ORIENTATIONS)."""
    down, right = np.gradient(frames, axis=1), np.gradient(frames, axis=2)
    strength = np.hypot(down, right)
    turn = np.floor(np.arctan2(down, right) * (ORIENTATIONS / np.pi)).astype(np.int32) % ORIENTATIONS
    time, row, column = np.ogrid[: len(frames), :SIDE, :SIDE]
    square = (time * GRID + row // CELL) * GRID + column // CELL
    counts = np.bincount(
        (square * ORIENTATIONS + turn).ravel(), strength.ravel(), len(frames) * GRID * GRID * ORIENTATIONS
    )
    edges = counts.reshape(len(frames), GRID, GRID, ORIENTATIONS) / CELL**2
    return np.asarray(np.sqrt(edges / (edges.sum(axis=-1, keepdims=True) + 0.02)), dtype=np.float32)


def describe_sound(samples: Floats, rate: int) -> dict[str, Floats]:
    """Return features of audio from its spectrum in logarithmic bands: level, spread and movement of each."""
    padded = np.pad(samples, (0, max(0, FFT - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, FFT)[:: FFT // 2] * np.hanning(FFT)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    borders = np.geomspace(80, rate / 2, BANDS + 1) / rate * FFT
    first = np.minimum(borders[:-1].astype(int), FFT // 2)
    bands = np.stack(
        [power[:, a : max(a + 1, int(b))].mean(axis=1) for a, b in zip(first, borders[1:], strict=True)], 1
    )
    level = np.log(bands + 1e-6)
    level = (level - level.mean()) / (level.std() + 1e-3)
    change = np.abs(np.diff(level, axis=0)).mean(axis=0) if len(level) > 1 else np.zeros(BANDS)
    parts: Sequence[Any] = (level.mean(axis=0), level.std(axis=0), change, np.percentile(level, 90, axis=0))
    return {"sound": np.concatenate(parts).astype(np.float32)}


def _pool(pictures: Floats, step: int) -> Floats:
    count, height, width = pictures.shape
    return np.asarray(pictures.reshape(count, height // step, step, width // step, step).mean(axis=(2, 4)), np.float32)


def _unit(values: Floats) -> Floats:
    length = float(np.linalg.norm(values))
    return np.asarray(values / length if length > 0 else values, dtype=np.float32)


def _projection(seed: int, size: int) -> Floats:
    rows = np.random.default_rng(seed).standard_normal((size, SIZE), dtype=np.float32)
    return np.asarray(rows / np.sqrt(SIZE), dtype=np.float32)
