"""Runs inside the training part of a fold, as nested cross-validation needs them: no label of the fold is read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import numpy as np

from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.data.download import Dataset
from blemore_harness.data.folds import make_folds
from blemore_harness.data.opening import open_blinded
from blemore_harness.errors import ConfigError
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.rules import Scores
from blemore_harness.protocol.thresholds import choose_on_others, search_official, summarise
from blemore_harness.running.calls import name_trouble
from blemore_harness.running.keeping import parts_of
from blemore_harness.running.preparation import prepare_encoders
from blemore_harness.running.run import Run
from blemore_harness.running.steps import fit
from blemore_harness.scoring.results import SystemPredictions, sample_of


def open_inner(run: Run, fold: int | None, inner_folds: int, seed: int, held_out: bool = False) -> Run:
    """Return a run on what a fold trains on, cut into folds of other actors.

    Args:
        run: on the whole dataset.
        fold: whose training part; None for all training clips, with the dataset's own folds.
        inner_folds: number of folds of the training part; fewer where it has fewer actors.
        seed: decides which actors are in which inner fold.
        held_out: whether the clips that the fold holds out are there as test clips, without labels. Inner folds are
            the same with and without them, and computed once.

    Raises:
        ConfigError: a training part of one actor.
    """
    dataset = replace(run.dataset, test_ids=(), warnings=())
    if fold is not None:
        dataset = _take_training_part(dataset, fold, inner_folds, seed, held_out)
    return run.on(dataset, open_blinded(dataset, run.reporter))


def _take_training_part(dataset: Dataset, fold: int, inner_folds: int, seed: int, held_out: bool) -> Dataset:
    kept = np.flatnonzero(dataset.folds != fold)
    actors, truth = tuple(dataset.actors[i] for i in kept), dataset.truth[kept]
    count = min(inner_folds, len(set(actors)))
    if count < 2:
        raise ConfigError(f"fold {fold}: expected at least 2 actors to train on, found {len(set(actors))}")
    folds = make_folds(actors, truth, seed, count)
    for array in (truth, folds):
        array.setflags(write=False)
    others = sorted(name for name, own in zip(dataset.ids, dataset.folds, strict=True) if own == fold)
    return replace(
        dataset,
        ids=tuple(dataset.ids[i] for i in kept),
        actors=actors,
        genders=tuple(dataset.genders[i] for i in kept),
        truth=truth,
        folds=folds,
        fold_source="made",
        test_ids=tuple(others) if held_out else (),
    )


def prepare_all(run: Run) -> None:
    """Prepare every encoder of a run.

    Raises:
        PluginFailed: an encoder that failed.
    """
    for _, error in prepare_encoders(run):
        if error is not None:
            raise error


def fit_submission(run: Run, tell: Callable[[Scores], object] = lambda _: None) -> SystemPredictions:
    """Fit the encoders of a run, and its fusion if it has one; returns what the last system predicts.

    Folds that are on disk are taken from there. No record is written.

    Args:
        tell: called after every fold of the last system with its official scores; what it raises ends the fit.

    Raises:
        PluginFailed: a system that failed.
    """
    prepare_all(run)
    found: dict[str, SystemPredictions] = {}
    for resolved in run.systems:
        if resolved.trouble is not None:
            raise name_trouble(run, resolved)
        base_models = []
        if resolved is run.fusion:
            base_models.append({name: each.out_of_fold for name, each in found.items()})
            base_models.append({name: each.test or each.out_of_fold.pick(()) for name, each in found.items()})
        results = {}
        with closing(fit(run, resolved, *base_models)) as folds:  # type: ignore[type-var]
            for index, result in folds:
                results[index] = result
                if resolved is run.systems[-1] and index is not None:
                    tell(_score_fold(result.probabilities, index, run.blinded))
        found[resolved.name] = SystemPredictions.gather({i: results[i] for i in parts_of(run, resolved)}, run.blinded)
    return found[run.systems[-1].name]


def _score_fold(real: Probabilities, fold: int, blinded: BlindedDataset) -> Scores:
    held_out = blinded.train.take(blinded.folds == fold)
    opaque = blinded.opaque
    rows = Probabilities(tuple(opaque[name] for name in real.ids), real.values).aligned(held_out.ids)
    return search_official(rows.values, held_out.labels).scores


def cross_fitted_score(predictions: SystemPredictions, blinded: BlindedDataset) -> float:
    """Return the mean Score over folds, thresholds for each chosen on the others."""
    choices = choose_on_others(sample_of(predictions.out_of_fold, blinded).grids.per_fold())
    return float(summarise(choice.scores for choice in choices.values())["score"]["mean"])
