"""What scores points: plain numpy, or compiled code on CPU threads; both make the very same choice.

What a fused row gets right, and what that is worth, is tabulated once for all weights. Compiled code is kept in the
user's cache: one process compiles it, all later ones load it. The cache of numba itself would lie in the installation,
which can be read-only, would not notice an edit of what the compiled function calls, and lets two processes write one
file.
"""

from __future__ import annotations

import os
import pickle
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from functools import partial, reduce
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Cache
from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.disk import digest_of, write_atomically
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.grid import OFFICIAL_GRID, GridCounter, GridScores
from blemore_harness.protocol.rules import EQUAL, MAJOR, NEUTRAL, SINGLE
from blemore_plugins.late.space import PartsArray, SimplexGrid, Subsets, whole
from blemore_plugins.means import mean_rows

Advance = Callable[[int], object]

COMPILED_CHUNK = 2_000
"""Points that a thread searches at a time: a tenth of a second for 2,456 clips."""


class Scorer(Protocol):
    """Scores points by the best Score that any pair of thresholds reaches."""

    def scores(self, points: FloatArray) -> FloatArray:
        """Return the best Score over all clips, float64 (P,), of weights (P, M)."""

    def best_of(self, grid: SimplexGrid, advance: Advance, subsets: Subsets | None = None) -> PartsArray:
        """Return the parts, int64 (S, M), of a grid's best point for every set of clips, in one pass over the points.

        Of equal scores the point nearest to equal weights wins, then the first.

        Args:
            grid: has at least one point.
            advance: told of every so many points done.
            subsets: the sets, none of them empty; by default one of all clips.
        """


class PlainScorer:
    """Counts by `GridCounter`, one point after the other.

    Args:
        rows: float64 (M, N, 6), the base models' probabilities.
        truth: int8 (N, 6) percentages.
    """

    chunk = 500

    def __init__(self, rows: FloatArray, truth: LabelArray) -> None:
        self._rows, self._truth = rows, truth
        self._counter = GridCounter(truth)

    def scores(self, points: FloatArray) -> FloatArray:
        """As `Scorer.scores`."""
        counted = (self._counter.count(mean_rows(self._rows, point)) for point in points)
        return np.array([scores.choose().scores.score for scores in counted])

    def best_of(self, grid: SimplexGrid, advance: Advance, subsets: Subsets | None = None) -> PartsArray:
        """As `Scorer.best_of`."""
        sets = subsets or whole(len(self._truth))
        counter = GridCounter(self._truth, sets.group)
        best: list[tuple[float, int, int]] = []
        for start, stop in _chunks(grid, self.chunk):
            points = grid.block(start, stop)
            # Sums of squares are whole numbers: nearness to equal weights is compared without rounding.
            squares = (points * points).sum(axis=1)
            scores = self._score_sets(counter, grid.weights(points), sets)
            leaders = [int(np.lexsort((squares, -each))[0]) for each in scores]  # stable: of equals the first
            found = [(float(scores[s, i]), -int(squares[i]), -(start + i)) for s, i in enumerate(leaders)]
            best = [max(pair) for pair in zip(best or found, found, strict=True)]
            advance(stop - start)
        return np.concatenate([grid.block(-number, -number + 1) for _, _, number in best])

    def _score_sets(self, counter: GridCounter, points: FloatArray, sets: Subsets) -> FloatArray:
        """Return the best Score for every set, float64 (S, P)."""
        counted = [counter.per_fold(mean_rows(self._rows, point)) for point in points]
        return np.array([[_score_without(left, counts) for counts in counted] for left in sets.left_out])


def _score_without(left: int, counts: dict[int, GridScores]) -> float:
    kept = reduce(GridScores.__add__, (scores for group, scores in counts.items() if group != left))
    return kept.choose().scores.score


class CompiledScorer:
    """Searches with the compiled kernel, on as many threads as numba and OpenMP are allowed.

    Args:
        rows, truth: as of `PlainScorer`.
        threads: of the search.
        cache: where compiled code is kept; None compiles in memory.
    """

    def __init__(
        self, rows: FloatArray, truth: LabelArray, threads: int | None = None, cache: Cache | None = None
    ) -> None:
        from blemore_plugins.late import kernel

        if cache is not None:
            keep_compiled(cache, (kernel.search_range, kernel.score_points), (Path(kernel.__file__),))
        self._kernel = kernel
        self._rows = np.ascontiguousarray(rows.transpose(0, 2, 1))
        if len(rows) == 1:  # the kernel ends in two base models: one that weighs nothing changes no bit
            self._rows = np.concatenate([np.zeros_like(self._rows), self._rows])
        self._truth, self._right = truth, tabulate(truth)
        self._worth = value_answers(truth, whole(len(truth)))
        self._threads = threads or allowed_threads()

    def scores(self, points: FloatArray) -> FloatArray:
        """As `Scorer.scores`."""
        padded = np.ascontiguousarray(np.pad(points, ((0, 0), (len(self._rows) - points.shape[1], 0))))
        score = partial(self._kernel.score_points, self._rows, self._right, np.array(OFFICIAL_GRID), *self._worth)
        with ThreadPoolExecutor(self._threads) as pool:
            return np.concatenate(list(pool.map(score, np.array_split(padded, self._threads))))

    def best_of(self, grid: SimplexGrid, advance: Advance, subsets: Subsets | None = None) -> PartsArray:
        """As `Scorer.best_of`."""
        sets = subsets or whole(len(self._truth))
        if grid.base_models == 1:
            advance(grid.size)
            return grid.block(0, 1).repeat(len(sets.left_out), axis=0)
        order = np.argsort(sets.group, kind="stable")
        rows = np.ascontiguousarray(self._rows[:, :, order])
        bounds = np.searchsorted(sets.group[order], np.arange(sets.groups + 1))
        tables = (
            rows, self._right[order], np.array(OFFICIAL_GRID), bounds, np.array(sets.left_out, dtype=np.int64),
            *value_answers(self._truth, sets), grid.weights(np.arange(grid.parts + 1)),
        )  # fmt: skip

        def search(chunk: tuple[int, int]) -> list[tuple[float, int, int]]:
            start, stop = chunk
            first = grid.block(start, start + 1)[0]
            found = self._kernel.search_range(*tables, first, grid.lowest, grid.highest, stop - start)
            return [
                (score, -squares, -(start + number))
                for score, squares, number in zip(*(each.tolist() for each in found), strict=True)
            ]

        best = [(-1.0, 0, 0)] * len(sets.left_out)
        pool = ThreadPoolExecutor(self._threads)
        try:
            chunks = list(_chunks(grid, COMPILED_CHUNK))
            for (start, stop), found in zip(chunks, pool.map(search, chunks), strict=True):
                best = [max(pair) for pair in zip(best, found, strict=True)]
                advance(stop - start)
        finally:
            # An interruption must not wait for all chunks that are still to be searched.
            pool.shutdown(cancel_futures=True)
        return np.concatenate([grid.block(-number, -number + 1) for _, _, number in best])


class Right(IntEnum):
    """What a row gets right by its larger and its smaller emotion; even kinds of single by whether it can blend."""

    NOTHING = 0
    SINGLE = 1  # its emotion, while it does not blend
    NEVER_BLENDS = 2  # its emotion at all thresholds: neutral is one of the two
    PAIR = 3  # its emotions, while it blends, but the saliences never
    UNEVEN = 4  # its emotions, and the saliences while the blend is uneven
    EVEN = 5  # its emotions, and the saliences while the blend is even


def tabulate(truth: LabelArray) -> NDArray[np.int8]:
    """Return `Right`, int8 (N, 36), by clip and by larger times six plus smaller emotion.

    Args:
        truth: int8 (N, 6) percentages.
    """
    right = np.zeros((len(truth), len(EMOTIONS), len(EMOTIONS)), dtype=np.int8)
    for clip, label in enumerate(truth):
        present = np.flatnonzero(label)
        if label.max() == SINGLE:
            (alone,) = present
            right[clip, alone] = Right.SINGLE
            right[clip, alone, NEUTRAL] = Right.NEVER_BLENDS
            if alone == NEUTRAL:
                right[clip, alone] = Right.NEVER_BLENDS
        elif label.max() == EQUAL:
            one, two = present
            right[clip, one, two] = right[clip, two, one] = Right.EVEN
        else:
            one, two = present if label[present[0]] == MAJOR else present[::-1]
            right[clip, one, two], right[clip, two, one] = Right.UNEVEN, Right.PAIR
    return right.reshape(len(truth), -1)


def value_answers(truth: LabelArray, subsets: Subsets) -> tuple[FloatArray, FloatArray]:
    """Return what right answers add to the Score of each set, rounded as the official code rounds it.

    Returns:
        presence: float64 (S, N + 1), what so many right sets of emotions add.
        salience: float64 (S, B + 1), the same for right saliences of the B blends.
    """
    blend = (truth > 0).sum(axis=1) == 2
    masks = [subsets.mask(number) for number in range(len(subsets.left_out))]
    clips, blends = np.arange(len(truth) + 1), np.arange(int(blend.sum()) + 1)
    # In the order of operations of the official Score, half of each share: equal counts then give equal floats.
    presence = [0.5 * (clips / int(mask.sum())) for mask in masks]
    salience = [0.5 * (blends / max(int((blend & mask).sum()), 1)) for mask in masks]
    return np.stack(presence), np.stack(salience)


def _chunks(grid: SimplexGrid, size: int) -> Iterator[tuple[int, int]]:
    return pairwise([*range(0, grid.size, size), grid.size])


def allowed_threads() -> int:
    """Return how many threads numba may use, or OpenMP where the user limited that."""
    from numba import config

    openmp = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    allowed = int(config.NUMBA_NUM_THREADS)
    return max(1, min(allowed, int(openmp))) if openmp.isdigit() else allowed


def keep_compiled(cache: Cache, functions: tuple[Any, ...], sources: tuple[Path, ...]) -> None:
    """Let functions of numba load what was compiled before, and keep what they compile; else they compile in memory.

    Args:
        cache: where it is kept, for each user, for each version of Python, numpy, numba and the sources.
        functions: results of `njit`.
        sources: files of everything that is compiled into them.
    """
    import numba

    code = digest_of([file.read_text(encoding="utf-8") for file in sources])
    versions = {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__}
    try:
        folder = cache.store("compiled", code=code, user=os.getuid(), **versions).folder
        folder.chmod(0o700)
    except OSError:  # a cache that cannot be written to, or that is somebody else's
        return
    for function in functions:
        function._cache = _Kept(folder, function.__name__)


class _Kept:
    """What numba asks of a cache of one function; a file for each signature and processor."""

    def __init__(self, folder: Path, name: str) -> None:
        self.cache_path, self._name = str(folder), name

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the compiled code for a signature, or None to have it compiled."""
        from numba.core.compiler import CompileResult

        target.refresh()
        path = self._path(signature, target.codegen())
        try:
            if path.stat().st_uid != os.getuid():
                return None
            return CompileResult._rebuild(target, *pickle.loads(path.read_bytes()))
        except Exception:  # absent, or damaged: compiled anew, and written again
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep compiled code; a disk that is full or read-only is no reason to fail, since the code is in memory."""
        from numba.core.serialize import dumps

        try:
            write_atomically(self._path(signature, compiled.codegen), dumps(compiled._reduce()))
        except OSError:
            return

    def _path(self, signature: Any, codegen: Any) -> Path:
        facts = [str(signature), *map(str, codegen.magic_tuple())]
        return Path(self.cache_path) / f"{self._name}-{digest_of(facts)}.pickle"
