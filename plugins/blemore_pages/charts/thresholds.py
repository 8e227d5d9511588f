"""The Score at every pair of thresholds, and whether probabilities mean what they say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.grid import OFFICIAL_GRID
from blemore_harness.scoring.calibration import measure_calibration
from blemore_harness.scoring.intervals import short
from blemore_harness.scoring.sensitivity import ranked_surfaces
from blemore_pages.charts.chart import BLUE, GREY, SHADES, Chart, file_name, load_altair, spec_of, values_of
from blemore_pages.contents import SystemContents

ITSELF, OTHERS = "this fold", "the other folds"
"""On which clips a pair of thresholds was chosen."""

COLUMNS = 3
"""Folds side by side."""

ALPHAS = int(np.searchsorted(OFFICIAL_GRID, 0.5)) + 1
"""Alphas that are shown: no second largest probability exceeds .5, so that those above it make no difference."""

PLACES = list(range(len(OFFICIAL_GRID)))
"""Places on the grid."""


def draw_surface(system: SystemContents) -> Chart:
    """Return the Score over alpha and beta for every fold, with the chosen pairs."""
    alt = load_altair()
    points = chosen_points(system)
    ranked, surfaces = system.loaded.record.data.ranked_by, ranked_surfaces(system.grids)
    lowest = min(float(surface.min()) for surface in surfaces.values())
    highest = max(float(surface.max()) for surface in surfaces.values())
    shade = alt.Color(
        "score", type="quantitative", legend=alt.Legend(title=ranked, format=".2f", tickCount=3, orient="bottom"),
        scale=alt.Scale(scheme=SHADES, domain=[math.floor(lowest * 100) / 100, math.ceil(highest * 100) / 100]),
    )  # fmt: skip
    panels = [
        _draw_fold(
            fold, surface, [row for row in points if row["fold"] == fold], shade,
            left=number % COLUMNS == 0, last=number >= len(system.grids) - COLUMNS,
        )
        for number, (fold, surface) in enumerate(surfaces.items())
    ]  # fmt: skip
    return Chart(
        file_name("score-surface", system.name),
        f"{ranked} by thresholds, {system.name}",
        f"{ranked} of the clips of each fold at every pair of the official grid: alpha decides how many clips are "
        "answered with a blend (none above .5), beta how many blends are even. Circle: best pair of this fold "
        "(official, in-sample). Cross: pair chosen on the other folds (cross-fitted, out-of-sample). A sharp peak, or "
        "circles far from crosses, mean that numbers depend on the choice. Out-of-fold predictions.",
        spec_of(alt.concat(*panels, columns=COLUMNS, spacing=8)),
        ("fold", "best pair of", "alpha", "beta", ranked),
        tuple(
            (str(row["fold"]), row["thresholds"], short(row["alpha"]), short(row["beta"]), short(row["score"]))
            for row in points
        ),
    )


def _draw_fold(fold: int, surface: FloatArray, points: list[dict[str, Any]], shade: Any, left: bool, last: bool) -> Any:
    """Return the surface of one fold with its points; axes are written at the left and below only."""
    alt = load_altair()
    step = float(OFFICIAL_GRID[1] - OFFICIAL_GRID[0])
    # A row per alpha, whose Scores over beta lie in a list: a tenth of the text of a row per pair.
    rows = [
        {"alpha": round(float(alpha), 4), "score": [round(float(score), 3) for score in scores], "place": PLACES}
        for alpha, scores in zip(OFFICIAL_GRID[:ALPHAS], surface, strict=False)
    ]
    margin = step / 2
    sides = {
        "x": {"title": "beta" if last else None, "type": "quantitative",
              "axis": alt.Axis(values=[0.2, 0.4, 0.6, 0.8], format=".1f", grid=False, labels=last),
              "scale": alt.Scale(domain=[OFFICIAL_GRID[0] - margin, OFFICIAL_GRID[-1] + margin], nice=False)},
        "y": {"title": "alpha" if left else None, "type": "quantitative",
              "axis": alt.Axis(values=[0.1, 0.3, 0.5], format=".1f", grid=False, labels=left),
              "scale": alt.Scale(domain=[OFFICIAL_GRID[0] - margin, OFFICIAL_GRID[ALPHAS - 1] + margin], nice=False)},
    }  # fmt: skip
    cells = (
        alt.Chart(values_of(rows))
        .transform_flatten(["score", "place"])
        .transform_calculate(
            beta=f"{OFFICIAL_GRID[0]:.6f} + datum.place * {step:.6f}",
            left=f"datum.beta - {margin:.6f}", right=f"datum.beta + {margin:.6f}",
            low=f"datum.alpha - {margin:.6f}", high=f"datum.alpha + {margin:.6f}",
        )
        .mark_rect()
        .encode(
            x=alt.X("left", **sides["x"]), x2="right", y=alt.Y("low", **sides["y"]), y2="high", color=shade,
            tooltip=[alt.Tooltip(name, type="quantitative", format=".3f") for name in ("alpha", "beta", "score")],
        )
    )  # fmt: skip
    base = alt.Chart(values_of(points)).encode(
        x=alt.X("beta", **sides["x"]), y=alt.Y("alpha", **sides["y"]),
        tooltip=[alt.Tooltip(name, type="nominal") for name in points[0]],
        shape=alt.Shape("thresholds", type="nominal",
                        legend=alt.Legend(title="best pair of", orient="bottom", symbolFillColor=GREY),
                        scale=alt.Scale(domain=[ITSELF, OTHERS], range=["circle", "cross"])),
    )  # fmt: skip
    # Black around white: seen on dark and on light shades.
    marks = base.mark_point(size=50, strokeWidth=1.5, opacity=1, filled=True, color="white", stroke="black")
    return (cells + marks).properties(width=150, height=90, title=f"fold {fold}")


def chosen_points(system: SystemContents) -> list[dict[str, Any]]:
    """Return the pairs that were chosen on each fold itself and on the others, with the fold's Score there.

    For a fusion the record's official pairs are of its final fit; here both are on the out-of-fold predictions shown.
    """
    rows, surfaces = [], ranked_surfaces(system.grids)
    for fold in system.record.folds:
        best, others = system.grids[fold.fold].choose(), fold.cross_fitted
        reached = others.acc_presence if others.score is None else others.score
        pairs = (
            (ITSELF, best.thresholds.alpha, best.thresholds.beta, float(surfaces[fold.fold].max())),
            (OTHERS, others.alpha, others.beta, reached),
        )
        rows += [
            {"fold": fold.fold, "thresholds": name, "alpha": round(alpha, 4), "beta": round(beta, 4),
             "score": round(score, 4)}
            for name, alpha, beta, score in pairs
        ]  # fmt: skip
    return rows


def draw_reliability(system: SystemContents) -> Chart:
    """Return the reliability diagram of the largest probability."""
    alt = load_altair()
    found = measure_calibration(system.probabilities, system.truth)
    bins = [
        {"probability": round(row["probability"], 4), "share": round(row["share"], 4), "clips": row["clips"],
         "bin": f"{row['low']:.1f} to {row['high']:.1f}"}
        for row in found["largest"]
    ]  # fmt: skip
    scale = alt.Scale(domain=[0, 1], nice=False)
    ideal = (
        alt.Chart(values_of([{"probability": 0, "share": 0}, {"probability": 1, "share": 1}]))
        .mark_line(strokeDash=[4, 3], color=GREY)
        .encode(x=alt.X("probability", type="quantitative"), y=alt.Y("share", type="quantitative"))
    )
    base = alt.Chart(values_of(bins)).encode(
        x=alt.X("probability", type="quantitative", title="largest probability (mean of bin)", scale=scale),
        y=alt.Y("share", type="quantitative", title="true share of its emotion", scale=scale),
        tooltip=[alt.Tooltip("bin", type="nominal"), alt.Tooltip("clips", type="quantitative"),
                 alt.Tooltip("probability", type="quantitative"), alt.Tooltip("share", type="quantitative")],
    )  # fmt: skip
    points = base.mark_point(filled=True, opacity=1, color=BLUE).encode(
        size=alt.Size("clips", type="quantitative", legend=alt.Legend(title="clips", tickCount=3),
                      scale=alt.Scale(domainMin=0, range=[0, 200]))
    )  # fmt: skip
    error = short(found["expected_calibration_error"])
    answers = " These are answers rather than probabilities." if found["answers"] else ""
    return Chart(
        file_name("reliability", system.name),
        f"Reliability, {system.name}",
        "Share that the emotion with the largest probability truly has, by that probability in ten bins; on the dashed "
        "line probabilities mean what they say, below it they are too sure. The right value for an even blend is .5. "
        f"Expected calibration error {error}, Brier score {short(found['brier'])} (constant answer: "
        f"{short(found['brier_constant'])}).{answers} Training clips, out-of-fold predictions.",
        spec_of((ideal + base.mark_line(color=BLUE) + points).properties(width=300, height=300)),
        ("bin", "clips", "mean probability", "true share"),
        tuple((row["bin"], str(row["clips"]), short(row["probability"]), short(row["share"])) for row in bins),
    )
