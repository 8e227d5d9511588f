"""Made labels and submissions, as an organiser has them."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EMOTIONS = ("ang", "disg", "fea", "hap", "sad", "neu")
SHARES = ((50, 50), (70, 30), (30, 70))

Label = dict[str, int]
"""Percentages of the emotions that are present."""


def draw_label(source: random.Random) -> Label:
    if source.random() < 0.45:
        return {source.choice(EMOTIONS): 100}
    pair = source.sample(EMOTIONS[:5], 2)
    return dict(zip(pair, source.choice(SHARES), strict=True))


def draw_truth(clips: int, seed: int = 0) -> dict[str, Label]:
    source = random.Random(seed)
    return {f"test_{k:04d}": draw_label(source) for k in range(1, clips + 1)}


def answer(truth: Mapping[str, Label], skill: float, seed: int) -> dict[str, Label]:
    """The truth with probability `skill`, else any label."""
    source = random.Random(seed)
    return {name: dict(label) if source.random() < skill else draw_label(source) for name, label in truth.items()}


def as_json(labels: Mapping[str, Label], ending: str = ".mov") -> dict[str, Any]:
    entries = {n: [{"emotion": e, "salience": s} for e, s in label.items()] for n, label in labels.items()}
    return {"predictions": {f"{name}{ending}": entry for name, entry in entries.items()}}


COLUMNS = ("filename", "video_id", "mix", "emotion_1", "emotion_2", "emotion_1_salience", "emotion_2_salience")


def write_reference(
    path: Path, truth: Mapping[str, Label], actors: int = 4, columns: Sequence[str] = COLUMNS, separator: str = ","
) -> Path:
    """Write labels as a table; actors take turns, and 0 leaves the column empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(columns)
        for k, (name, label) in enumerate(truth.items()):
            (one, first), *rest = label.items()
            row = {"filename": name, "video_id": f"T{k % actors}" if actors else "", "mix": len(rest), "emotion_1": one}
            if rest:
                [(two, second)] = rest
                row |= {"emotion_2": two, "emotion_1_salience": first, "emotion_2_salience": second}
            writer.writerow([row.get(column, "") for column in columns])
    return path
