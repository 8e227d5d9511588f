"""How good: systems with their intervals beside published numbers, and one system actor by actor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from blemore_harness.scoring.caveats import describe_folds
from blemore_harness.scoring.intervals import LEVEL, short
from blemore_harness.scoring.published import MEASURES
from blemore_pages.charts.chart import (
    BLUE,
    GREEN,
    GREY,
    SHORTENED,
    VERMILION,
    Chart,
    file_name,
    load_altair,
    spec_of,
    values_of,
)
from blemore_pages.charts.matrices import OUT_OF_FOLD
from blemore_pages.contents import Contents, SystemContents

CROSS_FITTED, OFFICIAL, PUBLISHED, PUBLISHED_TEST = "cross-fitted", "official", "published", "published, test clips"
"""Kinds of Scores in the order of the legend."""


def draw_results(runs: Sequence[Contents]) -> Chart | None:
    """Return the Scores of all systems with intervals, the best first, and the published ones of their submissions."""
    alt = load_altair()
    rows = list(result_rows(runs))
    if not rows:
        return None
    ranked = runs[0].record.data.ranked_by
    order = list(dict.fromkeys(row["system"] for row in rows))
    kinds = [
        kind for kind in (CROSS_FITTED, OFFICIAL, PUBLISHED, PUBLISHED_TEST) if any(r["number"] == kind for r in rows)
    ]
    y = alt.Y("system", type="nominal", title=None, sort=order, axis=alt.Axis(labelExpr=SHORTENED))
    base = alt.Chart(values_of(rows)).encode(y=y)
    ends = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.5, color=BLUE).encode(
        x=alt.X("low", type="quantitative"), x2="high"
    )  # fmt: skip
    points = base.encode(
        x=alt.X("score", type="quantitative", title=ranked, scale=alt.Scale(zero=False, padding=8)),
        shape=alt.Shape("number", type="nominal", legend=alt.Legend(title=None, orient="top", columns=2),
                        scale=alt.Scale(domain=kinds, range=["circle", "triangle-right", "square", "diamond"])),
        color=alt.Color("number", type="nominal", scale=alt.Scale(domain=kinds, range=[BLUE, VERMILION, GREEN, GREY])),
        tooltip=[alt.Tooltip(name, type="nominal") for name in ("system", "number", "score", "low", "high", "source")],
    )  # fmt: skip
    honest = points.transform_filter(alt.datum["number"] == CROSS_FITTED).mark_point(size=40, filled=True, opacity=1)
    # A little lower, or it would hide what is nearly the same.
    others = points.transform_filter(alt.datum["number"] != CROSS_FITTED).mark_point(
        size=40, filled=True, opacity=1, yOffset=4
    )
    return Chart(
        file_name("results", *(run.folder.name for run in runs)),
        "Scores of all systems",
        f"Cross-fitted {ranked} (thresholds and fusion weights from the other folds) with the {LEVEL} % interval "
        f"over actors, and official {ranked} (both chosen on the scored folds, in-sample, as in the papers). "
        f"{_describe_data(runs)}",
        spec_of((ends + others + honest).properties(width=320, height=alt.Step(20))),
        ("system", "number", ranked, f"{LEVEL} % interval", "source"),
        tuple(
            (row["system"], row["number"], short(row["score"]),
             f"{short(row['low'])} to {short(row['high'])}" if row.get("low") is not None else "", row["source"])
            for row in rows
        ),
    )  # fmt: skip


def result_rows(runs: Sequence[Contents]) -> Iterator[dict[str, Any]]:
    """Return a row per system and kind of Score, the best cross-fitted Score first, published ones last."""
    found = [(system.record, run.folder.name) for run in runs for system in run.systems]
    named = [record.name for record, _ in found]
    for record, run in sorted(found, key=lambda pair: -pair[0].cross_fitted.ranked.mean):
        name = record.name if named.count(record.name) == 1 else f"{record.name} ({run})"
        low, high = (None, None) if record.intervals is None else (round(end, 4) for end in record.intervals.ranked)
        honest, official = (round(means.ranked.mean, 4) for means in (record.cross_fitted, record.official))
        source = f"run {run}"
        yield {"system": name, "number": CROSS_FITTED, "score": honest, "low": low, "high": high, "source": source}
        yield {"system": name, "number": OFFICIAL, "score": official, "source": source}
    for run_of in runs:
        asked = run_of.record.submission
        for key, kind in (("score", PUBLISHED), ("test_score", PUBLISHED_TEST)):
            if (score := asked.expect.get(key)) is not None:
                yield {"system": f"{asked.name}, published", "number": kind, "score": score,
                       "source": str(asked.expect.get("source", "no source given"))}  # fmt: skip


def _describe_data(runs: Sequence[Contents]) -> str:
    """Return on what the numbers are, and every caveat, each once."""
    said = []
    for run in runs:
        record = run.record
        said.append(f"{record.data.clips} training clips of {record.data.actors} actors in {record.data.folds} folds.")
        said += [f"Caveat: {record.caveat}."] if record.caveat else []
        said += [words] if (words := describe_folds(record.data)) else []
    return " ".join(dict.fromkeys(said))


def draw_actors(system: SystemContents) -> Chart:
    """Return both accuracies and the Score of every actor, the best first, and their spread."""
    alt = load_altair()
    people = actor_rows(system)
    ranked = system.loaded.record.data.ranked_by
    scores = np.array([row[ranked] for row in people if row[ranked] is not None])
    singles = sum(row["Score"] is None for row in people)
    mean, sd = float(scores.mean()) if len(scores) else 0.0, float(scores.std(ddof=1)) if len(scores) > 1 else 0.0
    rows = [
        {"actor": row["actor"], "measure": measure, "value": row[measure]}
        for row in people for measure in MEASURES.values() if row[measure] is not None
    ]  # fmt: skip
    order, measures = [row["actor"] for row in people], list(MEASURES.values())
    band = alt.Chart(
        values_of([{"low": round(mean - sd, 4), "mean": round(mean, 4), "high": round(mean + sd, 4)}])
    ).encode(y=alt.Y("low", type="quantitative"))
    x = alt.X("actor", type="nominal", sort=order, title=f"actor, by {ranked}",
              axis=alt.Axis(labelAngle=-90, labelOverlap="parity"))  # fmt: skip
    base = alt.Chart(values_of(rows)).encode(x=x)
    points = base.mark_point(filled=True, opacity=1, size=35).encode(
        y=alt.Y("value", type="quantitative", title="share of clips"),
        shape=alt.Shape("measure", type="nominal", legend=alt.Legend(title=None, orient="top"),
                        scale=alt.Scale(domain=measures, range=["triangle-up", "triangle-down", "circle"])),
        color=alt.Color("measure", type="nominal", scale=alt.Scale(domain=measures, range=[GREEN, VERMILION, BLUE])),
        tooltip=[alt.Tooltip(name, type="nominal") for name in ("actor", "measure", "value")],
    )  # fmt: skip
    spans = base.mark_rule(color=GREY).encode(y=alt.Y("min(value)", type="quantitative"), y2="max(value)")
    chart = (
        band.mark_rect(color=GREY, opacity=0.2).encode(y2="high")
        + band.mark_rule(color=GREY, strokeDash=[4, 3]).encode(y=alt.Y("mean", type="quantitative"))
        + spans
        + points
    )
    return Chart(
        file_name("actors", system.name),
        f"Actor by actor, {system.name}",
        f"ACC_P, ACC_S and Score of each of {len(people)} actors, of whom no clip was trained on. Dashed: mean over "
        f"actors ({short(mean)}), shaded: one standard deviation ({short(sd)}). "
        + (f"Actors without blends have ACC_P only ({singles}). " if singles else "")
        + OUT_OF_FOLD,
        spec_of(chart.properties(width=alt.Step(14) if len(people) < 24 else 340, height=220)),
        ("actor", "fold", "clips", *MEASURES.values()),
        tuple(
            (row["actor"], str(row["fold"]), str(row["clips"]),
             *("" if row[name] is None else short(row[name]) for name in MEASURES.values()))
            for row in people
        ),
    )  # fmt: skip


def actor_rows(system: SystemContents) -> list[dict[str, Any]]:
    """Return accuracies and Score of every actor, the best Score first; without blends ACC_S and Score are None."""
    actors, rows = np.array(system.actors), []
    for name in np.unique(actors).tolist():
        mine = actors == name
        blends = mine & system.blends
        presence = float(system.right_presence[mine].mean())
        salience = float(system.right_salience[blends].mean()) if blends.any() else None
        rows.append({
            "actor": name, "fold": int(system.folds[mine][0]), "clips": int(mine.sum()), "ACC_P": round(presence, 4),
            "ACC_S": None if salience is None else round(salience, 4),
            "Score": None if salience is None else round((presence + salience) / 2, 4),
        })  # fmt: skip
    return sorted(rows, key=_rank)


def _rank(row: dict[str, Any]) -> tuple[bool, float, str]:
    known = row["Score"] is not None
    return not known, -(row["Score"] if known else row["ACC_P"]), row["actor"]
