"""How much faster the exhaustive weight search is than decoding every point at 400 pairs of thresholds.

    python benchmarks/weight_search.py [members] [clips]

All ways run in this process on the same rows and give the same Scores, which is checked. The slow ones are timed on a
few points and projected to the whole grid of step 0.1; the compiled search then runs over the whole grid. Labels are
the real ones where the BLEMORE material lies beside this checkout (../shared/blemore), rows are made up.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.protocol import decode, score
from blemore_harness.thresholds import OFFICIAL_GRID
from blemore_plugins.late.mean import mean_rows
from blemore_plugins.late.scorers import CompiledScorer, PlainScorer, allowed_threads
from blemore_plugins.late.simplex import bounded_grid

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from golden import literal_protocol as literal
from real_material import REAL, real_labels

MEMBERS, CLIPS, PARTS = 12, 2456, 10


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Give what `work` gives, and its seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def make_rows(members: int, truth: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows of members that know a little each."""
    random = np.random.default_rng(0)
    noise = random.dirichlet(np.full(6, 0.7), size=(members, len(truth)))
    return 0.85 * noise + 0.15 * truth / 100


def make_truth(clips: int) -> np.ndarray[Any, Any]:
    """Real labels, as many as are asked for, or made-up ones of the same kind."""
    if REAL.is_dir():
        rows = list(real_labels().values())[:clips]
        return np.array(rows, dtype=np.int8)
    labels = literal.make_truth(literal.make_rows(clips))
    return np.array([literal.percentages(label) for label in labels], dtype=np.int8)


def decode_literally(rows: np.ndarray[Any, Any], truth: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> float:
    """The best Score of one point by the plain loop over clips and pairs of thresholds."""
    labels = [
        {name: int(share) for name, share in zip(literal.EMOTIONS, row, strict=True) if share} for row in truth.tolist()
    ]
    found = literal.search(mean_rows(rows, weights).tolist(), labels)
    return 0.5 * found["acc_presence"] + 0.5 * found["acc_salience"]


def decode_in_arrays(rows: np.ndarray[Any, Any], truth: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> float:
    """The best Score of one point by 400 decodings of all clips at once."""
    fused = mean_rows(rows, weights)
    return max(score(truth, decode(fused, a, b)).score for a in OFFICIAL_GRID for b in OFFICIAL_GRID)


def search_whole(scorer: CompiledScorer, members: int, parts: int) -> np.ndarray[Any, Any]:
    """The best point of the grid of so many parts."""
    progress: list[int] = []
    return scorer.best_of(bounded_grid(members, parts), progress.append)[0]


def main() -> None:
    """Time, compare, print."""
    members = int(sys.argv[1]) if len(sys.argv) > 1 else MEMBERS
    truth = make_truth(int(sys.argv[2]) if len(sys.argv) > 2 else CLIPS)
    rows = make_rows(members, truth)
    grid = bounded_grid(members, PARTS)
    points = grid.weights(grid.block(grid.size // 2, grid.size // 2 + 20))
    scorer = CompiledScorer(rows, truth)
    _, compiling = timed(lambda: (scorer.scores(points[:1]), search_whole(scorer, members, 1)))
    literal_score, loop = timed(lambda: decode_literally(rows, truth, points[0]))
    array_score, arrays = timed(lambda: decode_in_arrays(rows, truth, points[0]))
    plain_scores, plain = timed(lambda: PlainScorer(rows, truth).scores(points))
    compiled_scores = scorer.scores(points)
    same = bool((plain_scores == compiled_scores).all()) and literal_score == array_score == plain_scores[0]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    best, seconds = timed(lambda: search_whole(scorer, members, PARTS))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    load = os.getloadavg()[0]
    print(f"{members} members, {len(truth)} clips, {grid.size:,} points x 400 pairs of thresholds, same Scores: {same}")
    print(f"{allowed_threads()} threads of {os.cpu_count()} cores, load of the machine {load:.1f}")
    each = seconds / grid.size
    for name, spent in (
        ("literal loop", loop), ("400 decodings as arrays", arrays), ("counting, numpy", plain / len(points)),
        ("compiled search", each),
    ):  # fmt: skip
        whole = spent * grid.size
        print(f"{name:24} {spent * 1000:12.4f} ms a point {whole:14,.1f} s the whole grid   x {spent / each:,.0f}")
    print(f"compiling took {compiling:.1f} s, once per process; memory grew by {grown:.1f} MiB during the search")
    print(f"best weights {(best / PARTS).tolist()}, Score {scorer.scores(grid.weights(best)[None])[0]:.4f}")


if __name__ == "__main__":
    main()
