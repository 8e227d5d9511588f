"""Check the coverage of intervals over actors, and whether p-values of equal systems are uniformly distributed.

    python benchmarks/actor_statistics.py [--replicates 400] [--pairs 150] [--json]

Everything is simulated, with known truth. Exit 1 where a share lies further from what it should be than four standard
errors. About a minute on one core. `interval_coverage.py` measures intervals in more worlds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from actor_cases import FOLDS, counted, rows_of_pair, simulate
from blemore_harness.scoring.intervals import MEASURES, find_intervals
from blemore_harness.scoring.paired_tests import swap_answers, swap_rows

TRUTH = {"acc_presence": 0.3, "acc_salience": 0.15, "score": 0.225}
"""Values of `simulate` with a rate of .3."""

DESIGNS = {"as in the challenge": FOLDS, "three a fold": np.repeat(np.arange(5), 3)}
"""Fold of each actor."""

LEVELS = (0.05, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Share:
    """An observed rate and its limits."""

    what: str
    found: float
    low: float
    high: float

    @property
    def good(self) -> bool:
        """Whether the rate is within the limits."""
        return bool(self.low <= self.found <= self.high)


def coverage(replicates: int) -> Iterator[Share]:
    """Return the coverage of intervals."""
    slack = 4 * math.sqrt(0.95 * 0.05 / replicates)
    for design, folds in DESIGNS.items():
        rng = np.random.default_rng(5)
        held = dict.fromkeys(MEASURES, 0)
        for _ in range(replicates):
            found = find_intervals(simulate(rng, 0.3, folds=folds))
            for name, ends in (found or {}).items():
                held[name] += ends[0] <= TRUTH[name] <= ends[1]
        for name, count in held.items():
            yield Share(f"95 % interval holds {name}, actors {design}", count / replicates, 0.95 - slack, 0.95 + slack)


def uniformity_of_answers(replicates: int) -> Iterator[Share]:
    """Return the rate of small p of the permutation test for equally good systems."""
    rng = np.random.default_rng(9)
    folds = np.repeat(np.arange(5), 4)
    values = [swap_answers(*(simulate(rng, 0.3, folds=folds) for _ in range(2)))[2] for _ in range(replicates)]
    yield from uniform("swapped answers, score", np.array(values))


def uniformity_of_rows(pairs: int) -> Iterator[Share]:
    """Count small p of swapped rows where thresholds alone make systems differ, beside those of swapped answers.

    Swapping answers calls too many of these pairs different: the best beta jumps from pair to pair.
    """
    found = []
    for seed in range(pairs):
        truth, one, two, folds, actors = rows_of_pair(seed, actors=14)
        first, second = (counted(values, truth, folds, actors) for values in (one, two))
        found.append([swap_rows(first, second), swap_answers(first, second)])
    rows, answers = np.array(found).transpose(1, 0, 2)
    for number, name in enumerate(MEASURES):
        yield from uniform(f"swapped rows, {name}", rows[:, number])
    yield Share("swapped answers, acc_salience: p <= .05", float((answers[:, 1] <= 0.05).mean()), 0, 1)


def uniform(what: str, values: np.ndarray) -> Iterator[Share]:
    """Compare p-values with the uniform distribution."""
    for level in LEVELS:
        slack = 4 * math.sqrt(level * (1 - level) / len(values))
        yield Share(f"{what}: p <= {level}", float((values <= level).mean()), level - slack, level + slack)


def main() -> int:
    """Simulate and print; exit 1 if a rate is outside its limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=150)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    shares = [
        *coverage(asked.replicates), *uniformity_of_answers(asked.replicates), *uniformity_of_rows(asked.pairs)
    ]  # fmt: skip
    if asked.json:
        print(json.dumps([asdict(share) | {"good": share.good} for share in shares], indent=2))
    else:
        for share in shares:
            verdict = "" if share.good else "   OUTSIDE"
            print(f"{share.found:.3f}  ({share.low:.3f} to {share.high:.3f})  {share.what}{verdict}")
    return 0 if all(share.good for share in shares) else 1


if __name__ == "__main__":
    sys.exit(main())
