"""Where the real BLEMORE material lies, read without the harness; tests that need it are skipped where it is absent."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

EMOTIONS = ["ang", "disg", "fea", "hap", "sad", "neu"]
REAL = Path(__file__).parents[2] / "shared" / "blemore"

needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real BLEMORE material (../shared/blemore) is not here")


def real_labels() -> dict[str, list[int]]:
    """Labels from the columns of the real metadata, read without the harness."""
    labels = {}
    with (REAL / "train_metadata.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            label = [0] * 6
            if row["emotion_2"]:
                label[EMOTIONS.index(row["emotion_1"])] = int(float(row["emotion_1_salience"]))
                label[EMOTIONS.index(row["emotion_2"])] = int(float(row["emotion_2_salience"]))
            else:
                label[EMOTIONS.index(row["emotion_1"])] = 100
            labels[row["filename"]] = label
    return labels
