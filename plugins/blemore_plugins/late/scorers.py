"""Who scores points: plain numpy, compiled code on CPU threads, or torch tensors; all make the very same choice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.clips import LabelArray
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.grid import OFFICIAL_GRID, GridCounter, GridScores
from blemore_plugins.late.answers import tabulate, value_answers
from blemore_plugins.late.compiled import keep_compiled
from blemore_plugins.late.mean import mean_rows
from blemore_plugins.late.simplex import PartsArray, SimplexGrid
from blemore_plugins.late.subsets import Subsets, whole

Advance = Callable[[int], object]

COMPILED_CHUNK = 2_000
"""Points that a thread searches at a time: a tenth of a second for 2,456 clips."""


class Scorer(Protocol):
    """Gives points the best Score that any pair of thresholds reaches."""

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

        def score_sets(points: FloatArray) -> FloatArray:
            counted = [counter.per_fold(mean_rows(self._rows, point)) for point in points]
            return np.array([[_score_without(left, counts) for counts in counted] for left in sets.left_out])

        return _best_in_chunks(score_sets, grid, self.chunk, advance)


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
        from blemore_plugins.late import decoding, kernel

        if cache is not None:
            sources = Path(kernel.__file__), Path(decoding.__file__)
            keep_compiled(cache, (kernel.search_range, kernel.score_points), sources)
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
        tables = self._rows, self._right, np.array(OFFICIAL_GRID), *self._worth
        result: FloatArray = self._kernel.score_points(*tables, padded)
        return result

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


class TensorScorer:
    """Scores chunks of points as tensors: written for a GPU, the same on a CPU.

    Multiplications and additions are separate operations, since one that does both would round once instead of twice.

    Args:
        rows, truth: as of `PlainScorer`.
        device: a name that `torch.device` takes.

    Attributes:
        chunk: points that are scored together at most; None as many as memory is meant for.
    """

    chunk: int | None = None

    def __init__(self, rows: FloatArray, truth: LabelArray, device: str) -> None:
        import torch

        from blemore_plugins.late import tensors

        self._torch, self._tensors, self._device = torch, tensors, device
        self._truth = truth
        arrays = rows.transpose(0, 2, 1), tabulate(truth), np.array(OFFICIAL_GRID)
        self._tables = tensors.Tables(*(torch.from_numpy(np.ascontiguousarray(each)).to(device) for each in arrays))
        self._score_all, self._size = self._scoring(whole(len(truth)))

    def scores(self, points: FloatArray) -> FloatArray:
        """As `Scorer.scores`."""
        size = self.chunk or self._size
        parts = np.split(points, range(size, len(points), size))
        return np.concatenate([self._score_all(part)[0] for part in parts])

    def best_of(self, grid: SimplexGrid, advance: Advance, subsets: Subsets | None = None) -> PartsArray:
        """As `Scorer.best_of`."""
        score_sets, size = self._scoring(subsets or whole(len(self._truth)))
        return _best_in_chunks(score_sets, grid, self.chunk or size, advance)

    def _scoring(self, subsets: Subsets) -> tuple[Callable[[FloatArray], FloatArray], int]:
        """Return what scores points for every set, float64 (S, P), and how many points at a time."""
        arrays = subsets.group, *value_answers(self._truth, subsets)
        group, presence, salience = (self._torch.from_numpy(each).to(self._device) for each in arrays)
        sets = self._tensors.Sets(group, subsets.groups, subsets.left_out, presence, salience)

        def score_sets(points: FloatArray) -> FloatArray:
            given = self._torch.from_numpy(points).to(self._device)
            scores: FloatArray = self._tensors.score_points(self._tables, sets, given).cpu().numpy()
            return scores

        return score_sets, self._tensors.chunk_size(len(self._truth), self._device, subsets.groups)


def _best_in_chunks(
    score_sets: Callable[[FloatArray], FloatArray], grid: SimplexGrid, size: int, advance: Advance
) -> PartsArray:
    best: list[tuple[float, int, int]] = []
    for start, stop in _chunks(grid, size):
        points = grid.block(start, stop)
        # Sums of squares are whole numbers: nearness to equal weights is compared without rounding.
        squares = (points * points).sum(axis=1)
        scores = score_sets(grid.weights(points))
        leaders = [int(np.lexsort((squares, -each))[0]) for each in scores]  # stable: of equals the first
        found = [(float(scores[s, i]), -int(squares[i]), -(start + i)) for s, i in enumerate(leaders)]
        best = [max(pair) for pair in zip(best or found, found, strict=True)]
        advance(stop - start)
    return np.concatenate([grid.block(-number, -number + 1) for _, _, number in best])


def _chunks(grid: SimplexGrid, size: int) -> Iterator[tuple[int, int]]:
    return pairwise([*range(0, grid.size, size), grid.size])


def allowed_threads() -> int:
    """Return how many threads numba may use, or OpenMP where the user limited that."""
    from numba import config

    openmp = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    allowed = int(config.NUMBA_NUM_THREADS)
    return max(1, min(allowed, int(openmp))) if openmp.isdigit() else allowed
