"""Paired tests over actors: against every swap written out, and on pairs of systems that are equally good."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from actor_cases import clips, literal_scores, simulate
from blemore_harness.errors import DataError
from blemore_harness.protocol.thresholds import cross_fitted
from blemore_harness.scoring import paired_tests
from blemore_harness.scoring.intervals import ActorCounts, count_actors, count_grids
from blemore_harness.scoring.paired_tests import compare_counts, swap_answers, swap_rows
from blemore_harness.scoring.sensitivity import decode_by_fold
from fakes import LABELS


def rows_of_pair(seed: int, actors: int, each: int = 12) -> tuple[np.ndarray, ...]:
    """Truth, rows of two systems that are equally good, folds and actors; two folds."""
    rng = np.random.default_rng(seed)
    actor = np.repeat(np.arange(actors), each)
    truth = LABELS[rng.integers(0, len(LABELS), len(actor))].astype(np.int8)
    values = []
    for _ in range(2):
        logits = truth / 40 + rng.normal(0, 0.8, truth.shape) + rng.normal(0, 0.4, (actors, 6))[actor]
        powers = np.exp(logits * np.exp(rng.normal(0, 0.3, actors))[actor, None])
        values.append(powers / powers.sum(axis=1, keepdims=True))
    return truth, values[0], values[1], actor % 2, np.array([f"A{k}" for k in actor])


def counted(values: np.ndarray, truth: np.ndarray, folds: np.ndarray, actors: np.ndarray) -> ActorCounts:
    """Count what is right with cross-fitted thresholds, and at all thresholds."""
    chosen = {fold: choice.thresholds for fold, choice in cross_fitted(values, truth, folds).items()}
    counts = count_actors(truth, decode_by_fold(values, folds, chosen), folds, actors)
    return replace(counts, grids=count_grids(values, truth, folds, actors))


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


def test_p_of_answers_is_uniform_where_there_is_no_difference() -> None:
    rng = np.random.default_rng(9)
    folds = np.repeat(np.arange(5), 4)
    values = np.array([swap_answers(simulate(rng, 0.3, folds=folds), simulate(rng, 0.3, folds=folds))
                       for _ in range(300)])[:, 2]  # fmt: skip
    for level in (0.05, 0.25, 0.5, 0.75):
        # Four standard errors of a share of 300.
        assert abs((values <= level).mean() - level) < 4 * np.sqrt(level * (1 - level) / 300)


def test_exact_p_of_rows_equals_every_swap_with_thresholds_chosen_anew() -> None:
    truth, one, two, folds, actors = rows_of_pair(4, actors=5)
    first, second = (counted(values, truth, folds, actors) for values in (one, two))

    def literal(values: np.ndarray) -> list[float]:
        chosen = {fold: choice.thresholds for fold, choice in cross_fitted(values, truth, folds).items()}
        return literal_scores(truth, decode_by_fold(values, folds, chosen), folds)

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


def test_p_of_rows_is_uniform_where_thresholds_alone_make_systems_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Swapping answers instead calls too many of these pairs different: the best beta jumps from pair to pair."""
    monkeypatch.setattr(paired_tests, "SWAPS", 300)
    found = []
    for seed in range(150):
        truth, one, two, folds, actors = rows_of_pair(seed, actors=14)
        first, second = (counted(values, truth, folds, actors) for values in (one, two))
        found.append([swap_rows(first, second), swap_answers(first, second)])
    rows, answers = np.array(found).transpose(1, 0, 2)
    for level in (0.05, 0.25, 0.5):
        slack = 3.5 * np.sqrt(level * (1 - level) / len(found))
        assert (np.abs((rows <= level).mean(axis=0) - level) < slack).all(), level
    assert (answers <= 0.05).mean(axis=0)[1] > (rows <= 0.05).mean(axis=0)[1]


def test_rows_cannot_be_swapped_without_counts_at_all_thresholds() -> None:
    counts = simulate(np.random.default_rng(0), 0.3)
    with pytest.raises(DataError, match="counts at all thresholds"):
        swap_rows(counts, counts)
