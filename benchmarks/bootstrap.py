"""Measure time and coverage of bootstrap intervals over actors.

    python benchmarks/bootstrap.py [simulations]

Actors are made up: a system is right with each of them at the actor's own rate, drawn around a known mean. Beside the
harness's intervals, which draw one actor fewer than a fold has, stands the plain bootstrap, which draws as many.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from numpy.typing import NDArray

from blemore_harness.scoring.intervals import RESAMPLES, ActorCounts, draw_weights, find_intervals, score_counts
from blemore_harness.scoring.paired_tests import compare_counts

SIMULATIONS = 1500
DRAWS = 500
RATE = 0.3
"""True ACC_P; the true ACC_S is half of it."""
SPREAD = 20.0
"""Concentration of the actors' rates (beta distribution): a standard deviation of .1 over actors."""

LAYOUTS = {
    "47 actors in 5 folds": np.repeat(np.arange(5), [10, 9, 9, 9, 10]),
    "15 actors in 5 folds": np.repeat(np.arange(5), 3),
    "10 actors in 5 folds": np.repeat(np.arange(5), 2),
}


def simulate(rng: np.random.Generator, folds: NDArray[np.int64]) -> ActorCounts:
    """Draw actors with 50 clips each, half of them blends."""
    rates = rng.beta(RATE * SPREAD, (1 - RATE) * SPREAD, len(folds))
    clips = np.full(len(folds), 50)
    return ActorCounts(folds, clips, clips // 2, rng.binomial(clips, rates), rng.binomial(clips // 2, rates / 2))


def plain_weights(folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sample as many actors as each fold has."""
    rng = np.random.default_rng(1)
    weights = np.zeros((DRAWS, len(folds)))
    for fold in np.unique(folds):
        mine = np.flatnonzero(folds == fold)
        weights[:, mine] = rng.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=DRAWS)
    return weights


def cover(folds: NDArray[np.int64], weights: NDArray[np.float64], simulations: int) -> float:
    """Return the coverage of the 95 % interval of the Score."""
    rng = np.random.default_rng(77)
    truth, held = 0.75 * RATE, 0
    for _ in range(simulations):
        low, high = np.percentile(score_counts(simulate(rng, folds), weights)[:, 2], [2.5, 97.5])
        held += int(low <= truth <= high)
    return held / simulations


def main() -> None:
    """Time, simulate, print."""
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else SIMULATIONS
    rng = np.random.default_rng(0)
    folds = LAYOUTS["47 actors in 5 folds"]
    one, two = simulate(rng, folds), simulate(rng, folds)
    for name, work in (("interval", lambda: find_intervals(one)), ("comparison", lambda: compare_counts(one, two))):
        times = []
        for _ in range(10):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        print(f"{name:<11} {min(times) * 1000:6.1f} ms ({RESAMPLES:,} resamples of {len(folds)} actors)")
    for name, layout in LAYOUTS.items():
        weights = draw_weights(layout, DRAWS)
        assert weights is not None
        fewer, plain = cover(layout, weights, simulations), cover(layout, plain_weights(layout), simulations)
        print(f"{name}: holds the truth in {fewer:.1%}, the plain bootstrap in {plain:.1%}")


if __name__ == "__main__":
    main()
