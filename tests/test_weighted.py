"""The weighted geometric mean: its minimum, equal weights without evidence, unequal ones where base models differ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from blemore_plugins.means import LogitMean
from blemore_plugins.regularisation import choose_strength
from blemore_plugins.weighted import WeightedLogitMean, WeightedLogitMeanOptions, blemore_fusions, fit_powers
from fusion_cases import Array, fit, make_members, make_truth, predict

TRUTH = make_truth(0, 240)


def logs_of(base_models: dict[str, Array]) -> Array:
    rows = np.maximum(np.stack(list(base_models.values())), 1e-5)
    return np.asarray(np.log(rows / rows.sum(axis=2, keepdims=True)))


@pytest.mark.parametrize("strength", [0.0, 0.1, 3.0])
def test_powers_are_the_minimum_of_the_literal_objective(strength: float) -> None:
    logs = logs_of(make_members(1, TRUTH, (0.5, 0.1, 0.0)))

    def objective(powers: Array) -> float:
        """In the words of the docstring."""
        products = np.prod(np.exp(logs) ** powers[:, None, None], axis=0)
        rows = products / products.sum(axis=1, keepdims=True)
        loss = -(TRUTH / 100 * np.log(rows)).sum(axis=1).mean()
        return float(loss + strength / 2 * np.mean((3 * powers - powers.sum()) ** 2))

    found = fit_powers(logs, TRUTH / 100, strength)
    expected = minimize(objective, np.full(3, 0.3), bounds=[(0, None)] * 3, options={"gtol": 1e-8, "ftol": 1e-14})
    assert objective(found) <= expected.fun + 1e-9
    np.testing.assert_allclose(found, expected.x, atol=2e-3)
    assert (found >= 0).all()


def test_with_an_infinite_strength_it_is_the_logit_mean() -> None:
    members = make_members(1, TRUTH, (0.5, 0.1, 0.0))
    reference = predict(fit(LogitMean(), members, TRUTH)[0], members)
    model, book = fit(WeightedLogitMean(), members, TRUTH, WeightedLogitMeanOptions(strengths=(np.inf,)))
    np.testing.assert_allclose(predict(model, members), reference, rtol=1e-9)
    assert book.notes["weights"] == pytest.approx({"m0": 1 / 3, "m1": 1 / 3, "m2": 1 / 3}, abs=1e-6)


def test_base_models_that_are_alike_keep_equal_weights() -> None:
    chosen = []
    for seed in range(5):
        truth = make_truth(seed, 240)
        members = make_members(seed + 10, truth, (0.3, 0.3, 0.3, 0.3))
        model, book = fit(WeightedLogitMean(), members, truth)
        chosen.append(book.notes["strength"])
        assert all(abs(weight - 0.25) < 0.05 for weight in model.weights.values())
    assert chosen.count("inf") >= 3


def test_useless_and_overconfident_base_models_lose_their_weight() -> None:
    members = make_members(3, TRUTH, (0.6, 0.6, 0.0, 0.0))
    sharp = members["m3"] ** 4
    members["m3"] = sharp / sharp.sum(axis=1, keepdims=True)
    model, book = fit(WeightedLogitMean(), members, TRUTH)
    assert sum(model.weights.values()) == pytest.approx(1)
    assert model.weights["m0"] > 0.4
    assert model.weights["m1"] > 0.4
    assert model.weights["m2"] < 0.1
    assert model.weights["m3"] < 0.02
    assert book.bars == [("weighted-logit-mean: strengths", 6)]
    assert book.done == 6


def test_rows_do_not_depend_on_other_rows_and_names_not_on_their_order() -> None:
    members = make_members(3, TRUTH, (0.6, 0.2))
    model, _ = fit(WeightedLogitMean(), members, TRUTH)
    whole = predict(model, members)
    one = predict(model, {name: rows[5:6] for name, rows in members.items()})
    assert (whole[5:6] == one).all()
    turned, _ = fit(WeightedLogitMean(), dict(reversed(members.items())), TRUTH)
    assert turned == model


def test_one_actor_and_one_base_model_and_a_missing_emotion() -> None:
    members = make_members(3, TRUTH, (0.6, 0.0))
    model, book = fit(WeightedLogitMean(), members, TRUTH, actors=1)
    assert model.weights == pytest.approx({"m0": 0.5, "m1": 0.5})
    assert len(book.warnings) == 1
    alone, _ = fit(WeightedLogitMean(), {"m0": members["m0"]}, TRUTH)
    np.testing.assert_allclose(predict(alone, members), members["m0"], atol=1e-4)
    kept = TRUTH[:, 2] == 0
    fewer, _ = fit(WeightedLogitMean(), {name: rows[kept] for name, rows in members.items()}, TRUTH[kept])
    assert np.isfinite(predict(fewer, members)).all()


def test_the_greatest_strength_within_one_standard_error_is_taken() -> None:
    actors = ["A1", "A1", "A2", "A2", "A3", "A3"]
    flat = np.ones(6)
    sure = flat - 0.1
    unsure = flat - np.array([0.5, 0.5, -0.2, -0.2, -0.1, -0.1])
    assert choose_strength({1.0: sure, np.inf: flat}, actors) == 1.0
    # -.067 on average, with a standard error of .219 over the three actors.
    assert choose_strength({1.0: unsure, np.inf: flat}, actors) == np.inf
    assert choose_strength({1.0: flat, 3.0: flat}, actors) == 3.0
    assert choose_strength({1.0: sure, 3.0: flat, np.inf: flat + 1}, actors) == 1.0
    assert choose_strength({1.0: sure, np.inf: flat}, ["A1"] * 6) == 1.0


def test_it_is_offered_under_its_name() -> None:
    (fusion,) = blemore_fusions()
    assert fusion.name == "weighted-logit-mean"
