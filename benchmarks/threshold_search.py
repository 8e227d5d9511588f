"""How much faster counting the official grid is than the literal loop over 400 decodings.

    python benchmarks/threshold_search.py [clips]

Both run in this process on the same made-up rows, give the same choice, and are timed as the best of several rounds.
The loop is the plain one of `tests/golden/literal_protocol.py`; the harness's own vectorised decoding, called 400
times, stands beside it as the fairer comparison.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from blemore_harness.protocol.grid import OFFICIAL_GRID, GridCounter
from blemore_harness.protocol.rules import decode, score
from blemore_harness.protocol.thresholds import search_official

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from golden import literal_protocol as literal

CLIPS = 2456


def best_of(rounds: int, work: Callable[[], object]) -> float:
    """Return the shortest time of several rounds, in milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def main() -> None:
    """Time, compare, print."""
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else CLIPS
    rows = literal.make_rows(clips)
    labels = literal.make_truth(rows)
    values = np.array(rows)
    truth = np.array([literal.percentages(label) for label in labels], dtype=np.int8)
    counter = GridCounter(truth)

    def decode_400_times() -> float:
        return max(score(truth, decode(values, a, b)).score for a in OFFICIAL_GRID for b in OFFICIAL_GRID)

    expected = {}
    loop = best_of(1, lambda: expected.update(literal.search(rows, labels)))
    vectorised = best_of(2, decode_400_times)
    counting = best_of(200, lambda: search_official(values, truth))
    repeated = best_of(200, lambda: counter.count(values).choose())
    found = search_official(values, truth)
    same = (found.thresholds.alpha, found.thresholds.beta) == (expected["alpha"], expected["beta"])
    print(f"{clips} clips, alpha {found.thresholds.alpha:.4f}, beta {found.thresholds.beta:.4f}, same choice: {same}")
    print(f"literal loop             {loop:10.1f} ms   x {loop / counting:,.0f}")
    print(f"400 vectorised decodings {vectorised:10.1f} ms   x {vectorised / counting:,.0f}")
    print(f"counting                 {counting:10.3f} ms")
    print(f"counting, truth prepared {repeated:10.3f} ms")


if __name__ == "__main__":
    main()
