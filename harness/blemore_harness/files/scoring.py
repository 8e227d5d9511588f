"""Scores a file of probabilities or decoded labels by the labels of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.clips import LabelArray
from blemore_harness.data.download import TEST_ID, Dataset
from blemore_harness.errors import ConfigError, InvalidPredictions, InvalidProbabilities, first_and_count
from blemore_harness.files.prediction_files import read_predictions, read_probabilities
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.grid import Choice
from blemore_harness.protocol.rules import Scores, decode, score
from blemore_harness.protocol.thresholds import search_official

ENDINGS = (".csv", ".npz", ".json")
"""File types that can be scored."""

DEMO_MARK = "demo: generated clips"
"""Caveat of every number on the demo dataset."""


def score_file(
    path: Path, dataset: Dataset, fold: int | None = None, alpha: float | None = None, beta: float | None = None
) -> dict[str, Any]:
    """Score a file by the official protocol.

    Args:
        path: `.csv` or `.npz` of probabilities, or `.json` of decoded labels in the submission format.
        dataset: the dataset with the labels.
        fold: expect exactly the clips of this fold instead of all training clips.
        alpha, beta: thresholds that decode probabilities; if both are None, the best ones on the official grid for
            these clips (in-sample, optimistic).

    Returns:
        clips, blends, alpha, beta, acc_presence, acc_salience, score, and best_presence and best_salience: the maximum
        of each accuracy over the official grid (equal to the accuracies for decoded labels). On the demo dataset also
        `caveat` as text.

    Raises:
        BlemoreError: an unreadable file, invalid predictions, or not exactly the expected clips.
    """
    if (alpha is None) != (beta is None):
        raise ConfigError("expected both --alpha and --beta, or neither to choose them on the official grid")
    if fold is not None and fold not in dataset.fold_numbers:
        raise ConfigError(f"unknown fold {fold}: the dataset has folds {', '.join(map(str, dataset.fold_numbers))}")
    wanted = np.ones(len(dataset.ids), dtype=bool) if fold is None else dataset.folds == fold
    ids = [name for name, take in zip(dataset.ids, wanted, strict=True) if take]
    truth = dataset.truth[wanted]
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(
            f"unsupported file type of {path.name or path}: expected probabilities as .csv or .npz, or decoded labels "
            "as .json"
        )
    result: dict[str, Any] = {"clips": len(ids), "blends": int(dataset.blends[wanted].sum())}
    if path.suffix.lower() == ".json":
        if alpha is not None:
            raise ConfigError(f"{path.name} holds decoded labels: --alpha and --beta apply to probabilities only")
        names, labels = read_predictions(path)
        _check_ids(names, ids, dataset, fold)
        position = {name: i for i, name in enumerate(names)}
        scores = score(truth, labels[[position[name] for name in ids]])
        best = (scores.presence, scores.salience)
    else:
        rows = read_probabilities(path)
        _check_ids(rows.ids, ids, dataset, fold)
        choice = search_official(rows.aligned(ids).values, truth)
        best = (choice.best_presence, choice.best_salience)
        scores, alpha, beta = _apply(rows.aligned(ids), truth, choice, alpha, beta)
    return {
        **result,
        "alpha": alpha,
        "beta": beta,
        "acc_presence": scores.presence,
        "acc_salience": scores.salience,
        "score": scores.score,
        "best_presence": best[0],
        "best_salience": best[1],
        **({"caveat": DEMO_MARK} if dataset.demo else {}),
    }


def render_score(result: dict[str, Any], chosen: bool) -> str:
    """Return a result as text; `chosen` tells that the thresholds were chosen on the scored clips."""
    lines = [result["caveat"]] if "caveat" in result else []
    lines += [f"clips    {result['clips']} ({result['blends']} blends)"]
    if result["alpha"] is not None:
        how = "chosen on the scored clips: in-sample, optimistic" if chosen else "as given"
        lines.append(f"alpha    {result['alpha']:.6g}    beta {result['beta']:.6g}    ({how})")
    return "\n".join(
        [
            *lines,
            f"ACC_P    {result['acc_presence']:.4f}    (best ACC_P on the grid: {result['best_presence']:.4f})",
            f"ACC_S    {result['acc_salience']:.4f}    (best ACC_S on the grid: {result['best_salience']:.4f})",
            f"Score    {result['score']:.4f}",
        ]
    )


def _apply(
    rows: Probabilities, truth: LabelArray, choice: Choice, alpha: float | None, beta: float | None
) -> tuple[Scores, float, float]:
    if alpha is None or beta is None:
        return choice.scores, choice.thresholds.alpha, choice.thresholds.beta
    return score(truth, decode(rows.values, alpha, beta)), alpha, beta


def _check_ids(found: tuple[str, ...], expected: list[str], dataset: Dataset, fold: int | None) -> None:
    """Raise unless the clips are exactly the expected ones; the message names a fold that matches."""
    if set(found) == set(expected):
        return
    if any(TEST_ID.fullmatch(name) for name in found):
        raise InvalidPredictions("the labels of the test clips are not public: only Codabench can score them")
    for other in dataset.fold_numbers:
        clips = {name for name, k in zip(dataset.ids, dataset.folds, strict=True) if k == other}
        if set(found) == clips:
            raise InvalidProbabilities(
                f"found exactly the {len(clips)} clips of fold {other}: score them with --fold {other}"
            )
    missing = [name for name in expected if name not in set(found)]
    unknown = sorted(set(found) - set(expected))
    where = "the training clips" if fold is None else f"fold {fold}"
    raise InvalidProbabilities(
        f"expected exactly the {len(expected)} clips of {where} in {dataset.root}: "
        f"missing {first_and_count(missing, 'clip')}, unknown {first_and_count(unknown, 'clip')}"
    )
