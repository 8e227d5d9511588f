"""Rows around the truth with actors and folds, for whatever chooses thresholds on them."""

from __future__ import annotations

import numpy as np

from blemore_harness.decoding.label_model import all_labels
from blemore_harness.decoding.strategies import Sample, make_sample

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
