"""What pages, charts and tables show of a finished run, read from its record and its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import LabelArray
from blemore_harness.decoding.strategies import STRATEGIES
from blemore_harness.files.leaderboard import read_submission
from blemore_harness.files.runs import Runs
from blemore_harness.predictions import FloatArray, Probabilities
from blemore_harness.protocol.grid import GridScores
from blemore_harness.record.folds import Curve
from blemore_harness.record.types import FinishedSystem, Record
from blemore_harness.scoring.analysis import DEFAULT_STRATEGY
from blemore_harness.scoring.breakdown import Answers
from blemore_harness.scoring.reading import LoadedSystem, load_run, load_system

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class TestContents:
    """Predictions of one system for the test clips.

    Attributes:
        probabilities: of the final fit, ids sorted.
        labels: int8 (M, 6) percentages: those of the leaderboard file for the system that it was written for, else
            decoded with the thresholds of all training clips.
        thresholds: threshold strategy behind the labels.
    """

    __test__ = False  # no test case, whatever pytest makes of its name

    probabilities: Probabilities
    labels: LabelArray
    thresholds: str


@dataclass(frozen=True)
class SystemContents:
    """One scored system of a run; arrays in the order of `ids`.

    Attributes:
        name: the system's name.
        record: its part of the record.
        ids: real ids of the training clips, sorted (N).
        actors: per clip.
        folds: int64 (N,), the fold that holds the clip out.
        truth: int8 (N, 6) percentages.
        probabilities: float64 (N, 6), out of fold.
        labels: int8 (N, 6) percentages, decoded with the thresholds of the other folds.
        thresholds: name of that threshold strategy.
        answers: truth, labels, folds and actors for the core's breakdowns; `present` and `exact` say what is right.
        grids: right answers at every pair of thresholds, by fold, on out-of-fold probabilities.
        test: the test clips; None where there are no predictions of any.
        curves: training curves that the plugin noted.
        loaded: the system as the core reads it back, for comparisons.
    """

    name: str
    record: FinishedSystem
    ids: tuple[str, ...]
    actors: tuple[str, ...]
    folds: NDArray[np.int64]
    truth: LabelArray
    probabilities: FloatArray
    labels: LabelArray
    answers: Answers
    grids: Mapping[int, GridScores]
    test: TestContents | None
    curves: tuple[Curve, ...]
    loaded: LoadedSystem
    thresholds: str = DEFAULT_STRATEGY

    @property
    def blends(self) -> BoolArray:
        """Bool (N,): true blends."""
        return self.answers.blends

    @property
    def right_presence(self) -> BoolArray:
        """Bool (N,): the set of emotions is right."""
        return self.answers.present

    @property
    def right_salience(self) -> BoolArray:
        """Bool (N,): a true blend, and emotions and saliences are right."""
        return self.answers.exact


@dataclass(frozen=True)
class Contents:
    """A finished run.

    Attributes:
        folder: of the run.
        record: of the run.
        systems: the scored ones, in the order of the record.
        warnings: what could not be read back.
    """

    folder: Path
    record: Record
    systems: tuple[SystemContents, ...]
    warnings: tuple[str, ...]

    def system(self, name: str) -> SystemContents:
        """Return a system by its name; `StopIteration` for one that the run does not have."""
        return next(system for system in self.systems if system.name == name)


def read_contents(runs: Path, run: str, data: Path | None = None) -> Contents:
    """Read a finished run with all its scored systems.

    Args:
        runs: root of all runs.
        run: as users name it.
        data: the dataset; None takes the folder that the record names.

    Raises:
        RunError: no such run, no finished system, predictions that are gone, damaged, or not of these labels.
        DataError: no dataset there, or one without some of the clips.
    """
    folder = Runs(runs).find(run)
    loaded = load_run(runs, str(folder), data)
    record = loaded[0].record
    lost = [system.name for system in loaded if system.test is None] if record.data.test_clips else []
    warnings = [f"no predictions of {name} for the run's test clips: a later run has others" for name in lost]
    return Contents(folder, record, tuple(_read_system(folder, system) for system in loaded), tuple(warnings))


def read_system(runs: Path, run: str, system: str | None = None, data: Path | None = None) -> SystemContents:
    """Read one scored system of a finished run.

    Args:
        system: its name; None takes the last one of the run.

    Raises:
        UnknownName: a system that the run does not have. Others as of `read_contents`.
    """
    folder = Runs(runs).find(run)
    return _read_system(folder, load_system(runs, str(folder), system, data))


def _read_system(folder: Path, loaded: LoadedSystem) -> SystemContents:
    answers = loaded.answers(DEFAULT_STRATEGY)
    sample = loaded.sample
    facts = next(found for found in loaded.record.finished if found.name == loaded.name)
    return SystemContents(
        loaded.name, facts, loaded.ids, loaded.actors, sample.folds, sample.truth, sample.values, answers.labels,
        answers, sample.grids.per_fold(), _read_test(folder, loaded), facts.curves, loaded,
    )  # fmt: skip


def _read_test(folder: Path, loaded: LoadedSystem) -> TestContents | None:
    if loaded.test is None:
        return None
    test = loaded.record.test
    if test is not None and test.system == loaded.name:
        written = read_submission(folder / Path(test.file).name)
        labels = np.array([written[clip] for clip in loaded.test.ids], dtype=np.int8)
        return TestContents(loaded.test, labels, test.strategy)
    decoder = STRATEGIES[DEFAULT_STRATEGY].learn(loaded.sample)
    return TestContents(loaded.test, decoder.decode(loaded.test.values, None), DEFAULT_STRATEGY)
