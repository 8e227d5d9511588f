"""Intervals over actors: against plain loops, and on simulated actors whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from actor_cases import FOLDS, clips, decode_by_fold, literal_scores, rows_of_pair, simulate
from blemore_harness.errors import DataError, InvalidPredictions
from blemore_harness.protocol.grid import count_grids
from blemore_harness.protocol.thresholds import cross_fitted
from blemore_harness.scoring.intervals import (
    ActorCounts,
    count_actors,
    count_chosen,
    draw_weights,
    find_differences,
    find_intervals,
    say_difference,
    score_counts,
)
from blemore_harness.scoring.paired_tests import compare_counts


def test_counts_equal_a_loop_over_clips() -> None:
    truth, said, _, folds, actors = clips()
    counts = count_actors(truth, said, folds, actors)
    expected = []
    for fold, actor in sorted(set(zip(folds.tolist(), actors.tolist(), strict=True))):
        mine = [k for k in range(len(truth)) if folds[k] == fold and actors[k] == actor]
        blends = [k for k in mine if (truth[k] > 0).sum() == 2]
        present = [k for k in mine if ((truth[k] > 0) == (said[k] > 0)).all()]
        exact = [k for k in blends if (truth[k] == said[k]).all()]
        expected.append([fold, len(mine), len(blends), len(present), len(exact)])
    assert np.column_stack([counts.folds, counts.table]).tolist() == expected


def test_scores_of_counts_are_the_official_ones() -> None:
    truth, said, _, folds, actors = clips(1)
    counts = count_actors(truth, said, folds, actors)
    np.testing.assert_allclose(score_counts(counts)[0], literal_scores(truth, said, folds), rtol=1e-12)


def test_a_resample_scores_as_if_its_actors_clips_were_repeated() -> None:
    truth, one, two, folds, actors = clips(2)
    first, second = (count_actors(truth, said, folds, actors) for said in (one, two))
    weights = draw_weights(first.folds, resamples=5)
    assert weights is not None
    order = sorted(set(zip(folds.tolist(), actors.tolist(), strict=True)))
    for drawn, found in zip(weights, score_counts(first, weights) - score_counts(second, weights), strict=True):
        repeated = [
            k
            for (fold, actor), times in zip(order, drawn, strict=True)
            for _ in range(int(times))
            for k in range(len(truth))
            if folds[k] == fold and actors[k] == actor
        ]
        a, b = (literal_scores(truth[repeated], said[repeated], folds[repeated]) for said in (one, two))
        np.testing.assert_allclose(found, np.subtract(a, b), atol=1e-12)


def test_actors_are_drawn_within_their_fold_one_fewer_than_it_has() -> None:
    weights = draw_weights(FOLDS, resamples=2000)
    assert weights is not None
    for fold, size in enumerate((10, 9, 9, 9, 10)):
        assert (weights[:, fold == FOLDS].sum(axis=1) == size - 1).all()
    np.testing.assert_allclose(weights.mean(axis=0), np.where(np.isin(FOLDS, (0, 4)), 0.9, 8 / 9), atol=0.08)
    again = draw_weights(FOLDS, resamples=2000)
    assert again is not None
    assert (weights == again).all()


def test_a_fold_of_one_actor_has_no_interval() -> None:
    counts = simulate(np.random.default_rng(0), 0.3, folds=np.array([0, 0, 1]))
    assert find_intervals(counts) is None
    found = compare_counts(counts, counts)["score"]
    assert found == {"difference": 0.0, "interval": None, "p": 1.0}
    assert "no interval, a fold has one actor only" in say_difference("a", "b", found)


def test_a_clear_difference_is_found_and_has_its_sign() -> None:
    rng = np.random.default_rng(1)
    better, worse = simulate(rng, 0.45), simulate(rng, 0.25)
    found = compare_counts(better, worse)["score"]
    assert found["difference"] > 0.05
    assert found["interval"][0] > 0
    assert found["p"] < 0.001
    assert "beyond noise" in say_difference("a", "b", found)
    turned = compare_counts(worse, better)["score"]
    np.testing.assert_allclose(turned["interval"], [-found["interval"][1], -found["interval"][0]], atol=1e-12)
    assert turned["p"] == found["p"]


@pytest.mark.parametrize(
    ("interval", "p", "verdict"),
    [([0.001, 0.03], 0.01, "beyond"), ([0.001, 0.03], 0.07, "within"), ([-0.001, 0.03], 0.01, "within")],
)
def test_beyond_noise_needs_interval_and_p(interval: list[float], p: float, verdict: str) -> None:
    assert f"{verdict} noise" in say_difference("a", "b", {"difference": 0.015, "interval": interval, "p": p})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"difference": 0.02, "interval": [0.002, 0.039], "p": 0.133}, "a is .020 above b in cross-fitted Score: "
         "within noise (95 % .002 to .039, but p .133, paired over actors)."),
        ({"difference": -0.02, "interval": [-0.05, 0.01], "p": 0.2}, "a is .020 below b in cross-fitted Score: within "
         "noise (95 % -.050 to .010, p .200, paired over actors)."),
        ({"difference": 1e-17, "interval": [0.0, 0.0], "p": 1.0}, "a and b are equal in cross-fitted Score: within "
         "noise (95 % .000 to .000, p 1.000, paired over actors)."),
    ],
)  # fmt: skip
def test_the_sentence_says_which_is_better_and_where_interval_and_p_disagree(found: dict[str, Any], said: str) -> None:
    assert say_difference("a", "b", found) == said


def test_a_draw_without_a_folds_blends_says_nothing_of_their_salience() -> None:
    """Two actors a fold, one of whom plays all blends: half of all draws have none of them."""
    folds = np.array([0, 0, 1, 1])
    counts = ActorCounts(folds, np.full(4, 10), np.array([10, 0, 10, 0]), np.full(4, 5), np.array([4, 0, 6, 0]))
    found = score_counts(counts, np.array([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1.0]]))
    np.testing.assert_allclose(found[:3, 1], [0.5, 0.4, 0.6])
    assert np.isnan(found[3, 1])
    ends = find_intervals(counts)
    assert ends is not None
    assert ends["acc_salience"] == pytest.approx([0.4, 0.6])
    assert np.isfinite(list(ends.values())).all()


def test_a_fold_without_any_blend_counts_as_the_official_code_has_it() -> None:
    folds = np.array([0, 0, 1, 1])
    counts = ActorCounts(folds, np.full(4, 10), np.array([10, 10, 0, 0]), np.full(4, 5), np.array([4, 4, 0, 0]))
    assert score_counts(counts)[0].tolist() == pytest.approx([0.5, 0.2, 0.35])


def test_chosen_thresholds_are_looked_up_in_the_grids_as_decoding_answers() -> None:
    truth, values, _, folds, actors = rows_of_pair(3, actors=6)
    chosen = cross_fitted(values, truth, folds)
    assert len({choice.thresholds for choice in chosen.values()}) == 2
    found = count_chosen(count_grids(values, truth, folds, actors), chosen)
    expected = count_actors(truth, decode_by_fold(values, folds, chosen), folds, actors)
    np.testing.assert_array_equal(found.table, expected.table)
    np.testing.assert_array_equal(found.folds, expected.folds)


def test_what_cannot_be_counted_or_compared_is_refused() -> None:
    truth, one, _, folds, actors = clips()
    with pytest.raises(InvalidPredictions, match="same clips"):
        count_actors(truth, one[:-1], folds, actors)
    with pytest.raises(DataError, match="same clips in the same folds"):
        find_differences(
            count_actors(truth, one, folds, actors), count_actors(truth[1:], one[1:], folds[1:], actors[1:])
        )
