"""Whether probabilities mean what they say: reliability of the largest, whether the second tells blends, Brier score.

The truth of a clip is its share per emotion (salience / 100), which is what systems learn: the right largest value for
an even blend is .5. So a probability is calibrated where clips with that value have that share on average.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from blemore_harness.clips import LabelArray
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.rules import top_two

BINS = 10
"""Equally wide bins of probabilities (Guo et al., 2017, use 15 for ImageNet; here are some 2,500 clips)."""

ANSWERS = 36
"""Labels that a clip can have: systems that decide by themselves give as many different rows at most."""


def measure_calibration(values: FloatArray, truth: LabelArray) -> dict[str, Any]:
    """Measure the calibration of rows.

    Args:
        values: float64 (N, 6) probabilities.
        truth: int8 (N, 6) percentages of the same clips.

    Returns:
        `answers`: whether the rows are answers and no probabilities: as few different ones as there are labels.
        `largest`: reliability rows of the largest probability (`low`, `high`, `clips`, `probability`, `share` that its
        emotion truly has, `present`: share of clips in which it is present at all).
        `expected_calibration_error`: mean distance of probability and share over bins, weighted by clips.
        `second`: rows of the second largest (`blends`: share of true blends among the clips of the bin).
        `blend_auc`: chance that a blend has a larger second probability than a clip that is none (None without both).
        `brier`: mean squared distance of rows and true shares, 0 to 2; `brier_constant`: of always answering with the
        mean share of each emotion in these clips.
    """
    shares = truth.astype(np.float64) / 100
    first, _, high, low = top_two(values)
    got = shares[np.arange(len(values)), first]
    blend = (truth > 0).sum(axis=1) == 2
    largest = [
        {**bin_, "share": float(got[mask].mean()), "present": float((got[mask] > 0).mean())}
        for bin_, mask in _bins(high)
    ]
    return {
        "answers": len(values) > ANSWERS and len(np.unique(values, axis=0)) <= ANSWERS,
        "largest": largest,
        "expected_calibration_error": sum(
            row["clips"] / len(values) * abs(row["probability"] - row["share"]) for row in largest
        ),
        "second": [{**bin_, "blends": float(blend[mask].mean())} for bin_, mask in _bins(low)],
        "blend_auc": _auc(low[blend], low[~blend]),
        "brier": float(((values - shares) ** 2).sum(axis=1).mean()),
        "brier_constant": float(((shares.mean(axis=0) - shares) ** 2).sum(axis=1).mean()),
    }


def _bins(values: FloatArray) -> list[tuple[dict[str, Any], Any]]:
    """Return the bins that hold something, each with its mask (N,)."""
    index = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    found = []
    for k in np.unique(index).tolist():
        mask = index == k
        facts = {"low": k / BINS, "high": (k + 1) / BINS, "clips": int(mask.sum())}
        found.append(({**facts, "probability": float(values[mask].mean())}, mask))
    return found


def _auc(above: FloatArray, below: FloatArray) -> float | None:
    """Return the chance that one of `above` exceeds one of `below`, ties counting half."""
    if not len(above) or not len(below):
        return None
    ordered = np.sort(below)
    smaller = np.searchsorted(ordered, above, side="left")
    at_most = np.searchsorted(ordered, above, side="right")
    return float((smaller + at_most).sum() / 2 / (len(above) * len(below)))
