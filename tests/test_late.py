"""Late fusion finds what brute force with literal rules finds, never loses to a member, cannot be led by order."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemore_harness.dataset import EMOTIONS, Clip, Clips, Fold
from blemore_harness.errors import InvalidOption
from blemore_harness.rows import Probabilities
from blemore_harness.thresholds import search_official
from blemore_plugins.late import LateFusion, LateOptions, WeightedMean, WeightSearch, mean_rows, simplex_points
from golden import literal_protocol

Array = np.ndarray[Any, Any]


def make_case(seed: int, members: int, clips: int, skill: float = 0.3) -> tuple[Array, Array]:
    """Rows (M, N, 6) of members that know a little, and truth (N, 6)."""
    random = np.random.default_rng(seed)
    truth = np.zeros((clips, 6), dtype=np.int8)
    for row in truth:
        one, two = random.choice(5, 2, replace=False)
        share = random.choice([30, 50, 70, 100])
        row[one], row[two] = share, 100 - share
    noise = random.dirichlet(np.full(6, 0.5), size=(members, clips))
    return (1 - skill) * noise + skill * truth / 100, truth


def literal_score(rows: Array, truth: Array) -> float:
    """The best Score on the official grid, by the literal loop."""
    labels = [{name: int(v) for name, v in zip(EMOTIONS, row, strict=True) if v} for row in truth]
    found = literal_protocol.search(rows.tolist(), labels)
    return 0.5 * found["acc_presence"] + 0.5 * found["acc_salience"]


def score(rows: Array, truth: Array, weights: Array) -> float:
    return search_official(mean_rows(rows, weights), truth).scores.score


class FakeContext(SimpleNamespace):
    def note(self, name: str, value: object) -> None:
        self.notes[name] = value


def fit(
    rows: dict[str, Array], truth: Array, options: LateOptions | None = None
) -> tuple[WeightedMean, dict[str, Any]]:
    ids = tuple(f"c{i}" for i in range(len(truth)))
    train = Clips(tuple(map(Clip, ids)), ("A",) * len(ids), truth)
    context: Any = FakeContext(notes={})
    members = {name: Probabilities(ids, values) for name, values in rows.items()}
    fold = Fold(0, train, Clips((Clip("x"),)))
    return LateFusion().fit(fold, members, options or LateOptions(), context), context.notes


@pytest.mark.parametrize(("members", "seed"), [(2, 0), (2, 1), (3, 2)])
def test_grid_finds_what_brute_force_with_literal_rules_finds(members: int, seed: int) -> None:
    rows, truth = make_case(seed, members, clips=15)
    parts = 4
    points = [p for p in product(range(parts + 1), repeat=members) if sum(p) == parts]
    literal = {p: literal_score(mean_rows(rows, np.array(p) / parts), truth) for p in points}
    equal = np.full(members, 1 / members)
    best = max([*literal.values(), literal_score(mean_rows(rows, equal), truth)])
    search = WeightSearch(rows, truth)
    found = search.best(1 / parts, refine=False)
    assert literal_score(mean_rows(rows, found), truth) == best
    assert search.tried == len(points) + 1
    nearest = min(((np.array(p) / parts - equal) ** 2).sum() for p, s in literal.items() if s == best)
    assert ((found - equal) ** 2).sum() <= nearest + 1e-9


def test_weighted_mean_is_the_literal_one() -> None:
    rows, _ = make_case(0, 3, 4)
    weights = np.array([0.2, 0.3, 0.5])
    expected = [
        [sum(float(w) * float(rows[m, i, k]) for m, w in enumerate(weights)) for k in range(6)] for i in range(4)
    ]
    np.testing.assert_allclose(mean_rows(rows, weights), expected, rtol=1e-15)


def test_ties_go_to_equal_weights() -> None:
    rows, truth = make_case(3, 1, 30)
    weights = WeightSearch(np.repeat(rows, 3, axis=0), truth).best(0.1, refine=True)
    np.testing.assert_allclose(weights, 1 / 3)


@pytest.mark.parametrize("position", range(3))
def test_a_perfect_member_among_loud_wrong_ones_gets_the_weight(position: int) -> None:
    rows, truth = make_case(4, 3, 60, skill=0.0)
    rows[:] = np.eye(6)[np.random.default_rng(0).integers(0, 6, rows.shape[:2])]
    rows[position] = truth / 100
    weights = WeightSearch(rows, truth).best(0.1, refine=True)
    assert weights.argmax() == position
    assert score(rows, truth, weights) == 1.0


@pytest.mark.parametrize("members", [1, 2, 3, 5, 8, 12])
def test_no_member_alone_and_no_equal_mean_is_better(members: int) -> None:
    rows, truth = make_case(5, members, 80)
    rows[-1] = make_case(5, 1, 80, skill=0.8)[0][0]
    found = score(rows, truth, WeightSearch(rows, truth).best(0.1, refine=True))
    assert all(found >= search_official(member, truth).scores.score for member in rows)
    assert found >= score(rows, truth, np.full(members, 1 / members))


def test_finer_step_is_no_trap_for_many_points() -> None:
    """A climb from equal weights in tiny steps stands still: scores do not change from one step to the next."""
    rows, truth = make_case(6, 3, 60)
    rows[0] = 0.7 * truth / 100 + 0.3 * rows[0]
    coarse = score(rows, truth, WeightSearch(rows, truth).best(0.1, refine=False))
    assert score(rows, truth, WeightSearch(rows, truth).best(0.005, refine=False)) >= coarse


def test_many_members_are_searched_by_a_climb() -> None:
    rows, truth = make_case(7, 12, 40)
    search = WeightSearch(rows, truth)
    weights = search.best(0.1, refine=True)
    assert search.tried < 12_000  # the whole grid has 352,716 points
    assert abs(weights.sum() - 1) < 1e-9
    np.testing.assert_array_equal(weights, WeightSearch(rows, truth).best(0.1, refine=True))


cases = st.tuples(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 25))


@settings(max_examples=40, deadline=None)
@given(cases, st.sampled_from([0.5, 0.25, 0.2]), st.booleans())
def test_weights_are_on_the_simplex_and_refinement_never_lowers(
    case: tuple[int, int, int], step: float, copied: bool
) -> None:
    rows, truth = make_case(*case)
    if copied:
        rows[0] = rows[-1]
    plain, refined = (WeightSearch(rows, truth).best(step, refine) for refine in (False, True))
    for weights in (plain, refined):
        assert weights.min() >= 0
        assert abs(weights.sum() - 1) < 1e-9
    assert score(rows, truth, refined) >= score(rows, truth, plain)


@settings(max_examples=25, deadline=None)
@given(cases, st.randoms(use_true_random=False))
def test_order_of_members_changes_nothing(case: tuple[int, int, int], random: Any) -> None:
    rows, truth = make_case(*case)
    named = {f"m{i}": member for i, member in enumerate(rows)}
    if len(named) > 2:
        named["m1"] = named["m0"]  # ties
    shuffled = list(named.items())
    random.shuffle(shuffled)
    options = LateOptions(step=0.25)
    one, _ = fit(named, truth, options)
    two, notes = fit(dict(shuffled), truth, options)
    assert dict(one.weights) == dict(two.weights)
    assert list(notes["weights"]) == [name for name, _ in shuffled]


def predict(model: WeightedMean, rows: dict[str, Array]) -> Probabilities:
    count = len(next(iter(rows.values())))
    ids = tuple(f"c{i}" for i in range(count))
    context: Any = None
    members = {name: Probabilities(ids, values) for name, values in rows.items()}
    return model.predict(Clips(tuple(map(Clip, ids))), members, context)


def test_a_row_is_fused_the_same_among_other_rows() -> None:
    rows, _ = make_case(8, 3, 101)
    model = WeightedMean({"b": 0.37, "a": 0.13, "c": 0.5})
    named = dict(zip("abc", rows, strict=True))
    whole = predict(model, named).values
    for part in (slice(0, 1), slice(3, 10), slice(50, 101)):
        np.testing.assert_array_equal(
            predict(model, {name: member[part] for name, member in named.items()}).values, whole[part]
        )


def test_certain_members_stay_probabilities_at_every_point() -> None:
    """.4 + .3 + .2 + .1 is a little more than 1 in floating point."""
    certain = np.zeros((1, 6))
    certain[0, 2] = 1
    for members in (2, 3, 4, 5):
        for point in simplex_points(members, 10):
            names = [f"m{i}" for i in range(members)]
            model = WeightedMean(dict(zip(names, point.tolist(), strict=True)))
            assert predict(model, dict.fromkeys(names, certain)).values.max() <= 1


def test_weights_and_effort_are_noted_as_plain_numbers() -> None:
    rows, truth = make_case(9, 2, 20)
    model, notes = fit({"s4d": rows[0], "gemini": rows[1]}, truth)
    assert list(notes["weights"]) == ["s4d", "gemini"]
    assert notes["weights"] == {name: round(model.weights[name], 6) for name in ("s4d", "gemini")}
    assert isinstance(notes["points tried"], int)
    assert all(type(weight) is float for weight in model.weights.values())


@pytest.mark.parametrize("step", [0.0, -0.1, 0.3, 1.5, 0.15])
def test_step_must_divide_one(step: float) -> None:
    with pytest.raises(InvalidOption, match=r"step: expected a number that divides 1, such as 0.1 or 0.05, found"):
        LateOptions(step=step)


@pytest.mark.parametrize("step", [1.0, 0.5, 0.1, 0.05, 1 / 3])
def test_step_that_divides_one(step: float) -> None:
    assert LateOptions(step=step).step == step


@pytest.mark.parametrize(("members", "parts"), [(1, 3), (2, 10), (3, 10), (4, 5)])
def test_simplex_points_are_all_points_once(members: int, parts: int) -> None:
    points = {tuple(np.rint(point * parts).astype(int).tolist()) for point in simplex_points(members, parts)}
    assert points == {p for p in product(range(parts + 1), repeat=members) if sum(p) == parts}
    assert sum(1 for _ in simplex_points(members, parts)) == len(points)
