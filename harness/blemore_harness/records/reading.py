"""Finished systems read back: their out-of-fold rows by digest, joined with labels, folds and actors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.data.download import read_dataset
from blemore_harness.decoding.strategies import STRATEGIES, Sample, decode_folds, make_sample
from blemore_harness.disk import read_json
from blemore_harness.errors import DataError, HarnessError, RunError, UnknownName, first_and_count
from blemore_harness.files.runs import RECORD_FILE, RECORD_SCHEMA, Runs, SystemFolder, folder_name
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.thresholds import choose_on_others, summarise
from blemore_harness.scoring.breakdown import Answers


@dataclass(frozen=True)
class FinishedSystem:
    """One system of a finished run, clips in the order of their real ids.

    Attributes:
        run: name of the run's folder.
        name: the system's name.
        ids: real clip ids (N).
        sample: out-of-fold rows, truth, folds and actor numbers.
        refitted: float64 (N, 6), the final fit's rows of the same clips; None for an encoder.
        actors, genders: per clip; empty genders where the metadata has none.
        record: of the run.
    """

    run: str
    name: str
    ids: tuple[str, ...]
    sample: Sample
    refitted: FloatArray | None
    actors: tuple[str, ...]
    genders: tuple[str, ...]
    record: Mapping[str, Any]

    def answers(self, strategy: str) -> Answers:
        """Decode by a named strategy; one that sees the scored fold gets a fusion's final rows, as in the papers.

        Raises:
            UnknownName: nobody knows the strategy.
        """
        if strategy not in STRATEGIES:
            raise UnknownName.among("threshold strategy", strategy, STRATEGIES)
        found, sample = STRATEGIES[strategy], self.sample
        if found.sees != "others" and self.refitted is not None:
            sample = make_sample(self.refitted, sample.truth, sample.folds, sample.groups)
        return Answers(sample.truth, decode_folds(found, sample), sample.folds, self.actors, self.genders)


@contextlib.contextmanager
def reading_record(run: Path) -> Iterator[dict[str, Any]]:
    """Return the record of a run to a block that reads it.

    Raises:
        RunError: a damaged record, one by another version of the harness, or one on whose contents the block stumbles.
    """
    path = run / RECORD_FILE
    advice = "give the command of the run again to have it written anew"
    record = read_json(path)
    if record.get("schema") != RECORD_SCHEMA:
        raise RunError(
            f"{path} was written by another version of the harness (schema {str(record.get('schema'))[:20]}, and this "
            f"one reads {RECORD_SCHEMA}): {advice}"
        )
    try:
        yield record
    except (HarnessError, OSError):
        raise
    except Exception as error:  # whatever a missing key or a value of another kind makes readers stumble over
        found = f"{type(error).__name__}: {error}"[:160]
        raise RunError(f"{path} is not a record as the harness writes it ({found}): {advice}") from error


def load_system(runs: Path, run: str, system: str | None = None, data: Path | None = None) -> FinishedSystem:
    """Load a system of a run.

    Args:
        runs: root of all runs.
        run: as users name it (`Runs.find`).
        system: name of the system; None takes the last one of the run.
        data: the dataset; None takes the folder that the record names.

    Raises:
        RunError: no such run, an unfinished system, rows that are gone or damaged, or labels with which the rows do not
            score what the record says.
        UnknownName: a system that the run does not have.
        DataError: no dataset there, or one without some of the clips.
    """
    folder = Runs(runs).find(run)
    with reading_record(folder) as record:
        row = _find_row(record, folder.name, system)
        name, said, numbers = (
            row["name"],
            float(row["cross_fitted"]["score"]["mean"]),
            [f["fold"] for f in row["folds"]],
        )
        # The rows lie beside the run, wherever the run was found.
        home = SystemFolder(folder.parent / "systems" / folder_name(name, row["digest"]))
        root = data or Path(record["data"]["root"])
        _describe(record["data"])
    rows: dict[str, Any] = {}
    folds: dict[str, int] = {}
    for fold in numbers:
        result = home.finished(f"fold-{fold}")
        if result is None:
            raise RunError(f"fold {fold} of {name} is gone from {home.path}: give the command of the run again")
        rows |= dict(zip(result.probabilities.ids, result.probabilities.values, strict=True))
        folds |= dict.fromkeys(result.probabilities.ids, int(fold))
    ids = tuple(sorted(rows))
    final = home.finished("final")
    again = {} if final is None else dict(zip(final.probabilities.ids, final.probabilities.values, strict=True))
    truth, actors, genders = _labels_of(ids, root)
    groups = np.unique(actors, return_inverse=True)[1].astype(np.int64)
    values = np.array([rows[clip] for clip in ids])
    sample = make_sample(values, truth, np.array([folds[clip] for clip in ids]), groups)
    refitted = np.array([again[clip] for clip in ids]) if all(clip in again for clip in ids) else None
    _check_scores(sample, said, f"{name} in {folder.name}")
    return FinishedSystem(folder.name, name, ids, sample, refitted, actors, genders, record)


def check_same_clips(first: FinishedSystem, second: FinishedSystem) -> None:
    """Refuse two systems whose numbers are not of the same clips in the same folds.

    Raises:
        RunError: naming what differs.
    """
    one, two = first.record["data"], second.record["data"]
    if one["digest"] != two["digest"] or first.ids != second.ids:
        raise RunError(
            "only systems on the same dataset and folds can be compared: "
            f"{first.run} is on {_describe(one)}, {second.run} on {_describe(two)}"
        )
    moved = [name for name, a, b in zip(first.ids, first.sample.folds, second.sample.folds, strict=True) if a != b]
    if moved:
        raise RunError(f"both runs must use the same folds, found {first_and_count(moved, 'clip')} in another fold")


def _describe(data: Mapping[str, Any]) -> str:
    kind = "the demo dataset" if data["demo"] else "a dataset"
    return f"{kind} of {data['clips']} clips and {data['folds']} folds (digest {data['digest']}, {data['root']})"


def _find_row(record: Mapping[str, Any], run: str, system: str | None) -> Mapping[str, Any]:
    systems: Sequence[Mapping[str, Any]] = record["systems"]
    if not systems:
        raise RunError(f"{run} has no finished system (status: {record['status']}): give its command again")
    if system is not None and system not in [row["name"] for row in systems]:
        raise UnknownName.among(f"system of {run}", system, [row["name"] for row in systems])
    row: Mapping[str, Any] = next(row for row in reversed(systems) if system in (None, row["name"]))
    if row["status"] != "finished":
        raise RunError(f"{row['name']} in {run} is {row['status']}: give the command of the run again, or --system")
    return row


def _labels_of(ids: Sequence[str], root: Path) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
    try:
        dataset = read_dataset(root)
    except DataError as error:
        raise DataError(f"{error}; the run's labels are needed: name its dataset with --data") from error
    index = {name: k for k, name in enumerate(dataset.ids)}
    missing = [name for name in ids if name not in index]
    if missing:
        raise DataError(f"no labels in {root} for {first_and_count(missing, 'clip')} of the run: is this its dataset?")
    order = [index[name] for name in ids]
    return dataset.truth[order], tuple(dataset.actors[k] for k in order), tuple(dataset.genders[k] for k in order)


def _check_scores(sample: Sample, said: float, which: str) -> None:
    """Refuse labels that are not those of the run: the same rows must score what the record says."""
    choices = choose_on_others(sample.grids.per_fold())
    found = summarise(choice.scores for choice in choices.values())["score"]["mean"]
    if abs(found - said) > 1e-9:
        raise RunError(
            f"{which} has a cross-fitted Score of {said:.4f}, and with the labels read now {found:.4f}: "
            "the dataset changed since, or --data names another one"
        )
