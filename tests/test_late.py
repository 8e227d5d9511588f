"""Late fusion finds what brute force with literal rules finds, never loses to a base model, cannot be led by order."""

from __future__ import annotations

import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemore_harness.clips import EMOTIONS, Clip, Clips, Fold
from blemore_harness.errors import ConfigError, InvalidOption
from blemore_harness.options import build_options, identify_options
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.thresholds import search_official
from blemore_plugins.late import LateFusion
from blemore_plugins.late.options import LateOptions
from blemore_plugins.means import WeightedMean, mean_rows
from fakes import RecordingReporter, make_context
from golden import literal_protocol

Array = np.ndarray[Any, Any]


def make_case(seed: int, base_models: int, clips: int, skill: float = 0.3) -> tuple[Array, Array]:
    """Rows (M, N, 6) of base models that know a little, and truth (N, 6)."""
    random = np.random.default_rng(seed)
    truth = np.zeros((clips, 6), dtype=np.int8)
    for row in truth:
        one, two = random.choice(5, 2, replace=False)
        share = random.choice([30, 50, 70, 100])
        row[one], row[two] = share, 100 - share
    noise = random.dirichlet(np.full(6, 0.5), size=(base_models, clips))
    return (1 - skill) * noise + skill * truth / 100, truth


def literal_score(rows: Array, truth: Array) -> float:
    """The best Score on the official grid, by the literal loop."""
    labels = [{name: int(v) for name, v in zip(EMOTIONS, row, strict=True) if v} for row in truth]
    found = literal_protocol.search(rows.tolist(), labels)
    return 0.5 * found["acc_presence"] + 0.5 * found["acc_salience"]


def score(rows: Array, truth: Array, weights: Array) -> float:
    return search_official(mean_rows(rows, weights), truth).scores.score


def fit(rows: dict[str, Array], truth: Array, **options: Any) -> tuple[WeightedMean, RecordingReporter]:
    """Fit late fusion by plain numpy unless the options say otherwise, with what it told."""
    ids = tuple(f"c{i}" for i in range(len(truth)))
    train = Clips(tuple(map(Clip, ids)), ("A",) * len(ids), truth)
    book = RecordingReporter()
    base_models = {name: Probabilities(ids, values) for name, values in rows.items()}
    fold = Fold(0, train, Clips((Clip("x"),)))
    chosen = LateOptions(**({"backend": "numpy"} | options))
    with tempfile.TemporaryDirectory() as folder:
        return LateFusion().fit(fold, base_models, chosen, make_context(Path(folder), reporter=book)), book


def best(rows: Array, truth: Array, **options: Any) -> tuple[Array, int]:
    """The weights, in the order of rows, and how many points were tried."""
    model, book = fit({f"m{i:02}": base_model for i, base_model in enumerate(rows)}, truth, **options)
    tried: Any = book.notes["points tried"]
    return np.array(list(model.weights.values())), tried


@pytest.mark.parametrize(("base_models", "seed"), [(2, 0), (2, 1), (3, 2)])
def test_grid_finds_what_brute_force_with_literal_rules_finds(base_models: int, seed: int) -> None:
    rows, truth = make_case(seed, base_models, clips=15)
    parts = 4
    points = [p for p in product(range(parts + 1), repeat=base_models) if sum(p) == parts]
    literal = {p: literal_score(mean_rows(rows, np.array(p) / parts), truth) for p in points}
    equal = np.full(base_models, 1 / base_models)
    highest = max([*literal.values(), literal_score(mean_rows(rows, equal), truth)])
    found, tried = best(rows, truth, step=1 / parts, refine=False)
    assert literal_score(mean_rows(rows, found), truth) == highest
    assert tried == len(points) + 1
    nearest = min(((np.array(p) / parts - equal) ** 2).sum() for p, s in literal.items() if s == highest)
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
    weights = best(np.repeat(rows, 3, axis=0), truth, step=0.1, refine=True)[0]
    np.testing.assert_allclose(weights, 1 / 3)


@pytest.mark.parametrize("position", range(3))
def test_a_perfect_member_among_loud_wrong_ones_gets_the_weight(position: int) -> None:
    rows, truth = make_case(4, 3, 60, skill=0.0)
    rows[:] = np.eye(6)[np.random.default_rng(0).integers(0, 6, rows.shape[:2])]
    rows[position] = truth / 100
    weights = best(rows, truth, step=0.1, refine=True)[0]
    assert weights.argmax() == position
    assert score(rows, truth, weights) == 1.0


@pytest.mark.parametrize("base_models", [1, 2, 3, 5, 8, 12])
def test_no_member_alone_and_no_equal_mean_is_better(base_models: int) -> None:
    rows, truth = make_case(5, base_models, 80)
    rows[-1] = make_case(5, 1, 80, skill=0.8)[0][0]
    found = score(rows, truth, best(rows, truth, search="climb")[0])
    assert all(found >= search_official(base_model, truth).scores.score for base_model in rows)
    assert found >= score(rows, truth, np.full(base_models, 1 / base_models))


def test_finer_step_is_no_trap_for_many_points() -> None:
    """A climb from equal weights in tiny steps stands still: scores do not change from one step to the next."""
    rows, truth = make_case(6, 3, 60)
    rows[0] = 0.7 * truth / 100 + 0.3 * rows[0]
    coarse = score(rows, truth, best(rows, truth, step=0.1, refine=False)[0])
    assert score(rows, truth, best(rows, truth, step=0.005, refine=False, search="climb")[0]) >= coarse


def test_many_members_are_searched_by_a_climb_where_that_is_asked() -> None:
    rows, truth = make_case(7, 12, 40)
    weights, tried = best(rows, truth, search="climb")
    assert tried < 12_000  # the whole grid has 352,716 points
    assert abs(weights.sum() - 1) < 1e-9
    np.testing.assert_array_equal(weights, best(rows, truth, search="climb")[0])


def test_more_points_than_the_limit_are_a_coarser_grid_and_a_warning() -> None:
    rows, truth = make_case(7, 8, 40)
    named = {f"m{i}": base_model for i, base_model in enumerate(rows)}
    model, book = fit(named, truth, limit=1_000)
    assert book.notes["grid step"] == 0.2  # 792 points; 1,716 with six parts
    assert "19,448 points of step 0.1 for 8 base models are more than the limit of 1,000: a grid" in book.warnings[0]
    assert score(rows, truth, np.array([model.weights[name] for name in named])) > 0


cases = st.tuples(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 25))


@settings(max_examples=25, deadline=None)
@given(cases, st.sampled_from([0.5, 0.25, 0.2]), st.booleans())
def test_weights_are_on_the_simplex_and_refinement_never_lowers(
    case: tuple[int, int, int], step: float, copied: bool
) -> None:
    rows, truth = make_case(*case)
    if copied:
        rows[0] = rows[-1]
    plain, refined = (best(rows, truth, step=step, refine=refine)[0] for refine in (False, True))
    for weights in (plain, refined):
        assert weights.min() >= 0
        assert abs(weights.sum() - 1) < 1e-9
    assert score(rows, truth, refined) >= score(rows, truth, plain)


@settings(max_examples=25, deadline=None)
@given(cases, st.randoms(use_true_random=False))
def test_order_of_members_changes_nothing(case: tuple[int, int, int], random: Any) -> None:
    rows, truth = make_case(*case)
    named = {f"m{i}": base_model for i, base_model in enumerate(rows)}
    if len(named) > 2:
        named["m1"] = named["m0"]  # ties
    shuffled = list(named.items())
    random.shuffle(shuffled)
    one, _ = fit(named, truth, step=0.25)
    two, book = fit(dict(shuffled), truth, step=0.25)
    assert dict(one.weights) == dict(two.weights)
    weights: Any = book.notes["weights"]
    assert list(weights) == [name for name, _ in shuffled]


def predict(model: WeightedMean, rows: dict[str, Array]) -> Probabilities:
    count = len(next(iter(rows.values())))
    ids = tuple(f"c{i}" for i in range(count))
    context: Any = None
    base_models = {name: Probabilities(ids, values) for name, values in rows.items()}
    return model.predict(Clips(tuple(map(Clip, ids))), base_models, context)


def test_a_row_is_fused_the_same_among_other_rows() -> None:
    rows, _ = make_case(8, 3, 101)
    model = WeightedMean({"b": 0.37, "a": 0.13, "c": 0.5})
    named = dict(zip("abc", rows, strict=True))
    whole = predict(model, named).values
    for part in (slice(0, 1), slice(3, 10), slice(50, 101)):
        np.testing.assert_array_equal(
            predict(model, {name: base_model[part] for name, base_model in named.items()}).values, whole[part]
        )


def test_certain_members_stay_probabilities_at_every_point() -> None:
    """.4 + .3 + .2 + .1 is a little more than 1 in floating point."""
    certain = np.zeros((1, 6))
    certain[0, 2] = 1
    for base_models in (2, 3, 4):
        for point in product(range(11), repeat=base_models):
            if sum(point) != 10:
                continue
            names = [f"m{i}" for i in range(base_models)]
            model = WeightedMean({name: parts / 10 for name, parts in zip(names, point, strict=True)})
            assert predict(model, dict.fromkeys(names, certain)).values.max() <= 1


def test_weights_and_effort_are_noted_as_plain_numbers() -> None:
    rows, truth = make_case(9, 2, 20)
    model, book = fit({"s4d": rows[0], "gemini": rows[1]}, truth)
    weights: Any = book.notes["weights"]
    assert list(weights) == ["s4d", "gemini"]
    assert weights == {name: round(model.weights[name], 6) for name in ("s4d", "gemini")}
    assert type(book.notes["points tried"]) is int
    assert book.notes["grid step"] == 0.1
    assert book.warnings == []
    assert all(type(weight) is float for weight in model.weights.values())


@pytest.mark.parametrize("step", [0.0, -0.1, 0.3, 1.5, 0.15])
def test_step_must_divide_one(step: float) -> None:
    with pytest.raises(InvalidOption, match=r"step: expected a number that divides 1, such as 0.1 or 0.05, found"):
        LateOptions(step=step)


@pytest.mark.parametrize("step", [1.0, 0.5, 0.1, 0.05, 1 / 3])
def test_step_that_divides_one(step: float) -> None:
    assert LateOptions(step=step).step == step


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit: expected at least 1 point, found 0"),
        ({"min_weight": 0.5, "max_weight": 0.4}, "expected 0 <= min_weight <= max_weight <= 1, found 0.5 and 0.4"),
        ({"max_weight": 1.5}, "expected 0 <= min_weight <= max_weight <= 1"),
        ({"weights": "s4d"}, "expected NAME=WEIGHT, such as s4d=0.4,wav2vec2=0.6, found 's4d'"),
        ({"weights": "s4d=much"}, "expected NAME=WEIGHT"),
        ({"weights": "=1"}, "expected NAME=WEIGHT"),
        ({"weights": "a=.5,a=.5"}, "expected one for each base model, found two for 'a'"),
        ({"weights": "a=-1,b=2"}, "expected numbers from 0 to 1, found -1.0 for 'a'"),
        ({"weights": "a=nan"}, "expected numbers from 0 to 1, found nan for 'a'"),
        ({"weights": "a=.5,b=.4"}, r"expected a sum of 1 .*, found 0.9: set renormalise=true"),
        ({"weights": "nowhere.toml"}, "cannot read nowhere.toml"),
        ({"search": "random"}, "late.search: expected one of exhaustive, climb"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        build_options("late", LateOptions, options)


@pytest.mark.parametrize("bounds", [{"min_weight": 0.4}, {"max_weight": 0.3}])
def test_bounds_that_no_three_weights_can_keep(bounds: dict[str, float]) -> None:
    rows, truth = make_case(0, 3, 5)
    with pytest.raises(InvalidOption, match=r"3 weights of .* cannot sum to 1; expected 0.333333 between them"):
        best(rows, truth, **bounds)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1_000), st.sampled_from([(0.0, 0.5), (0.1, 1.0), (0.2, 0.4), (0.05, 0.45), (0.3, 0.35)]))
def test_bounds_are_kept_and_the_best_point_within_them_is_found(seed: int, bounds: tuple[float, float]) -> None:
    rows, truth = make_case(seed, 3, 12)
    low, high = bounds
    weights, _ = best(rows, truth, min_weight=low, max_weight=high)
    assert weights.min() >= low - 1e-9
    assert weights.max() <= high + 1e-9
    inside = [p for p in product(range(11), repeat=3) if sum(p) == 10 and all(low <= k / 10 <= high for k in p)]
    assert all(score(rows, truth, weights) >= score(rows, truth, np.array(p) / 10) for p in inside)


def test_bounds_between_two_points_of_the_grid_are_climbed_to() -> None:
    rows, truth = make_case(1, 12, 20)
    weights, tried = best(rows, truth, min_weight=0.05)
    assert weights.min() >= 0.05 - 1e-9
    assert tried > 1
    _, book = fit({f"m{i:02}": base_model for i, base_model in enumerate(rows)}, truth, min_weight=0.05)
    assert "no point of step 0.1 lies between min_weight 0.05 and max_weight 1 for 12 base models" in book.warnings[0]


def test_given_weights_are_used_and_nothing_is_searched() -> None:
    rows, truth = make_case(9, 2, 20)
    model, book = fit({"s4d": rows[0], "gemini": rows[1]}, truth, weights="s4d=0.4, gemini=.6")
    assert dict(model.weights) == {"gemini": 0.6, "s4d": 0.4}
    assert book.notes == {"weights": {"s4d": 0.4, "gemini": 0.6}}


PRINTED = (
    "gemini=.192,wavlm=.124,s4d=.117,wav2vec2=.111,videomae=.110,hicmae=.103,timesformer=.090,imagebind=.079,"
    "dinov3=.042,videoswin=.032"
)
"""The ten printed weights of the UZH paper's twelve encoders (arXiv 2603.23650, Table III)."""


def test_printed_weights_sum_to_one_but_for_rounding() -> None:
    rows, truth = make_case(9, 1, 5)
    names = [part.partition("=")[0] for part in PRINTED.split(",")]
    model, _ = fit(dict.fromkeys(names, rows[0]), truth, weights=PRINTED)
    assert abs(sum(model.weights.values()) - 1) < 1e-12
    assert model.weights["gemini"] == pytest.approx(0.192, abs=1e-6)
    nine = (
        "hicmae=.261,wav2vec2=.170,wavlm=.156,s4d=.094,dinov3=.092,clip=.071,videoswin=.064,imagebind=.050,dinov2=.041"
    )
    assert sum(LateOptions(weights=nine).given().values()) == pytest.approx(0.999)


def test_members_and_weights_must_match_unless_renormalised() -> None:
    rows, truth = make_case(9, 2, 20)
    base_models = {"s4d": rows[0], "gemini": rows[1]}
    with pytest.raises(ConfigError, match=r"'clip' .*gemini, s4d.; set renormalise=true"):
        fit(base_models, truth, weights="s4d=.3,gemini=.3,clip=.4")
    with pytest.raises(ConfigError, match="none for 'gemini'; give gemini=0 to leave it out"):
        fit(base_models, truth, weights="s4d=1", renormalise=True)
    with pytest.raises(ConfigError, match="expected one above 0 among gemini, s4d, found none"):
        fit(base_models, truth, weights="s4d=0,gemini=0,clip=1", renormalise=True)
    model, _ = fit(base_models, truth, weights="s4d=.1,gemini=.3,clip=.6", renormalise=True)
    assert dict(model.weights) == pytest.approx({"s4d": 0.25, "gemini": 0.75})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("w.json", '{"s4d": 0.4, "gemini": 0.6}'),
        ("w.toml", "s4d = 0.4\ngemini = 0.6"),
        ("w.toml", "[weights]\ns4d = 0.4\ngemini = 0.6"),
    ],
)
def test_a_file_of_weights_counts_by_what_it_holds(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    options = LateOptions(weights=str(tmp_path / name))
    facts = dict(identify_options(options)) | dict(LateFusion().identify(options))
    assert facts["weights"] == {"s4d": 0.4, "gemini": 0.6}
    assert "backend" not in facts
    assert LateFusion().identify(LateOptions()) == {}


@pytest.mark.parametrize("text", ["[1, 2]", "{}", '{"a": "1"}', '{"a": true}', "{"])
def test_a_file_without_weights_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "weights.json"
    path.write_text(text)
    with pytest.raises(
        InvalidOption, match=r"weights: (expected a number by base model in|cannot read) .*weights\.json"
    ):
        LateOptions(weights=str(path))
