"""Who scores points: plain numpy, compiled code on CPU threads, or torch tensors; all make the very same choice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from blemore_harness.dataset import LabelArray
from blemore_harness.grid import OFFICIAL_GRID, GridCounter
from blemore_harness.rows import FloatArray
from blemore_plugins.late.answers import tabulate
from blemore_plugins.late.mean import mean_rows
from blemore_plugins.late.simplex import PartsArray, SimplexGrid

Advance = Callable[[int], object]

COMPILED_CHUNK = 2_000
"""Points that a thread searches at a time: a tenth of a second for 2,456 clips."""


class Scorer(Protocol):
    """Gives points the best Score that any pair of thresholds reaches."""

    def scores(self, points: FloatArray) -> FloatArray:
        """Give the best Score, float64 (P,), of weights (P, M)."""

    def best_of(self, grid: SimplexGrid, advance: Advance) -> PartsArray:
        """Give the parts, int64 (M,), of a grid's best point; of equals the nearest to equal weights, then the first.

        Args:
            grid: has at least one point.
            advance: told of every so many points done.
        """


class PlainScorer:
    """Counts by `GridCounter`, one point after the other.

    Args:
        rows: float64 (M, N, 6), the members' probabilities.
        truth: int8 (N, 6) percentages.
    """

    chunk = 500

    def __init__(self, rows: FloatArray, truth: LabelArray) -> None:
        self._rows = rows
        self._counter = GridCounter(truth)

    def scores(self, points: FloatArray) -> FloatArray:
        """As `Scorer.scores`."""
        counted = (self._counter.count(mean_rows(self._rows, point)) for point in points)
        return np.array([scores.choose().scores.score for scores in counted])

    def best_of(self, grid: SimplexGrid, advance: Advance) -> PartsArray:
        """As `Scorer.best_of`."""
        return _best_in_chunks(self, grid, self.chunk, advance)


class CompiledScorer:
    """Searches with the compiled kernel, on as many threads as numba and OpenMP are allowed; arguments as before."""

    def __init__(self, rows: FloatArray, truth: LabelArray, threads: int | None = None) -> None:
        from blemore_plugins.late import kernel

        answers = tabulate(truth)
        self._kernel = kernel
        self._rows = np.ascontiguousarray(rows.transpose(0, 2, 1))
        if len(rows) == 1:  # the kernel ends in two members: one that weighs nothing changes no bit
            self._rows = np.concatenate([np.zeros_like(self._rows), self._rows])
        self._tables = (answers.right, np.array(OFFICIAL_GRID), answers.presence, answers.salience)
        self._threads = threads or allowed_threads()

    def scores(self, points: FloatArray) -> FloatArray:
        """As `Scorer.scores`."""
        padded = np.ascontiguousarray(np.pad(points, ((0, 0), (len(self._rows) - points.shape[1], 0))))
        result: FloatArray = self._kernel.score_points(self._rows, *self._tables, padded)
        return result

    def best_of(self, grid: SimplexGrid, advance: Advance) -> PartsArray:
        """As `Scorer.best_of`."""
        if grid.members == 1:
            advance(grid.size)
            return grid.block(0, 1)[0]
        weights = grid.weights(np.arange(grid.parts + 1))

        def search(bounds: tuple[int, int]) -> tuple[float, int, int]:
            first = grid.block(bounds[0], bounds[0] + 1)[0]
            count = bounds[1] - bounds[0]
            score, squares, number = self._kernel.search_range(
                self._rows, *self._tables, weights, first, grid.lowest, grid.highest, count
            )
            return score, -squares, -(bounds[0] + number)

        best = (-1.0, 0, 0)
        pool = ThreadPoolExecutor(self._threads)
        try:
            chunks = list(_chunks(grid, COMPILED_CHUNK))
            for (start, stop), found in zip(chunks, pool.map(search, chunks), strict=True):
                best = max(best, found)
                advance(stop - start)
        finally:
            # An interruption must not wait for all chunks that are still to be searched.
            pool.shutdown(cancel_futures=True)
        return grid.block(-best[2], -best[2] + 1)[0]


class TensorScorer:
    """Scores chunks of points as tensors: written for a GPU, the same on a CPU.

    Multiplications and additions are separate operations, since one that does both would round once instead of twice.

    Args:
        rows, truth: as of `PlainScorer`.
        device: a name that `torch.device` takes.
    """

    def __init__(self, rows: FloatArray, truth: LabelArray, device: str) -> None:
        import torch

        from blemore_plugins.late import tensors

        answers = tabulate(truth)
        self._torch, self._tensors, self._device = torch, tensors, device
        arrays = (
            rows.transpose(0, 2, 1), answers.right, np.array(OFFICIAL_GRID), answers.presence, answers.salience,
        )  # fmt: skip
        self._tables = tensors.Tables(*(torch.from_numpy(np.ascontiguousarray(each)).to(device) for each in arrays))
        self.chunk = tensors.chunk_size(len(truth), device)

    def scores(self, points: FloatArray) -> FloatArray:
        """As `Scorer.scores`."""
        parts = [
            self._tensors.score_points(self._tables, self._torch.from_numpy(part).to(self._device)).cpu().numpy()
            for part in np.split(points, range(self.chunk, len(points), self.chunk))
        ]
        return np.concatenate(parts)

    def best_of(self, grid: SimplexGrid, advance: Advance) -> PartsArray:
        """As `Scorer.best_of`."""
        return _best_in_chunks(self, grid, self.chunk, advance)


def _best_in_chunks(scorer: Any, grid: SimplexGrid, size: int, advance: Advance) -> PartsArray:
    best: tuple[float, int] | None = None
    found = grid.block(0, 1)[0]
    for start, stop in _chunks(grid, size):
        points = grid.block(start, stop)
        scores = scorer.scores(grid.weights(points))
        squares = (points * points).sum(axis=1)
        # Sums of squares are whole numbers: nearness to equal weights is compared without rounding.
        leader = np.lexsort((squares, -scores))[0]  # stable: of equals the first
        rank = (float(scores[leader]), -int(squares[leader]))
        if best is None or rank > best:
            best, found = rank, points[leader]
        advance(stop - start)
    return found


def _chunks(grid: SimplexGrid, size: int) -> Iterator[tuple[int, int]]:
    return pairwise([*range(0, grid.size, size), grid.size])


def allowed_threads() -> int:
    """Give how many threads numba may use, or OpenMP where the user limited that."""
    from numba import config

    openmp = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    allowed = int(config.NUMBA_NUM_THREADS)
    return max(1, min(allowed, int(openmp))) if openmp.isdigit() else allowed
