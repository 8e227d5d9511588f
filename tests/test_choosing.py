"""The simplest candidate wins unless another gains more than a standard error over actors."""

from __future__ import annotations

import numpy as np
import pytest

from blemore_harness.decoding.choosing import choose_simplest, compare_labels
from blemore_harness.errors import DataError, InvalidPredictions
from blemore_harness.protocol.rules import score
from fusion_cases import Array, make_truth

TRUTH = make_truth(0, 400)
ACTORS = np.arange(400) % 20


def spoil(share: float, seed: int, actors: tuple[int, ...] = tuple(range(20))) -> Array:
    """The truth with another label in a share of the clips of some actors."""
    random = np.random.default_rng(seed)
    labels = TRUTH.copy()
    hit = (random.random(len(labels)) < share) & np.isin(ACTORS, actors)
    labels[hit] = TRUTH[random.permutation(len(labels))][hit]
    return labels


def test_the_gain_is_the_difference_of_scores_and_its_error_that_of_a_jackknife() -> None:
    one, two = spoil(0.3, 1), spoil(0.5, 2)
    found = compare_labels(one, two, TRUTH, ACTORS)
    literal = score(TRUTH, one).score - score(TRUTH, two).score
    assert found.difference == pytest.approx(literal, abs=1e-12)
    left_out = []
    for actor in range(20):
        rest = actor != ACTORS
        left_out.append(score(TRUTH[rest], one[rest]).score - score(TRUTH[rest], two[rest]).score)
    jackknife = np.sqrt(19 / 20 * np.square(np.array(left_out) - np.mean(left_out)).sum())
    assert found.error == pytest.approx(jackknife, rel=0.05)
    back = compare_labels(two, one, TRUTH, ACTORS)
    assert (back.difference, back.error) == pytest.approx((-found.difference, found.error))


def test_the_error_is_the_spread_over_draws_of_actors() -> None:
    """Actors differ in how much one system gains on them; twice the actors halve the variance."""
    random = np.random.default_rng(0)
    found, errors = [], []
    for _ in range(400):
        gains = random.binomial(20, random.beta(2, 3, size=20))
        one = TRUTH.copy()
        for actor, wrong in enumerate(gains):
            one[np.flatnonzero(actor == ACTORS)[:wrong]] = [0, 0, 0, 0, 0, 0]
        gain = compare_labels(one, TRUTH, TRUTH, ACTORS)
        found.append(gain.difference)
        errors.append(gain.error)
    assert np.mean(errors) == pytest.approx(np.std(found, ddof=1), rel=0.12)


def test_a_clear_gain_is_taken_and_an_unclear_one_is_not() -> None:
    plain = spoil(0.5, 1)
    assert choose_simplest({"plain": plain, "better": spoil(0.2, 2)}, TRUTH, ACTORS).name == "better"
    # Better for one actor only: the gain is as large as its error.
    lucky = np.where((ACTORS == 3)[:, None], TRUTH, plain)
    found = choose_simplest({"plain": plain, "lucky": lucky}, TRUTH, ACTORS)
    assert found.gains["lucky"].difference > 0
    assert found.gains["lucky"].difference == pytest.approx(found.gains["lucky"].error, rel=0.05)
    assert choose_simplest({"lucky": lucky, "plain": plain}, TRUTH, ACTORS).name == "lucky"


def test_of_several_the_surest_gain_wins_and_of_equals_the_earlier() -> None:
    plain, good, better = spoil(0.6, 1), spoil(0.4, 2), spoil(0.1, 3)
    labels = {"plain": plain, "good": good, "better": better, "same": better}
    found = choose_simplest(labels, TRUTH, ACTORS)
    assert found.name == "better"
    assert list(found.gains) == ["good", "better", "same"]
    assert choose_simplest({"plain": plain, "twin": plain.copy()}, TRUTH, ACTORS).name == "plain"


def test_equal_candidates_of_chance_are_seldom_taken() -> None:
    """One standard error is exceeded by chance in about 16 of 100 pairs of equals."""
    taken = sum(
        choose_simplest({"a": spoil(0.5, seed), "b": spoil(0.5, seed + 1000)}, TRUTH, ACTORS).name == "b"
        for seed in range(300)
    )
    assert 25 <= taken <= 75


def test_one_actor_is_no_evidence() -> None:
    found = choose_simplest({"plain": spoil(0.5, 1), "better": TRUTH}, TRUTH, np.zeros(400))
    assert found.name == "plain"
    assert found.gains["better"].error == np.inf


def test_no_blends_and_wrong_shapes() -> None:
    alone = TRUTH[(TRUTH > 0).sum(axis=1) == 1]
    found = compare_labels(alone, np.roll(alone, 1, axis=0), alone, np.arange(len(alone)) % 5)
    assert np.isfinite([found.difference, found.error]).all()
    with pytest.raises(DataError, match="none"):
        choose_simplest({}, TRUTH, ACTORS)
    with pytest.raises(InvalidPredictions, match=r"\(399, 6\)"):
        compare_labels(TRUTH, TRUTH[1:], TRUTH, ACTORS)
    with pytest.raises(DataError, match="400 clips"):
        compare_labels(TRUTH, TRUTH, TRUTH, ACTORS[1:])
