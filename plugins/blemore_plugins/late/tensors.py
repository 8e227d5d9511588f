"""Scores of many points at once as torch tensors, with the same operations in the same order as the compiled search."""

from __future__ import annotations

from typing import NamedTuple

import torch

from blemore_plugins.late.answers import COUNT, Right

BINS = 21
"""A value lies before, between or after the 20 points of the official grid."""

CHUNK_BYTES = {"cpu": 16 << 20, "cuda": 512 << 20}
"""Memory for the fused rows of the points that are scored together; a search takes about six times as much."""

CHUNK_POINTS = 4_096
"""Points that are scored together at most: their histograms take 21 KiB each, and as much for every group."""


class Tables(NamedTuple):
    """What stays the same for all points.

    Attributes:
        rows: float64 (M, 6, N).
        right: int8 (N, 36), `Right` by clip and by larger times six plus smaller emotion.
        grid: float64 (20,), the official grid.
    """

    rows: torch.Tensor
    right: torch.Tensor
    grid: torch.Tensor


class Sets(NamedTuple):
    """Which sets of clips are scored.

    Attributes:
        group: int64 (N,), group of each clip.
        groups: how many groups there are.
        left_out: by set, the group that it leaves out; below 0 none.
        presence, salience: float64 (S, ...), what so many right answers add to the Score of each set.
    """

    group: torch.Tensor
    groups: int
    left_out: tuple[int, ...]
    presence: torch.Tensor
    salience: torch.Tensor


def chunk_size(clips: int, device: str, groups: int = 1) -> int:
    """Return how many points are scored together, so that memory stays the same for any number of points."""
    fused = CHUNK_BYTES[torch.device(device).type] // (clips * COUNT * 8)
    return min(max(1, fused), max(1, CHUNK_POINTS // groups))


def score_points(tables: Tables, sets: Sets, points: torch.Tensor) -> torch.Tensor:
    """Return the best Score over the grid of thresholds, float64 (S, P), of weights float64 (P, M) for every set."""
    fused = torch.zeros((len(points), *tables.rows.shape[1:]), dtype=torch.float64, device=points.device)
    for base_model, rows in enumerate(tables.rows):
        # A product and a sum: one operation that does both may round only once.
        fused += points[:, base_model, None, None] * rows
    fused.clamp_(max=1.0)
    kind, survived, uneven = _locate(tables, fused)
    number = torch.arange(len(points), device=points.device)[:, None]
    bins = (((number * sets.groups + sets.group) * len(Right) + kind) * BINS + survived) * BINS + uneven
    counts = torch.bincount(bins.flatten(), minlength=len(points) * sets.groups * len(Right) * BINS**2)
    counts = counts.view(len(points), sets.groups, len(Right), BINS, BINS)
    total = counts.sum(dim=1)
    scores = [
        _best(total if left < 0 else total - counts[:, left], presence, salience)
        for left, presence, salience in zip(sets.left_out, sets.presence, sets.salience, strict=True)
    ]
    return torch.stack(scores)


def _locate(tables: Tables, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what each row gets right, how many alphas its smaller value survives, and betas too small.

    Int64 (P, N).
    """
    high = fused[:, 0]
    second = torch.full_like(high, -torch.inf)
    larger_index = torch.zeros(high.shape, dtype=torch.int64, device=fused.device)
    smaller_index = torch.zeros_like(larger_index)
    for emotion in range(1, COUNT):
        value = fused[:, emotion]
        larger, between = value > high, value > second
        smaller_index = torch.where(larger, larger_index, torch.where(between, emotion, smaller_index))
        second = torch.where(larger, high, torch.where(between, value, second))
        larger_index = torch.where(larger, emotion, larger_index)
        high = torch.where(larger, value, high)
    clips = torch.arange(len(tables.right), device=fused.device)
    kind = tables.right[clips, larger_index * COUNT + smaller_index].long()
    survived = torch.searchsorted(tables.grid, second, right=True)
    return kind, survived, torch.searchsorted(tables.grid, high - second, right=False)


def _best(counts: torch.Tensor, worth_presence: torch.Tensor, worth_salience: torch.Tensor) -> torch.Tensor:
    """Return the best Score of histograms (P, kinds, survived alphas, betas too small)."""
    # At alpha number k a row blends if it survives more than k alphas.
    alone = (
        counts[:, Right.SINGLE].sum(dim=2).cumsum(dim=1)[:, :-1] + counts[:, Right.NEVER_BLENDS].sum((1, 2))[:, None]
    )
    presence = alone + _above(counts[:, Right.PAIR :].sum(dim=(1, 3)))
    # At beta number l a blend is even if at most l betas are too small.
    even = counts[:, Right.EVEN].cumsum(dim=2)[:, :, :-1]
    uneven = _above(counts[:, Right.UNEVEN].transpose(1, 2)).transpose(1, 2)
    salience = _above(even + uneven)
    surface = worth_presence[presence][:, :, None] + worth_salience[salience]
    return surface.flatten(1).max(dim=1).values


def _above(counts: torch.Tensor) -> torch.Tensor:
    """Sum, for each k below the last bin of axis 1, what lies in bins above k."""
    return counts.flip(1)[:, :-1].cumsum(dim=1).flip(1)
