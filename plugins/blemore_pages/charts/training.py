"""What training left in the notes: fusion weights and training curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blemore_harness.scoring.intervals import short
from blemore_pages.charts.chart import (
    BLUE,
    GREEN,
    PURPLE,
    SHORTENED,
    VERMILION,
    Chart,
    file_name,
    load_altair,
    spec_of,
    values_of,
)
from blemore_pages.contents import SystemContents

FINAL = "all training clips"
"""The final fit, beside the folds."""


def draw_weights(system: SystemContents) -> Chart | None:
    """Return a fusion's weights by fold; None where it notes none."""
    alt = load_altair()
    rows = weights_of(system)
    if not rows:
        return None
    names = list(dict.fromkeys(row["base model"] for row in rows))
    base = alt.Chart(values_of(rows)).encode(
        x=alt.X(
            "weight",
            type="quantitative",
            title="weight",
            scale=alt.Scale(domainMin=min(0, *(r["weight"] for r in rows))),
        ),
        y=alt.Y("base model", type="nominal", title=None, sort=names, axis=alt.Axis(labelExpr=SHORTENED)),
        tooltip=[alt.Tooltip(name, type="nominal") for name in ("base model", "fit", "weight")],
    )
    folds = base.transform_filter(alt.datum["fit"] != FINAL).mark_tick(thickness=1.5, size=8, color=BLUE, opacity=0.9)
    final = base.transform_filter(alt.datum["fit"] == FINAL).mark_point(
        shape="diamond", size=60, filled=True, opacity=1, color=VERMILION
    )
    fits = list(dict.fromkeys(row["fit"] for row in rows))
    by_place = {(row["base model"], row["fit"]): short(row["weight"]) for row in rows}
    return Chart(
        file_name("fusion-weights", system.name),
        f"Fusion weights, {system.name}",
        "Weight of every base model: a tick per fold (fitted on the clips of the other folds), a diamond for the fit "
        "on all training clips, which predicts the test clips. Ticks far apart mean that the data do not determine the "
        "weights.",
        spec_of((folds + final).properties(width=320, height=alt.Step(22))),
        ("base model", *fits),
        tuple((name, *(by_place.get((name, fit), "") for fit in fits)) for name in names),
    )


def weights_of(system: SystemContents) -> list[dict[str, Any]]:
    """Return the noted weights of a fusion: rows of `base model`, `fit` and `weight`."""
    if system.record.kind != "fusion":
        return []
    rows = []
    for note in system.record.notes:
        weights = note.get("weights")
        if isinstance(weights, Mapping) and all(isinstance(weight, int | float) for weight in weights.values()):
            rows += [
                {"base model": name, "fit": _fit(note["fold"]), "weight": weight} for name, weight in weights.items()
            ]
    return rows


def draw_curves(system: SystemContents) -> Chart | None:
    """Return the training curves, a panel for each kind of value; None where the plugin notes none."""
    curves = [curve for curve in system.curves if curve.values]
    if not curves:
        return None
    alt = load_altair()
    # A row per curve, with lists: a fifth of the text of a row per epoch.
    rows = [
        {"kind": _kind(curve.name), "curve": curve.name, "fit": _fit(curve.fold), "epoch": list(curve.epochs),
         "value": list(curve.values)}
        for curve in curves
    ]  # fmt: skip
    names = list(dict.fromkeys(curve.name for curve in curves))
    lines = (
        alt.Chart(values_of(rows))
        .transform_flatten(["epoch", "value"])
        .mark_line(strokeWidth=1, opacity=0.8)
        .encode(
            x=alt.X("epoch", type="quantitative", title="epoch"),
            y=alt.Y("value", type="quantitative", title=None, scale=alt.Scale(zero=False)),
            detail=alt.Detail("fit", type="nominal"),
            color=alt.Color("curve", type="nominal",
                            scale=alt.Scale(domain=names, range=[BLUE, VERMILION, GREEN, PURPLE]),
                            legend=alt.Legend(title=None, orient="top", columns=1)),
            strokeDash=alt.StrokeDash("curve", type="nominal", scale=alt.Scale(domain=names)),
            tooltip=[alt.Tooltip(name, type="nominal") for name in ("curve", "fit", "epoch", "value")],
        )
        .properties(width=320, height=140)
        .facet(row=alt.Row("kind", type="nominal", title=None))
        .resolve_scale(y="independent")
    )  # fmt: skip
    return Chart(
        file_name("training-curves", system.name),
        f"Training curves, {system.name}",
        "What the plugin noted while it trained, a line for each fold and for the fit on all training clips; at most "
        "100 epochs are kept of a curve.",
        spec_of(lines),
        ("curve", "fit", "epochs", "first", "smallest", "largest", "last"),
        tuple(
            (curve.name, _fit(curve.fold), f"{curve.epochs[-1]:g}", *(f"{value:.4g}" for value in (
                curve.values[0], min(curve.values), max(curve.values), curve.values[-1])))
            for curve in curves
        ),
    )  # fmt: skip


def _fit(fold: int | None) -> str:
    return FINAL if fold is None else f"fold {fold}"


def _kind(name: str) -> str:
    """Return what a curve's values are, its name's last word: losses share a panel, Scores another."""
    return name.split()[-1]
