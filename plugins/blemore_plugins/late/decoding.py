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
    """Fuse clips of a block, add two members to sums, and find their two largest values.

    Args:
        base, one, two: float64 (6, N), sums so far and the last members' rows.
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
    right: Array,
    grid: Array,
    start: int,
    count: int,
    code: Array,
    low: Array,
    gap: Array,
    alone: Array,
    pair: Array,
    uneven: Array,
    turns: Array,
) -> None:
    """Add a block's right answers to the histograms over survived alphas (and betas too small for an even blend).

    Args:
        alone, pair, uneven: int64 (21,) by survived alphas: right singles, right pairs, right uneven blends.
        turns: int64 (21, 21), by how much right saliences grow where beta reaches this bin.
    """
    for i in range(count):
        kind = right[start + i, code[i]]
        if kind == 0:
            continue
        if kind == 2:
            alone[0] += 1
            continue
        survived = count_below(grid, low[i], True)
        if kind == 1:
            alone[survived] += 1
            continue
        pair[survived] += 1
        if kind == 4:
            uneven[survived] += 1
            turns[survived, count_below(grid, gap[i], False)] -= 1
        elif kind == 5:
            turns[survived, count_below(grid, gap[i], False)] += 1


@njit(nogil=True)
def best_of_grid(alone: Array, pair: Array, uneven: Array, turns: Array, presence: Array, salience: Array) -> float:
    """Give the best Score over the grid of thresholds; empties the histograms.

    Rounding is monotone, so for every alpha the beta with most right saliences has the best Score.
    """
    singles = 0
    for survived in range(SIZE + 1):
        singles += alone[survived]
    best = 0.0
    pairs = 0
    blends = 0
    for survived in range(SIZE, 0, -1):  # alpha number `survived - 1`
        singles -= alone[survived]
        pairs += pair[survived]
        blends += uneven[survived]
        if survived < SIZE:
            for bin_ in range(SIZE):
                turns[survived, bin_] += turns[survived + 1, bin_]
        most = 0
        right = blends
        for bin_ in range(SIZE):
            right += turns[survived, bin_]
            most = max(most, right)
        best = max(best, presence[singles + pairs] + salience[most])
    alone[:] = 0
    pair[:] = 0
    uneven[:] = 0
    turns[:] = 0
    return best
