"""Rows around the truth with actors and folds, for whatever chooses thresholds on them."""

from __future__ import annotations

import numpy as np

from blemore_harness.decoding.label_model import all_labels
from blemore_harness.decoding.strategies import Sample, make_sample
from blemore_harness.protocol.rules import NEUTRAL

LABELS = all_labels()


def sample(clips: int = 240, folds: int = 3, seed: int = 0, bias: float = 0.0) -> Sample:
    """Rows around the truth, with errors of each actor's own where asked; four actors per fold."""
    random = np.random.default_rng(seed)
    truth = LABELS[random.integers(len(LABELS), size=clips)]
    actors = np.arange(clips) % (4 * folds)
    logits = np.log(truth / 100 + 0.2) + random.normal(0, 0.5, truth.shape)
    logits += bias * random.normal(0, 1, (4 * folds, 6))[actors]
    powers = np.exp(logits)
    return make_sample(powers / powers.sum(axis=1, keepdims=True), truth, actors % folds, actors)


def literal_features(values: np.ndarray) -> np.ndarray:
    """What speaks for each label, (N, 36, 13), label by label."""
    found: list[list[list[float]]] = []
    for row_ in values:
        logs = [np.log(max(value, 1e-6)) for value in row_]
        found.append([])
        for label in LABELS.tolist():
            there = [k for k in range(6) if label[k]]
            if len(there) == 1:
                speaks = [logs[there[0]], 0.0, 0.0, 0.0]
                kind = [float(there[0] != NEUTRAL), 0.0, 0.0]
            else:
                one, two = there
                even = label[one] == 50
                lean = (label[one] / 100 - 0.5) * (logs[one] - logs[two])
                speaks = [0.0, (logs[one] + logs[two]) / 2, lean, abs(logs[one] - logs[two]) * even]
                kind = [0.0, float(even), float(not even)]
            found[-1].append([*speaks, *(share / 100 for share in label), *kind])
    return np.array(found)
