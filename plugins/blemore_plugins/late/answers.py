"""What a fused row gets right, and what that is worth, in tables: the part of counting that no weights change."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.rules import EQUAL, MAJOR, NEUTRAL, SINGLE
from blemore_plugins.late.subsets import Subsets

COUNT = len(EMOTIONS)


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
