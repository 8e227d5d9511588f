"""Matrices: what is answered for what, which saliences, and which systems err on the same clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.rules import NEUTRAL
from blemore_harness.scoring.breakdown import count_errors
from blemore_harness.scoring.intervals import short
from blemore_pages.charts.chart import SHADES, SHORTENED, Chart, file_name, load_altair, spec_of, values_of
from blemore_pages.contents import Contents, SystemContents

SETS = (*EMOTIONS, *("+".join(pair) for pair in combinations(EMOTIONS[:NEUTRAL], 2)))
"""The 16 sets of emotions that a clip can show: single ones first, each in the organisers' order."""

MISSED = "none"
"""Column for true emotions that are not answered where nothing wrong is answered in their place."""

SALIENCES = ("70/30", "50/50", "30/70")
"""Saliences of the first emotion and the second of a pair, in the organisers' order."""

OUT_OF_FOLD = "Training clips, out-of-fold predictions, thresholds of the other folds."
"""What nearly all charts of a system are about."""

_STEP = 22
"""Pixels of a cell, at least."""

_LETTER = 7
"""Pixels of a letter, about."""


def draw_sets(system: SystemContents) -> Chart:
    """Return the confusion matrix over sets of emotions."""
    counts = count_sets(system.truth, system.labels)
    chart = _matrix(counts, SETS, SETS, "answered set of emotions", "true set of emotions")
    return Chart(
        file_name("confusion-sets", system.name),
        f"Confusion of sets of emotions, {system.name}",
        "Clips by true and answered set of emotions, saliences left aside. Numbers are clips; shades are shares of the "
        f"clips with the same true set (row). Right answers are on the diagonal. {OUT_OF_FOLD}",
        chart,
        ("true set", *SETS),
        tuple((name, *(str(int(n)) for n in row)) for name, row in zip(SETS, counts, strict=True)),
    )


def count_sets(truth: LabelArray, labels: LabelArray) -> NDArray[np.int64]:
    """Count clips by true set (rows) and answered set (columns) in the order of `SETS`: int64 (16, 16)."""
    counts = np.zeros((len(SETS), len(SETS)), dtype=np.int64)
    np.add.at(counts, (_sets_of(truth), _sets_of(labels)), 1)
    return counts


def _sets_of(labels: LabelArray) -> NDArray[np.intp]:
    names = ["+".join(EMOTIONS[k] for k in np.flatnonzero(row)) for row in labels]
    return np.array([SETS.index(name) for name in names], dtype=np.intp)


def draw_emotions(system: SystemContents) -> Chart:
    """Return the confusion matrix over single emotions."""
    counts = count_emotions(system.truth, system.labels)
    columns = (*EMOTIONS, MISSED)
    return Chart(
        file_name("confusion-emotions", system.name),
        f"Confusion of emotions, {system.name}",
        "Each true emotion of a clip counts once (blends count for both): on the diagonal if it is part of the answer, "
        "else for the wrong emotion that is answered, half for each of two, and under 'none' if only the clip's other "
        f"emotion is answered. Shades are shares of the row. {OUT_OF_FOLD}",
        _matrix(counts, EMOTIONS, columns, "answered emotion", "true emotion"),
        ("true emotion", *columns),
        tuple((name, *(f"{n:g}" for n in row)) for name, row in zip(EMOTIONS, counts, strict=True)),
    )


def count_emotions(truth: LabelArray, labels: LabelArray) -> FloatArray:
    """Count true emotions (rows) by what is answered for them (columns, `MISSED` last): float64 (6, 7)."""
    counts = np.zeros((len(EMOTIONS), len(EMOTIONS) + 1))
    for there, said in zip(truth > 0, labels > 0, strict=True):
        wrong = np.flatnonzero(said & ~there)
        for emotion in np.flatnonzero(there):
            if said[emotion]:
                counts[emotion, emotion] += 1
            elif len(wrong):
                counts[emotion, wrong] += 1 / len(wrong)
            else:
                counts[emotion, -1] += 1
    return counts


def draw_saliences(system: SystemContents) -> Chart | None:
    """Return true against answered saliences of blends whose pair is right; None without such clips."""
    found = {row["truth"]: row for row in count_errors(system.answers)["saliences"]}
    counts = np.array([[found[truth][said] for said in SALIENCES] for truth in SALIENCES])
    if not counts.sum():
        return None
    return Chart(
        file_name("saliences", system.name),
        f"Saliences given a right pair, {system.name}",
        f"The {counts.sum()} blends of {int(system.blends.sum())} whose pair of emotions is right, by true and "
        "answered salience; the emotion that is first in the alphabet comes first. Shades are shares of the row. "
        f"{OUT_OF_FOLD}",
        _matrix(counts, SALIENCES, SALIENCES, "answered salience", "true salience"),
        ("true salience", *SALIENCES),
        tuple((name, *map(str, row)) for name, row in zip(SALIENCES, counts.tolist(), strict=True)),
    )


def _matrix(
    counts: NDArray[Any], rows: Sequence[str], columns: Sequence[str], across: str, down: str
) -> dict[str, Any]:
    """Return a matrix of counts, shaded by their share of the row; empty cells are left out."""
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = counts / totals
    cells = [
        {"truth": rows[i], "answer": columns[j], "clips": f"{counts[i, j]:.1f}".removesuffix(".0"),
         "share": round(float(shares[i, j]), 3)}
        for i, j in zip(*np.nonzero(counts), strict=True)
    ]  # fmt: skip
    return _shaded(cells, ("answer", columns, across), ("truth", rows, down), "clips", "share of row", (0, 1), 0.5)


def _shaded(
    cells: Sequence[Mapping[str, Any]], across: tuple[str, Sequence[str], str], down: tuple[str, Sequence[str], str],
    text: str, legend: str, domain: tuple[float, float], white_above: float,
) -> dict[str, Any]:  # fmt: skip
    """Return a matrix of shaded cells with a text in each.

    Args:
        cells: one each, with `share` for the shade.
        across, down: key of the cell's column and row, all of them in their order, and the axis' title.
        text: key of the cell's text.
        legend: title of the legend.
        domain: shares at the ends of the colours.
        white_above: shares above it are dark and have white text.
    """
    alt = load_altair()
    upright = len(across[1]) == len(SETS)
    letters = max(len(name) for name in (*(str(cell[text]) for cell in cells), *(() if upright else across[1]), ""))
    base = alt.Chart(values_of(cells)).encode(
        x=alt.X(across[0], type="nominal", title=across[2], scale=alt.Scale(domain=list(across[1])),
                axis=alt.Axis(labelAngle=-90 if upright else 0, labelOverlap=False)),
        y=alt.Y(down[0], type="nominal", title=down[2], scale=alt.Scale(domain=list(down[1])),
                axis=alt.Axis(labelExpr=SHORTENED)),
        tooltip=[alt.Tooltip(down[0], type="nominal", title=down[2]),
                 alt.Tooltip(across[0], type="nominal", title=across[2]),
                 alt.Tooltip(text, type="nominal"), alt.Tooltip("share", type="quantitative", title=legend)],
    )  # fmt: skip
    colour = alt.Color(
        "share", type="quantitative", legend=alt.Legend(title=legend, format=".1f", tickCount=3, orient="bottom"),
        # Dark for much, and not as dark as a dark page.
        scale=alt.Scale(scheme=alt.SchemeParams(name=SHADES, extent=[0.1, 1]), domain=list(domain), reverse=True),
    )  # fmt: skip
    cell = base.mark_rect().encode(color=colour)
    ink = alt.condition(alt.datum["share"] > white_above, alt.value("white"), alt.value("black"))
    said = base.mark_text().encode(text=alt.Text(text, type="nominal"), color=ink)
    wide, high = max(len(across[1]) * max(_STEP, _LETTER * letters), 150), max(len(down[1]) * _STEP, 150)
    return spec_of((cell + said).properties(width=wide, height=high))


def draw_common_errors(run: Contents) -> Chart | None:
    """Return the correlation of the systems' errors; None for fewer than two systems."""
    systems = [system for system in run.systems if system.ids == run.systems[0].ids]
    if len(systems) < 2:
        return None
    correlations = correlate_errors([system.right_presence for system in systems])
    numbers = [str(k + 1) for k in range(len(systems))]
    names = [f"{number} {system.name}" for number, system in zip(numbers, systems, strict=True)]
    cells = [
        {"first": names[i], "second": numbers[j], "r": short(value, 2), "share": round(value, 3)}
        for i in range(len(names)) for j in range(len(names))
        if i != j and np.isfinite(value := float(correlations[i, j]))
    ]  # fmt: skip
    return Chart(
        file_name("error-correlation", run.folder.name),
        "Which systems err on the same clips",
        "Correlation (phi) of wrong sets of emotions between two systems over clips: 0 where errors have nothing to do "
        f"with each other, 1 where they are the same. Fusions gain most from systems with low values. {OUT_OF_FOLD}",
        _shaded(cells, ("second", numbers, "system"), ("first", names, ""), "r", "correlation", (0, 1), 0.5),
        ("system", *names),
        tuple(
            (name, *(short(float(r), 2) if np.isfinite(r) else "" for r in row))
            for name, row in zip(names, correlations, strict=True)
        ),
    )


def correlate_errors(right: Sequence[NDArray[np.bool_]]) -> FloatArray:
    """Return the correlation of errors, float64 (S, S); NaN for a system that is always right or always wrong."""
    wrong = ~np.array(right)
    centred = wrong - wrong.mean(axis=1, keepdims=True)
    lengths = np.sqrt((centred**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: FloatArray = centred @ centred.T / np.outer(lengths, lengths)
    return found
