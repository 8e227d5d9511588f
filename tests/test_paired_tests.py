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

from actor_cases import clips, counted, decode_by_fold, literal_scores, rows_of_pair, simulate
from blemore_harness.errors import DataError
from blemore_harness.protocol.thresholds import cross_fitted
from blemore_harness.scoring.intervals import count_actors
from blemore_harness.scoring.paired_tests import compare_counts, swap_answers, swap_rows


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
