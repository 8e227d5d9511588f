"""The search compiled for the CPU: points of the simplex are fused, decoded and counted without being stored.

Every sum is made base model by base model in float64, as `mean_rows` makes it. Partial sums over the first base models
are kept while only later weights change, which leaves the order of additions as it is.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from blemore_plugins.late.decoding import (
    SIZE,
    WIDTH,
    Array,
    add_groups,
    best_of_grid,
    count_block,
    decode_block,
    leave_out,
)

BLOCK = 256
"""Clips that are fused and decoded at a time, in buffers that stay in the first-level cache."""


@njit(nogil=True)
def next_point(point: Array, lowest: int, highest: int) -> int:
    """Move to the next point in lexicographic order; returns the first place that changed, -1 after the last point."""
    base_models = len(point)
    spare = 0
    for place in range(base_models - 1, -1, -1):
        after = base_models - 1 - place
        left = spare - 1
        if point[place] < highest and left >= after * lowest:
            point[place] += 1
            for later in range(place + 1, base_models):
                point[later] = max(lowest, left - (base_models - 1 - later) * highest)
                left -= point[later]
            return place
        spare += point[place]
    return -1


@njit(nogil=True)
def extend_sums(rows: Array, weights: Array, point: Array, changed: int, sums: Array, source: Array) -> None:
    """Make the sums over the first base models anew from place `changed` on, all but the last two base models.

    A base model without weight adds zero, which changes no bit: the sum before it is used again.

    Args:
        sums: float64 (M - 1, 6, N), `sums[k]` where base model `k - 1` is the last one added; `sums[0]` is zero.
        source: int64 (M,), which of them is the sum over the first k base models.
    """
    base_models, _, clips = rows.shape
    for place in range(changed, base_models - 2):
        source[place + 1] = source[place]
        if point[place] > 0:
            weight = weights[point[place]]
            before, base_model, after = sums[source[place]], rows[place], sums[place + 1]
            for emotion in range(6):
                for n in range(clips):
                    after[emotion, n] = before[emotion, n] + weight * base_model[emotion, n]
            source[place + 1] = place + 1


@njit(nogil=True)
def search_range(
    rows: Array,
    right: Array,
    grid: Array,
    bounds: Array,
    left_out: Array,
    presence: Array,
    salience: Array,
    weights: Array,
    point: Array,
    lowest: int,
    highest: int,
    count: int,
) -> tuple[Array, Array, Array]:
    """Score `count` points of a simplex grid from `point` on; give the best Score of every set, and which point it is.

    Of equal scores the point nearest to equal weights wins, then the first.

    Args:
        rows: float64 (M, 6, N) with M >= 2, clips sorted by group.
        bounds: int64 (G + 1,), where the clips of each group begin, and the number of clips.
        left_out: int64 (S,), the group that each set leaves out; below 0 none.
        presence, salience: float64 (S, ...), what so many right answers add to the Score of each set.
        weights: float64, the weight of so many parts.
        point: int64 (M,), the parts of the first point; moved on.

    Returns:
        By set, (S,) each: the best Score, its sum of squared parts, its number counted from the first point.
    """
    base_models, _, clips = rows.shape
    groups, sets = len(bounds) - 1, len(left_out)
    sums = np.zeros((base_models - 1, 6, clips))
    code = np.zeros(BLOCK, dtype=np.int64)
    low, gap = np.zeros(BLOCK), np.zeros(BLOCK)
    counts = np.zeros((groups, SIZE + 1, WIDTH), dtype=np.int64)
    total, rest = np.zeros((SIZE + 1, WIDTH), dtype=np.int64), np.zeros((SIZE + 1, WIDTH), dtype=np.int64)
    source = np.zeros(base_models, dtype=np.int64)
    best, best_squares, best_number = np.full(sets, -1.0), np.zeros(sets, np.int64), np.zeros(sets, np.int64)
    changed = 0
    for number in range(count):
        extend_sums(rows, weights, point, changed, sums, source)
        base = sums[source[base_models - 2]]
        one, two = weights[point[base_models - 2]], weights[point[base_models - 1]]
        counts[:] = 0
        for group in range(groups):
            for start in range(bounds[group], bounds[group + 1], BLOCK):
                size = min(BLOCK, bounds[group + 1] - start)
                decode_block(base, rows[base_models - 2], rows[base_models - 1], one, two, start, size, code, low, gap)
                count_block(right, grid, start, size, code, low, gap, counts[group])
        squares = 0
        for place in range(base_models):
            squares += point[place] * point[place]
        add_groups(counts, total)
        for each in range(sets):
            leave_out(total, counts, left_out[each], rest)
            score = best_of_grid(rest, presence[each], salience[each])
            if score > best[each] or (score == best[each] and squares < best_squares[each]):
                best[each], best_squares[each], best_number[each] = score, squares, number
        changed = next_point(point, lowest, highest)
    return best, best_squares, best_number


@njit(nogil=True)
def score_points(rows: Array, right: Array, grid: Array, presence: Array, salience: Array, points: Array) -> Array:
    """Return the best Score over all clips, float64 (P,), of any weights (P, M).

    Args:
        rows, right, grid: as of `search_range`, clips in any order.
        presence, salience: float64 (1, ...), what so many right answers add to Score.
    """
    base_models, _, clips = rows.shape
    total = np.zeros((6, clips))
    code = np.zeros(BLOCK, dtype=np.int64)
    low, gap = np.zeros(BLOCK), np.zeros(BLOCK)
    counts = np.zeros((SIZE + 1, WIDTH), dtype=np.int64)
    scores = np.zeros(len(points))
    for number in range(len(points)):
        weights = points[number]
        total[:] = 0.0
        for place in range(base_models - 2):
            for emotion in range(6):
                for n in range(clips):
                    total[emotion, n] += weights[place] * rows[place, emotion, n]
        one, two = weights[base_models - 2], weights[base_models - 1]
        counts[:] = 0
        for start in range(0, clips, BLOCK):
            size = min(BLOCK, clips - start)
            decode_block(total, rows[base_models - 2], rows[base_models - 1], one, two, start, size, code, low, gap)
            count_block(right, grid, start, size, code, low, gap, counts)
        scores[number] = best_of_grid(counts, presence[0], salience[0])
    return scores
