"""Which test clips are of one actor, guessed from embeddings of faces and voices; and how good such guesses are.

Test clips carry no actor. Directions in which training clips of different actors differ, and clips of one actor do not,
tell actors apart that were never seen. How well is measured on training folds, whose actors are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemore_harness.decoding.decoders import Groups
from blemore_harness.errors import DataError
from blemore_harness.predictions import FloatArray

COMPONENTS = 64
"""Directions of each base model's embeddings that are kept at most: more than actors need, fewer than clips."""

MERGEABLE = 4
"""Fewer clips than this are left alone."""

SHRINKAGE = 0.1
"""Share of the mean variance that is added to every direction, so that rare directions are not blown up."""


@dataclass(frozen=True)
class Familiarity:
    """Directions that tell actors apart.

    Attributes:
        centre: float64 (D,).
        directions: float64 (D, K): clips are compared in this space.
        clips_per_actor: mean number of training clips of an actor.
    """

    centre: FloatArray
    directions: FloatArray
    clips_per_actor: float

    def group(self, vectors: FloatArray) -> Groups:
        """Put clips into groups that are likely to be of one actor each, int64 (N,); the same number is the same group.

        Groups are merged bottom-up (Ward). How many are left is decided by the best mean silhouette, from the number
        that the training actors' clips suggest to one above twice as many: test actors may have fewer clips.
        """
        from scipy.cluster.hierarchy import fcluster, linkage
        from scipy.spatial.distance import pdist, squareform

        if len(vectors) < MERGEABLE:
            return np.arange(len(vectors), dtype=np.int64)
        space = (vectors - self.centre) @ self.directions
        tree, distances = linkage(space, method="ward"), squareform(pdist(space))
        # With a clip or so per actor, all clips would be groups of their own, which no silhouette can compare.
        suggested = min(max(1, round(len(vectors) / self.clips_per_actor)), len(vectors) - 1)
        counts = range(max(2, suggested), min(2 * suggested + 1, len(vectors) - 1) + 1)
        cuts = [np.asarray(fcluster(tree, count, criterion="maxclust"), dtype=np.int64) for count in counts]
        return max(cuts, key=lambda groups: silhouette(distances, groups))


def silhouette(distances: FloatArray, groups: Groups) -> float:
    """Return the mean silhouette: how much nearer clips are to their own group than to the next (Rousseeuw, 1987).

    Args:
        distances: float64 (N, N).
        groups: int64 (N,).
    """
    names, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < 2:
        return -1.0
    sums = np.zeros((len(groups), len(names)))
    np.add.at(sums.T, index, distances)
    own = sums[np.arange(len(groups)), index] / np.maximum(counts[index] - 1, 1)
    means = sums / counts
    means[np.arange(len(groups)), index] = np.inf
    other = means.min(axis=1)
    widths = (other - own) / np.maximum(np.maximum(own, other), 1e-12)
    return float(np.where(counts[index] > 1, widths, 0.0).mean())


def learn_actors(vectors: FloatArray, actors: Groups) -> Familiarity:
    """Learn which directions tell actors apart: linear discriminants with shrinkage.

    Args:
        embeddings: float64 (N, D) of training clips.
        actors: int64 (N,), a number per actor.

    Raises:
        DataError: fewer than two actors.
    """
    names, index, counts = np.unique(actors, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise DataError(f"telling actors apart is trained on at least 2 of them, found {len(names)}")
    centre = vectors.mean(axis=0)
    means = np.zeros((len(names), vectors.shape[1]))
    np.add.at(means, index, vectors - centre)
    means /= counts[:, None]
    within = vectors - centre - means[index]
    scatter = within.T @ within / len(vectors)
    scatter += SHRINKAGE * np.trace(scatter) / len(scatter) * np.eye(len(scatter))
    spread, axes = np.linalg.eigh(scatter)
    whiten = axes / np.sqrt(np.maximum(spread, 1e-12))
    _, strengths, between = np.linalg.svd(means @ whiten, full_matrices=False)
    kept = strengths > 1e-9 * strengths[0]
    return Familiarity(centre, whiten @ between[kept].T, float(counts.mean()))


def join_vectors(base_models: Sequence[NDArray[np.float32]]) -> FloatArray:
    """Put the embeddings of several base models side by side, each standardised and reduced to its main directions.

    Args:
        base_models: float32 (N, D) each, of the same clips.

    Returns:
        float64 (N, K).

    Raises:
        DataError: no base model.
    """
    if not base_models:
        raise DataError("clips can be grouped by actor only where a base model gives embeddings (defines `embed`)")
    joined = []
    for values in base_models:
        scaled = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
        spread = scaled.std(axis=0)
        scaled = scaled[:, spread > 1e-8] / spread[spread > 1e-8]
        left, strengths, _ = np.linalg.svd(scaled, full_matrices=False)
        kept = left[:, :COMPONENTS] * strengths[:COMPONENTS]
        joined.append(kept / max(float(np.sqrt((kept**2).sum(axis=1).mean())), 1e-12))
    return np.concatenate(joined, axis=1)


def rand_index(one: Groups, two: Groups) -> float:
    """Return the adjusted Rand index of two groupings: 1 for the same, about 0 for chance (Hubert and Arabie, 1985).

    >>> rand_index(np.array([0, 0, 1, 1]), np.array([5, 5, 3, 3]))
    1.0
    """
    table = np.zeros((len(np.unique(one)), len(np.unique(two))))
    np.add.at(table, (np.unique(one, return_inverse=True)[1], np.unique(two, return_inverse=True)[1]), 1)
    pairs = (table * (table - 1) / 2).sum()
    rows, columns = (float((s * (s - 1) / 2).sum()) for s in (table.sum(axis=1), table.sum(axis=0)))
    expected = rows * columns / max(len(one) * (len(one) - 1) / 2, 1.0)
    most = (rows + columns) / 2
    return 1.0 if most == expected else float((pairs - expected) / (most - expected))
