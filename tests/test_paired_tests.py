"""Paired tests over actors: against every swap written out, and on pairs of systems that are equally good."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from actor_cases import clips, counted, decode_by_fold, literal_scores, rows_of_pair, simulate
from blemore_harness.errors import DataError
from blemore_harness.protocol.thresholds import choose_on_others, cross_fitted
from blemore_harness.scoring import paired_tests
from blemore_harness.scoring.intervals import count_actors, count_chosen, find_differences, score_counts
from blemore_harness.scoring.paired_tests import (
    SWAPS,
    compare_all,
    compare_answers,
    compare_counts,
    holm,
    rank_counts,
    swap_answers,
    swap_rows,
    tie_groups,
)


def test_exact_p_of_answers_equals_every_swap_written_out() -> None:
    truth, one, two, folds, actors = clips(3, actors=6)
    first, second = (count_actors(truth, said, folds, actors) for said in (one, two))
    seen = np.abs(np.subtract(literal_scores(truth, one, folds), literal_scores(truth, two, folds)))
    names = sorted(set(actors.tolist()))
    reached = np.zeros(3)
    for swapped in itertools.product((False, True), repeat=len(names)):
        mask = np.isin(actors, [name for name, swap in zip(names, swapped, strict=True) if swap])[:, None]
        a, b = np.where(mask, two, one), np.where(mask, one, two)
        reached += np.abs(np.subtract(literal_scores(truth, a, folds), literal_scores(truth, b, folds))) >= seen - 1e-12
    np.testing.assert_allclose(swap_answers(first, second), reached / 2 ** len(names))


def test_exact_p_of_rows_equals_every_swap_with_thresholds_chosen_anew() -> None:
    truth, one, two, folds, actors = rows_of_pair(4, actors=5)
    first, second = (counted(values, truth, folds, actors) for values in (one, two))

    def literal(values: np.ndarray) -> list[float]:
        return literal_scores(truth, decode_by_fold(values, folds, cross_fitted(values, truth, folds)), folds)

    seen = np.abs(np.subtract(literal(one), literal(two)))
    names = sorted(set(actors.tolist()))
    reached = np.zeros(3)
    for swapped in itertools.product((False, True), repeat=len(names)):
        mask = np.isin(actors, [name for name, swap in zip(names, swapped, strict=True) if swap])[:, None]
        a, b = np.where(mask, two, one), np.where(mask, one, two)
        reached += np.abs(np.subtract(literal(a), literal(b))) >= seen - 1e-12
    np.testing.assert_allclose(swap_rows(first, second), reached / 2 ** len(names))
    assert compare_counts(first, second)["score"]["p"] == pytest.approx(reached[2] / 2 ** len(names))
    assert compare_counts(first, replace(second, grids=None))["score"]["p"] == swap_answers(first, second)[2]


def test_thresholds_are_chosen_after_a_swap_as_the_official_grid_search_chooses_them() -> None:
    """Few clips, so that many pairs of thresholds are equally good and the first one counts."""
    truth, one, two, folds, actors = rows_of_pair(11, actors=8, each=4)
    folds = (folds + np.array([int(name[1:]) for name in actors])) % 4
    first, second = (counted(values, truth, folds, actors) for values in (one, two))
    assert first.grids is not None
    assert second.grids is not None
    swaps, extra = paired_tests._draw_swaps(8, 0)
    drawn, real, more = paired_tests._swap_rows(first, second)
    assert (len(drawn), extra, more) == (256, 0, 0)
    np.testing.assert_array_equal(drawn[0], real)
    for swapped, found in zip(swaps.astype(bool), drawn, strict=True):
        scores = []
        for own, other in ((first.grids, second.grids), (second.grids, first.grids)):
            grids = replace(
                own,
                presence=np.where(swapped[:, None], other.presence, own.presence),
                salience=np.where(swapped[:, None, None], other.salience, own.salience),
            )
            scores.append([*score_counts(count_chosen(grids, choose_on_others(grids.per_fold()))).values()])
        np.testing.assert_allclose(found, np.subtract(*scores), atol=1e-12)


def test_the_interval_of_a_difference_is_wider_by_what_choosing_thresholds_adds() -> None:
    """The variance over all swaps with thresholds chosen anew, less that with the labels as they are decoded."""
    truth, one, two, folds, actors = rows_of_pair(4, actors=6)
    first, second = (counted(values, truth, folds, actors) for values in (one, two))
    decoded = [decode_by_fold(values, folds, cross_fitted(values, truth, folds)) for values in (one, two)]
    names, anew, fixed = sorted(set(actors.tolist())), [], []
    for swapped in itertools.product((False, True), repeat=len(names)):
        mask = np.isin(actors, [name for name, swap in zip(names, swapped, strict=True) if swap])[:, None]
        sides = [(np.where(mask, two, one), decoded[1]), (np.where(mask, one, two), decoded[0])]
        labels = [decode_by_fold(values, folds, cross_fitted(values, truth, folds)) for values, _ in sides]
        anew.append(np.subtract(*(literal_scores(truth, said, folds) for said in labels)))
        labels = [np.where(mask, decoded[1 - side], decoded[side]) for side in (0, 1)]
        fixed.append(np.subtract(*(literal_scores(truth, said, folds) for said in labels)))
    added = np.maximum(np.var(anew, axis=0) - np.var(fixed, axis=0), 0)
    assert added.max() > 0
    narrow, wide = find_differences(first, second), compare_counts(first, second)
    for k, name in enumerate(narrow):
        halves = [(found[name]["interval"][1] - found[name]["interval"][0]) / 2 for found in (narrow, wide)]
        t = float(stats.t.ppf(0.975, 5))
        assert halves[1] ** 2 - halves[0] ** 2 == pytest.approx(t**2 * added[k])
    bare = compare_counts(first, replace(second, grids=None))
    assert [row["interval"] for row in bare.values()] == [row["interval"] for row in narrow.values()]


def test_rows_cannot_be_swapped_without_counts_at_all_thresholds() -> None:
    counts = simulate(np.random.default_rng(0), 0.3)
    with pytest.raises(DataError, match="counts at all thresholds"):
        swap_rows(counts, counts)


def test_the_study_of_coverage_and_uniformity_is_good_where_it_is_small() -> None:
    study = Path(__file__).parents[1] / "benchmarks" / "actor_statistics.py"
    command = [sys.executable, str(study), "--pairs", "8", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shares = json.loads(done.stdout)
    assert len(shares) == 6 + 4 + 12 + 1
    assert all(share["good"] for share in shares)


def test_holm_takes_the_largest_corrected_value_of_the_smaller_ones() -> None:
    values = [0.021, 0.001, 0.3, 0.021, 0.02]
    # Written out: place i of the sorted values is multiplied by 5 - i, and none is below an earlier one.
    assert holm(values) == pytest.approx([0.08, 0.005, 0.3, 0.08, 0.08])
    for p, adjusted in zip(values, holm(values), strict=True):
        smaller = [(sum(other >= each for other in values), each) for each in values if each <= p]
        assert adjusted == pytest.approx(min(1.0, max(count * each for count, each in smaller)))


def test_all_pairs_of_systems_are_compared_and_corrected() -> None:
    rng = np.random.default_rng(5)
    counts = {name: simulate(rng, rate) for name, rate in (("c", 0.2), ("a", 0.45), ("b", 0.43))}
    pairs, ranked = compare_all(counts), rank_counts(counts)
    assert list(pairs) == [(ranked[0], ranked[1]), (ranked[0], "c"), (ranked[1], "c")]
    assert ranked[2] == "c"
    single = [compare_counts(counts[one], counts[two])["score"] for one, two in pairs]
    assert [found["adjusted"] for found in pairs.values()] == holm([found["p"] for found in single])
    assert all(pairs[pair]["difference"] == found["difference"] for pair, found in zip(pairs, single, strict=True))
    assert tie_groups(ranked, pairs) == [ranked[:2], ["c"]]
    assert tie_groups(["alone"], {}) == [["alone"]]


def test_many_systems_are_compared_at_once() -> None:
    """With 24 systems Holm's correction of 276 pairs finds nothing, whatever the difference."""
    rng = np.random.default_rng(5)
    counts = {f"s{k:02}": simulate(rng, 0.1 if k else 0.6) for k in range(24)}
    pairs, ranked = compare_all(counts), rank_counts(counts)
    together = compare_answers({name: counts[name] for name in ranked})
    assert list(pairs) == list(together)
    for (one, two), found in pairs.items():
        assert {key: found[key] for key in ("difference", "p", "adjusted")} == pytest.approx(together[one, two])
        assert found["interval"] == find_differences(counts[one], counts[two])["score"]["interval"]
    assert (SWAPS + 1) ** -1 * len(pairs) > 0.05
    assert ranked[0] == "s00"
    assert tie_groups(ranked, pairs)[0] == ["s00"]


def test_a_tied_system_stands_with_the_best_wherever_it_ranks() -> None:
    adjusted = {
        ("a", "b"): 0.01,
        ("a", "c"): 0.3,
        ("a", "d"): 0.01,
        ("b", "c"): 0.9,
        ("b", "d"): 0.049,
        ("c", "d"): 1.0,
    }
    assert tie_groups("abcd", {pair: {"adjusted": p} for pair, p in adjusted.items()}) == [["a", "c"], ["b"], ["d"]]
