"""The plain means are what the words say, whatever the order of base models and the company of a row."""

from __future__ import annotations

import math

import numpy as np
import pytest

from blemore_harness.errors import InvalidOption
from blemore_plugins.means import LogitMean, LogitMeanOptions, Mean, blemore_fusions
from fusion_cases import fit, make_members, make_truth, predict

TRUTH = make_truth(0, 30)
MEMBERS = make_members(1, TRUTH, (0.2, 0.5, 0.0))


def test_mean_is_the_literal_one() -> None:
    model, book = fit(Mean(), MEMBERS, TRUTH)
    expected = [[sum(base_model[i, k] for base_model in MEMBERS.values()) / 3 for k in range(6)] for i in range(30)]
    np.testing.assert_allclose(predict(model, MEMBERS), expected, rtol=1e-14)
    assert book.notes == {}


def test_logit_mean_is_the_literal_one() -> None:
    model, _ = fit(LogitMean(), MEMBERS, TRUTH)
    for i, found in enumerate(predict(model, MEMBERS)):
        powers = [math.prod(float(base_model[i, k]) for base_model in MEMBERS.values()) ** (1 / 3) for k in range(6)]
        np.testing.assert_allclose(found, np.array(powers) / sum(powers), rtol=1e-3)  # epsilon stands for zeros
    exact, _ = fit(LogitMean(), MEMBERS, TRUTH, LogitMeanOptions(epsilon=1e-12))
    i = 3
    powers = [math.prod(float(base_model[i, k]) for base_model in MEMBERS.values()) ** (1 / 3) for k in range(6)]
    np.testing.assert_allclose(predict(exact, MEMBERS)[i], np.array(powers) / sum(powers), rtol=1e-9)


def test_a_certain_member_does_not_outvote_all_others() -> None:
    certain = np.eye(6)[[0]]
    other = np.array([[0.02, 0.9, 0.02, 0.02, 0.02, 0.02]])
    base_models = {"a": certain, "b": other, "c": other, "d": other, "e": other}
    model, _ = fit(LogitMean(), base_models, TRUTH[:1])
    (row,) = predict(model, base_models)
    assert np.isfinite(row).all()
    assert row.argmax() == 1


def test_one_member_is_itself() -> None:
    one = {"m": make_members(3, TRUTH, (0.4,))["m0"]}
    for fusion in (Mean(), LogitMean()):
        np.testing.assert_allclose(predict(fit(fusion, one, TRUTH)[0], one), one["m"], atol=2e-5)


@pytest.mark.parametrize("fusion", [Mean(), LogitMean()])
def test_order_of_members_and_company_change_no_bit(fusion: Mean | LogitMean) -> None:
    model, _ = fit(fusion, MEMBERS, TRUTH)
    turned, _ = fit(fusion, dict(reversed(MEMBERS.items())), TRUTH)
    whole = predict(model, MEMBERS)
    np.testing.assert_array_equal(predict(turned, MEMBERS), whole)
    for part in (slice(0, 1), slice(5, 12)):
        few = {name: rows[part] for name, rows in MEMBERS.items()}
        np.testing.assert_array_equal(predict(model, few), whole[part])


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 0.2])
def test_epsilon_is_a_small_probability(epsilon: float) -> None:
    with pytest.raises(InvalidOption, match=r"epsilon: expected a probability above 0 and up to 0\.1, found"):
        LogitMeanOptions(epsilon=epsilon)


def test_both_are_offered() -> None:
    assert [fusion.name for fusion in blemore_fusions()] == ["mean", "seed-average", "logit-mean"]
