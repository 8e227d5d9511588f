"""Choosing among candidates by evidence: the simplest one, unless another is better by more than chance explains.

Whoever takes the best of several noisy scores takes the luckiest. Candidates are therefore compared on the same
held-out actors, and another than the simplest is chosen only where its gain exceeds its own standard error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from blemore_harness.clips import LabelArray
from blemore_harness.errors import DataError, InvalidPredictions
from blemore_harness.predictions import FloatArray


@dataclass(frozen=True)
class Gain:
    """A difference of Scores on the same clips.

    Attributes:
        difference: Score of one candidate minus that of the other, on all clips together.
        error: standard error of the difference over actors; infinite for a single actor.
    """

    difference: float
    error: float


@dataclass(frozen=True)
class Selection:
    """A choice and what it rests on.

    Attributes:
        name: the candidate that was chosen.
        gains: of every candidate but the simplest over the simplest.
    """

    name: str
    gains: Mapping[str, Gain]


def choose_simplest(labels: Mapping[str, LabelArray], truth: LabelArray, actors: ArrayLike) -> Selection:
    """Choose the candidate whose gain over the simplest, less one standard error, is greatest; the simplest if none is
    above 0.

    Args:
        labels: int8 (N, 6) percentages by candidate, the simplest first, as each decodes actors that it was not chosen
            on; of equals the earlier wins.
        truth: int8 (N, 6) percentages of the same clips.
        actors: actor (a name or a number) of each clip (N,).

    Raises:
        DataError: no candidate, or actors of another length.
        InvalidPredictions: labels of another shape than `truth`, or no clips.

    >>> truth = np.array([[70, 30, 0, 0, 0, 0], [0, 0, 100, 0, 0, 0]] * 3, dtype=np.int8)
    >>> wrong = np.tile(np.array([0, 0, 0, 0, 0, 100], dtype=np.int8), (6, 1))
    >>> choose_simplest({"plain": wrong, "complex": truth}, truth, [1, 1, 2, 2, 3, 3]).name
    'complex'
    >>> choose_simplest({"plain": truth, "complex": truth}, truth, [1, 1, 2, 2, 3, 3]).name
    'plain'
    """
    if not labels:
        raise DataError("choosing needs at least one candidate, found none")
    simplest, *others = labels
    gains = {name: compare_labels(labels[name], labels[simplest], truth, actors) for name in others}
    # Rounded: sums of the same counts in another order differ in the last bits.
    sure = {simplest: 0.0, **{name: round(gain.difference - gain.error, 12) for name, gain in gains.items()}}
    return Selection(max(sure, key=lambda name: sure[name]), gains)


def compare_labels(one: LabelArray, two: LabelArray, truth: LabelArray, actors: ArrayLike) -> Gain:
    """Return the difference of two Scores on the same clips with its standard error over actors.

    Score is a sum of two ratios of sums over actors. The error is that of its linear approximation: the spread over
    actors of what each contributes to the difference (sandwich estimator, with A / (A - 1) for A actors).

    Args:
        one, two: int8 (N, 6) percentages; the first is reported to gain.
        truth, actors: as of `choose_simplest`, which also says what is raised.

    >>> truth = np.array([[70, 30, 0, 0, 0, 0], [0, 0, 100, 0, 0, 0]] * 2, dtype=np.int8)
    >>> half = np.concatenate([truth[:2], truth[1:2], truth[:1]])
    >>> found = compare_labels(truth, half, truth, ["A1", "A1", "A2", "A2"])
    >>> found.difference, round(found.error, 3)
    (0.5, 0.5)
    """
    if truth.ndim != 2 or not len(truth) or not one.shape == two.shape == truth.shape:
        raise InvalidPredictions(f"expected labels of shape {truth.shape}, found {one.shape} and {two.shape}")
    index = np.unique(np.asarray(actors), return_inverse=True)[1]
    if index.shape != (len(truth),):
        raise DataError(f"expected an actor for each of {len(truth)} clips, found shape {index.shape}")
    blend = (truth > 0).sum(axis=1) == 2
    count = int(index.max()) + 1
    difference, parts = 0.0, np.zeros(count)
    for counted, right in ((np.ones(len(truth), dtype=bool), _present), (blend, _exact)):
        gained = right(one, truth).astype(np.int64) - right(two, truth)
        total = max(int(counted.sum()), 1)
        mean = float(gained[counted].sum()) / total
        difference += mean / 2
        parts += np.bincount(index[counted], weights=gained[counted] - mean, minlength=count) / (2 * total)
    error = float(np.sqrt(count / (count - 1) * np.square(parts).sum())) if count > 1 else np.inf
    return Gain(difference, error)


def _present(labels: LabelArray, truth: LabelArray) -> FloatArray:
    return np.asarray(((labels > 0) == (truth > 0)).all(axis=1), dtype=np.int64)


def _exact(labels: LabelArray, truth: LabelArray) -> FloatArray:
    return np.asarray((labels == truth).all(axis=1), dtype=np.int64)
