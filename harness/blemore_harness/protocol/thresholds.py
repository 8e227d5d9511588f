"""Choosing alpha and beta: the official search, on a fold itself and on the other folds; means over folds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike

from blemore_harness.clips import LabelArray
from blemore_harness.errors import DataError, InvalidPredictions
from blemore_harness.protocol.grid import Choice, GridCounter, GridScores
from blemore_harness.protocol.rules import Scores


def search_official(values: ArrayLike, truth: LabelArray) -> Choice:
    """Choose alpha and beta as the organisers do, on the very clips that they then score.

    The pair of the 20 x 20 grid with the best .5 ACC_P + .5 ACC_S; ties to the smallest alpha, then the smallest beta.

    Args:
        values: float64 (N, 6) probabilities.
        truth: int8 (N, 6) percentages of the same clips.

    Raises:
        InvalidProbabilities: another shape, or values that are not finite.
        InvalidPredictions: labels of another shape, or no clips.

    >>> chosen = search_official([[.6, .3, .1, 0, 0, 0]], np.array([[70, 30, 0, 0, 0, 0]], dtype=np.int8))
    >>> chosen.thresholds, chosen.scores
    (Thresholds(alpha=0.05, beta=0.05), Scores(presence=1.0, salience=1.0))
    """
    return GridCounter(truth).count(values).choose()


def official(values: ArrayLike, truth: LabelArray, folds: ArrayLike) -> dict[int, Choice]:
    """Choose per fold on that fold, as the papers do: an optimistic number.

    Args:
        values: float64 (N, 6) probabilities of all clips.
        truth: int8 (N, 6) percentages.
        folds: fold number per clip (N,).

    Returns:
        The choice for every fold number, in order.

    Raises:
        InvalidProbabilities, InvalidPredictions: as of `search_official`.
        DataError: folds of another length.

    >>> rows = [[.6, .3, .1, 0, 0, 0], [.5, .4, .1, 0, 0, 0]]
    >>> truth = np.array([[70, 30, 0, 0, 0, 0], [50, 50, 0, 0, 0, 0]], dtype=np.int8)
    >>> {fold: choice.scores.score for fold, choice in official(rows, truth, [0, 1]).items()}
    {0: 1.0, 1: 1.0}
    """
    return choose_per_fold(GridCounter(truth, folds).per_fold(values))


def cross_fitted(values: ArrayLike, truth: LabelArray, folds: ArrayLike) -> dict[int, Choice]:
    """Choose for every fold on the pooled clips of the other folds: what thresholds give on clips they never saw.

    Arguments and result as of `official`; scores, and the best that either accuracy reaches alone, are of the fold
    itself.

    Raises:
        DataError: fewer than two folds.

    >>> rows = [[.6, .3, .1, 0, 0, 0], [.5, .4, .1, 0, 0, 0]]
    >>> truth = np.array([[70, 30, 0, 0, 0, 0], [50, 50, 0, 0, 0, 0]], dtype=np.int8)
    >>> {fold: choice.scores.score for fold, choice in cross_fitted(rows, truth, [0, 1]).items()}
    {0: 1.0, 1: 0.5}
    """
    return choose_on_others(GridCounter(truth, folds).per_fold(values))


def choose_per_fold(grids: Mapping[int, GridScores]) -> dict[int, Choice]:
    """As `official`, from what was counted in every fold (`GridCounter.per_fold`, `ActorGrids.per_fold`).

    >>> truth = np.array([[70, 30, 0, 0, 0, 0], [50, 50, 0, 0, 0, 0]], dtype=np.int8)
    >>> counted = GridCounter(truth, [0, 1]).per_fold([[.6, .3, .1, 0, 0, 0], [.5, .4, .1, 0, 0, 0]])
    >>> [round(choice.thresholds.beta, 3) for choice in choose_per_fold(counted).values()]
    [0.05, 0.145]
    """
    return {fold: grid.choose() for fold, grid in grids.items()}


def choose_on_others(grids: Mapping[int, GridScores]) -> dict[int, Choice]:
    """As `cross_fitted`, from what was counted in every fold (`GridCounter.per_fold`, `ActorGrids.per_fold`).

    >>> truth = np.array([[70, 30, 0, 0, 0, 0], [50, 50, 0, 0, 0, 0]], dtype=np.int8)
    >>> counted = GridCounter(truth, [0, 1]).per_fold([[.6, .3, .1, 0, 0, 0], [.5, .4, .1, 0, 0, 0]])
    >>> [round(choice.thresholds.beta, 3) for choice in choose_on_others(counted).values()]
    [0.145, 0.05]
    """
    if len(grids) < 2:
        raise DataError(f"choosing thresholds on the other folds needs at least 2 folds, found {len(grids)}")
    return {
        fold: grid.choice_at(*reduce(GridScores.__add__, (g for k, g in grids.items() if k != fold)).argbest())
        for fold, grid in grids.items()
    }


def summarise(scores: Iterable[Scores]) -> dict[str, dict[str, float]]:
    """Return mean and sample standard deviation (ddof=1) over folds, as the papers' tables do.

    Args:
        scores: of each fold; one fold has no deviation, and its sd is 0.

    Returns:
        `mean` and `sd`, shares from 0 to 1, of `acc_presence`, `acc_salience` and `score`.

    Raises:
        InvalidPredictions: no folds.

    >>> summary = summarise([Scores(.2, .1), Scores(.4, .1)])
    >>> round(summary["acc_presence"]["mean"], 3), round(summary["acc_presence"]["sd"], 3)
    (0.3, 0.141)
    """
    folds = list(scores)
    if not folds:
        raise InvalidPredictions("there are no folds to summarise")
    columns = {
        "acc_presence": [fold.presence for fold in folds],
        "acc_salience": [fold.salience for fold in folds],
        "score": [fold.score for fold in folds],
    }
    return {
        name: {"mean": float(np.mean(column)), "sd": float(np.std(column, ddof=1)) if len(column) > 1 else 0.0}
        for name, column in columns.items()
    }
