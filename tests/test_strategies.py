"""Named strategies: what each chooses on, what none may see, and each against a literal computation."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from blemore_harness.decoding import label_model
from blemore_harness.decoding.decoders import CentredDecoder, GapDecoder, ThresholdDecoder, centre_rows, measure_gaps
from blemore_harness.decoding.exact import search_exact
from blemore_harness.decoding.label_model import fit_expected_score
from blemore_harness.decoding.strategies import (
    HONEST,
    STRATEGIES,
    choose_strategy,
    decode_folds,
    evaluate_strategy,
    make_sample,
)
from blemore_harness.errors import DataError
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.grid import OFFICIAL_GRID, GridCounter, Thresholds
from blemore_harness.protocol.rules import decode, score
from blemore_harness.protocol.thresholds import cross_fitted, official, search_official, summarise
from blemore_harness.record.encoding import to_json
from blemore_harness.scoring import kept_scores
from blemore_harness.scoring.kept_scores import score_once
from blemore_harness.scoring.results import ScoredSystem, SystemPredictions, score_system
from strategy_cases import LABELS, literal_features, sample


@pytest.mark.parametrize("name", [name for name, strategy in STRATEGIES.items() if strategy.sees == "others"])
def test_labels_of_a_fold_change_nothing_that_is_used_on_it(name: str) -> None:
    given = sample()
    random = np.random.default_rng(1)
    for fold in range(3):
        own = np.flatnonzero(given.folds == fold)
        shuffled = given.truth.copy()
        shuffled[own] = shuffled[random.permutation(own)]
        other = make_sample(given.values, shuffled, given.folds, given.groups)
        rows = given.only(fold)
        seen = [STRATEGIES[name].learn(s.without(fold)) for s in (given, other)]
        first, second = (decoder.decode(rows.values, rows.groups) for decoder in seen)
        assert (first == second).all()
        changed = evaluate_strategy(STRATEGIES[name], other)[fold]
        assert changed == score(other.truth[own], first), "scored with what was trained on other folds"


def test_strategies_say_what_they_see() -> None:
    assert [name for name, s in STRATEGIES.items() if s.sees != "others"] == ["official", "pooled"]
    assert [name for name, s in STRATEGIES.items() if s.transductive] == ["actor-centred", "actor-rank", "actor-scaled"]
    assert HONEST[0] == "other-folds"
    assert all(name == strategy.name and strategy.summary for name, strategy in STRATEGIES.items())


def test_official_pooled_and_cross_fitted_are_the_grid_searches() -> None:
    given = sample()
    for name, literal in (("official", official), ("other-folds", cross_fitted)):
        expected = literal(given.values, given.truth, given.folds)
        assert evaluate_strategy(STRATEGIES[name], given) == {k: choice.scores for k, choice in expected.items()}
    chosen = search_official(given.values, given.truth).thresholds
    for fold, found in evaluate_strategy(STRATEGIES["pooled"], given).items():
        own = given.folds == fold
        assert found == score(given.truth[own], decode(given.values[own], chosen.alpha, chosen.beta))


@pytest.mark.parametrize("refitted", [False, True])
def test_a_system_is_scored_by_few_counts_of_the_grid(monkeypatch: pytest.MonkeyPatch, refitted: bool) -> None:
    given, final = sample(folds=5, bias=0.5), sample(folds=5, seed=1)
    ids = tuple(f"c{k}" for k in range(len(given.truth)))
    rows, again = (Probabilities(ids, each.values) for each in (given, final))
    blinded = SimpleNamespace(
        train=SimpleNamespace(labels=given.truth, actors=[f"A{k:02}" for k in given.groups]), folds=given.folds
    )
    counted = []
    per_fold = GridCounter.per_fold
    monkeypatch.setattr(GridCounter, "per_fold", lambda self, *a: counted.append(a) or per_fold(self, *a))
    found = score_system(SystemPredictions(rows, again if refitted else None, None, ()), blinded)
    # Once for each set of rows; strategies that move rows or gaps do so anew for each of five folds.
    moving = [name for name, strategy in STRATEGIES.items() if strategy.transductive]
    assert len(counted) == 1 + refitted + 5 * len(moving) == 16 + refitted
    used = final.values if refitted else given.values
    for name, values in (("official", used), ("pooled", used), ("decoupled", given.values)):
        alone = make_sample(values, given.truth, given.folds, given.groups)
        expected = summarise(evaluate_strategy(STRATEGIES[name], alone).values())
        assert asdict(found.strategies[name].score) == expected["score"]
    assert asdict(found.official) == summarise(c.scores for c in official(used, given.truth, given.folds).values())


@pytest.mark.parametrize("refitted", [False, True])
def test_the_same_predictions_are_scored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refitted: bool) -> None:
    given, final = sample(folds=5, bias=0.5), sample(folds=5, seed=1)
    ids = tuple(f"c{k}" for k in range(len(given.truth)))
    rows, again = (Probabilities(ids, each.values) for each in (given, final))
    train = SimpleNamespace(labels=given.truth, actors=[f"A{k:02}" for k in given.groups])
    blinded = SimpleNamespace(train=train, folds=given.folds)
    predictions, file = SystemPredictions(rows, again if refitted else None, None, ()), tmp_path / "scores.json"
    plain, calls = score_system(predictions, blinded), []
    monkeypatch.setattr(kept_scores, "score_system", lambda *a: calls.append(a) or score_system(*a))

    def check(given: SystemPredictions, expected: ScoredSystem, count: int, code: str = "code") -> None:
        found = score_once(given, blinded, file, code)
        assert json.dumps(written(found)) == json.dumps(written(expected))
        assert len(calls) == count

    check(predictions, plain, 1)
    check(predictions, plain, 1)
    file.write_text(file.read_text()[:-20])
    check(predictions, plain, 2)
    kept = json.loads(file.read_text())
    kept["scores"]["official"]["score"]["mean"] = 0.9
    file.write_text(json.dumps(kept))
    check(predictions, plain, 3)
    other = SystemPredictions(again, rows if refitted else None, None, ())
    check(other, score_system(other, blinded), 4)
    train.labels = np.roll(given.truth, 1, axis=0)
    check(other, score_system(other, blinded), 5)
    check(other, score_system(other, blinded), 6, "edited code")


def written(scored: ScoredSystem) -> object:
    arrays = vars(scored.counts) | vars(scored.counts.grids)
    lists = {name: value.tolist() for name, value in arrays.items() if isinstance(value, np.ndarray)}
    return lists, to_json({name: value for name, value in vars(scored).items() if name != "counts"})


def test_test_clips_are_decoded_by_the_simplest_strategy_unless_another_gains_more_than_its_error() -> None:
    chosen = set()
    for seed in range(8):
        given = sample(folds=5, seed=seed)
        found = choose_strategy(given)
        assert list(found.gains) == list(HONEST[1:])
        plain = decode_folds(STRATEGIES["other-folds"], given)
        sure = {"other-folds": 0.0}
        for name, gain in found.gains.items():
            labels = decode_folds(STRATEGIES[name], given)
            literal = score(given.truth, labels).score - score(given.truth, plain).score
            assert gain.difference == pytest.approx(literal, abs=1e-12)
            sure[name] = gain.difference - gain.error
        assert sure[found.name] == pytest.approx(max(sure.values()), abs=1e-9)
        chosen.add(found.name)
    assert {"other-folds", "expected-score"} <= chosen


def test_averaged_best_fold_and_decoupled_equal_their_words() -> None:
    given = sample()
    choices = official(given.values, given.truth, given.folds)
    averaged = STRATEGIES["averaged"].learn(given)
    assert isinstance(averaged, ThresholdDecoder)
    assert averaged.thresholds.alpha == pytest.approx(np.mean([c.thresholds.alpha for c in choices.values()]))
    assert averaged.thresholds.beta == pytest.approx(np.mean([c.thresholds.beta for c in choices.values()]))
    best = STRATEGIES["best-fold"].learn(given)
    assert best == ThresholdDecoder(max(choices.values(), key=lambda c: c.scores.score).thresholds)
    presence = [score(given.truth, decode(given.values, a, 0.5)).presence for a in OFFICIAL_GRID]
    alpha = OFFICIAL_GRID[int(np.argmax(presence))]
    salience = [score(given.truth, decode(given.values, alpha, b)).salience for b in OFFICIAL_GRID]
    beta = OFFICIAL_GRID[int(np.argmax(salience))]
    assert STRATEGIES["decoupled"].learn(given) == ThresholdDecoder(Thresholds(float(alpha), float(beta)))


@pytest.mark.parametrize("seed", range(6))
def test_exact_reaches_the_best_of_all_thresholds(seed: int) -> None:
    given = sample(clips=30, seed=seed)
    values = given.values.round(2) if seed % 2 else given.values
    found = search_exact(values, given.truth)
    reached = score(given.truth, decode(values, found.alpha, found.beta)).score
    ordered = np.sort(values, axis=1)
    gaps = ordered[:, -1] - ordered[:, -2]
    alphas = np.unique(np.concatenate([[0.0, 1.0], ordered[:, -2], np.nextafter(ordered[:, -2], 1)]))
    betas = np.unique(np.concatenate([[0.0, 1.0], gaps, np.maximum(np.nextafter(gaps, 0), 0)]))
    best = max(score(given.truth, decode(values, a, b)).score for a, b in product(alphas, betas))
    assert reached == pytest.approx(best, abs=1e-12)
    assert reached >= search_official(values, given.truth).scores.score - 1e-12


def test_exact_stays_within_its_region_where_neighbouring_floats_leave_no_middle() -> None:
    truth = np.array([[50, 50, 0, 0, 0, 0], [100, 0, 0, 0, 0, 0]], dtype=np.int8)
    for second in np.random.default_rng(0).uniform(0.1, 0.4, 50):
        less = np.nextafter(second, 0)
        values = np.array([[1 - second, second, 0, 0, 0, 0], [1 - less, less, 0, 0, 0, 0]])
        found = search_exact(values, truth)
        assert score(truth, decode(values, found.alpha, found.beta)).score == 1.0


def test_centring_moves_every_actor_to_the_same_mean() -> None:
    given = sample(bias=1.0)
    centre = np.log([0.2, 0.2, 0.2, 0.2, 0.1, 0.1])
    moved = np.log(centre_rows(given.values, given.groups, centre))
    for group in np.unique(given.groups):
        mean = moved[given.groups == group].mean(axis=0)
        assert mean - mean.mean() == pytest.approx(centre - centre.mean(), abs=1e-9)
    shifted = given.values * np.exp(np.random.default_rng(2).normal(0, 1, (12, 6)))[given.groups]
    shifted /= shifted.sum(axis=1, keepdims=True)
    again = centre_rows(shifted, given.groups, centre)
    assert again == pytest.approx(centre_rows(given.values, given.groups, centre), abs=1e-9)


def test_centring_gains_where_actors_have_a_bias_of_their_own() -> None:
    given = sample(clips=960, bias=1.0)
    gained = {
        name: np.mean([s.score for s in evaluate_strategy(STRATEGIES[name], given).values()])
        for name in ("other-folds", "actor-centred")
    }
    assert gained["actor-centred"] > gained["other-folds"] + 0.05


def test_gaps_are_measured_within_the_actor() -> None:
    rows = np.array(
        [[0.5, 0.4, 0.1, 0, 0, 0], [0.6, 0.3, 0.1, 0, 0, 0], [0.7, 0.2, 0.1, 0, 0, 0], [0.4, 0, 0, 0, 0, 0.6],
         [0.9, 0.1, 0, 0, 0, 0], [0.9, 0.1, 0, 0, 0, 0]]
    )  # fmt: skip
    groups = np.array([0, 0, 0, 0, 1, 1])
    assert measure_gaps(rows, groups, "rank").tolist() == pytest.approx([1 / 6, 0.5, 5 / 6, 1, 0.5, 0.5])
    normal = measure_gaps(rows, groups, "normal")
    assert normal[0] == pytest.approx(1 - normal[2])
    assert normal[[1, 4, 5]].tolist() == pytest.approx([0.5] * 3)
    assert normal[3] == 1
    labels = GapDecoder(Thresholds(0.05, 0.5), "rank").decode(rows, groups)
    assert [sorted(row[row > 0]) for row in labels.tolist() and labels] == [
        [50, 50], [50, 50], [30, 70], [100], [50, 50], [50, 50]
    ]  # fmt: skip


@pytest.mark.parametrize(
    "decoder", [CentredDecoder(Thresholds(0.1, 0.1), np.zeros(6)), GapDecoder(Thresholds(0.1, 0.1), "rank")]
)
def test_looking_at_other_clips_needs_groups(decoder: CentredDecoder | GapDecoder) -> None:
    with pytest.raises(DataError, match="other clips of the same actor"):
        decoder.decode(sample(12).values, None)


def test_every_label_stands_once() -> None:
    assert len({tuple(row) for row in LABELS.tolist()}) == len(LABELS) == 36
    assert (LABELS.sum(axis=1) == 100).all()


def test_label_probabilities_are_those_of_a_literal_likelihood() -> None:
    given = sample(60)
    model = fit_expected_score(given.values, given.truth)
    likely = model.probabilities(given.values)
    assert likely.sum(axis=1) == pytest.approx(np.ones(60))
    features = literal_features(given.values)
    start = np.zeros(features.shape[2])
    start[:3] = 1.0

    def objective(weights: np.ndarray) -> float:
        logits = features @ weights
        target = (given.truth[:, None] == LABELS[None]).all(axis=2)
        normal = np.log(np.exp(logits).sum(axis=1))
        return float((logits[target] - normal).sum() - 0.5 * label_model.PENALTY * ((weights - start) ** 2).sum())

    best = objective(model.weights)
    random = np.random.default_rng(0)
    for _ in range(50):
        assert objective(model.weights + random.normal(0, 0.05, len(start))) < best


def test_answer_has_the_largest_expected_score() -> None:
    given = sample(40)
    model = fit_expected_score(given.values, given.truth)
    answers = model.decode(given.values, None)
    for row, answer in zip(model.probabilities(given.values), answers, strict=True):
        gains = []
        for label in LABELS:
            same = sum(p for p, other in zip(row, LABELS, strict=True) if ((other > 0) == (label > 0)).all())
            exact = sum(p for p, other in zip(row, LABELS, strict=True) if (other == label).all())
            gains.append(0.5 * same + 0.5 * ((label > 0).sum() == 2) * exact / model.blend_share)
        assert (LABELS[int(np.argmax(gains))] == answer).all()


def test_without_blends_none_is_answered() -> None:
    truth = LABELS[np.random.default_rng(0).integers(6, size=120)]
    values = (truth / 100 + 0.1) / 1.6
    model = fit_expected_score(values, truth)
    assert model.blend_share == 0
    assert (model.decode(values, None) == truth).all()


def test_sharp_rows_are_answered_as_they_are() -> None:
    truth = LABELS[np.repeat(np.arange(36), 6)]
    values = (truth / 100 + 1e-4) / (1 + 6e-4)
    model = fit_expected_score(values, truth)
    assert (model.decode(values, None) == truth).all()


def test_one_fold_cannot_choose_on_others() -> None:
    given = sample(folds=1)
    with pytest.raises(DataError, match="'averaged' chooses on the other folds"):
        evaluate_strategy(STRATEGIES["averaged"], given)
    with pytest.raises(DataError, match="at least one clip"):
        fit_expected_score(np.empty((0, 6)), np.empty((0, 6), dtype=np.int8))


def test_the_label_model_is_found_for_rows_that_are_final_answers_too() -> None:
    given = sample(clips=360)
    random = np.random.default_rng(3)
    rows = np.where(LABELS == 70, 75, np.where(LABELS == 30, 25, LABELS)) / 100
    own = (given.truth[:, None] == LABELS[None]).all(axis=2).argmax(axis=1)
    shown = np.where(random.random(len(own)) < 0.3, own, random.integers(len(LABELS), size=len(own)))
    found = fit_expected_score(rows[shown], given.truth)
    likely = found.probabilities(rows[shown])[np.arange(len(own)), own]
    assert np.log(likely).mean() > -np.log(len(LABELS)), "worse than knowing nothing"
    features, start = literal_features(rows[shown]), np.eye(3, len(found.weights)).sum(axis=0)
    expected = (found.probabilities(rows[shown])[:, :, None] * features).sum(axis=1)
    gradient = (features[np.arange(len(own)), own] - expected).sum(axis=0) - (found.weights - start)
    assert np.abs(gradient).max() < 1e-5
