"""Actors with labels and answers, for what is computed over actors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from blemore_harness.protocol.grid import Choice, count_grids
from blemore_harness.protocol.rules import decode, score
from blemore_harness.protocol.thresholds import cross_fitted
from blemore_harness.scoring.intervals import ActorCounts, count_actors
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


def literal_scores(truth: np.ndarray, said: np.ndarray, folds: np.ndarray) -> list[float]:
    """The mean over folds of the official accuracies."""
    found = [score(truth[folds == k], said[folds == k]) for k in sorted(set(folds.tolist()))]
    presence = sum(s.presence for s in found) / len(found)
    salience = sum(s.salience for s in found) / len(found)
    return [presence, salience, (presence + salience) / 2]


def rows_of_pair(seed: int, actors: int, each: int = 12) -> tuple[np.ndarray, ...]:
    """Truth, rows of two systems that are equally good, folds and actors; two folds."""
    rng = np.random.default_rng(seed)
    actor = np.repeat(np.arange(actors), each)
    truth = LABELS[rng.integers(0, len(LABELS), len(actor))].astype(np.int8)
    values = []
    for _ in range(2):
        logits = truth / 40 + rng.normal(0, 0.8, truth.shape) + rng.normal(0, 0.4, (actors, 6))[actor]
        powers = np.exp(logits * np.exp(rng.normal(0, 0.3, actors))[actor, None])
        values.append(powers / powers.sum(axis=1, keepdims=True))
    return truth, values[0], values[1], actor % 2, np.array([f"A{k}" for k in actor])


def counted(values: np.ndarray, truth: np.ndarray, folds: np.ndarray, actors: np.ndarray) -> ActorCounts:
    """Count what is right with cross-fitted thresholds, and at all thresholds."""
    counts = count_actors(truth, decode_by_fold(values, folds, cross_fitted(values, truth, folds)), folds, actors)
    return replace(counts, grids=count_grids(values, truth, folds, actors))


def decode_by_fold(values: np.ndarray, folds: np.ndarray, chosen: dict[int, Choice]) -> np.ndarray:
    """Decode each fold's rows with that fold's alpha and beta."""
    labels = np.zeros(values.shape, dtype=np.int8)
    for fold, choice in chosen.items():
        labels[folds == fold] = decode(values[folds == fold], choice.thresholds.alpha, choice.thresholds.beta)
    return labels
