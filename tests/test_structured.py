"""Structured fusion: every label has a row that decodes to it, and the decision has the best expected Score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from blemore_harness.clips import EMOTIONS
from blemore_harness.errors import InvalidOption
from blemore_harness.protocol.grid import OFFICIAL_GRID
from blemore_harness.protocol.rules import decode, score
from blemore_harness.protocol.thresholds import search_official
from blemore_plugins import logistic
from blemore_plugins.logistic import predict_logs
from blemore_plugins.structured import (
    BETA_BELOW,
    MAX_ALPHA,
    PAIRS,
    RATIOS,
    Structured,
    StructuredOptions,
    blemore_fusions,
    label_rows,
    make_problems,
    number_sets,
    ordinal_inputs,
    ratio_offset,
    set_offset,
)
from fusion_cases import Array, fit, make_members, make_truth, predict
from golden import literal_protocol

PLAIN = StructuredOptions(strengths=(0.1,))


def every_label() -> Array:
    """All 36 labels of the challenge, in the order that the rows are in, written down independently."""
    labels = [[100 * (k == i) for k in range(6)] for i in range(6)]
    for one in range(5):
        for two in range(one + 1, 5):
            for first in (70, 50, 30):
                labels.append([first if k == one else 100 - first if k == two else 0 for k in range(6)])
    return np.array(labels, dtype=np.int8)


def test_every_label_is_decoded_from_its_row_at_every_point_of_the_stated_range() -> None:
    labels, rows = every_label(), label_rows()
    assert len(labels) == len(rows) == 36
    exact = [(a, b) for a in OFFICIAL_GRID for b in OFFICIAL_GRID if (decode(rows, a, b) == labels).all()]
    assert exact == [(a, b) for a in OFFICIAL_GRID for b in OFFICIAL_GRID if a <= MAX_ALPHA and b < BETA_BELOW]
    assert len(exact) == 50


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-9, MAX_ALPHA), st.floats(0, BETA_BELOW, exclude_max=True))
def test_every_label_is_decoded_from_its_row_between_the_points_too(alpha: float, beta: float) -> None:
    np.testing.assert_array_equal(decode(label_rows(), alpha, beta), every_label())


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-9, MAX_ALPHA), st.floats(0, BETA_BELOW, exclude_max=True))
def test_the_literal_rules_agree(alpha: float, beta: float) -> None:
    for row, label in zip(label_rows().tolist(), every_label().tolist(), strict=True):
        expected = {name: share for name, share in zip(EMOTIONS, label, strict=True) if share}
        assert literal_protocol.decode_row(row, alpha, beta) == expected


@pytest.mark.slow
def test_no_row_of_an_uneven_blend_is_exact_at_more_pairs() -> None:
    label = [70, 30, 0, 0, 0, 0]
    most = 0
    for small in np.arange(0.01, 0.5, 0.003):
        for large in np.arange(small, 1 - small + 1e-9, 0.02):
            rest = (1 - small - large) / 4
            if rest <= small:
                row = np.array([[large, small, rest, rest, rest, rest]])
                most = max(most, sum((decode(row, a, OFFICIAL_GRID[0]) == label).all() for a in OFFICIAL_GRID) * sum(
                    (decode(row, OFFICIAL_GRID[0], b) == label).all() for b in OFFICIAL_GRID
                ))  # fmt: skip
    assert most <= 50


def test_alone_is_exact_on_the_whole_grid_and_even_blends_up_to_an_alpha_of_a_half() -> None:
    labels, rows = every_label(), label_rows()
    even = (labels == 50).any(axis=1)
    alone = (labels == 100).any(axis=1)
    for alpha in OFFICIAL_GRID:
        for beta in OFFICIAL_GRID:
            right = (decode(rows, alpha, beta) == labels).all(axis=1)
            assert right[alone].all()
            assert right[even].all() == (alpha <= 0.5)


def test_the_official_search_finds_a_pair_that_gives_back_all_labels_at_once() -> None:
    labels = every_label()
    choice = search_official(label_rows(), labels)
    assert choice.scores.score == 1.0
    assert (choice.thresholds.alpha, choice.thresholds.beta) == (OFFICIAL_GRID[0], OFFICIAL_GRID[0])


def test_sets_and_ratios_number_every_label() -> None:
    labels = every_label()
    sets, ratios = number_sets(labels)
    assert sets.tolist() == [*range(6), *(6 + pair for pair in range(10) for _ in range(3))]
    assert ratios[6:].tolist() == [0, 1, 2] * 10
    assert len(PAIRS) == 10
    assert RATIOS == ((70, 30), (50, 50), (30, 70))


def test_offsets_say_how_near_a_label_is() -> None:
    """Minus the divergence of a row from a label, by the definition."""
    rows = np.random.default_rng(0).dirichlet(np.ones(6), size=20)
    logs = np.log(rows)[None]
    for number, label in enumerate(every_label() / 100):
        present = label > 0
        expected = -(label[present] * np.log(label[present] / rows[:, present])).sum(axis=1)
        if number < 6:
            np.testing.assert_allclose(set_offset(logs)[:, number], expected, atol=1e-12)
        else:
            pair, ratio = divmod(number - 6, 3)
            found = ratio_offset(logs, np.full(20, pair))[:, ratio]
            np.testing.assert_allclose(found, expected, atol=1e-12)
            if ratio == 1:
                np.testing.assert_allclose(set_offset(logs)[:, 6 + pair], expected, atol=1e-12)


TRUTH = make_truth(0, 400)
MEMBERS = make_members(1, TRUTH, (0.6, 0.4, 0.0))


def test_it_learns_and_beats_chance_by_far_on_new_clips() -> None:
    truth = make_truth(5, 200)
    base_models = make_members(6, truth, (0.6, 0.4, 0.0))
    model, book = fit(Structured(), MEMBERS, TRUTH, StructuredOptions(strengths=(0.01, 0.1)))
    choice = search_official(predict(model, base_models), truth)
    assert choice.scores.presence > 0.6
    assert choice.scores.salience > 0.4
    for head in ("set", "ratio"):
        notes = book.notes[head]
        assert isinstance(notes, dict)
        losses = notes["loss by strength on other actors"]
        assert list(losses) == ["inf", "0.1", "0.01"]
        assert losses[notes["strength"]] == min(losses.values())
    assert book.done == 6


def test_every_prediction_is_the_row_of_a_label() -> None:
    model, _ = fit(Structured(), MEMBERS, TRUTH, PLAIN)
    known = {tuple(row) for row in label_rows().tolist()}
    assert {tuple(row) for row in predict(model, MEMBERS).tolist()} <= known


def test_decision_maximises_expected_score_under_the_model() -> None:
    """With probabilities given by hand, against the expected Score of every label, worked out over all truths."""
    random = np.random.default_rng(3)
    model, _ = fit(Structured(), MEMBERS, TRUTH, PLAIN)
    sets, ratios = model.sets * 0, model.ratios * 0
    clips, blends = 400, int(((TRUTH > 0).sum(axis=1) == 2).sum())
    assert model.worth == clips / blends
    for _ in range(25):
        chance_of_set, chance_of_ratio = random.dirichlet(np.full(16, 0.5)), random.dirichlet(np.ones(3))
        sets[-1], ratios[-10:] = np.log(chance_of_set) / 10, np.log(chance_of_ratio)
        flat = {name: np.full((1, 6), 1 / 6) for name in MEMBERS}
        # Equal rows leave the offsets: divide them out, so that the heads give the chances above.
        offset = set_offset(np.log(np.full((1, 1, 6), 1 / 6)))[0]
        sets[-1] -= offset / 10
        ratios[-10:] -= ratio_offset(np.log(np.full((1, 1, 6), 1 / 6)), np.zeros(1, dtype=np.intp))[0]
        given_model = type(model)(model.names, sets, ratios, model.worth, model.epsilon)
        truths = every_label()
        chances = [
            *chance_of_set[:6],
            *(chance_of_set[6 + p] * chance_of_ratio[r] for p in range(10) for r in range(3)),
        ]
        worth = []
        for label in truths:
            presence = sum(c for c, t in zip(chances, truths, strict=True) if ((t > 0) == (label > 0)).all())
            salience = sum(c for c, t in zip(chances, truths, strict=True) if (t == label).all() and (t > 0).sum() == 2)
            worth.append(0.5 * presence / clips + 0.5 * salience / blends)
        (row,) = predict(given_model, flat)
        found = decode(row[None], 0.05, 0.05)[0]
        position = int((truths == found).all(axis=1).argmax())
        assert worth[position] == pytest.approx(max(worth))


def test_a_ratio_of_a_pair_that_it_learns_nothing_about_is_no_crash() -> None:
    truth = np.eye(6, dtype=np.int8)[np.arange(60) % 6] * 100
    base_models = make_members(2, truth.astype(np.int8), (0.8,))
    model, _ = fit(Structured(), base_models, truth.astype(np.int8), StructuredOptions(strengths=(0.01, 1.0)))
    found = decode(predict(model, base_models), 0.05, 0.05)
    assert score(truth, found).presence > 0.9


def test_order_of_members_company_and_repetition_change_nothing() -> None:
    model, _ = fit(Structured(), MEMBERS, TRUTH, PLAIN)
    turned, _ = fit(Structured(), dict(reversed(MEMBERS.items())), TRUTH, PLAIN)
    np.testing.assert_array_equal(model.sets, turned.sets)
    np.testing.assert_array_equal(model.ratios, turned.ratios)
    whole = predict(model, MEMBERS)
    for part in (slice(0, 1), slice(5, 12)):
        few = {name: rows[part] for name, rows in MEMBERS.items()}
        np.testing.assert_array_equal(predict(model, few), whole[part])


def test_it_is_offered() -> None:
    assert [fusion.name for fusion in blemore_fusions()] == ["structured"]


def test_two_members_that_are_one_are_fused_under_a_weak_penalty() -> None:
    truth = make_truth(0, 40)
    rows = np.random.default_rng(0).dirichlet(np.full(6, 0.1), 40)
    model, _ = fit(Structured(), {"a": rows, "b": rows}, truth, StructuredOptions(strengths=(1e-4,)))
    assert np.isfinite(model.sets).all()
    np.testing.assert_allclose(model.sets[:6], model.sets[6:12], atol=1e-3)


def test_without_blends_nothing_is_gained_by_answering_one() -> None:
    truth = make_truth(0, 200)
    truth = truth[(truth > 0).sum(axis=1) == 1]
    base_models = make_members(1, truth, (0.3, 0.4))
    model, _ = fit(Structured(), base_models, truth, StructuredOptions(strengths=(10.0,)))
    answers = decode(predict(model, base_models), 0.05, 0.05)
    assert score(truth, answers).presence > 0.8
    assert ((answers > 0).sum(axis=1) == 1).all()


# ------------------------------------------------------------------------------------------------- ratios as ordered


def blends_only(seed: int, clips: int = 300) -> tuple[Array, Array]:
    """Log-probabilities (3, N, 6) of three base models for blends only, and their labels."""
    truth = make_truth(seed, clips)
    truth = truth[(truth > 0).sum(axis=1) == 2]
    return np.log(np.stack(list(make_members(seed + 1, truth, (0.5, 0.2, 0.0)).values()))), truth


@pytest.mark.parametrize("strength", [0.003, 0.1])
def test_the_ordinal_model_is_that_of_adjacent_categories_written_out(strength: float) -> None:
    """log P(70/30) / P(50/50) = offset + u - t, log P(50/50) / P(30/70) = offset + u + t; minimised by scipy's BFGS."""
    logs, truth = blends_only(0)
    problem, _ = make_problems(truth, logs, ordinal=True)["ratio"]
    sets, ratio = number_sets(truth)
    pair = sets - 6
    one, two = np.array(PAIRS)[pair].T
    clips = np.arange(len(truth))
    signed = np.column_stack([*(m[clips, one] - m[clips, two] for m in logs), np.eye(10)[pair]])
    even = np.column_stack([np.abs(logs.mean(axis=0)[clips, one] - logs.mean(axis=0)[clips, two]), np.ones(len(truth))])
    offset = ratio_offset(logs, pair)

    def literal_logs(weights: Array) -> Array:
        u, t = signed @ weights[:13], even @ weights[13:]
        upper = offset[:, 0] - offset[:, 1] + u - t
        lower = offset[:, 1] - offset[:, 2] + u + t
        odds = np.column_stack([np.exp(upper), np.ones(len(u)), np.exp(-lower)])
        return np.log(odds / odds.sum(axis=1, keepdims=True))

    def objective(weights: Array) -> float:
        # Of a signed input the logits are (w, 0, -w), of another (-t, 2 t, -t) / 3.
        squares = 2 * (weights[:13] ** 2).sum() + 6 / 9 * (weights[13:] ** 2).sum()
        return float(-literal_logs(weights)[clips, ratio].mean() + strength / 2 * squares)

    expected = minimize(objective, np.zeros(15), method="BFGS", options={"gtol": 1e-7})
    weights = logistic.fit(problem, strength)
    found = predict_logs(ordinal_inputs(logs, pair), offset, weights)
    np.testing.assert_allclose(found, literal_logs(expected.x), atol=1e-4)
    np.testing.assert_allclose(weights[:13, 1], 0, atol=1e-6)
    np.testing.assert_allclose(weights[:, 0], np.r_[-weights[:13, 2], weights[13:, 2]], atol=1e-6)


def test_ordinal_ratios_turn_with_the_order_of_a_pair() -> None:
    """What is said of (ang, hap) is what would be said of (hap, ang), the other way round."""
    logs, truth = blends_only(2)
    weights = logistic.fit(make_problems(truth, logs, ordinal=True)["ratio"][0], 0.01)
    pair = number_sets(truth)[0] - 6
    inputs, offset = ordinal_inputs(logs, pair), ratio_offset(logs, pair)
    turned = inputs * np.r_[-np.ones(13), np.ones(2)]
    np.testing.assert_allclose(
        predict_logs(inputs, offset, weights), predict_logs(turned, offset[:, ::-1], weights)[:, ::-1], atol=1e-6
    )
    # The clearer base models prefer the first emotion, the likelier its larger share, step by step.
    steps = predict_logs(inputs + np.r_[1.0, np.zeros(14)], offset, weights) - predict_logs(inputs, offset, weights)
    assert (np.diff(steps, axis=1) * np.sign(weights[0, 0]) < 0).all()


def test_ordinal_ratios_are_fitted_and_predicted_with() -> None:
    options = StructuredOptions(strengths=(0.01, 0.1), ratio="ordinal")
    model, book = fit(Structured(), MEMBERS, TRUTH, options)
    assert model.ordinal
    assert model.ratios.shape == (3 + 12, 3)
    truth = make_truth(5, 300)
    choice = search_official(predict(model, make_members(6, truth, (0.6, 0.4, 0.0))), truth)
    assert choice.scores.salience > 0.4
    assert list(book.notes["ratio"]["loss by strength on other actors"]) == ["inf", "0.1", "0.01"]
    again, _ = fit(Structured(), dict(reversed(MEMBERS.items())), TRUTH, options)
    np.testing.assert_array_equal(model.ratios, again.ratios)


def test_without_blends_ordinal_ratios_change_nothing() -> None:
    truth = make_truth(0, 100)
    truth = truth[(truth > 0).sum(axis=1) == 1]
    base_models = make_members(1, truth, (0.3, 0.4))
    rows = [
        predict(
            fit(Structured(), base_models, truth, StructuredOptions(strengths=(10.0,), ratio=ratio))[0], base_models
        )
        for ratio in ("nominal", "ordinal")
    ]
    np.testing.assert_array_equal(*rows)


def test_another_way_of_ratios_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"ratio: .*'beta'"):
        StructuredOptions(ratio="beta")
