"""What a fused row gets right, and what that is worth, in tables: the part of counting that no weights change."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from blemore_harness.dataset import EMOTIONS, LabelArray
from blemore_harness.protocol import EQUAL, MAJOR, NEUTRAL, SINGLE
from blemore_harness.rows import FloatArray

COUNT = len(EMOTIONS)


class Right(IntEnum):
    """What a row gets right by its larger and its smaller emotion; even kinds of single by whether it can blend."""

    NOTHING = 0
    SINGLE = 1  # its emotion, while it does not blend
    NEVER_BLENDS = 2  # its emotion at all thresholds: neutral is one of the two
    PAIR = 3  # its emotions, while it blends, but the saliences never
    UNEVEN = 4  # its emotions, and the saliences while the blend is uneven
    EVEN = 5  # its emotions, and the saliences while the blend is even


@dataclass(frozen=True)
class Answers:
    """Tables over clips and counts.

    Attributes:
        right: int8 (N, 36), `Right` by clip and by larger times six plus smaller emotion.
        presence: float64 (N + 1,), what so many right sets of emotions add to Score, rounded as the official code does.
        salience: float64 (B + 1,), the same for right saliences of the B blends.
    """

    right: NDArray[np.int8]
    presence: FloatArray
    salience: FloatArray


def tabulate(truth: LabelArray) -> Answers:
    """Make the tables for labels int8 (N, 6) in percent."""
    right = np.zeros((len(truth), COUNT, COUNT), dtype=np.int8)
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
    blends = int(((truth > 0).sum(axis=1) == 2).sum())
    # In the order of operations of the official Score, half of each share: equal counts then give equal floats.
    return Answers(
        right.reshape(len(truth), -1),
        0.5 * (np.arange(len(truth) + 1) / len(truth)),
        0.5 * (np.arange(blends + 1) / max(blends, 1)),
    )
