"""Intervals over actors: against plain loops, and on simulated actors whose truth is known."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from actor_cases import FOLDS, clips, decode_by_fold, literal_scores, rows_of_pair, simulate
from blemore_harness.errors import DataError, InvalidPredictions
from blemore_harness.protocol.grid import count_grids
from blemore_harness.protocol.thresholds import cross_fitted
from blemore_harness.scoring.intervals import (
    ActorCounts,
    Spread,
    count_actors,
    count_chosen,
    find_differences,
    find_intervals,
    least_difference,
    say_difference,
    say_minimum,
    score_counts,
    share_interval,
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
    np.testing.assert_allclose(list(score_counts(counts).values()), literal_scores(truth, said, folds), rtol=1e-12)


def literal_ends(counts: ActorCounts, other: ActorCounts | None = None) -> list[list[float]]:
    """Intervals of ACC_P, ACC_S and Score by plain loops; of the differences where there is another system.

    No fold without blends, and quantiles and all from scipy's t distribution.
    """
    actors, folds = range(len(counts.folds)), sorted(set(counts.folds.tolist()))
    sides: list[tuple[list[float], list[float], list[float]]] = []
    for right, name in (("presence", "clips"), ("salience", "blends")):
        of = getattr(counts, name)
        weights = [of[a] / of[counts.folds == counts.folds[a]].sum() / len(folds) for a in actors]
        rates = [getattr(counts, right)[a] / of[a] if of[a] else 0.0 for a in actors]
        if other is not None:
            rates = [rate - (getattr(other, right)[a] / of[a] if of[a] else 0.0) for a, rate in enumerate(rates)]
        sides.append((rates, weights, [of[a] / of.sum() for a in actors]))
    shares = [sum(r * w for r, w in zip(rates, weights, strict=True)) for rates, weights, _ in sides]

    def covariance(one: int, two: int, by: int) -> float:
        part = sides[by][2]
        means = [sum(p * r for p, r in zip(part, sides[k][0], strict=True)) for k in (one, two)]
        products = [p * (sides[one][0][a] - means[0]) * (sides[two][0][a] - means[1]) for a, p in enumerate(part)]
        return sum(products) / (1 - sum(p * p for p in part))

    def overlap(one: int, two: int) -> float:
        return sum(a * b for a, b in zip(sides[one][1], sides[two][1], strict=True))

    p, s = covariance(0, 0, 0) * overlap(0, 0), covariance(1, 1, 1) * overlap(1, 1)
    bound = (covariance(0, 0, 0) * covariance(1, 1, 1)) ** 0.5
    both = min(max(covariance(0, 1, 1), -bound), bound) * overlap(0, 1)
    freedoms = [int((counts.clips > 0).sum()) - 1, int((counts.blends > 0).sum()) - 1]
    ends = []
    for share, variance, freedom in zip(
        [*shares, sum(shares) / 2], [p, s, (p + s + 2 * both) / 4], [*freedoms, sum(freedoms) / 2], strict=True
    ):
        t = float(stats.t.ppf(0.975, freedom))
        if other is not None:
            ends.append([share - t * variance**0.5, share + t * variance**0.5])
            continue
        clips = share * (1 - share) / variance
        middle = (share + t**2 / (2 * clips)) / (1 + t**2 / clips)
        half = t / (1 + t**2 / clips) * (share * (1 - share) / clips + t**2 / (4 * clips**2)) ** 0.5
        ends.append([middle - half, middle + half])
    return ends


def uneven(seed: int, folds: list[int], without: int = 3) -> ActorCounts:
    """Actors with unlike numbers of clips, one of them without blends."""
    rng = np.random.default_rng(seed)
    clips = rng.integers(20, 60, len(folds))
    blends = clips // 2
    blends[without] = 0
    pairs = rng.binomial(blends, rng.beta(3, 6, len(folds)))
    return ActorCounts(
        np.array(folds), clips, blends, pairs + rng.binomial(clips - blends, 0.3), rng.binomial(pairs, 0.5)
    )


@pytest.mark.parametrize("folds", [[0] * 7, [0, 0, 0, 1, 1], [2, 2, 2, 4, 4, 4, 7], [0, 1, 1, 1]])
def test_intervals_equal_plain_loops(folds: list[int]) -> None:
    one = uneven(len(folds), folds)
    two = replace(one, presence=np.roll(one.presence, 1) // 2, salience=one.salience // 3)
    found, differences = find_intervals(one), find_differences(one, two)
    assert found is not None
    np.testing.assert_allclose(list(found.values()), literal_ends(one), rtol=1e-9)
    np.testing.assert_allclose([row["interval"] for row in differences.values()], literal_ends(one, two), atol=1e-12)
    scores = [np.subtract(*(list(score_counts(each).values()) for each in (one, two)))]
    np.testing.assert_allclose([[row["difference"] for row in differences.values()]], scores)


def test_the_interval_of_a_share_is_that_of_one_fold() -> None:
    counts = uneven(3, [0] * 8)
    found = find_intervals(counts)
    assert found is not None
    assert share_interval(counts.presence, counts.clips) == pytest.approx(found["acc_presence"])
    assert share_interval(counts.salience, counts.blends) == pytest.approx(found["acc_salience"])


def test_equal_actors_of_one_fold_have_a_paired_t_test() -> None:
    """With as many clips for all, intervals of differences are those of Student's paired test."""
    rng = np.random.default_rng(2)
    one, two = (simulate(rng, 0.3, folds=np.zeros(9, dtype=np.int64)) for _ in range(2))
    found = find_differences(one, two)
    for name, right, each in (("acc_presence", "presence", 50), ("acc_salience", "salience", 25)):
        test = stats.ttest_rel(getattr(one, right) / each, getattr(two, right) / each)
        assert found[name]["interval"] == pytest.approx(list(test.confidence_interval(0.95)))
    sides = [each.presence / 100 + each.salience / 50 for each in (one, two)]
    assert found["score"]["interval"] == pytest.approx(list(stats.ttest_rel(*sides).confidence_interval(0.95)))


def test_intervals_need_three_actors() -> None:
    counts = simulate(np.random.default_rng(0), 0.3, folds=np.array([0, 0, 1]))
    assert find_intervals(counts) is not None
    few = simulate(np.random.default_rng(0), 0.3, folds=np.array([0, 1]))
    assert find_intervals(few) is None
    assert share_interval(few.presence, few.clips) is None
    assert find_intervals(replace(counts, blends=np.array([9, 9, 0]))) is None, "two actors with blends"
    found = compare_counts(few, few)["score"]
    assert found == {"difference": 0.0, "interval": None, "minimum": None, "p": 1.0}
    assert "no interval, fewer than 3 actors" in say_difference("a", "b", found)


def test_without_blends_acc_s_is_0_and_score_half_of_acc_p() -> None:
    counts = simulate(np.random.default_rng(4), 0.3, folds=np.repeat([0, 1], 4))
    bare = replace(counts, blends=np.zeros(8, dtype=np.int64), salience=np.zeros(8, dtype=np.int64))
    found = find_intervals(bare)
    assert found is not None
    assert found["acc_salience"] == [0.0, 0.0]
    assert score_counts(bare)["score"] == score_counts(bare)["acc_presence"] / 2
    assert found["score"][0] < score_counts(bare)["score"] < found["score"][1]


@pytest.mark.parametrize(("right", "clips"), [(0, 20), (20, 20), (6, 20)])
def test_actors_that_are_all_alike_leave_the_interval_of_independent_clips(right: int, clips: int) -> None:
    """No variance between five actors does not mean that there is none: Wilson's interval of 100 clips, with t."""
    low, high = share_interval(np.full(5, right), np.full(5, clips)) or [0.0, 0.0]
    t, share = float(stats.t.ppf(0.975, 4)), right / clips
    for end in (low, high):
        if 0 < end < 1:
            assert abs(share - end) == pytest.approx(t * (end * (1 - end) / 100) ** 0.5)
    assert (low, high) == pytest.approx(
        {0: (0.0, t**2 / (100 + t**2)), 20: (100 / (100 + t**2), 1.0)}.get(right, (low, high))
    )
    assert low <= share <= high


@pytest.mark.parametrize(
    "folds", [FOLDS, np.repeat(np.arange(5), [3, 2, 2, 2, 2]), np.repeat(np.arange(4), 2), np.array([0, 0, 0, 1, 1])]
)
def test_intervals_hold_the_truth_in_95_of_100_cases(folds: np.ndarray) -> None:
    rng = np.random.default_rng(len(folds))
    truth, held, apart = {"acc_presence": 0.3, "acc_salience": 0.15, "score": 0.225}, {}, 0
    for _ in range(1000):
        one, two = simulate(rng, 0.3, folds=folds), simulate(rng, 0.3, folds=folds)
        for name, (low, high) in (find_intervals(one) or {}).items():
            held[name] = held.get(name, 0) + (low <= truth[name] <= high)
        low, high = find_differences(one, two)["score"]["interval"]
        apart += not low <= 0 <= high
    # Three standard errors of 1,000 cases beyond 93, 97, 4 and 6 percent.
    assert all(910 <= count <= 985 for count in held.values())
    assert len(held) == 3
    assert 22 <= apart <= 80


def test_the_least_difference_is_found_in_80_of_100_cases() -> None:
    rng = np.random.default_rng(8)
    folds, better = np.repeat(np.arange(4), 3), 0.3
    for _ in range(3):
        pairs = [(simulate(rng, better, folds=folds), simulate(rng, 0.3, folds=folds)) for _ in range(300)]
        found = [find_differences(*pair)["score"] for pair in pairs]
        # A rate that is higher by so much raises the Score by three quarters of it; actors then vary a little more.
        better = 0.3 + float(np.sqrt(np.mean([row["minimum"] ** 2 for row in found]))) / 0.75
    assert 220 <= sum(not row["interval"][0] <= 0 <= row["interval"][1] for row in found) <= 260


def test_the_least_difference_is_where_the_t_test_has_power_80() -> None:
    spread = Spread(0.02**2, 10)
    least = least_difference(spread, 11)
    assert least is not None
    power = stats.nct.sf(stats.t.ppf(0.975, 10), 10, least / 0.02)
    assert power == pytest.approx(0.8, abs=1e-6)
    # Up to five actors no p is below .05; without any variance nothing is known.
    assert [least_difference(spread, actors) is None for actors in (3, 5, 6)] == [True, True, False]
    assert least_difference(Spread(0.0, 10), 11) is None


def test_the_sentence_on_the_least_difference() -> None:
    assert "With 47 actors, differences under .031" in say_minimum(0.0312, 47)[0]
    assert "p cannot fall below .062" in say_minimum(None, 5)[0]
    assert say_minimum(None, 6) == []


def test_a_corrected_p_decides_where_there_is_one() -> None:
    found = {"difference": 0.02, "interval": [0.001, 0.04], "p": 0.02, "adjusted": 0.06}
    assert "within noise (95 % .001 to .040, but p .060 corrected, paired" in say_difference("a", "b", found)
    assert "beyond noise" in say_difference("a", "b", found | {"adjusted": 0.04})


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


def test_a_fold_without_any_blend_counts_as_the_official_code_has_it() -> None:
    folds = np.array([0, 0, 1, 1])
    counts = ActorCounts(folds, np.full(4, 10), np.array([10, 10, 0, 0]), np.full(4, 5), np.array([4, 4, 0, 0]))
    assert list(score_counts(counts).values()) == pytest.approx([0.5, 0.2, 0.35])


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


def test_the_study_of_coverage_prints_every_number_of_its_table() -> None:
    study = Path(__file__).parents[1] / "benchmarks" / "interval_coverage.py"
    command = [sys.executable, str(study), "intervals", "several", "--replicates", "4", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 7 * 2 * 3 + 4
    for row in rows[:42]:
        assert row["holds"] + row["below"] + row["above"] == pytest.approx(1)
    # The same actors for both kinds of intervals: those of the bootstrap are narrower and hold less.
    mine, other = ([row for row in rows[:42] if row["kind"] == kind] for kind in ("harness", "bootstrap"))
    assert all(one["width"] > two["width"] for one, two in zip(mine, other, strict=True))
    assert sum(row["holds"] for row in mine) > sum(row["holds"] for row in other)
    assert all(row["corrected"] <= row["uncorrected"] for row in rows[42:])
