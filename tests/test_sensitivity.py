"""How much hangs on thresholds: against literal decoding, and the organisers' own fold runs."""

from __future__ import annotations

import csv
import statistics

import numpy as np
import pytest

from actor_cases import decode_by_fold
from blemore_harness.protocol.grid import GridCounter
from blemore_harness.protocol.rules import decode, score
from blemore_harness.protocol.thresholds import cross_fitted, official
from blemore_harness.scoring.intervals import count_actors
from blemore_harness.scoring.sensitivity import (
    expected_drop,
    mean_loss,
    measure_sensitivity,
    summarise_thresholds,
)
from fakes import LABELS
from real_material import REAL, needs_real

GRID = np.linspace(0.05, 0.95, 20)


def rows(seed: int = 0, count: int = 90) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = LABELS[rng.integers(0, len(LABELS), count)].astype(np.int8)
    values = rng.dirichlet(np.full(6, 0.4), count) + truth / 120
    return values / values.sum(axis=1, keepdims=True), truth, np.arange(count) % 3


def test_surface_spread_and_transfer_equal_literal_decoding() -> None:
    values, truth, folds = rows()
    found = measure_sensitivity(GridCounter(truth, folds).per_fold(values))
    surfaces = {
        k: [[score(truth[folds == k], decode(values[folds == k], a, b)).score for b in GRID] for a in GRID]
        for k in range(3)
    }
    whole = [[score(truth, decode(values, a, b)).score for b in GRID] for a in GRID]
    np.testing.assert_allclose(found["surface"], whole, atol=1e-15)
    assert found["best"]["score"] == max(map(max, whole))
    best = {k: max((surfaces[k][i][j], -i, -j) for i in range(20) for j in range(20)) for k in range(3)}
    places = {k: (-i, -j) for k, (_, i, j) in best.items()}
    alphas = [GRID[places[k][0]] for k in range(3)]
    assert [row["alpha"] for row in found["folds"]] == alphas
    assert [row["beta"] for row in found["folds"]] == [GRID[places[k][1]] for k in range(3)]
    assert found["alpha"]["sd"] == pytest.approx(statistics.stdev(alphas))
    for i in range(3):
        for j in range(3):
            lost = best[j][0] - surfaces[j][places[i][0]][places[i][1]]
            assert found["transfer"][i][j] == pytest.approx(lost)
    off = [found["transfer"][i][j] for i in range(3) for j in range(3) if i != j]
    assert found["transfer_loss"] == pytest.approx(sum(off) / 6)
    assert found["transfer_loss"] > 0


def test_one_fold_loses_nothing() -> None:
    assert mean_loss(np.zeros((1, 1))) == 0.0


def test_the_expected_drop_is_official_less_cross_fitted() -> None:
    values, truth, folds = rows(4)
    actors = [f"A{k % 3}-{k % 12}" for k in range(len(truth))]
    counts = [
        count_actors(truth, decode_by_fold(values, folds, choose(values, truth, folds)), folds, actors)
        for choose in (official, cross_fitted)
    ]
    found = expected_drop(*counts)["score"]
    means = [np.mean([c.scores.score for c in f(values, truth, folds).values()]) for f in (official, cross_fitted)]
    assert found["difference"] == pytest.approx(means[0] - means[1])
    assert found["interval"][0] <= found["difference"] <= found["interval"][1]
    assert set(found) == {"difference", "interval"}


@needs_real
def test_the_organisers_own_fold_runs_are_summarised() -> None:
    with (REAL / "official_fold_runs.csv").open(newline="") as file:
        runs = list(csv.DictReader(file))
    assert len(runs) == 105
    found = summarise_thresholds((r["encoder"], float(r["best_alpha"]), float(r["best_beta"])) for r in runs)
    for name in ("overall", *{r["encoder"] for r in runs}):
        mine = [r for r in runs if name in ("overall", r["encoder"])]
        assert found[name]["runs"] == len(mine)
        for column in ("alpha", "beta"):
            numbers = [float(r[f"best_{column}"]) for r in mine]
            expected = {
                "mean": statistics.fmean(numbers),
                "sd": statistics.stdev(numbers),
                "min": min(numbers),
                "max": max(numbers),
            }
            assert found[name][column] == pytest.approx(expected)
    assert len(found) == len({r["encoder"] for r in runs}) + 1
    # Beta wanders over most of the grid, alpha does not: why thresholds of one fold should not be trusted.
    assert found["overall"]["beta"]["sd"] > 2 * found["overall"]["alpha"]["sd"]
