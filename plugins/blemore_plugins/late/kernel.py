"""The search compiled for the CPU: points of the simplex are fused, decoded and counted without being stored.

Sums are made base model by base model and values compared as `mean_rows`, `protocol.top_two` and the grid of thresholds
do it, in float64 and without fast mathematics, so that compiled and plain code agree to the last bit. Partial sums over
the first base models are kept while only later weights change, which leaves the order of additions as it is.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

SIZE = 20
"""Points of the official grid on each axis."""

ALONE, PAIR, UNEVEN, WIDTH = SIZE + 1, SIZE + 2, SIZE + 3, SIZE + 4
"""Columns of a histogram behind those of betas: right singles, right pairs, right uneven blends; how many there are."""

BLOCK = 256
"""Clips that are fused and decoded at a time, in buffers that stay in the first-level cache."""


@njit(nogil=True)
def open_ranking(
    base: Array,
    one: Array,
    two: Array,
    weight_one: float,
    weight_two: float,
    high: Array,
    low: Array,
    first: Array,
    second: Array,
) -> None:
    """Begin with the first emotion: as of `rank_emotion`."""
    for i in range(len(base)):
        high[i] = min((base[i] + weight_one * one[i]) + weight_two * two[i], 1.0)
        low[i] = -np.inf
        first[i] = 0
        second[i] = 0


@njit(nogil=True)
def rank_emotion(
    base: Array,
    one: Array,
    two: Array,
    weight_one: float,
    weight_two: float,
    emotion: int,
    high: Array,
    low: Array,
    first: Array,
    second: Array,
) -> None:
    """Fuse one emotion's values of a block, and move it into the clips' rankings.

    A loop over contiguous arrays with nothing but selections: it is compiled to vector instructions.

    Args:
        base, one, two: float64 (C,), as of `decode_block`, of this emotion.
        high, low: the two largest values so far.
        first, second: whose they are.
    """
    for i in range(len(base)):
        value = min((base[i] + weight_one * one[i]) + weight_two * two[i], 1.0)
        larger = value > high[i]
        between = value > low[i]
        second[i] = first[i] if larger else (emotion if between else second[i])
        low[i] = high[i] if larger else (value if between else low[i])
        first[i] = emotion if larger else first[i]
        high[i] = value if larger else high[i]


@njit(nogil=True)
def decode_block(
    base: Array,
    one: Array,
    two: Array,
    weight_one: float,
    weight_two: float,
    start: int,
    count: int,
    code: Array,
    low: Array,
    gap: Array,
    ranks: Array,
) -> None:
    """Fuse clips of a block, add two base models to sums, and find their two largest values.

    Args:
        base, one, two: float64 (6, N), sums so far and the last base models' rows.
        code, low, gap: written: larger times six plus smaller emotion, the smaller value, the difference.
        ranks: int64 (2, C), overwritten.
    """
    stop = start + count
    open_ranking(
        base[0, start:stop],
        one[0, start:stop],
        two[0, start:stop],
        weight_one,
        weight_two,
        gap,
        low,
        ranks[0],
        ranks[1],
    )
    for emotion in range(1, 6):
        rank_emotion(
            base[emotion, start:stop],
            one[emotion, start:stop],
            two[emotion, start:stop],
            weight_one,
            weight_two,
            emotion,
            gap,
            low,
            ranks[0],
            ranks[1],
        )
    for i in range(count):
        code[i] = ranks[0, i] * 6 + ranks[1, i]
        gap[i] -= low[i]


@njit(nogil=True)
def count_below(grid: Array, value: float, inclusive: bool) -> int:
    """Count the grid's points below a value, or up to it: a guess by their even spacing, put right by comparing."""
    guess = int((value - grid[0]) / (grid[SIZE - 1] - grid[0]) * (SIZE - 1)) + 1
    guess = min(max(guess, 0), SIZE)
    if inclusive:
        while guess < SIZE and grid[guess] <= value:
            guess += 1
        while guess > 0 and grid[guess - 1] > value:
            guess -= 1
    else:
        while guess < SIZE and grid[guess] < value:
            guess += 1
        while guess > 0 and grid[guess - 1] >= value:
            guess -= 1
    return guess


@njit(nogil=True)
def count_block(
    right: Array, grid: Array, start: int, count: int, code: Array, low: Array, gap: Array, counts: Array
) -> None:
    """Add a block's right answers to a histogram over survived alphas and betas too small for an even blend.

    Args:
        counts: int64 (21, 24) by survived alphas: by how much right saliences grow where beta reaches each of 21 bins,
            then `ALONE`, `PAIR` and `UNEVEN`.
    """
    for i in range(count):
        kind = right[start + i, code[i]]
        if kind == 0:
            continue
        if kind == 2:
            counts[0, ALONE] += 1
            continue
        survived = count_below(grid, low[i], True)
        if kind == 1:
            counts[survived, ALONE] += 1
            continue
        counts[survived, PAIR] += 1
        if kind == 4:
            counts[survived, UNEVEN] += 1
            counts[survived, count_below(grid, gap[i], False)] -= 1
        elif kind == 5:
            counts[survived, count_below(grid, gap[i], False)] += 1


@njit(nogil=True)
def add_groups(counts: Array, total: Array) -> None:
    """Write the sum, int64 (21, 24), of the histograms (G, 21, 24) of groups."""
    for row in range(SIZE + 1):
        for column in range(WIDTH):
            total[row, column] = counts[0, row, column]
    for group in range(1, len(counts)):
        for row in range(SIZE + 1):
            for column in range(WIDTH):
                total[row, column] += counts[group, row, column]


@njit(nogil=True)
def leave_out(total: Array, counts: Array, group: int, rest: Array) -> None:
    """Write the histogram of all groups but one; of all where `group` is below 0."""
    for row in range(SIZE + 1):
        for column in range(WIDTH):
            rest[row, column] = total[row, column]
            if group >= 0:
                rest[row, column] -= counts[group, row, column]


@njit(nogil=True)
def best_of_grid(counts: Array, presence: Array, salience: Array) -> float:
    """Return the best Score over the grid of thresholds; uses up the histogram.

    Rounding is monotone, so for every alpha the beta with most right saliences has the best Score.
    """
    singles = 0
    for survived in range(SIZE + 1):
        singles += counts[survived, ALONE]
    best = 0.0
    pairs = 0
    blends = 0
    for survived in range(SIZE, 0, -1):  # alpha number `survived - 1`
        singles -= counts[survived, ALONE]
        pairs += counts[survived, PAIR]
        blends += counts[survived, UNEVEN]
        if survived < SIZE:
            for bin_ in range(SIZE):
                counts[survived, bin_] += counts[survived + 1, bin_]
        most = 0
        right = blends
        for bin_ in range(SIZE):
            right += counts[survived, bin_]
            most = max(most, right)
        best = max(best, presence[singles + pairs] + salience[most])
    return best


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
    ranks = np.zeros((2, BLOCK), dtype=np.int64)
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
                decode_block(
                    base, rows[base_models - 2], rows[base_models - 1], one, two, start, size, code, low, gap, ranks
                )
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

    A base model without weight adds zero, which changes no bit, and is passed over: of 50 few have one.

    Args:
        rows, right, grid: as of `search_range`, clips in any order.
        presence, salience: float64 (1, ...), what so many right answers add to Score.
    """
    base_models, _, clips = rows.shape
    total = np.zeros((6, clips))
    code = np.zeros(BLOCK, dtype=np.int64)
    low, gap = np.zeros(BLOCK), np.zeros(BLOCK)
    ranks = np.zeros((2, BLOCK), dtype=np.int64)
    counts = np.zeros((SIZE + 1, WIDTH), dtype=np.int64)
    scores = np.zeros(len(points))
    for number in range(len(points)):
        weights = points[number]
        total[:] = 0.0
        for place in range(base_models - 2):
            if weights[place] == 0.0:
                continue
            for emotion in range(6):
                for n in range(clips):
                    total[emotion, n] += weights[place] * rows[place, emotion, n]
        one, two = weights[base_models - 2], weights[base_models - 1]
        counts[:] = 0
        for start in range(0, clips, BLOCK):
            size = min(BLOCK, clips - start)
            decode_block(
                total, rows[base_models - 2], rows[base_models - 1], one, two, start, size, code, low, gap, ranks
            )
            count_block(right, grid, start, size, code, low, gap, counts)
        scores[number] = best_of_grid(counts, presence[0], salience[0])
    return scores
