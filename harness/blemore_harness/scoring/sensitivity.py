"""How much hangs on alpha and beta: their spread over folds, the score surface, what another fold's thresholds cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.grid import OFFICIAL_GRID, GridScores
from blemore_harness.scoring.intervals import ActorCounts, find_differences

OVERALL = "overall"


def summarise_thresholds(rows: Iterable[tuple[str, float, float]]) -> dict[str, dict[str, Any]]:
    """Summarise chosen thresholds per encoder and `overall`.

    Args:
        rows: an encoder's name, alpha and beta for each fold run.

    Returns:
        per name: `runs`, and mean, sd (ddof=1; 0 for one run), min and max of `alpha` and `beta`.

    >>> summarise_thresholds([("a", .1, .2), ("a", .3, .2)])["a"]["alpha"]["max"]
    0.3
    """
    kept = list(rows)
    names = list(dict.fromkeys(name for name, _, _ in kept))
    groups = {name: [row for row in kept if row[0] == name] for name in names} | {OVERALL: kept}
    return {
        name: {
            "runs": len(group),
            "alpha": _spread([alpha for _, alpha, _ in group]),
            "beta": _spread([beta for _, _, beta in group]),
        }
        for name, group in groups.items()
        if group
    }


def measure_sensitivity(grids: Mapping[int, GridScores]) -> dict[str, Any]:
    """Measure how much the thresholds of a system matter.

    Args:
        grids: what was counted in every fold, on out-of-fold rows.

    Returns:
        `folds`: best alpha and beta per fold with its Score (ACC_P where no fold has blends, here and below). `alpha`,
        `beta`: their spread. `grid`: the 20 thresholds. `surface`: Score of all clips together, 20 alphas (rows) by 20
        betas. `best`: its best pair. `transfer`: Score lost on fold j (column) with the best pair of fold i (row).
        `transfer_loss`: mean of those with i != j.
    """
    pooled, surfaces = reduce(GridScores.__add__, grids.values()), ranked_surfaces(grids)
    whole = ranked_surfaces({0: pooled})[0]
    places = {fold: grid.argbest() for fold, grid in grids.items()}
    losses = transfer_losses(grids)
    chosen = [
        (str(fold), float(OFFICIAL_GRID[alpha]), float(OFFICIAL_GRID[beta])) for fold, (alpha, beta) in places.items()
    ]
    spread = summarise_thresholds(chosen)[OVERALL]
    best = pooled.choose()
    return {
        "folds": [
            {"fold": fold, "alpha": alpha, "beta": beta, "score": float(surface.max())}
            for (fold, surface), (_, alpha, beta) in zip(surfaces.items(), chosen, strict=True)
        ],
        "alpha": spread["alpha"],
        "beta": spread["beta"],
        "grid": OFFICIAL_GRID.tolist(),
        "surface": whole.tolist(),
        "best": {"alpha": best.thresholds.alpha, "beta": best.thresholds.beta, "score": float(whole.max())},
        "transfer": losses.tolist(),
        "transfer_loss": mean_loss(losses),
    }


def ranked_surfaces(grids: Mapping[int, GridScores]) -> dict[int, FloatArray]:
    """Return what systems are ranked by at every pair of thresholds, float64 (20, 20) by fold.

    That is the Score, or ACC_P where no fold has blends.
    """
    blends = any(grid.blends for grid in grids.values())
    return {fold: grid.surface if blends else grid.presence / max(grid.clips, 1) for fold, grid in grids.items()}


def transfer_losses(grids: Mapping[int, GridScores]) -> FloatArray:
    """Return the Score lost on fold j with the thresholds of fold i, float64 (K, K) by i and j; the diagonal is 0."""
    surfaces = ranked_surfaces(grids).values()
    places = [grid.argbest() for grid in grids.values()]
    return np.array([[float(surface.max() - surface[place]) for surface in surfaces] for place in places])


def mean_loss(losses: FloatArray) -> float:
    """Return the mean loss with another fold's thresholds; 0 for a single fold."""
    count = len(losses)
    return float(losses.sum() / (count * (count - 1))) if count > 1 else 0.0


def expected_drop(official: ActorCounts, honest: ActorCounts) -> dict[str, dict[str, Any]]:
    """Return official minus cross-fitted numbers with intervals: the drop to expect from validation to new actors.

    It holds what choosing thresholds (and a fusion's weights) on the scored folds adds. What an epoch chosen there adds
    is in both numbers, so the real drop of such a system is larger.

    Args:
        official, honest: right answers of the same system counted both ways.

    Returns:
        per measure `difference` and `interval`; no p-value, since the official answers saw what they are scored on.
    """
    found = find_differences(official, honest)
    return {name: {key: row[key] for key in ("difference", "interval")} for name, row in found.items()}


def _spread(values: Sequence[float]) -> dict[str, float]:
    array = np.array(values, dtype=np.float64)
    return {
        "mean": float(array.mean()),
        "sd": float(array.std(ddof=1)) if len(array) > 1 else 0.0,
        "min": float(array.min()),
        "max": float(array.max()),
    }
