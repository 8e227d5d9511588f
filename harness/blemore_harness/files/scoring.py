"""Files of probabilities or decoded labels, read for exactly the clips whose true labels are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemore_harness.clips import LabelArray
from blemore_harness.data.download import TEST_ID, Dataset
from blemore_harness.data.metadata import read_metadata
from blemore_harness.errors import ConfigError, InvalidPredictions, InvalidProbabilities, first_and_count
from blemore_harness.files.leaderboard import read_upload
from blemore_harness.files.prediction_files import read_predictions, read_probabilities
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.rules import Scores, decode, score
from blemore_harness.protocol.thresholds import search_official

PROBABILITIES = (".csv", ".npz")
"""File types of probabilities."""

ENDINGS = (*PROBABILITIES, ".json", ".zip")
"""File types that can be scored."""

DEMO_MARK = "demo: generated clips"
"""Caveat of every number on the demo dataset."""


@dataclass(frozen=True)
class Reference:
    """True labels by which files are scored.

    Attributes:
        ids: clip ids (N).
        truth: int8 (N, 6) percentages.
        actors: per clip; empty where they are not known.
        where: what the clips are, for messages.
        caveat: of every number; empty for none.
        folds: clips of each fold of the dataset that the labels are of; empty for labels of a file.
    """

    ids: tuple[str, ...]
    truth: LabelArray
    actors: tuple[str, ...]
    where: str
    caveat: str = ""
    folds: tuple[frozenset[str], ...] = ()

    @property
    def blends(self) -> int:
        """How many of the clips are blends."""
        return int(((self.truth > 0).sum(axis=1) == 2).sum())


@dataclass(frozen=True)
class Decoded:
    """What a file says of the clips of a reference.

    Attributes:
        labels: int8 (N, 6) percentages, in the order of the reference.
        scores: the official accuracies.
        alpha, beta: thresholds that decoded probabilities; None for decoded labels.
        chosen: whether they were chosen on these very clips.
        best_presence, best_salience: maximum of each accuracy over the official grid, or the accuracies of labels.
    """

    labels: LabelArray
    scores: Scores
    alpha: float | None
    beta: float | None
    chosen: bool
    best_presence: float
    best_salience: float


def read_reference(path: Path) -> Reference:
    """Read true labels from a table in the format of `train_metadata.csv`, such as those of the test clips.

    Without the column `video_id`, or with an empty one, actors are not known. Folds are ignored.

    Raises:
        MetadataError: as of `data.metadata.read_metadata`; the message names the file.
    """
    rows = read_metadata(path, reference=True)
    return Reference(rows.ids, rows.truth, rows.actors, path.name)


def take_reference(dataset: Dataset, fold: int | None = None) -> Reference:
    """Return the labels of all training clips of a dataset, or of those of one fold.

    Raises:
        ConfigError: a fold that the dataset does not have.
    """
    if fold is not None and fold not in dataset.fold_numbers:
        raise ConfigError(f"unknown fold {fold}: the dataset has folds {', '.join(map(str, dataset.fold_numbers))}")
    wanted = np.ones(len(dataset.ids), dtype=bool) if fold is None else dataset.folds == fold
    ids, actors = (
        tuple(text for text, take in zip(texts, wanted, strict=True) if take) for texts in (dataset.ids, dataset.actors)
    )
    folds = tuple(
        frozenset(name for name, other in zip(dataset.ids, dataset.folds, strict=True) if other == number)
        for number in dataset.fold_numbers
    )
    where = f"{'the training clips' if fold is None else f'fold {fold}'} in {dataset.root}"
    return Reference(ids, dataset.truth[wanted], actors, where, DEMO_MARK if dataset.demo else "", folds)


def decode_file(path: Path, reference: Reference, alpha: float | None = None, beta: float | None = None) -> Decoded:
    """Read what a file says of exactly the clips of a reference, and score it by the official protocol.

    Args:
        path, reference: as of `read_answers`.
        alpha, beta: thresholds that decode probabilities; if both are None, the best ones on the official grid for
            these clips (in-sample, optimistic).

    Raises:
        BlemoreError: as of `read_answers`; also thresholds for decoded labels.
    """
    if (alpha is None) != (beta is None):
        raise ConfigError("expected both --alpha and --beta, or neither to choose them on the official grid")
    values, labels = read_answers(path, reference)
    if labels is not None:
        if alpha is not None:
            raise ConfigError(f"{path.name} holds decoded labels: --alpha and --beta apply to probabilities only")
        scores = score(reference.truth, labels)
        return Decoded(labels, scores, None, None, False, scores.presence, scores.salience)
    assert values is not None
    choice = search_official(values, reference.truth)
    chosen = alpha is None or beta is None
    if alpha is None or beta is None:
        alpha, beta = choice.thresholds.alpha, choice.thresholds.beta
    labels = decode(values, alpha, beta)
    scores = score(reference.truth, labels)
    return Decoded(labels, scores, alpha, beta, chosen, choice.best_presence, choice.best_salience)


def read_answers(path: Path, reference: Reference) -> tuple[FloatArray | None, LabelArray | None]:
    """Read a file that holds exactly the clips of a reference.

    Args:
        path: `.csv` or `.npz` of probabilities, `.json` of decoded labels in the submission format, or `.zip` with such
            a file inside, at any depth.
        reference: the true labels.

    Returns:
        Probabilities float64 (N, 6) and None, or None and labels int8 (N, 6), in the order of the reference.

    Raises:
        BlemoreError: an unreadable file, invalid predictions, or not exactly the expected clips.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ConfigError(
            f"unsupported file type of {path.name or path}: expected probabilities as .csv or .npz, or decoded labels "
            "as .json or .zip"
        )
    if ending in PROBABILITIES:
        rows = read_probabilities(path)
        _check_ids(rows.ids, reference)
        return rows.aligned(reference.ids).values, None
    names, labels = read_predictions(path) if ending == ".json" else read_upload(path)
    _check_ids(names, reference)
    position = {name: i for i, name in enumerate(names)}
    return None, labels[[position[name] for name in reference.ids]]


def _check_ids(found: tuple[str, ...], reference: Reference) -> None:
    """Raise unless the clips are exactly the expected ones; the message names a fold that matches."""
    given, wanted = set(found), set(reference.ids)
    if given == wanted:
        return
    if reference.folds and any(TEST_ID.fullmatch(name) for name in found):
        raise InvalidPredictions(
            "the labels of the test clips are not public: only Codabench can score them, or whoever has the labels, "
            "with --reference FILE"
        )
    for number, clips in enumerate(reference.folds):
        if given == clips:
            raise InvalidProbabilities(
                f"found exactly the {len(clips)} clips of fold {number}: score them with --fold {number}"
            )
    missing = [name for name in reference.ids if name not in given]
    unknown = sorted(given - wanted)
    raise InvalidProbabilities(
        f"expected exactly the {len(wanted)} clips of {reference.where}: "
        f"missing {first_and_count(missing, 'clip')}, unknown {first_and_count(unknown, 'clip')}"
    )
