"""Rows and labels for the search of weights, and every backend that searches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from blemore_plugins.late.scorers import CompiledScorer, PlainScorer, Scorer

Array = np.ndarray[Any, Any]


BACKENDS = [
    pytest.param("plain"),
    pytest.param("compiled", marks=pytest.mark.encoders),
]


def make_scorer_of(kind: str, rows: Array, truth: Array) -> Scorer:
    if kind == "compiled":
        pytest.importorskip("numba")
        return CompiledScorer(rows, truth)
    return PlainScorer(rows, truth)


def make_case(seed: int, base_models: int, clips: int, ties: bool = False) -> tuple[Array, Array]:
    """Rows (M, N, 6) and truth (N, 6) with every kind of label.

    `ties` makes rows of few values and equal base models.
    """
    random = np.random.default_rng(seed)
    truth = np.zeros((clips, 6), dtype=np.int8)
    for row in truth:
        one, two = random.choice(5, 2, replace=False)
        share = random.choice([30, 50, 70, 100])
        row[one], row[two] = share, 100 - share
        if share == 100 and random.random() < 0.3:
            row[:] = [0, 0, 0, 0, 0, 100]
    rows = 0.7 * random.dirichlet(np.full(6, 0.5), size=(base_models, clips)) + 0.3 * truth / 100
    if ties:
        # Tenths: values on the grid of thresholds' own scale, many equal ones, zeros, differences such as .4 - .3.
        rows = random.multinomial(10, rows / rows.sum(axis=2, keepdims=True)) / 10
        rows[0] = rows[-1]
    return rows, truth


def ignore(count: int) -> None:
    """Take no notice of progress."""
