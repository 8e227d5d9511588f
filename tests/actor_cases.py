"""Actors with labels and answers, for what is computed over actors."""

from __future__ import annotations

import numpy as np

from blemore_harness.scoring.intervals import ActorCounts
from fakes import LABELS

FOLDS = np.repeat(np.arange(5), [10, 9, 9, 9, 10])
"""Fold of each actor, as in the challenge."""


def clips(seed: int = 0, count: int = 120, actors: int = 9) -> tuple[np.ndarray, ...]:
    """Random truth, two answers, folds and actors."""
    rng = np.random.default_rng(seed)
    truth, one, two = (LABELS[rng.integers(0, len(LABELS), count)].astype(np.int8) for _ in range(3))
    one[::3] = truth[::3]
    actor = rng.integers(0, actors, count)
    return truth, one, two, actor % 3, np.array([f"A{k}" for k in actor])


def simulate(rng: np.random.Generator, rate: float, spread: float = 20.0, folds: np.ndarray = FOLDS) -> ActorCounts:
    """Actors that differ in how often the system is right with them."""
    size = np.full(len(folds), 50)
    half = size // 2
    mine = rng.beta(rate * spread, (1 - rate) * spread, len(folds))
    return ActorCounts(folds, size, half, rng.binomial(size, mine), rng.binomial(half, mine * 0.5))
