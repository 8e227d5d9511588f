"""Fused rows decoded and counted, compiled for the CPU: what the search does at every point.

Sums are made and values compared as `mean_rows`, `protocol.top_two` and the grid of thresholds do it, in float64 and
without fast mathematics, so that compiled and plain code agree to the last bit.
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
) -> None:
    """Fuse clips of a block, add two base models to sums, and find their two largest values.

    Args:
        base, one, two: float64 (6, N), sums so far and the last base models' rows.
        code, low, gap: written: larger times six plus smaller emotion, the smaller value, the difference.
    """
    for i in range(count):
        n = start + i
        high = min((base[0, n] + weight_one * one[0, n]) + weight_two * two[0, n], 1.0)
        second = -np.inf
        first_index = 0
        second_index = 0
        for emotion in range(1, 6):
            value = min((base[emotion, n] + weight_one * one[emotion, n]) + weight_two * two[emotion, n], 1.0)
            larger = value > high
            between = value > second
            second_index = first_index if larger else (emotion if between else second_index)
            second = high if larger else (value if between else second)
            first_index = emotion if larger else first_index
            high = value if larger else high
        code[i] = first_index * 6 + second_index
        low[i] = second
        gap[i] = high - second


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
