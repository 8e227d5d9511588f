"""Makes embeddings of different actors more alike, by directions learnt from the training actors alone.

What an embedding shows of a person is noise for other persons. The directions are those of a linear discriminant
analysis with the actor as its class: scatter between actors, of means from which the clips' labels are taken out,
against scatter within actors. A clip's part along a direction is shrunk by how much of the scatter there is between
actors. Applied to a clip, this needs neither its actor nor other clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import LabelArray
from blemore_harness.predictions import FloatArray

SMOOTHING = 0.1
"""Share of the within-actor scatter that is replaced by equal scatter in all directions: few clips measure it badly."""

RANK = 1e-6
"""Size, against that of the largest, at which a direction of actor means counts as none."""

BLOCK = 512
"""Rows that are widened to float64 at a time."""

PROBES = 16
"""Random directions that the effective number of dimensions is estimated with."""


@dataclass(frozen=True)
class ActorDirections:
    """Directions that are shrunk: an embedding z becomes z - sum over k of (measured_k . z) removed_k.

    Attributes:
        measured, removed: float64 (K, D). measured_j . removed_k is 0 where j and k differ, else
            ratio_k / (1 + ratio_k): the share of the scatter along the direction that lies between actors.
        ratios: float64 (K,), scatter between actors against scatter within, less what chance leaves; largest first.
    """

    measured: FloatArray
    removed: FloatArray
    ratios: FloatArray

    def apply(self, block: NDArray[np.float32]) -> FloatArray:
        """Return embeddings (N, D) with shrunk directions, in float64.

        Direction by direction: a matrix product would round a row differently among other rows.
        """
        wide = block.astype(np.float64)
        for measured, removed in zip(self.measured, self.removed, strict=True):
            wide -= (wide * measured).sum(axis=1, keepdims=True) * removed
        return wide


def find_actor_directions(vectors: NDArray[np.float32], truth: LabelArray, actors: Sequence[str]) -> ActorDirections:
    """Find the directions in which actors differ by more than chance, against how much the clips of one actor differ.

    Means by label are subtracted first, so that actors who acted other labels do not differ by that. Directions lie in
    the span of the actors' means, of fewer dimensions than there are actors, however wide embeddings are.

    Args:
        vectors: standardised, float32 (N, D), one row for each clip.
        truth: int8 (N, 6).
        actors: one for each clip.
    """
    label = np.unique(truth, axis=0, return_inverse=True)[1].ravel()
    names, actor = np.unique(np.array(actors), return_inverse=True)
    sizes, count = np.bincount(actor), len(actor)
    by_label = _means(vectors, label)
    together = np.zeros((len(names), len(by_label)))
    np.add.at(together, (actor, label), 1)
    # Actors' means of embeddings minus the mean of their label, without a second copy of the embeddings.
    means = _means(vectors, actor) - together / sizes[:, None] @ by_label
    _, spread, axes = np.linalg.svd(np.sqrt(sizes)[:, None] * means, full_matrices=False)
    axes = axes[: min(len(names) - 1, int((spread > RANK * spread[0]).sum()))]
    probes = np.random.default_rng(0).standard_normal((PROBES, vectors.shape[1]))
    directions = np.concatenate([axes, probes]).T
    # Parts of clips along directions, less those of their label and their actor.
    parts = _times(vectors, directions) - (by_label @ directions)[label] - (means @ directions)[actor]
    inside, probed = parts[:, : len(axes)], parts[:, len(axes) :]
    freedom = max(1, count - len(names) - len(by_label) + 1)
    root = np.linalg.cholesky(_smooth(inside.T @ inside / freedom))
    between = np.sqrt(sizes)[:, None] * (means @ axes.T)
    turned = np.linalg.solve(root, between.T) / np.sqrt(count)
    ratios, leading = np.linalg.eigh(turned @ turned.T)
    by_label_sums = np.stack([probed[label == each].sum(axis=0) for each in range(len(by_label))])
    back = _times(vectors.T, probed) - by_label.T @ by_label_sums
    dimensions = _effective_dimensions(probed, back, freedom)
    # The largest ratio among actors who do not differ (Marchenko and Pastur 1967).
    ratios = ratios[::-1] - np.square(np.sqrt(dimensions) + np.sqrt(len(names) - 1)) / count
    kept = int((ratios > 0).sum())
    ratios, leading = ratios[:kept], leading[:, ::-1][:, :kept]
    share = ratios / (1 + ratios)
    measured = np.linalg.solve(root.T, leading).T @ axes
    return ActorDirections(measured, share[:, None] * ((root @ leading).T @ axes), ratios)


def _means(vectors: NDArray[np.float32], group: NDArray[np.intp]) -> FloatArray:
    """Return the mean, float64 (G, D), of the rows of each group."""
    return np.stack([vectors[group == each].mean(axis=0, dtype=np.float64) for each in range(int(group.max()) + 1)])


def _times(left: NDArray[np.float32], right: FloatArray) -> FloatArray:
    """Return the product in float64, without a copy of all of `left` in it."""
    return np.concatenate([left[start : start + BLOCK] @ right for start in range(0, len(left), BLOCK)])


def _smooth(within: FloatArray) -> FloatArray:
    size = len(within)
    mean = float(np.trace(within)) / size if size else 0.0
    if mean <= 0:  # one clip per actor
        return np.eye(size)
    return (1 - SMOOTHING) * within + SMOOTHING * mean * np.eye(size)


def _effective_dimensions(probed: FloatArray, back: FloatArray, freedom: int) -> float:
    """Estimate tr(C)^2 / tr(C^2) of the scatter C that rows R were drawn with.

    Args:
        probed, back: R g (N, P) and R'R g (D, P) for standard normal g, whose squares add up to P tr(R'R) and
            P tr((R'R)^2) in the mean.
        freedom: degrees of freedom of R'R = S. The mean of tr(S^2) is freedom^2 tr(C^2) + freedom tr(C)^2.
    """
    trace, square = (float(np.square(each).sum()) / probed.shape[1] for each in (probed, back))
    if not trace:
        return 0.0
    # At most as many as there are: with few clips the difference may be lost.
    return 1 / max(square / trace**2 - 1 / freedom, 1 / len(back))
