"""Made-up base models and truth for tests of fusions, and a short way to fit one and predict with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.hookspecs import Fusion
from blemore_harness.predictions import Probabilities
from fakes import RecordingReporter, make_context

Array = np.ndarray[Any, Any]


def make_truth(seed: int, clips: int) -> Array:
    """Labels of every kind, int8 (N, 6): about half of them alone, neutral included."""
    random = np.random.default_rng(seed)
    truth = np.zeros((clips, 6), dtype=np.int8)
    for row in truth:
        if random.random() < 0.5:
            row[random.integers(6)] = 100
        else:
            one, two = random.choice(5, 2, replace=False)
            row[one] = random.choice([30, 50, 70])
            row[two] = 100 - row[one]
    return truth


def make_members(seed: int, truth: Array, skills: tuple[float, ...]) -> dict[str, Array]:
    """Rows of base models that know so much each (0 nothing, 1 everything), by name."""
    random = np.random.default_rng(seed)
    noise = random.dirichlet(np.full(6, 0.8), size=(len(skills), len(truth)))
    return {
        f"m{i}": (1 - skill) * part + skill * truth / 100
        for i, (skill, part) in enumerate(zip(skills, noise, strict=True))
    }


def fit(
    fusion: Fusion, base_models: dict[str, Array], truth: Array, options: Any = None, actors: int = 7, seed: int = 7
) -> tuple[Any, RecordingReporter]:
    """Fit a fusion; returns the model and what it told."""
    ids = tuple(f"c{i}" for i in range(len(truth)))
    names = tuple(f"A{i % actors}" for i in range(len(truth)))
    fold = Fold(0, Clips(tuple(map(Clip, ids)), names, truth), Clips((Clip("x"),)))
    book = RecordingReporter()
    rows = {name: Probabilities(ids, values) for name, values in base_models.items()}
    context = make_context(Path(), reporter=book, seed=seed)
    return fusion.fit(fold, rows, options or fusion.Options(), context), book


def predict(model: Any, base_models: dict[str, Array]) -> Array:
    """Return a model's rows for the base models' rows."""
    count = len(next(iter(base_models.values())))
    ids = tuple(f"p{i}" for i in range(count))
    rows = {name: Probabilities(ids, values) for name, values in base_models.items()}
    found = model.predict(Clips(tuple(map(Clip, ids))), rows, make_context(Path()))
    assert found.ids == ids
    values: Array = found.values
    return values
