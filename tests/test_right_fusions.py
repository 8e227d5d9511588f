"""Fusions on small cases whose right value is worked out in plain words: every point, every part, every pair."""

from __future__ import annotations

import math
import sys
from itertools import permutations, product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from blemore_harness.errors import InvalidOption
from blemore_harness.protocol.rules import NEUTRAL, decode, score
from blemore_harness.protocol.thresholds import search_official
from blemore_plugins import regularisation
from blemore_plugins.late.options import LateOptions
from blemore_plugins.late.scorers import CompiledScorer, PlainScorer, Right, tabulate, value_answers
from blemore_plugins.late.search import WeightSearch, choose_backend, choose_grid, choose_weights, explain_grid
from blemore_plugins.late.space import NONE, SimplexGrid, Subsets, bounded_grid, whole
from blemore_plugins.logistic import Problem, fit, mean_loss
from blemore_plugins.means import EPSILON, log_rows, mean_logs, mean_rows
from blemore_plugins.structured import PAIRS, Structured, StructuredOptions, ratio_inputs, set_inputs
from fakes import RecordingReporter, make_context
from fusion_cases import fit as fit_fusion
from fusion_cases import make_members, make_truth, predict

Array = np.ndarray[Any, Any]


def case(seed: int, base_models: int, clips: int, ties: bool = False) -> tuple[Array, Array]:
    """Rows (M, N, 6) of base models that know a little, and truth (N, 6); `ties` gives rows in tenths."""
    truth = make_truth(seed, clips)
    rows = np.stack(list(make_members(seed + 1, truth, (0.3,) * base_models).values()))
    if ties:
        rows = np.random.default_rng(seed).multinomial(10, rows / rows.sum(axis=2, keepdims=True)) / 10
    return rows, truth


def official(rows: Array, truth: Array, point: Array) -> float:
    return search_official(mean_rows(rows, point), truth).scores.score


def distance(point: Array) -> float:
    """How far from equal weights."""
    return round(float(((point - 1 / len(point)) ** 2).sum()), 9)


# ------------------------------------------------------------------------------------------ late: points that are tried


class Spy:
    """Scores as plain numpy does, and keeps every point that was scored."""

    def __init__(self, rows: Array, truth: Array) -> None:
        self._scorer = PlainScorer(rows, truth)
        self.points: list[Array] = []

    def scores(self, points: Array) -> Array:
        self.points += list(points)
        return self._scorer.scores(points)

    def best_of(self, grid: SimplexGrid, advance: Any, subsets: Subsets | None = None) -> Array:
        self.points += list(grid.weights(grid.block(0, grid.size)))
        return self._scorer.best_of(grid, advance, subsets)


def literal_climb(rows: Array, truth: Array, point: Array, move: float, low: float, high: float) -> Array:
    """Move weight between two base models while that is better, or as good and nearer to equal weights."""
    while True:
        candidates = [point]
        for giver, taker in permutations(range(len(point)), 2):
            given = min(move, point[giver] - low, high - point[taker])
            if given > 1e-12:
                moved = point.copy()
                moved[giver], moved[taker] = point[giver] - given, point[taker] + given
                candidates.append(moved / moved.sum())
        ranks = [(official(rows, truth, each), -distance(each)) for each in candidates]
        best = ranks.index(max(ranks))
        if best == 0:
            return point
        point = candidates[best]


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.1, 0.6), (0.15, 0.45)])
@pytest.mark.parametrize("seed", range(3))
def test_the_search_is_every_point_then_finer_moves(tmp_path: Path, seed: int, bounds: tuple[float, float]) -> None:
    rows, truth = case(seed, 3, 30, ties=seed == 2)
    low, high = bounds
    options = LateOptions(step=0.25, min_weight=low, max_weight=high)
    spy = Spy(rows, truth)
    search = WeightSearch(spy, 3, options)
    found = search.best(make_context(tmp_path))
    points = [np.array(p) / 4 for p in product(range(5), repeat=3) if sum(p) == 4]
    points = [p for p in points if (p >= low - 1e-9).all() and (p <= high + 1e-9).all()]
    point = max([np.full(3, 1 / 3), *points], key=lambda p: (official(rows, truth, p), -distance(p)))
    if not points:  # between the points of the grid: climbed to from equal weights
        point = literal_climb(rows, truth, point, 0.25, low, high)
    for share in (0.5, 0.2):
        point = literal_climb(rows, truth, point, 0.25 * share, low, high)
    np.testing.assert_allclose(found, point, atol=1e-12)
    # The best point of the grid is scored once more beside equal weights.
    assert search.tried == len(spy.points) - bool(points)


def test_a_whole_grid_is_not_climbed_from_and_a_coarser_one_is(tmp_path: Path) -> None:
    rows, truth = case(4, 3, 40)
    book = RecordingReporter()
    for limit, tried, step in ((66, 67, 0.1), (65, None, round(1 / 9, 6)), (3, None, 1.0), (1, None, 1.0)):
        context = make_context(tmp_path, reporter=book)
        options = LateOptions(refine=False, limit=limit, backend="numpy")
        (found,) = choose_weights(rows, truth, whole(40), options, [context])
        assert book.notes["grid step"] == step
        grid = choose_grid(3, options)
        if tried:
            assert book.notes["points tried"] == tried
            assert explain_grid(grid, options) is None
            assert book.warnings == []
        else:
            assert book.notes["points tried"] >= grid.size + 1 + 1
            start = max(
                [np.full(3, 1 / 3), *grid.weights(grid.block(0, grid.size))],
                key=lambda p: (official(rows, truth, p), -distance(p)),
            )
            np.testing.assert_allclose(found, literal_climb(rows, truth, start, 0.1, 0.0, 1.0), atol=1e-12)
            assert f"66 points of step 0.1 for 3 base models are more than the limit of {limit}" in book.warnings[-1]


def test_bounds_that_just_leave_room() -> None:
    assert choose_grid(2, LateOptions(min_weight=0.5)).size == 1
    assert choose_grid(4, LateOptions(step=0.25, max_weight=0.25)).size == 1
    assert choose_grid(3, LateOptions(min_weight=1 / 3)).size == 0
    for bounds in ({"min_weight": 0.5}, {"max_weight": 0.33}):
        with pytest.raises(InvalidOption, match="3 weights"):
            choose_grid(3, LateOptions(**bounds))


def test_plain_numpy_searches_up_to_2000_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", ModuleType("numba"))
    context = make_context(tmp_path)
    assert choose_backend(2000, "auto", context) == "numpy"
    assert choose_backend(2001, "auto", context) == "numba"
    assert choose_backend(1, "numba", context) == "numba"


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled search as plain Python, which takes no compiling."""
    pytest.importorskip("numba")
    from blemore_plugins.late import kernel

    for name, function in list(vars(kernel).items()):
        if hasattr(function, "py_func"):
            monkeypatch.setattr(kernel, name, function.py_func)


@pytest.mark.encoders
@pytest.mark.parametrize("base_models", [1, 2, 3])
@pytest.mark.usefixtures("uncompiled")
def test_the_fast_search_scores_and_chooses_as_the_plain_words(base_models: int) -> None:
    for seed in range(3):
        rows, truth = case(10 * base_models + seed, base_models, 9, ties=seed == 1)
        random = np.random.default_rng(seed)
        points = random.dirichlet(np.ones(base_models), 4)
        scorer = CompiledScorer(rows, truth)
        assert scorer.scores(points).tolist() == [official(rows, truth, point) for point in points]
        group = random.integers(0, 3, 9)
        group[:3] = range(3)
        subsets = Subsets(group, (0, 2, NONE))
        grid, done = bounded_grid(base_models, 3), []
        found = scorer.best_of(grid, done.append, subsets)
        assert sum(done) == grid.size
        for left, chosen in zip(subsets.left_out, found, strict=True):
            inside = group != left
            every = grid.block(0, grid.size)
            ranks = [(official(rows[:, inside], truth[inside], p / 3), -int((p * p).sum())) for p in every]
            np.testing.assert_array_equal(chosen, every[ranks.index(max(ranks))])
        np.testing.assert_array_equal(scorer.best_of(grid, done.append), found[2:])


@pytest.mark.parametrize("chunk", [1, 2, 5, 500])
def test_chunks_of_points_choose_the_same(chunk: int) -> None:
    for seed in range(4):
        rows, truth = case(seed, 3, 12, ties=True)
        scorer, grid, done = PlainScorer(rows, truth), bounded_grid(3, 4), []
        scorer.chunk = chunk
        found = scorer.best_of(grid, done.append)
        every = grid.block(0, grid.size)
        ranks = [(official(rows, truth, p / 4), -int((p * p).sum())) for p in every]
        np.testing.assert_array_equal(found, [every[ranks.index(max(ranks))]])
        assert (sum(done), max(done)) == (15, min(chunk, 15))


def test_what_rows_get_right_by_decoding_them() -> None:
    truth = make_truth(3, 60)
    table = tabulate(truth)
    for first, second in permutations(range(6), 2):
        row = np.zeros(6)
        row[first], row[second] = 0.6, 0.4
        alone, even, uneven = (decode([row], alpha, beta)[0] for alpha, beta in ((0.5, 0.5), (0.3, 0.5), (0.3, 0.1)))
        for clip, label in enumerate(truth):
            sets = [((label > 0) == (answer > 0)).all() for answer in (alone, even, uneven)]
            exact = [(label == answer).all() and (label > 0).sum() == 2 for answer in (even, uneven)]
            if NEUTRAL in (first, second):
                expected = Right.NEVER_BLENDS if sets[0] else Right.NOTHING
            elif (label > 0).sum() == 1:
                expected = Right.SINGLE if sets[0] else Right.NOTHING
            else:
                expected = (
                    Right.NOTHING
                    if not sets[1]
                    else Right.EVEN
                    if exact[0]
                    else Right.UNEVEN
                    if exact[1]
                    else Right.PAIR
                )
            assert table[clip, 6 * first + second] == expected


def test_right_answers_are_worth_half_a_share() -> None:
    truth = np.array(
        [[100, 0, 0, 0, 0, 0], [50, 50, 0, 0, 0, 0], [70, 30, 0, 0, 0, 0], [0, 0, 0, 0, 0, 100]], dtype=np.int8
    )
    presence, salience = value_answers(truth, Subsets(np.array([0, 1, 1, 2]), (0, 1, NONE)))
    np.testing.assert_allclose(presence, [[0.5 * n / clips for n in range(5)] for clips in (3, 2, 4)])
    # A set without blends divides by one.
    np.testing.assert_allclose(salience, [[0.5 * n / blends for n in range(3)] for blends in (2, 1, 2)])


def test_a_mean_is_at_most_1() -> None:
    certain = np.zeros((4, 1, 6))
    certain[..., 2] = 1.0
    weights = np.array([0.2, 0.4, 0.3, 0.1])
    assert weights[0] + weights[1] + weights[2] + weights[3] > 1
    assert mean_rows(certain, weights).tolist() == [[0, 0, 1.0, 0, 0, 0]]
    rows = np.random.default_rng(0).dirichlet(np.ones(6), (4, 5))
    np.testing.assert_allclose(mean_rows(rows, weights), np.einsum("m,mnk->nk", weights, rows))


# ------------------------------------------------------------------------------------------ logarithms and regressions


def test_logarithms_are_of_rows_raised_to_epsilon_and_made_to_sum_to_1() -> None:
    base_models = {"b": SimpleNamespace(values=np.array([[1.0, 0, 0, 0, 0, 0]])),
               "a": SimpleNamespace(values=np.array([[0.5, 0.3, 0.2, 0, 0, 0]]))}  # fmt: skip
    logs = log_rows(("a", "b"), base_models, 0.01)
    expected = [[[0.5, 0.3, 0.2, 0.01, 0.01, 0.01]], [[1.0, 0.01, 0.01, 0.01, 0.01, 0.01]]]
    np.testing.assert_allclose(np.exp(logs), [[np.array(row) / sum(row) for row in rows] for rows in expected])
    np.testing.assert_allclose(mean_logs(logs), (logs[0] + logs[1]) / 2)
    assert EPSILON == 1e-5


def problem_of(seed: int, rows: int) -> Problem:
    random = np.random.default_rng(seed)
    inputs, offset = random.normal(size=(rows, 3)), random.normal(size=(rows, 2))
    return Problem(inputs, random.dirichlet(np.ones(2), rows), offset)


def test_a_strength_is_chosen_by_the_loss_on_parts_not_learnt_from() -> None:
    problem, done = problem_of(0, 40), []
    parts = [np.arange(40) < 3, (np.arange(40) >= 3) & (np.arange(40) < 25), np.arange(40) >= 25]
    nothing, everything = np.zeros(40, dtype=bool), np.ones(40, dtype=bool)
    learnt = regularisation.fit_regularised(problem, [*parts, nothing, everything], (0.03, 1.0, 0.3), done.append)
    losses = {}
    for strength in (math.inf, 1.0, 0.3, 0.03):
        total = sum(mean_loss(problem.take(part), fit(problem.take(~part), strength)) * part.sum() for part in parts)
        losses[strength] = total / 40
    assert learnt.losses == {f"{strength:g}": round(loss, 6) for strength, loss in losses.items()}
    best = min(losses, key=lambda strength: losses[strength])
    assert learnt.strength == best
    np.testing.assert_array_equal(learnt.weights, fit(problem, best))
    assert done == [1, 1, 1, 1]
    assert learnt.describe() == {"strength": f"{best:g}", "loss by strength on other actors": learnt.losses}


def test_of_equal_losses_the_greatest_strength_is_taken_and_one_alone_is_not_questioned() -> None:
    problem = problem_of(1, 6)
    none = [np.zeros(6, dtype=bool), np.ones(6, dtype=bool)]
    learnt = regularisation.fit_regularised(problem, none, (0.1, 0.2), lambda count: None)
    assert (learnt.strength, set(learnt.losses.values())) == (math.inf, {0.0})
    alone = regularisation.fit_regularised(problem, none, (0.1,), lambda count: None)
    assert (alone.strength, dict(alone.losses)) == (0.1, {})
    np.testing.assert_array_equal(alone.weights, fit(problem, 0.1))


def test_inputs_of_both_heads_number_by_number() -> None:
    random = np.random.default_rng(0)
    logs = np.log(random.dirichlet(np.ones(6), (2, 20)))
    pair = random.integers(0, 10, 20)
    sets, ratios = set_inputs(logs), ratio_inputs(logs, pair)
    for clip in range(20):
        centred = [value - np.mean(base_model[clip]) for base_model in logs for value in base_model[clip]]
        np.testing.assert_allclose(sets[clip], [*centred, 10.0])
        one, two = PAIRS[pair[clip]]
        preferences = [base_model[clip, one] - base_model[clip, two] for base_model in logs]
        expected = [*preferences, abs(sum(preferences) / 2), *(float(k == pair[clip]) for k in range(10))]
        np.testing.assert_allclose(ratios[clip], expected)


def test_a_right_ratio_is_worth_clips_by_blends_and_nothing_without_any() -> None:
    truth = make_truth(0, 30)
    blends = int(((truth > 0).sum(axis=1) == 2).sum())
    options = StructuredOptions(strengths=(1.0,))
    assert fit_fusion(Structured(), make_members(1, truth, (0.5,)), truth, options)[0].worth == 30 / blends
    single = truth[(truth > 0).sum(axis=1) == 1]
    assert fit_fusion(Structured(), make_members(1, single, (0.5,)), single, options)[0].worth == 0.0


def test_both_heads_are_chosen_on_the_actors_parts() -> None:
    """The ratio head on the blends of each part only, by the same parts as the set head."""
    truth = make_truth(5, 60)
    base_models = make_members(6, truth, (0.5, 0.2))
    options = StructuredOptions(strengths=(0.05, 2.0), inner_folds=3)
    model, book = fit_fusion(Structured(), base_models, truth, options)
    again, _ = fit_fusion(
        Structured(), base_models, truth, StructuredOptions(strengths=(float(book.notes["ratio"]["strength"]),))
    )
    np.testing.assert_allclose(model.ratios, again.ratios)
    blend = (truth > 0).sum(axis=1) == 2
    actors = np.array([f"A{i % 7}" for i in range(60)])
    parts = np.array_split(np.random.default_rng(7).permutation(sorted(set(actors))), 3)
    logs = log_rows(sorted(base_models), {k: SimpleNamespace(values=v) for k, v in base_models.items()}, 1e-5)[:, blend]
    pair = np.array([PAIRS.index(tuple(np.flatnonzero(label))) for label in truth[blend]])
    ratio = [(70, 50, 30).index(label[label > 0][0]) for label in truth[blend]]
    mean = logs.mean(axis=0)
    first, second = (mean[np.arange(len(pair)), np.array(PAIRS)[pair, side]] for side in (0, 1))
    offset = np.column_stack(
        [p * first + q * second - p * np.log(p) - q * np.log(q) for p, q in ((0.7, 0.3), (0.5, 0.5), (0.3, 0.7))]
    )
    problem = Problem(ratio_inputs(logs, pair), np.eye(3)[ratio], offset)
    for strength, loss in book.notes["ratio"]["loss by strength on other actors"].items():
        held = [np.isin(actors[blend], part) for part in parts]
        total = sum(mean_loss(problem.take(h), fit(problem.take(~h), float(strength))) * h.sum() for h in held)
        assert loss == pytest.approx(total / blend.sum(), abs=2e-6)
    assert score(truth, decode(predict(model, base_models), 0.05, 0.05)).presence > 0.5


def test_grids_of_every_small_shape_have_the_points_that_trying_all_finds() -> None:
    for base_models, parts, lowest, highest in product(range(1, 5), range(1, 6), range(3), range(6)):
        grid = SimplexGrid(base_models, parts, lowest, highest)
        expected = [p for p in product(range(lowest, highest + 1), repeat=base_models) if sum(p) == parts]
        assert grid.size == len(expected), grid
        if expected:
            assert grid.block(0, grid.size).tolist() == [list(p) for p in expected]
            last = grid.size - 1
            assert grid.block(last, grid.size).tolist() == [list(expected[last])]
