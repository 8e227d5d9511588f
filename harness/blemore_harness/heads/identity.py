"""Removes directions of embeddings that tell actors apart, learnt from the training actors alone.

What an embedding shows of a person is noise for other persons. The directions are those of a linear discriminant
analysis with the actor as its class: scatter between actors, of means from which the clips' labels are taken out,
against scatter within actors. Applied to a clip, they need neither its actor nor other clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import LabelArray
from blemore_harness.predictions import FloatArray

SHRINKAGE = 0.1
"""Share of the within-actor scatter that is replaced by equal scatter in all directions: few clips measure it badly."""

RANK = 1e-6
"""Size, against that of the largest, at which a direction of actor means counts as none."""


@dataclass(frozen=True)
class ActorDirections:
    """Directions that are removed: of an embedding z, z - sum over k of (measured_k . z) removed_k.

    Attributes:
        measured, removed: float64 (K, D), with measured_j . removed_k = 1 where j = k, else 0. Afterwards every
            measured_k . z is 0.
        ratios: float64 (K,), scatter between actors against scatter within, largest first.
    """

    measured: FloatArray
    removed: FloatArray
    ratios: FloatArray

    def apply(self, block: NDArray[np.float32]) -> FloatArray:
        """Return embeddings (N, D) without the directions, in float64.

        Direction by direction: a matrix product would round a row differently among other rows.
        """
        wide = block.astype(np.float64)
        for measured, removed in zip(self.measured, self.removed, strict=True):
            wide -= (wide * measured).sum(axis=1, keepdims=True) * removed
        return wide


def find_actor_directions(
    vectors: NDArray[np.float32], truth: LabelArray, actors: Sequence[str], count: int
) -> ActorDirections:
    """Find the directions in which actors differ most, against how much the clips of one actor differ.

    Means by label are subtracted first, so that actors who acted other labels do not differ by that. Everything
    happens in the span of the actors' means, of fewer dimensions than there are actors, however wide embeddings are.

    Args:
        vectors: standardised, float32 (N, D).
        truth: int8 (N, 6), the label of each row.
        actors: the actor of each row.
        count: how many directions to find; fewer where actors differ in fewer, at most one less than there are actors.
    """
    _, label = np.unique(truth, axis=0, return_inverse=True)
    names, actor = np.unique(np.array(actors), return_inverse=True)
    sizes = np.bincount(actor)
    by_label = _means(vectors, label.ravel())
    sums = np.zeros((len(names), len(by_label)))
    np.add.at(sums, (actor, label.ravel()), 1)
    # Means of embeddings minus the mean of their label, without a second copy of the embeddings.
    means = _means(vectors, actor) - sums / sizes[:, None] @ by_label
    means -= sizes @ means / sizes.sum()
    _, spread, axes = np.linalg.svd(np.sqrt(sizes)[:, None] * means, full_matrices=False)
    axes = axes[: min(len(names) - 1, int((spread > RANK * spread[0]).sum()))]
    inside = vectors @ axes.T - (by_label @ axes.T)[label.ravel()]
    here = means @ axes.T
    inside -= here[actor]
    within = _shrink(inside.T @ inside / len(inside))
    between = (here * sizes[:, None]).T @ here / sizes.sum()
    root = np.linalg.cholesky(within)
    turned = np.linalg.solve(root, np.linalg.solve(root, between).T)
    ratios, leading = np.linalg.eigh((turned + turned.T) / 2)
    ratios, leading = ratios[::-1][:count], leading[:, ::-1][:, :count]
    return ActorDirections(np.linalg.solve(root.T, leading).T @ axes, (root @ leading).T @ axes, ratios)


def _means(vectors: NDArray[np.float32], group: NDArray[np.intp]) -> FloatArray:
    """Return the mean, float64 (G, D), of the rows of each group."""
    return np.stack([vectors[group == each].mean(axis=0, dtype=np.float64) for each in range(int(group.max()) + 1)])


def _shrink(within: FloatArray) -> FloatArray:
    size = len(within)
    mean = float(np.trace(within)) / size if size else 0.0
    if mean <= 0:  # one clip per actor
        return np.eye(size)
    return (1 - SHRINKAGE) * within + SHRINKAGE * mean * np.eye(size)
