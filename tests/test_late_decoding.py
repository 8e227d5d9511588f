"""The functions that the weight search compiles, run as plain Python, against the literal words of what each is for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from blemore_harness.protocol.grid import OFFICIAL_GRID, GridCounter
from blemore_plugins.late.scorers import tabulate, value_answers
from blemore_plugins.late.space import whole
from fusion_cases import make_truth

pytestmark = pytest.mark.encoders

kernel = pytest.importorskip("blemore_plugins.late.kernel", exc_type=ImportError)

Array = np.ndarray[Any, Any]

SIZE, WIDTH = 20, 24
"""Points of the official grid, and columns of a histogram: 21 bins of betas, right singles, pairs, uneven blends."""


def plain(name: str) -> Callable[..., Any]:
    """A function of the module as it was written, not compiled."""
    function = getattr(kernel, name)
    return getattr(function, "py_func", function)


@pytest.fixture(autouse=True)
def _nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("count_below", "open_ranking", "rank_emotion"):
        monkeypatch.setattr(kernel, name, plain(name))


def make_rows(seed: int, clips: int) -> Array:
    """Rows float64 (N, 6); of every second seed in tenths, with ties, zeros and differences such as .4 - .3."""
    random = np.random.default_rng(seed)
    rows = random.dirichlet(np.full(6, 0.5), clips)
    return random.multinomial(10, rows) / 10 if seed % 2 else rows


def decode(base: Array, one: Array, two: Array, weights: tuple[float, float], start: int, count: int) -> list[Array]:
    """Run `decode_block` on rows (N, 6); returns code, low and gap, with a place behind the last that stays -9."""
    buffers = [np.full(count + 1, -9), np.full(count + 1, -9.0), np.full(count + 1, -9.0)]
    columns = [np.ascontiguousarray(rows.T) for rows in (base, one, two)]
    plain("decode_block")(*columns, *weights, start, count, *buffers, np.full((2, count + 1), -9))
    return buffers


@pytest.mark.parametrize("seed", range(6))
def test_a_block_holds_the_two_largest_of_the_fused_values(seed: int) -> None:
    random = np.random.default_rng(seed)
    base, one, two = (make_rows(3 * seed + k, 12) for k in range(3))
    base *= 0.4
    weights = (0.25, 0.35) if seed % 2 else tuple(random.dirichlet(np.ones(2)) * 0.6)
    code, low, gap = decode(base, one, two, weights, 3, 8)
    for i, n in enumerate(range(3, 11)):
        fused = [min(base[n, k] + weights[0] * one[n, k] + weights[1] * two[n, k], 1.0) for k in range(6)]
        # Ties go to the lower index.
        first, second = sorted(range(6), key=lambda k: (-fused[k], k))[:2]
        assert (code[i], low[i], gap[i]) == (first * 6 + second, fused[second], fused[first] - fused[second])
    assert (code[8], low[8], gap[8]) == (-9, -9, -9), "beyond the block"


def test_fused_values_are_at_most_1_at_every_place() -> None:
    for place in range(6):
        rows = np.eye(6)[[place]]
        code, low, gap = decode(rows * 0.7, rows, rows, (0.2, 0.3), 0, 1)
        assert (code[0] // 6, low[0], gap[0]) == (place, 0.0, 1.0)


def test_every_pair_of_places_is_found() -> None:
    for first, second in permutations(range(6), 2):
        rows = np.full((1, 6), 0.05)
        rows[0, first], rows[0, second] = 0.5, 0.3
        code, low, gap = decode(rows, rows * 0, rows * 0, (0.5, 0.5), 0, 1)
        assert (code[0], low[0], gap[0]) == (6 * first + second, 0.3, 0.5 - 0.3)


def test_points_of_the_grid_are_counted_below_and_up_to_a_value() -> None:
    grid = np.array(OFFICIAL_GRID)
    values = [-1.0, 0.0, 1e-9, 0.5, 0.97, 1.0, 3.0, *grid, *np.nextafter(grid, 0), *np.nextafter(grid, 1)]
    for value in values:
        assert plain("count_below")(grid, value, True) == sum(point <= value for point in grid)
        assert plain("count_below")(grid, value, False) == sum(point < value for point in grid)


def histogram(rows: Array, truth: Array, start: int = 0) -> Array:
    """Count clips from `start` on."""
    zeros, count = np.zeros_like(rows), len(rows) - start
    code, low, gap = decode(rows, zeros, zeros, (0.5, 0.5), start, count)
    counts = np.zeros((SIZE + 1, WIDTH), dtype=np.int64)
    plain("count_block")(tabulate(truth), np.array(OFFICIAL_GRID), start, count, code, low, gap, counts)
    return counts


@pytest.mark.parametrize("seed", range(8))
def test_a_histogram_says_what_every_pair_of_thresholds_gets_right(seed: int) -> None:
    rows, truth = make_rows(seed, 60), make_truth(seed, 60)
    if seed % 4 < 2:
        rows = 0.5 * rows + 0.5 * truth / 100
    counts = histogram(rows, truth, start=5)
    expected = GridCounter(truth[5:]).count(rows[5:])
    survived = np.arange(SIZE + 1)
    for alpha in range(SIZE):
        # A row blends where it survives more alphas than come before this one.
        blends, alone = survived > alpha, survived <= alpha
        presence = counts[alone, SIZE + 1].sum() + counts[blends, SIZE + 2].sum()
        assert presence == expected.presence[alpha, 0]
        for beta in range(SIZE):
            salience = counts[blends, SIZE + 3].sum() + counts[blends, : beta + 1].sum()
            assert salience == expected.salience[alpha, beta]


def test_the_best_of_a_histogram_is_the_best_score_of_the_grid() -> None:
    for seed in range(200):
        clips = 1 + seed % 6
        rows, truth = make_rows(seed, clips), make_truth(seed, clips)
        if seed % 3:
            rows = 0.6 * truth / 100 + 0.4 * rows
        presence, salience = value_answers(truth, whole(clips))
        found = plain("best_of_grid")(histogram(rows, truth), presence[0], salience[0])
        assert found == GridCounter(truth).count(rows).surface.max()


def test_groups_are_added_up_and_left_out() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(-3, 9, (4, SIZE + 1, WIDTH))
    total, rest = np.full((SIZE + 1, WIDTH), -7), np.full((SIZE + 1, WIDTH), -7)
    plain("add_groups")(counts, total)
    np.testing.assert_array_equal(total, counts.sum(axis=0))
    for group in range(-1, 4):
        plain("leave_out")(total, counts, group, rest)
        np.testing.assert_array_equal(rest, sum(counts[g] for g in range(4) if g != group))
