"""Writes released features as the organisers' download has them: folders per store, and aggregated files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from builders import EMOTIONS, Row, label_of, put, rows_of, write_metadata

OPENFACE = ("emotion_index", "gaze_yaw", "gaze_pitch", "action_units")


def make_sequences(rows: Sequence[Row], tests: int, width: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Features over time that tell the emotions by their means: float32 (T, width) by clip, T from 3 to 8."""
    random = np.random.default_rng(seed)
    places = random.normal(size=(len(EMOTIONS), width))
    labels = {row["filename"]: np.array(label_of(row)) / 100 for row in rows}
    labels |= {f"test_{k:04d}": np.eye(len(EMOTIONS))[k % len(EMOTIONS)] for k in range(1, tests + 1)}
    return {
        name: (2 * label @ places + 0.3 * random.normal(size=(3 + i % 6, width))).astype(np.float32)
        for i, (name, label) in enumerate(labels.items())
    }


def feature_path(folder: Path, store: str, name: str, ending: str = ".npy") -> Path:
    """Where the features of a clip lie in a download."""
    part = "test" if name.startswith("test_") else "train"
    return folder / f"pre_extracted_{part}_data" / f"{store}_{part}" / f"{name}{ending}"


def write_store(folder: Path, store: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write one `.npy` per clip."""
    for name, array in arrays.items():
        path = feature_path(folder, store, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)


def write_released(
    folder: Path, feature_sets: Mapping[str, int], actors: int = 3, folds: int = 3, tests: int = 2
) -> dict[str, dict[str, np.ndarray]]:
    """Write metadata and stores, given by name and width, and no media; returns the features by store, then clip."""
    rows = rows_of(actors, folds)
    write_metadata(folder, rows)
    written = {}
    for number, (store, width) in enumerate(feature_sets.items()):
        written[store] = make_sequences(rows, tests, width, number)
        write_store(folder, store, written[store])
    return written


def literal_statistics(frames: np.ndarray) -> np.ndarray:
    """The organisers' seven statistics, dimension by dimension in Python: float64 (7 x D,)."""

    def percentile(values: list[float], percent: float) -> float:
        at = percent / 100 * (len(values) - 1)
        low = int(at)
        high = min(low + 1, len(values) - 1)
        return values[low] + (at - low) * (values[high] - values[low])

    columns = [[float(value) for value in frames[:, k]] for k in range(frames.shape[1])]
    means = [sum(column) / len(column) for column in columns]
    deviations = [
        (sum((value - mean) ** 2 for value in column) / len(column)) ** 0.5
        for column, mean in zip(columns, means, strict=True)
    ]
    ranks = [[percentile(sorted(column), p) for column in columns] for p in (10, 25, 50, 75, 90)]
    return np.array([*means, *deviations, *(value for rank in ranks for value in rank)])


def write_aggregate(path: Path, vectors: Mapping[str, np.ndarray], ending: str = "") -> Path:
    """Write an aggregated file as the organisers' script does, by `np.savez`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f"{name}{ending}" for name in vectors]
    np.savez(path, X=np.stack(list(vectors.values())), filenames=np.array(names))
    return path


def openface_row(frame: Iterable[float]) -> dict[str, str]:
    """The cells of a frame of 11 numbers."""
    numbers = [float(value) for value in frame]
    cells = {name: str(value) for name, value in zip(OPENFACE, numbers, strict=False)}
    return cells | {"action_units": str(numbers[3:])}


def write_openface(path: Path, frames: np.ndarray, columns: Sequence[str] = ("frame", *OPENFACE)) -> Path:
    """Write frames (T, 11) as the released tables have them, with a column that nobody reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), restval="7", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({"frame": str(i)} | openface_row(frame) for i, frame in enumerate(frames))
    return path


def write_openface_store(folder: Path, frame_features: Mapping[str, np.ndarray]) -> None:
    """Write the released tables of all clips."""
    for name, frames in frame_features.items():
        write_openface(feature_path(folder, "OpenFace_3", name, ".csv"), frames)


def put_features(folder: Path, store: str, name: str, content: bytes) -> Path:
    """Put any bytes where the features of a clip belong."""
    return put(feature_path(folder, store, name), content)
