"""Finished systems read back: their out-of-fold rows by digest, joined with labels, folds and actors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.data.download import Dataset
from blemore_harness.decoding.strategies import STRATEGIES, Sample, decode_folds, make_sample
from blemore_harness.errors import DataError, RunError, UnknownName, first_and_count
from blemore_harness.files.runs import Runs, SystemFolder, folder_name, read_record
from blemore_harness.predictions import FloatArray, Probabilities
from blemore_harness.protocol.thresholds import choose_on_others, summarise
from blemore_harness.record.types import DataFacts, FinishedSystem, Record
from blemore_harness.scoring.breakdown import Answers
from blemore_harness.scoring.published import MEASURES
from blemore_harness.systems.datasets import read_data


@dataclass(frozen=True)
class LoadedSystem:
    """One system of a finished run, clips in the order of their real ids.

    Attributes:
        run: name of the run's folder.
        name: the system's name.
        ids: real clip ids (N).
        sample: out-of-fold rows, truth, folds and actor numbers.
        refitted: float64 (N, 6), the final fit's rows of the same clips; None for an encoder.
        actors, genders: per clip; empty genders where the metadata has none.
        record: of the run.
        test: the final fit's rows of the test clips, ids sorted; None for a run without test clips, or where a
            later run made the final fit again for others.
    """

    run: str
    name: str
    ids: tuple[str, ...]
    sample: Sample
    refitted: FloatArray | None
    actors: tuple[str, ...]
    genders: tuple[str, ...]
    record: Record
    test: Probabilities | None = None

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


def load_system(runs: Path, run: str, system: str | None = None, data: Path | None = None) -> LoadedSystem:
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
    record = read_record(folder)
    return _load(folder, record, _find_system(record, folder.name, system), _read_labels(record, data))


def load_run(runs: Path, run: str, data: Path | None = None) -> tuple[LoadedSystem, ...]:
    """Load all scored systems of a run, in the order of its record; arguments and errors as of `load_system`."""
    folder = Runs(runs).find(run)
    record = read_record(folder)
    _find_system(record, folder.name, record.finished[-1].name if record.finished else None)
    dataset = _read_labels(record, data)
    return tuple(_load(folder, record, system, dataset) for system in record.finished)


def _load(folder: Path, record: Record, found: FinishedSystem, dataset: Dataset) -> LoadedSystem:
    name = found.name
    # The rows lie beside the run, wherever the run was found.
    home = SystemFolder(folder.parent / "systems" / folder_name(name, found.digest))
    rows: dict[str, Any] = {}
    folds: dict[str, int] = {}
    for fold in (each.fold for each in found.folds):
        result = home.finished(f"fold-{fold}")
        if result is None:
            raise RunError(f"fold {fold} of {name} is gone from {home.path}: give the command of the run again")
        rows |= dict(zip(result.probabilities.ids, result.probabilities.values, strict=True))
        folds |= dict.fromkeys(result.probabilities.ids, fold)
    ids = tuple(sorted(rows))
    final = home.finished("final")
    again = {} if final is None else dict(zip(final.probabilities.ids, final.probabilities.values, strict=True))
    truth, actors, genders = _labels_of(ids, dataset)
    groups = np.unique(actors, return_inverse=True)[1].astype(np.int64)
    values = np.array([rows[clip] for clip in ids])
    sample = make_sample(values, truth, np.array([folds[clip] for clip in ids]), groups)
    refitted = np.array([again[clip] for clip in ids]) if all(clip in again for clip in ids) else None
    _check_scores(sample, found.cross_fitted.ranked.mean, f"{name} in {folder.name}")
    others = sorted(again.keys() - rows.keys())
    test = None
    if others and len(others) == record.data.test_clips:
        test = Probabilities(tuple(others), np.array([again[clip] for clip in others]))
    return LoadedSystem(folder.name, name, ids, sample, refitted, actors, genders, record, test)


def check_same_clips(first: LoadedSystem, second: LoadedSystem) -> None:
    """Refuse two systems whose numbers are not of the same clips in the same folds.

    Raises:
        RunError: naming what differs.
    """
    one, two = first.record.data, second.record.data
    if one.digest != two.digest or first.ids != second.ids:
        raise RunError(
            "only systems on the same dataset and folds can be compared: "
            f"{first.run} is on {_describe(one)}, {second.run} on {_describe(two)}"
        )
    moved = [name for name, a, b in zip(first.ids, first.sample.folds, second.sample.folds, strict=True) if a != b]
    if moved:
        raise RunError(f"both runs must use the same folds, found {first_and_count(moved, 'clip')} in another fold")


def _describe(data: DataFacts) -> str:
    kind = "the demo dataset" if data.demo else "a dataset"
    return f"{kind} of {data.clips} clips and {data.folds} folds (digest {data.digest}, {data.root})"


def _find_system(record: Record, run: str, name: str | None) -> FinishedSystem:
    if not record.systems:
        raise RunError(f"{run} has no finished system (status: {record.status}): run the same command again")
    known = {system.name: system for system in record.systems}
    if name is not None and name not in known:
        raise UnknownName.among(f"system of {run}", name, known)
    found = record.systems[-1] if name is None else known[name]
    if not isinstance(found, FinishedSystem):
        raise RunError(f"{found.name} in {run} is {found.status}: run the same command again, or choose with --system")
    return found


def _read_labels(record: Record, data: Path | None) -> Dataset:
    root = data or Path(record.data.root)
    try:
        return read_data(root)
    except DataError as error:
        raise DataError(f"{error}; the run's labels are needed: name its dataset with --data") from error


def _labels_of(ids: Sequence[str], dataset: Dataset) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
    index = {name: k for k, name in enumerate(dataset.ids)}
    missing = [name for name in ids if name not in index]
    if missing:
        raise DataError(
            f"no labels in {dataset.root} for {first_and_count(missing, 'clip')} of the run: is this its dataset?"
        )
    order = [index[name] for name in ids]
    return dataset.truth[order], tuple(dataset.actors[k] for k in order), tuple(dataset.genders[k] for k in order)


def _check_scores(sample: Sample, said: float, which: str) -> None:
    """Refuse labels that are not those of the run: the same rows must score what the record says."""
    choices = choose_on_others(sample.grids.per_fold())
    blends = (sample.truth > 0).sum(axis=1) == 2
    measure = "score" if blends.any() else "acc_presence"
    found = summarise(choice.scores for choice in choices.values())[measure]["mean"]
    if abs(found - said) > 1e-9:
        raise RunError(
            f"{which} has a cross-fitted {MEASURES[measure]} of {said:.4f}, and with the labels read now "
            f"{found:.4f}: the dataset changed since, or --data names another one"
        )
