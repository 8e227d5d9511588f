"""Scores and comparisons in Python, of runs, files and frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from blemore_harness.api.opening import data_folder, open_labels, runs_folder
from blemore_harness.api.reporting import open_reporter
from blemore_harness.clips import EMOTIONS
from blemore_harness.context import Reporter
from blemore_harness.data.download import Dataset
from blemore_harness.errors import ConfigError, InvalidProbabilities, first_and_count
from blemore_harness.files.prediction_files import write_probabilities
from blemore_harness.files.runs import RECORD_FILE
from blemore_harness.files.scoring import ENDINGS, Reference, read_reference, take_reference
from blemore_harness.predictions import Probabilities
from blemore_harness.record.types import Record
from blemore_harness.scoring.ranking import score_file

if TYPE_CHECKING:
    import pandas as pd

    from blemore_harness.api.run import Run

IDS = ("filename", "clip", "clip_id")
"""Columns of a frame that may hold clip ids; without one of them its index does."""


def score(
    probabilities: pd.DataFrame | Probabilities | str | Path,
    data: str | Path | Dataset | None = None,
    *,
    reference: str | Path | None = None,
    fold: int | None = None,
    alpha: float | None = None,
    beta: float | None = None,
) -> dict[str, Any]:
    """Score predictions by the official protocol.

    Args:
        probabilities: of exactly the training clips, or those of one fold: a frame with a column per emotion and clip
            ids in a column `filename` or `clip`, or as its index (of one that `Run.predictions` returns the training
            clips count); `Probabilities`; or a file of probabilities or decoded labels.
        data: whose labels: a folder, or a dataset; None takes `BLEMORE_DATA`, else the demo dataset if it was made.
        reference: labels of a file in the format of `train_metadata.csv` in place of `data`.
        fold: score the clips of this fold.
        alpha, beta: thresholds; None for both takes the best on the official grid for these clips (in-sample).

    Returns:
        JSON types, as of `scoring.ranking.score_file`: acc_presence, acc_salience, score, their `intervals` over
        actors, alpha, beta, and whether these were `chosen` on the scored clips.

    Raises:
        BlemoreError: no probabilities, or not of exactly these clips.

    >>> dataset = bh.load_dataset("data")
    >>> anger = bh.Probabilities(dataset.ids, [[1, 0, 0, 0, 0, 0]] * len(dataset.ids))
    >>> bh.score(anger, dataset)["acc_presence"]
    0.1
    """
    labels = open_reference(data, reference, fold, open_reporter())
    with _as_file(probabilities) as path:
        return score_file(path, labels, alpha, beta)


def compare(
    first: Run | str | Path | pd.DataFrame | Probabilities,
    second: Run | str | Path | pd.DataFrame | Probabilities | None = None,
    *,
    system: str | None = None,
    second_system: str | None = None,
    thresholds: str = "other-folds",
    data: str | Path | Dataset | None = None,
    reference: str | Path | None = None,
    runs: str | Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Test whether two systems differ significantly.

    Args:
        first, second: runs (or their names), or predictions as of `score`; without `second`, two systems of one run.
        system: of the first run; None takes its last one.
        second_system: of the second run; None takes `system`.
        thresholds: threshold strategy of both.
        data, reference: whose labels, as of `score`; of a run by default those of its own dataset.
        runs: where runs are kept.
        reporter: shows warnings; None logs them.

    Returns:
        JSON types, as of `scoring.analysis.compare_systems`: the difference of each measure with its 95 % interval
        over actors and the p of a permutation test by actor, and a `sentence`.

    Raises:
        BlemoreError: other clips or folds, no such run or system, nothing to compare with.

    >>> run = bh.run(plugins=["trivial-single", "trivial-blend"], fusion="mean", data="data", device="cpu")
    >>> found = bh.compare(run, system="trivial-blend", second_system="trivial-single")
    >>> round(found["differences"]["acc_presence"]["difference"], 3)
    0.2
    """
    from blemore_harness.scoring.analysis import compare_systems
    from blemore_harness.scoring.loaded_files import labels_of, load_file
    from blemore_harness.scoring.reading import load_system

    if second is None and second_system is None:
        raise ConfigError("expected a second run or file, or second_system for another system of the first run")
    both = (first, first if second is None else second)
    if reference is not None:
        run = next((each for each in both if is_run(each)), None)
        if run is not None:
            raise ConfigError(
                f"a reference is for files: '{_name_of(run)}' is a run, compare its submission.zip instead"
            )
    root = runs_folder(runs)
    folder = data.root if isinstance(data, Dataset) else None if data is None else Path(data)
    loaded = [
        load_system(root, _name_of(each), chosen, folder) if is_run(each) else None
        for each, chosen in zip(both, (system, second_system or system), strict=True)
    ]
    run_of_both = loaded[0] or loaded[1]
    labels = (
        open_reference(data, reference, None, reporter or open_reporter())
        if run_of_both is None
        else labels_of(run_of_both)
    )
    found = []
    for each, name in zip(loaded, both, strict=True):
        if each is not None:
            found.append(each)
        else:
            with _as_file(name) as path:
                found.append(load_file(path, labels))  # type: ignore[arg-type]
    return compare_systems(found[0], found[1], thresholds)


def open_reference(
    data: str | Path | Dataset | None, reference: str | Path | None, fold: int | None, reporter: Reporter
) -> Reference:
    """Return the labels to score by: those of a file, else those of a dataset or of one of its folds.

    Raises:
        ConfigError: a file and a fold, or a fold that the dataset does not have.
        BlemoreError: labels that cannot be read.
    """
    if reference is None:
        return take_reference(data if isinstance(data, Dataset) else open_labels(data_folder(data), reporter), fold)
    if fold is not None:
        raise ConfigError("a fold is one of the dataset: leave it out with a reference file")
    return read_reference(Path(reference))


def is_run(given: object) -> bool:
    """Return whether an argument names a run, and not predictions."""
    if isinstance(given, str | Path):
        return Path(given).suffix.lower() not in ENDINGS or Path(given).name == RECORD_FILE
    return not isinstance(given, Probabilities) and isinstance(getattr(given, "record", None), Record)


def _name_of(given: object) -> str:
    return str(getattr(given, "folder", given))


@contextmanager
def _as_file(given: object) -> Iterator[Path]:
    """Return the file of predictions; those in memory become one, which holds them bit for bit."""
    if isinstance(given, str | Path):
        yield Path(given)
        return
    with TemporaryDirectory(prefix="blemore-score-") as folder:
        path = Path(folder) / "probabilities.csv"
        write_probabilities(path, given if isinstance(given, Probabilities) else _read_frame(given))
        yield path


def _read_frame(frame: Any) -> Probabilities:
    """Return the probabilities in a frame.

    Raises:
        InvalidProbabilities: no frame, or one without a column per emotion.
    """
    if not hasattr(frame, "columns") or not hasattr(frame, "index"):
        raise InvalidProbabilities(
            f"expected a frame, Probabilities or the path of a file, found {type(frame).__name__}"
        )
    missing = [name for name in EMOTIONS if name not in frame.columns]
    if missing:
        raise InvalidProbabilities(
            f"expected a column for each of {', '.join(EMOTIONS)}; missing {first_and_count(missing, 'column')}"
        )
    if "part" in frame.columns:
        frame = frame[frame["part"] == "train"]
    names = next((frame[column] for column in IDS if column in frame.columns), frame.index)
    return Probabilities(tuple(map(str, names)), frame[list(EMOTIONS)].to_numpy(dtype=np.float64))
