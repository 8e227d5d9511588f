"""The best alpha and beta of all real numbers, not only of the official grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import LabelArray
from blemore_harness.errors import InvalidPredictions
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.grid import Thresholds
from blemore_harness.protocol.rules import EQUAL, NEUTRAL, as_rows, top_two


def search_exact(values: FloatArray, truth: LabelArray) -> Thresholds:
    """Find thresholds with the best Score that any pair reaches on these clips.

    Score is a step function: it changes where alpha passes the second largest value of a row, or beta the difference of
    its two largest. All steps are tried; of equally good regions the largest is taken, and its middle, which is as far
    as can be from where the next clip would change the answer.

    Args:
        values: float64 (N, 6) probabilities.
        truth: int8 (N, 6) percentages.

    Raises:
        InvalidPredictions: no clips.
    """
    rows = as_rows(values)
    if not len(rows):
        raise InvalidPredictions("there are no clips to choose thresholds on")
    blend = (truth > 0).sum(axis=1) == 2
    first, second, high, low = top_two(rows)
    clips = np.arange(len(rows))
    never = (first == NEUTRAL) | (second == NEUTRAL) | (low <= 0)
    alone_right = ~blend & (truth[clips, first] > 0)
    pair_right = blend & (truth[clips, first] > 0) & (truth[clips, second] > 0) & ~never
    # What a blend gets right besides its emotions: `even` while the gap is at most beta, `uneven` while it is above.
    even = pair_right & (truth.max(axis=1) == EQUAL)
    uneven = pair_right & ~even & (truth[clips, first] > truth[clips, second])
    gaps = np.unique(np.concatenate([[0.0], (high - low)[even | uneven]]))
    place = np.searchsorted(gaps, high - low)
    weight_p, weight_s = 0.5 / len(rows), 0.5 / max(int(blend.sum()), 1)

    # Alpha falls: row after row, by its second largest value, begins to blend.
    order = np.argsort(-low, kind="stable")
    order = order[~never[order]]
    lows, places = low[order].tolist(), place[order].tolist()
    gained = (pair_right.astype(np.int64) - alone_right)[order].tolist()
    is_even, is_uneven = even[order].tolist(), uneven[order].tolist()
    salience = np.zeros(len(gaps), dtype=np.int64)
    presence = int(alone_right.sum())
    best = (-1.0, 0.0, Thresholds(0.5, 0.5))
    upper = 1.0
    for number in range(len(order) + 1):
        if number == 0 or number == len(order) or lows[number] < lows[number - 1]:
            lower = lows[number] if number < len(order) else 0.0
            most = int(salience.max())
            # Rounded: sums of the same counts in another order differ in the last bits.
            top = round(most * weight_s + presence * weight_p, 12)
            if top >= best[0]:
                start, end = _widest_stretch(salience == most, gaps)
                region = (top, (upper - lower) * (end - start))
                if region > best[:2]:
                    # Neighbouring floats have no middle: alpha may be the upper end, and beta the lower one.
                    alpha, beta = (upper + lower) / 2, (start + end) / 2
                    best = (*region, Thresholds(alpha if alpha > lower else upper, beta if beta < end else start))
            upper = lower
        if number < len(order):
            presence += gained[number]
            if is_even[number]:
                salience[places[number] :] += 1
            elif is_uneven[number]:
                salience[: places[number]] += 1
    return best[2]


def _widest_stretch(at_top: NDArray[np.bool_], gaps: FloatArray) -> tuple[float, float]:
    """Return the widest stretch [from, to) of betas that a mask marks, whose i-th entry holds from gaps[i] on."""
    edges = np.append(gaps, 1.0)
    changes = np.diff(at_top.astype(np.int8), prepend=0, append=0)
    begins, stops = np.flatnonzero(changes == 1), np.flatnonzero(changes == -1)
    widest = int((edges[stops] - edges[begins]).argmax())
    return float(edges[begins[widest]]), float(edges[stops[widest]])
