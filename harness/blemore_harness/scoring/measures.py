"""Which measures are defined for which clips, and how means are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blemore_harness.record.scores import Mean
from blemore_harness.scoring.intervals import UNDEFINED, ActorCounts, short

NO_BLENDS = "Without blends, ACC_S and the Score are not defined: ACC_P is all that can be reported."


def ranked_measure(counts: ActorCounts) -> str:
    """Return the measure that systems are ranked by: the Score, or ACC_P without blends, where there is no Score.

    The Score of the official code is half of ACC_P then, and ranks alike.
    """
    return "score" if counts.blends.any() else "acc_presence"


def keep_defined(found: Mapping[str, Any], counts: ActorCounts) -> dict[str, Any]:
    """Return what was found by measure, with None for what is not defined without blends."""
    blends = bool(counts.blends.any())
    return {name: value if blends or name == "acc_presence" else None for name, value in found.items()}


def show_mean(mean: Mean | None) -> str:
    """Write a mean with its standard deviation; None is not defined.

    >>> show_mean(Mean(0.25, 0.01)), show_mean(None)
    ('.250 ± .010', 'not defined')
    """
    return UNDEFINED if mean is None else f"{short(mean.mean)} ± {short(mean.sd)}"
