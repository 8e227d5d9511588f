"""Finished runs that were never carried out, of any size: contents as `blemore_pages.contents` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.decoding.strategies import make_sample
from blemore_harness.disk import digest_of
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.grid import Choice
from blemore_harness.protocol.thresholds import choose_on_others, choose_per_fold, summarise
from blemore_harness.record.scores import Drop, FoldChoice, FoldRecord, Intervals, Mean, Means, Sensitivity, Spread
from blemore_harness.record.types import Record
from blemore_harness.scoring.intervals import count_actors, find_intervals
from blemore_harness.scoring.reading import LoadedSystem
from blemore_harness.scoring.sensitivity import measure_sensitivity
from blemore_pages.contents import Contents, SystemContents
from builders import EMOTIONS, Row, blend, label_of, rows_of, single
from sample_records import sample_record, sample_system


def challenge_rows(actors: int = 47, each: int = 65) -> list[Row]:
    """Rows as many as the challenge has: 3,055 clips of 47 actors, in five folds."""
    pairs = [(one, two) for k, one in enumerate(EMOTIONS[:5]) for two in EMOTIONS[k + 1 : 5]]
    rows = []
    for a in range(actors):
        mine = [single(f"A{100 + a}", name, k) for k in range(1, 5) for name in EMOTIONS[:5]]
        mine += [blend(f"A{100 + a}", *pair, shares) for pair in pairs for shares in ((50, 50), (70, 30), (30, 70))]
        mine += [blend(f"A{100 + a}", *pair, version="2") | {"filename": f"A{100 + a}_mix_{'_'.join(pair)}_50_50_ver2"}
                 for pair in pairs]  # fmt: skip
        mine += [single(f"A{100 + a}", "neu", k) for k in range(1, 6)]
        rows += [row | {"fold": str(a % 5)} for row in mine[:each]]
    return rows


def answer(rows: Sequence[Row], skill: float, seed: int) -> FloatArray:
    """Probabilities that know the truth as well as `skill` says: 0 nothing."""
    truth = np.array([label_of(row) for row in rows], dtype=np.float64) / 100
    noise = np.random.default_rng(seed).dirichlet(np.full(6, 0.7), len(rows))
    values = skill * truth + (1 - skill) * noise
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def finished_run(
    folder: Path, systems: Mapping[str, FloatArray], rows: Sequence[Row] | None = None, **changes: Any
) -> Contents:
    """A run whose systems gave these probabilities for the clips of these rows; `changes` are to the record."""
    rows = rows_of(6, 3) if rows is None else rows
    order = sorted(range(len(rows)), key=lambda k: rows[k]["filename"])
    loaded = [_load(folder, name, values, [rows[k] for k in order], order) for name, values in systems.items()]
    blends = sum(row["mix"] == "1" for row in rows)
    base = sample_record(*(system for _, system in loaded), test=None)
    facts = replace(base.data, clips=len(rows), blends=blends, actors=len({row["video_id"] for row in rows}))
    record: Record = replace(base, **({"data": facts} | changes))
    return Contents(folder, record, tuple(_describe(replace(each, record=record), facts) for each, facts in loaded), ())


def _load(folder: Path, name: str, values: FloatArray, rows: Sequence[Row], order: Sequence[int]) -> Any:
    ids = tuple(row["filename"] for row in rows)
    truth = np.array([label_of(row) for row in rows], dtype=np.int8)
    folds = np.array([int(row["fold"]) for row in rows])
    actors = tuple(row["video_id"] for row in rows)
    groups = np.unique(actors, return_inverse=True)[1].astype(np.int64)
    sample = make_sample(values[list(order)], truth, folds, groups)
    grids = sample.grids.per_fold()
    official, cross_fitted = choose_per_fold(grids), choose_on_others(grids)
    record = sample_system(
        name, digest=digest_of([name, str(folder)], 16), official=_means(official), cross_fitted=_means(cross_fitted),
        folds=tuple(
            FoldRecord(fold, int((folds == fold).sum()), _choice(official[fold]), _choice(choice), 0, 1.0, ())
            for fold, choice in cross_fitted.items()
        ),
    )  # fmt: skip
    loaded = LoadedSystem(folder.name, name, ids, sample, None, actors, ("",) * len(ids), sample_record())
    answers = loaded.answers("other-folds")
    found = find_intervals(count_actors(truth, answers.labels, folds, actors))
    measured = measure_sensitivity(grids)
    drop = record.official.score.mean - record.cross_fitted.score.mean
    sensitivity = Sensitivity(
        Spread(**measured["alpha"]), Spread(**measured["beta"]), measured["transfer_loss"], Drop(drop, None)
    )
    intervals = None if found is None else Intervals(**{key: (ends[0], ends[1]) for key, ends in found.items()})
    return loaded, replace(record, intervals=intervals, sensitivity=sensitivity)


def _describe(loaded: LoadedSystem, record: Any) -> SystemContents:
    answers, sample = loaded.answers("other-folds"), loaded.sample
    return SystemContents(
        name=loaded.name, record=record, ids=loaded.ids, actors=loaded.actors, folds=sample.folds, truth=sample.truth,
        probabilities=sample.values, labels=answers.labels, answers=answers, grids=sample.grids.per_fold(), test=None,
        curves=(), loaded=loaded,
    )  # fmt: skip


def _means(choices: Mapping[int, Choice]) -> Means:
    found = summarise(choice.scores for choice in choices.values())
    return Means(**{name: Mean(**value) for name, value in found.items()})


def _choice(choice: Choice) -> FoldChoice:
    thresholds, scores = choice.thresholds, choice.scores
    return FoldChoice(thresholds.alpha, thresholds.beta, scores.presence, scores.salience, scores.score)
