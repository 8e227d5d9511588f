"""Weights of several folds from one pass over the points are those of a pass for each, whatever searches."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.thresholds import search_official
from blemore_plugins.late import LateFusion
from blemore_plugins.late.options import LateOptions
from blemore_plugins.late.space import NONE, Subsets, bounded_grid, find_subsets
from blemore_plugins.means import mean_rows
from fakes import RecordingReporter, make_context
from search_cases import BACKENDS, Array, ignore, make_case, make_scorer_of

BACKEND_NAMES = [
    pytest.param("numpy"),
    pytest.param("numba", marks=pytest.mark.encoders),
]


def brute_force(rows: Array, truth: Array, points: list[Array]) -> list[int]:
    """The choice in plain words: best Score, then nearest to equal weights, then the first."""

    def rank(point: Array) -> tuple[float, int]:
        weights = point / point.sum()
        return search_official(mean_rows(rows, weights), truth).scores.score, -int((point * point).sum())

    found: list[int] = max(points, key=rank).tolist()
    return found


def grid_points(base_models: int, parts: int, lowest: int, highest: int) -> list[Array]:
    allowed = range(lowest, highest + 1)
    return [np.array(p) for p in product(allowed, repeat=base_models) if sum(p) == parts]


cases = st.tuples(st.integers(0, 10_000), st.integers(1, 4), st.integers(8, 40), st.booleans())


@pytest.mark.slow
@pytest.mark.parametrize("kind", BACKENDS)
@settings(max_examples=8, deadline=None)
@given(cases, st.sampled_from([(3, 0.0, 1.0), (5, 0.0, 1.0), (10, 0.1, 0.5), (8, 0.0, 0.5)]), st.integers(2, 5))
def test_one_pass_chooses_what_separate_ones_and_brute_force_choose(
    kind: str, case: tuple[int, int, int, bool], bounds: tuple[int, float, float], groups: int
) -> None:
    rows, truth = make_case(*case)
    grid = bounded_grid(len(rows), *bounds)
    if not grid.size:
        return
    group = np.random.default_rng(case[0]).integers(0, groups, len(truth))
    group[:2] = 0, 1  # nobody is left with no clips
    subsets = Subsets(group, (0, 1, NONE))
    points = grid_points(grid.base_models, grid.parts, grid.lowest, grid.highest)
    together = make_scorer_of(kind, rows, truth).best_of(grid, ignore, subsets)
    assert together.shape == (3, len(rows))
    for number, found in enumerate(together.tolist()):
        inside = subsets.mask(number)
        assert found == brute_force(rows[:, inside], truth[inside], points)
        alone = make_scorer_of(kind, rows[:, inside], truth[inside]).best_of(grid, ignore)
        assert alone.tolist() == [found]


@pytest.mark.encoders
def test_one_pass_over_many_chunks_and_threads_is_the_same() -> None:
    pytest.importorskip("numba")
    from blemore_plugins.late.scorers import CompiledScorer

    rows, truth = make_case(5, 6, 300, ties=True)
    group = np.random.default_rng(1).permutation(np.arange(300) % 5)
    subsets = Subsets(group, (0, 1, 2, 3, 4, NONE))
    grid = bounded_grid(6, 10)  # 3,003 points, two chunks
    one, three = (CompiledScorer(rows, truth, threads).best_of(grid, ignore, subsets) for threads in (1, 3))
    np.testing.assert_array_equal(one, three)
    for number, found in enumerate(one):
        inside = subsets.mask(number)
        np.testing.assert_array_equal(CompiledScorer(rows[:, inside], truth[inside]).best_of(grid, ignore)[0], found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BACKENDS)
def test_memory_of_one_pass_does_not_grow_with_points(kind: str) -> None:
    rows, truth = make_case(6, 4, 20)
    subsets = Subsets(np.arange(20) % 3, (0, 1, 2, NONE))
    scorer = make_scorer_of(kind, rows, truth)
    if kind != "compiled":
        scorer.chunk = 40  # type: ignore[attr-defined]
    scorer.best_of(bounded_grid(4, 4), ignore, subsets)  # compiled and imported
    peaks = []
    for parts in (7, 16):  # 120 and 969 points
        tracemalloc.start()
        scorer.best_of(bounded_grid(4, parts), ignore, subsets)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 20_000


def test_sets_are_found_by_what_they_leave_out() -> None:
    found = find_subsets([["c", "d"], ["a", "b", "d"], ["a", "b", "c", "d"]])
    assert found is not None
    names, subsets = found
    assert names == ("c", "d", "a", "b")
    for number, inside in enumerate(({"c", "d"}, {"a", "b", "d"}, {"a", "b", "c", "d"})):
        assert {name for name, held in zip(names, subsets.mask(number), strict=True) if held} == inside
    assert find_subsets([["a", "b"], ["a", "c"], ["b", "c"]]) is not None
    assert find_subsets([["a"], ["b"], ["c"]]) is None, "every clip is left out twice"


Case = tuple[list[Fold], list[dict[str, Probabilities]]]


def make_folds(rows: Array, truth: Array, parts: int, final: bool = True) -> Case:
    """Folds over the clips, and the final fit, in an order of clips of their own, with the base models' rows."""
    ids = np.array([f"c{i}" for i in range(len(truth))])
    random = np.random.default_rng(0)
    part = random.permutation(np.arange(len(truth)) % parts)
    folds, base_models = [], []
    for number in [*range(parts), *([None] if final else [])]:
        inside = random.permutation(np.flatnonzero(np.ones(len(truth), bool) if number is None else part != number))
        train = Clips(tuple(map(Clip, ids[inside])), ("A",) * len(inside), truth[inside])
        held_out = Clips((Clip("x"),) if number is None else tuple(map(Clip, ids[part == number])))
        folds.append(Fold(number, train, held_out))
        # Named in an order that is not the alphabet's.
        names = [f"m{i}" for i in range(len(rows))][::-1]
        base_models.append({name: Probabilities(train.ids, rows[int(name[1:]), inside]) for name in names})
    return folds, base_models


def fit_both(case: Case, options: LateOptions) -> tuple[Any, list[RecordingReporter], Any, list[RecordingReporter]]:
    folds, base_models = case
    books, others = [RecordingReporter() for _ in folds], [RecordingReporter() for _ in folds]
    with tempfile.TemporaryDirectory() as name:
        contexts, own = ([make_context(Path(name), reporter=book) for book in each] for each in (books, others))
        together = LateFusion().fit_folds(folds, base_models, options, contexts)
        each = zip(folds, base_models, own, strict=True)
        alone = [LateFusion().fit(fold, given, options, context) for fold, given, context in each]
    return together, books, alone, others


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKEND_NAMES)
@pytest.mark.parametrize(
    "settings",
    [
        {"step": 0.2},
        {"step": 0.1, "min_weight": 0.1, "max_weight": 0.4},
        {"step": 0.1, "limit": 50},
        {"step": 0.1, "search": "climb", "refine": False},
        {"step": 0.5, "min_weight": 0.2},
    ],
)
def test_folds_together_have_the_weights_and_notes_of_folds_alone(backend: str, settings: dict[str, Any]) -> None:
    if backend != "numpy":
        pytest.importorskip(backend)
    for seed in (0, 1):
        rows, truth = make_case(seed, 4, 70, ties=seed == 1)
        options = LateOptions(backend=backend, **settings)  # type: ignore[arg-type]
        together, books, alone, others = fit_both(make_folds(rows, truth, 3), options)
        assert together is not None
        assert [dict(model.weights) for model in together] == [dict(model.weights) for model in alone]
        assert [list(model.weights) for model in together] == [list(model.weights) for model in alone]
        assert [list(book.notes.items()) for book in books] == [list(book.notes.items()) for book in others]
        assert [book.warnings for book in books] == [book.warnings for book in others]


def test_any_folds_that_are_left_are_learnt_together() -> None:
    rows, truth = make_case(3, 3, 60)
    folds, base_models = make_folds(rows, truth, 4)
    for left in ([1, 3], [0, 4], [2, 3, 4]):
        case = [folds[i] for i in left], [base_models[i] for i in left]
        together, _, alone, _ = fit_both(case, LateOptions(step=0.25))
        assert together == alone


def test_labels_that_a_fold_holds_out_change_none_of_its_weights() -> None:
    rows, truth = make_case(4, 4, 80)
    folds, base_models = make_folds(rows, truth, 4)
    options = LateOptions(step=0.2)
    before, books, _, _ = fit_both((folds, base_models), options)
    held = {name: i for i, name in enumerate(folds[2].held_out.ids)}
    drawn = np.random.default_rng(1).permutation(truth)[: len(held)]

    def shuffled(fold: Fold) -> Fold:
        pairs = zip(fold.train.ids, fold.train.labels, strict=True)
        labels = np.array([drawn[held[name]] if name in held else row for name, row in pairs])
        return Fold(fold.index, Clips(fold.train.items, fold.train.actors, labels), fold.held_out)

    after, others, _, _ = fit_both(([shuffled(fold) for fold in folds], base_models), options)
    assert after[2] == before[2]
    assert others[2].notes == books[2].notes
    assert any(one != other for one, other in zip(before, after, strict=True)), "others learn from these labels"


def test_folds_that_are_not_of_the_same_clips_are_left_to_be_learnt_alone() -> None:
    rows, truth = make_case(5, 2, 40)
    folds, base_models = make_folds(rows, truth, 2)
    contexts = [make_context(Path()) for _ in folds]
    late, options = LateFusion(), LateOptions(step=0.5)
    assert isinstance(late.fit_folds(folds, base_models, options, contexts), list)
    assert isinstance(late.fit_folds(folds[:1], base_models[:1], options, contexts[:1]), Iterator)
    assert isinstance(late.fit_folds(folds, base_models, LateOptions(weights="m0=.5,m1=.5"), contexts), Iterator)
    other_rows = [
        *base_models[:-1],
        {name: Probabilities(r.ids, r.values[:, ::-1]) for name, r in base_models[-1].items()},
    ]
    assert isinstance(late.fit_folds(folds, other_rows, options, contexts), Iterator)
    other_members = [*base_models[:-1], {"m0": base_models[-1]["m0"]}]
    assert isinstance(late.fit_folds(folds, other_members, options, contexts), Iterator)
    last = folds[-1].train
    other_labels = Fold(None, Clips(last.items, last.actors, np.roll(last.labels, 1, axis=0)), folds[-1].held_out)
    assert isinstance(late.fit_folds([*folds[:-1], other_labels], base_models, options, contexts), Iterator)
    thirds = make_folds(rows, truth, 3, final=False)
    halved = [Fold(f.index, f.train.take(f.train.labels[:, 0] == 0), f.held_out) for f in thirds[0]]
    kept = [{n: r.pick(f.train.ids) for n, r in m.items()} for f, m in zip(halved, thirds[1], strict=True)]
    assert isinstance(late.fit_folds(halved, kept, options, contexts), list), "a clip that nobody has is no matter"


def test_weights_are_those_of_a_literal_search_for_each_fold() -> None:
    rows, truth = make_case(6, 3, 50)
    folds, base_models = make_folds(rows, truth, 3)
    contexts = [make_context(Path()) for _ in folds]
    options = LateOptions(step=0.25, refine=False, backend="numpy")
    models = LateFusion().fit_folds(folds, base_models, options, contexts)
    assert isinstance(models, list)
    for fold, given_rows, model in zip(folds, base_models, models, strict=True):
        own = np.stack([given_rows[name].values for name in sorted(given_rows)])
        points = [np.full(3, 1 / 3), *(point / 4 for point in grid_points(3, 4, 0, 4))]
        scores = [search_official(mean_rows(own, point), fold.train.labels).scores.score for point in points]
        weights = np.array([model.weights[name] for name in sorted(given_rows)])
        assert search_official(mean_rows(own, weights), fold.train.labels).scores.score == max(scores)
