"""Every backend of the weight search makes the choice that the plain rules make, to the last bit."""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemore_harness.errors import ConfigError
from blemore_harness.protocol.grid import OFFICIAL_GRID
from blemore_harness.protocol.rules import decode, score
from blemore_harness.protocol.thresholds import search_official
from blemore_plugins.late.options import LateOptions
from blemore_plugins.late.scorers import CompiledScorer, PlainScorer, allowed_threads
from blemore_plugins.late.search import WeightSearch, choose_backend, choose_grid, explain_grid, make_scorer
from blemore_plugins.late.space import SimplexGrid, bounded_grid
from blemore_plugins.means import mean_rows
from fakes import RecordingReporter, make_context
from search_cases import BACKENDS, Array, ignore, make_case, make_scorer_of


def plain_best(rows: Array, truth: Array, parts: int) -> Array:
    """The choice in plain words: best Score, then nearest to equal weights, then the first in lexicographic order."""
    base_models = len(rows)
    points = [np.array(p) / parts for p in product(range(parts + 1), repeat=base_models) if sum(p) == parts]

    def rank(point: Array) -> tuple[float, float]:
        distance = round(float(((point - 1 / base_models) ** 2).sum()), 9)
        return search_official(mean_rows(rows, point), truth).scores.score, -distance

    return max(points, key=rank)


cases = st.tuples(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 40), st.booleans())


@pytest.mark.slow
@pytest.mark.parametrize("kind", BACKENDS)
@settings(max_examples=12, deadline=None)
@given(cases, st.sampled_from([1, 3, 5]))
def test_choice_is_the_plain_one_to_the_last_bit(kind: str, case: tuple[int, int, int, bool], parts: int) -> None:
    rows, truth = make_case(*case)
    found = make_scorer_of(kind, rows, truth).best_of(bounded_grid(len(rows), parts), ignore)[0] / parts
    np.testing.assert_array_equal(found, plain_best(rows, truth, parts))


@pytest.mark.slow
@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("ties", [False, True])
def test_scores_are_those_of_400_decodings(kind: str, ties: bool) -> None:
    rows, truth = make_case(3, 3, 25, ties)
    points = np.array([[0.1, 0.2, 0.7], [1 / 3, 1 / 3, 1 / 3], [0.0, 1.0, 0.0]])
    expected = [
        max(score(truth, decode(mean_rows(rows, p), a, b)).score for a in OFFICIAL_GRID for b in OFFICIAL_GRID)
        for p in points
    ]
    assert make_scorer_of(kind, rows, truth).scores(points).tolist() == expected


@pytest.mark.parametrize("kind", BACKENDS)
def test_scores_of_any_weights_are_the_official_ones_bit_for_bit(kind: str) -> None:
    random = np.random.default_rng(0)
    for seed, clips, ties in ((1, 300, False), (2, 700, True)):
        rows, truth = make_case(seed, 5, clips, ties)
        points = random.dirichlet(np.ones(5), size=40)
        points[::3, ::2] = 0  # base models without weight, as most of many are
        points /= points.sum(axis=1, keepdims=True)
        expected = [search_official(mean_rows(rows, point), truth).scores.score for point in points]
        assert make_scorer_of(kind, rows, truth).scores(points).tolist() == expected


@pytest.mark.parametrize("kind", BACKENDS)
def test_whole_search_with_finer_moves_is_the_same(kind: str, tmp_path: Path) -> None:
    for seed in range(3):
        rows, truth = make_case(seed, 4, 60, ties=seed == 2)
        context, options = make_context(tmp_path), LateOptions(step=0.2)
        plain = WeightSearch(PlainScorer(rows, truth), 4, options)
        other = WeightSearch(make_scorer_of(kind, rows, truth), 4, options)
        np.testing.assert_array_equal(plain.best(context), other.best(context))
        assert plain.tried == other.tried


@pytest.mark.encoders
def test_choice_does_not_depend_on_threads() -> None:
    pytest.importorskip("numba")
    rows, truth = make_case(5, 6, 30, ties=True)
    grid = bounded_grid(6, 10)
    one, three = (CompiledScorer(rows, truth, threads).best_of(grid, ignore)[0] for threads in (1, 3))
    np.testing.assert_array_equal(one, three)
    assert grid.size == 3003  # more than one chunk


@pytest.mark.encoders
def test_threads_follow_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    config = pytest.importorskip("numba").config
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 8)
    for text, expected in (("3", 3), ("16", 8), ("2,1", 2), ("1", 1), ("0", 1), ("", 8), ("many", 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert allowed_threads() == expected


@pytest.mark.parametrize("kind", BACKENDS)
def test_memory_does_not_grow_with_points(kind: str) -> None:
    rows, truth = make_case(6, 4, 20)
    scorer = make_scorer_of(kind, rows, truth)
    if kind != "compiled":
        scorer.chunk = 100  # type: ignore[attr-defined]
    scorer.best_of(bounded_grid(4, 4), ignore)  # compiled and imported
    peaks = []
    for parts in (7, 16):  # 120 and 969 points
        tracemalloc.start()
        scorer.best_of(bounded_grid(4, parts), ignore)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 20_000


def test_a_member_without_weight_changes_no_bit() -> None:
    """The compiled search skips it; the plain one adds zero times its rows."""
    rows, _ = make_case(1, 4, 50)
    np.testing.assert_array_equal(
        mean_rows(rows, np.array([0.0, 0.3, 0.0, 0.7])), mean_rows(rows[[1, 3]], np.array([0.3, 0.7]))
    )


@pytest.mark.parametrize("grid", [SimplexGrid(*shape) for shape in [(1, 3, 0, 3), (3, 6, 0, 6), (4, 5, 0, 2)]])
def test_grid_has_every_point_once_in_order(grid: SimplexGrid) -> None:
    allowed = range(grid.lowest, grid.highest + 1)
    expected = [list(p) for p in product(allowed, repeat=grid.base_models) if sum(p) == grid.parts]
    assert grid.block(0, grid.size).tolist() == expected
    assert [grid.block(i, i + 1)[0].tolist() for i in range(grid.size)] == expected


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.5), (0.0, 0.3), (0.2, 0.3), (0.3, 1.0)])
@pytest.mark.parametrize("kind", BACKENDS)
def test_grid_within_bounds(kind: str, low: float, high: float) -> None:
    grid = bounded_grid(4, 10, low, high)
    whole = bounded_grid(4, 10)
    points = whole.weights(whole.block(0, whole.size))
    inside = points[((points >= low) & (points <= high)).all(axis=1)]
    assert grid.size == len(inside)
    if grid.size:
        np.testing.assert_array_equal(grid.weights(grid.block(0, grid.size)), inside)
        rows, truth = make_case(4, 4, 12)
        found = grid.weights(make_scorer_of(kind, rows, truth).best_of(grid, ignore)[0])
        assert found.tolist() in inside.tolist()
        assert PlainScorer(rows, truth).scores(found[None])[0] == PlainScorer(rows, truth).scores(inside).max()


def test_twelve_members_are_tried_whole_and_twenty_are_not() -> None:
    twelve = choose_grid(12, LateOptions())
    assert (twelve.size, twelve.parts) == (352_716, 10)
    assert explain_grid(twelve, LateOptions()) is None
    twenty = choose_grid(20, LateOptions())
    assert twenty.parts < 10
    assert "20,030,010 points of step 0.1 for 20 base models are more than the limit of 2,000,000" in str(
        explain_grid(twenty, LateOptions())
    )
    assert choose_grid(20, LateOptions(limit=30_000_000)).size == 20_030_010
    assert choose_grid(12, LateOptions(search="climb")).size <= 4_000


def test_missing_numba_is_said_once_and_numpy_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, truth = make_case(0, 2, 5)
    monkeypatch.setitem(sys.modules, "numba", None)
    book = RecordingReporter()
    context = make_context(tmp_path, reporter=book)
    assert choose_backend(1_000, "auto", context) == "numpy"
    assert book.warnings == []  # few points: nothing is missed
    assert choose_backend(5_000, "auto", context) == "numpy"
    (warning,) = book.warnings
    assert "5,000 points" in warning
    assert "numba" in warning
    assert choose_backend(5_000, "numba", context) == "numba"
    monkeypatch.delitem(sys.modules, "blemore_plugins.late.kernel", raising=False)
    with pytest.raises(ImportError):
        make_scorer(rows, truth, "numba", context)


@pytest.mark.encoders
def test_backend_is_what_is_asked_for_or_what_fits(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    rows, truth = make_case(0, 2, 5)
    for device in ("cpu", "cuda:0"):
        context = replace(make_context(tmp_path), device=device)
        assert choose_backend(5_000, "auto", context) == "numba"
        assert choose_backend(5, "auto", context) == "numpy"
        assert choose_backend(5, "numba", context) == "numba"
        assert choose_backend(10**6, "numpy", context) == "numpy"
        assert isinstance(make_scorer(rows, truth, "numba", context), CompiledScorer)
        assert isinstance(make_scorer(rows, truth, "numpy", context), PlainScorer)


def test_errors_of_the_library_are_not_swallowed(tmp_path: Path) -> None:
    rows, truth = make_case(0, 2, 5)
    with pytest.raises(ConfigError, match="cannot sum to 1"):
        WeightSearch(PlainScorer(rows, truth), 2, LateOptions(max_weight=0.4))


@pytest.mark.encoders
def test_an_interruption_leaves_the_rest_unsearched() -> None:
    pytest.importorskip("numba")
    rows, truth = make_case(0, 8, 400)
    scorer = CompiledScorer(rows, truth, threads=1)
    scorer.best_of(bounded_grid(8, 1), ignore)  # compiled
    seen: list[int] = []

    def interrupt(count: int) -> None:
        seen.append(count)
        raise KeyboardInterrupt

    kernel = scorer._kernel
    searched: list[int] = []

    class Counting:
        """The kernel, with a count of what it is asked."""

        @staticmethod
        def search_range(*arguments: Any) -> Any:
            searched.append(1)
            return kernel.search_range(*arguments)

    scorer._kernel = Counting
    with pytest.raises(KeyboardInterrupt):
        scorer.best_of(bounded_grid(8, 10), interrupt)  # 10 chunks
    assert len(seen) == 1
    assert len(searched) < 9
