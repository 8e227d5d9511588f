"""Stacking finds the one minimum, is the logit mean in the limit, and learns which base models to trust."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from blemore_harness.clips import Clip, Clips
from blemore_harness.errors import DataError, InvalidOption
from blemore_harness.options import build_options
from blemore_plugins import logistic
from blemore_plugins.logistic import Problem, mean_loss, predict_logs
from blemore_plugins.means import LogitMean
from blemore_plugins.regularisation import actor_folds, fit_regularised
from blemore_plugins.stack import Stack, StackOptions, blemore_fusions
from fusion_cases import Array, fit, make_members, make_truth, predict
from regression_cases import choose_plainly


def make_problem(seed: int, rows: int, inputs: int, classes: int) -> Problem:
    random = np.random.default_rng(seed)
    scales = np.logspace(-1, 1, inputs)
    return Problem(
        random.normal(size=(rows, inputs)) * scales,
        random.dirichlet(np.ones(classes), size=rows),
        random.normal(size=(rows, classes)),
    )


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
def test_minimum_is_that_of_the_literal_objective(strength: float) -> None:
    problem = make_problem(0, 40, 5, 4)

    def objective(flat: Array) -> float:
        """In the words of the docstring, with scipy's own slopes."""
        weights = flat.reshape(5, 4)
        logits = problem.offset + problem.inputs @ weights
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        loss = -(problem.targets * np.log(probabilities)).sum(axis=1).mean()
        return float(loss + strength / 2 * (weights**2).sum())

    expected = minimize(objective, np.zeros(20), method="BFGS", options={"gtol": 1e-6})
    found = logistic.fit(problem, strength)
    assert objective(found.ravel()) <= expected.fun + 1e-10
    np.testing.assert_allclose(found.ravel(), expected.x, atol=2e-3)


def test_gradient_vanishes_at_the_minimum() -> None:
    problem = make_problem(1, 60, 6, 3)
    weights = logistic.fit(problem, 0.01)
    slopes = []
    for index in np.ndindex(weights.shape):
        around = []
        for sign in (-1, 1):
            moved = weights.copy()
            moved[index] += sign * 1e-5
            around.append(mean_loss(problem, moved) + 0.005 * float((moved**2).sum()))
        slopes.append((around[1] - around[0]) / 2e-5)
    assert np.abs(slopes).max() < 1e-6


def test_no_rows_and_infinite_strength_give_zeros() -> None:
    problem = make_problem(1, 10, 3, 2)
    assert not logistic.fit(problem, np.inf).any()
    assert not logistic.fit(problem.take(np.zeros(10, dtype=bool)), 1.0).any()


def test_rows_that_are_no_numbers_are_an_error_and_no_endless_loop() -> None:
    problem = make_problem(1, 10, 3, 2)
    broken = Problem(problem.inputs, problem.targets, problem.offset + np.inf)
    with np.errstate(invalid="ignore"), pytest.raises(DataError, match="no minimum of the regression found"):
        logistic.fit(broken, 1.0)


def test_the_minimum_is_found_for_inputs_that_are_alike_or_of_very_different_sizes() -> None:
    problem = make_problem(3, 200, 5, 4)
    inputs = np.hstack([problem.inputs, problem.inputs[:, :2], 1e3 * problem.inputs[:, 2:3]])
    wide = Problem(inputs, problem.targets, problem.offset)
    for strength in (1e-6, 1e-3):
        found = logistic.fit(wide, strength)
        logs = predict_logs(wide.inputs, wide.offset, found)
        slope = wide.inputs.T @ (np.exp(logs) - wide.targets) / 200 + strength * found
        assert np.abs(slope).max() < 1e-6
        np.testing.assert_allclose(found[:2], found[5:7], atol=1e-4)


@pytest.mark.parametrize("size", [np.nan, np.inf, 1e200])
def test_inputs_without_a_minimum_are_refused(size: float) -> None:
    problem = make_problem(1, 10, 3, 2)
    inputs = problem.inputs.copy()
    inputs[4, 1] = size
    with np.errstate(all="ignore"), pytest.raises(DataError, match="no minimum"):
        logistic.fit(Problem(inputs, problem.targets, problem.offset), 1.0)


def test_log_probabilities_are_those_of_the_matrix_product() -> None:
    problem = make_problem(2, 10, 4, 3)
    weights = np.random.default_rng(0).normal(size=(4, 3))
    logits = problem.offset + problem.inputs @ weights
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(predict_logs(problem.inputs, problem.offset, weights), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_strengths_and_weights_are_those_of_fits_from_zeros(seed: int) -> None:
    problem = make_problem(seed, 150, 6, 5)
    held = [np.arange(150) % 4 == part for part in range(4)]
    strengths = (1e-4, 1e-3, 1e-2, 0.1)
    strength, weights = choose_plainly(problem, held, strengths)
    fitted = fit_regularised(problem, held, strengths, lambda _: None)
    assert fitted.strength == strength
    np.testing.assert_allclose(fitted.weights, weights, atol=1e-6)


def test_a_fit_ends_at_the_same_minimum_wherever_it_begins() -> None:
    problem = make_problem(5, 80, 6, 4)
    start = np.random.default_rng(0).normal(size=(6, 4))
    np.testing.assert_allclose(logistic.fit(problem, 0.01, start), logistic.fit(problem, 0.01), atol=1e-6)


TRUTH = make_truth(0, 240)
MEMBERS = make_members(1, TRUTH, (0.5, 0.1, 0.0))


def loss(rows: Array, truth: Array) -> float:
    return -float((truth / 100 * np.log(rows)).sum(axis=1).mean())


def test_in_the_limit_it_is_the_logit_mean() -> None:
    reference = predict(fit(LogitMean(), MEMBERS, TRUTH)[0], MEMBERS)
    model, _ = fit(Stack(), MEMBERS, TRUTH, StackOptions(strengths=(np.inf,)))
    np.testing.assert_allclose(predict(model, MEMBERS), reference, rtol=1e-12)
    close, _ = fit(Stack(), MEMBERS, TRUTH, StackOptions(strengths=(1e6,)))
    np.testing.assert_allclose(predict(close, MEMBERS), reference, atol=1e-5)
    distances = []
    for strength in (10.0, 1.0, 0.1):
        some, _ = fit(Stack(), MEMBERS, TRUTH, StackOptions(strengths=(strength,)))
        distances.append(np.abs(predict(some, MEMBERS) - reference).max())
    assert distances == sorted(distances)


def test_it_beats_the_logit_mean_on_new_clips_where_members_differ() -> None:
    truth = make_truth(5, 300)
    base_models = make_members(6, truth, (0.5, 0.1, 0.0))
    model, book = fit(Stack(), MEMBERS, TRUTH)
    reference, _ = fit(LogitMean(), MEMBERS, TRUTH)
    assert loss(predict(model, base_models), truth) < 0.95 * loss(predict(reference, base_models), truth)
    losses = book.notes["loss by strength on other actors"]
    assert isinstance(losses, dict)
    assert next(iter(losses)) == "inf"
    assert losses[str(book.notes["strength"])] == min(losses.values())
    assert book.bars == [("stack: strengths", 9)]
    assert book.done == 9


def test_where_members_know_nothing_it_stays_near_the_prior() -> None:
    base_models = make_members(8, TRUTH, (0.0, 0.0))
    model, _ = fit(Stack(), base_models, TRUTH)
    prior = np.tile(TRUTH.mean(axis=0) / 100, (len(TRUTH), 1))
    assert loss(predict(model, base_models), TRUTH) < loss(prior, TRUTH) + 0.1


def test_order_of_members_company_and_repetition_change_no_bit() -> None:
    model, _ = fit(Stack(), MEMBERS, TRUTH)
    turned, _ = fit(Stack(), dict(reversed(MEMBERS.items())), TRUTH)
    whole = predict(model, MEMBERS)
    np.testing.assert_array_equal(predict(turned, MEMBERS), whole)
    for part in (slice(0, 1), slice(5, 12)):
        few = {name: rows[part] for name, rows in MEMBERS.items()}
        np.testing.assert_array_equal(predict(model, few), whole[part])


def test_inner_folds_share_no_actor_and_hold_every_clip_once() -> None:
    actors = tuple(f"A{i % 7}" for i in range(50))
    clips = Clips(tuple(Clip(f"c{i}") for i in range(50)), actors, make_truth(0, 50))
    masks = actor_folds(clips, 3, seed=1)
    assert len(masks) == 3
    np.testing.assert_array_equal(np.sum(masks, axis=0), 1)
    sets = [{actor for actor, held in zip(actors, mask, strict=True) if held} for mask in masks]
    assert sum(map(len, sets)) == 7
    assert len(actor_folds(clips, 20, seed=1)) == 7


def test_actors_are_needed_to_choose_and_not_otherwise() -> None:
    model, book = fit(Stack(), MEMBERS, TRUTH, actors=1)
    assert len(book.warnings) == 1
    assert not model.weights.any(), "nothing tells how far to trust the regression: the logit mean is left alone"
    fit(Stack(), MEMBERS, TRUTH, StackOptions(strengths=(1.0,)), actors=1)
    with pytest.raises(DataError, match="no actors"):
        actor_folds(Clips((Clip("a"),)), 5, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strengths": ""}, "strengths: expected numbers above 0"),
        ({"strengths": "1,0"}, "strengths: expected numbers above 0"),
        ({"inner_folds": 1}, "inner_folds: expected at least 2, found 1"),
        ({"epsilon": 0.5}, "epsilon: expected a probability above 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        build_options("stack", StackOptions, options)


def test_it_is_offered() -> None:
    assert [fusion.name for fusion in blemore_fusions()] == ["stack"]
