"""The official folds of actors, and folds made from a seed if the metadata has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import LabelArray
from blemore_harness.errors import ConfigError, MetadataError

OFFICIAL_FOLDS: Mapping[int, tuple[str, ...]] = {
    0: ("A26", "A74", "A200", "A303", "A334", "A405", "A411", "A412", "A427", "A428"),
    1: ("A65", "A102", "A201", "A205", "A223", "A300", "A332", "A404", "A407"),
    2: ("A72", "A75", "A91", "A103", "A326", "A410", "A416", "A438", "A2301"),
    3: ("A18", "A55", "A220", "A323", "A327", "A402", "A422", "A425", "A435"),
    4: ("A218", "A221", "A307", "A337", "A408", "A417", "A424", "A437", "A2305", "A2313"),
}
"""The organisers' released assignment of training actors (2026-02)."""

FOLD_COUNT = 5
"""Number of folds of the official protocol."""

_TRIES = 64
"""Number of random orders tried when folds are made; more hardly improve the balance of a dataset of this size."""


def are_official(actors: Sequence[str], folds: NDArray[np.int64]) -> bool:
    """Return whether every actor is in the organisers' fold and no official actor is missing."""
    official = {actor: fold for fold, names in OFFICIAL_FOLDS.items() for actor in names}
    found = {actor: int(fold) for actor, fold in zip(actors, folds, strict=True)}
    return found == official


def make_folds(actors: Sequence[str], truth: LabelArray, seed: int, count: int = FOLD_COUNT) -> NDArray[np.int64]:
    """Make actor-disjoint folds that are balanced in labels.

    Actors are assigned one at a time, each to the fold whose label counts it brings closest to an equal share; the
    most balanced of 64 random orders is kept.

    Args:
        actors: actor of each clip (N).
        truth: int8 (N, 6) percentages.
        seed: seed of the random orders.
        count: number of folds.

    Returns:
        int64 (N,), the fold of each clip.

    Raises:
        MetadataError: fewer actors than folds.
        ConfigError: a negative seed.
    """
    if seed < 0:
        raise ConfigError(f"expected a fold seed of at least 0, found {seed}")
    names = sorted(set(actors))
    if len(names) < count:
        raise MetadataError(f"{count} actor-disjoint folds need at least {count} actors, found {len(names)}")
    _, label = np.unique(truth, axis=0, return_inverse=True)
    position = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), int(label.max()) + 1))
    np.add.at(counts, (np.array([position[a] for a in actors]), label.reshape(-1)), 1)
    share = counts.sum(axis=0) / count
    random = np.random.default_rng(seed)
    best: tuple[float, NDArray[np.int64]] | None = None
    for _ in range(_TRIES):
        assigned = _deal(counts[order := random.permutation(len(names))], share, count)
        fold_of = np.empty(len(names), dtype=np.int64)
        fold_of[order] = assigned
        totals = np.stack([counts[fold_of == k].sum(axis=0) for k in range(count)])
        imbalance = float(((totals - share) ** 2).sum())
        if best is None or imbalance < best[0]:
            best = (imbalance, fold_of)
    assert best is not None
    return best[1][[position[a] for a in actors]]


def _deal(counts: NDArray[np.float64], share: NDArray[np.float64], folds: int) -> list[int]:
    """Assign actors (rows of label counts) to folds in order; no fold is empty."""
    totals = np.zeros((folds, counts.shape[1]))
    base_models = [0] * folds
    assigned = []
    for i, row in enumerate(counts):
        cost = ((totals + row - share) ** 2).sum(axis=1) - ((totals - share) ** 2).sum(axis=1)
        empty = [k for k in range(folds) if base_models[k] == 0]
        allowed = empty if len(counts) - i <= len(empty) else range(folds)
        fold = min(allowed, key=lambda k: (cost[k], base_models[k], k))
        totals[fold] += row
        base_models[fold] += 1
        assigned.append(fold)
    return assigned
