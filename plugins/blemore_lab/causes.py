"""Why an out-of-sample estimate misses the Score on unseen actors: one difference per cause, which add up.

The new actors are scored a second time, by the models of the folds: what differs between this and the cross-fitted
Score is who was seen, and what differs between this and their real Score is how much was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blemore_harness.clips import LabelArray
from blemore_harness.decoding.strategies import STRATEGIES, decode_folds, make_sample
from blemore_harness.protocol.rules import Scores, score
from blemore_harness.protocol.thresholds import search_official
from blemore_lab.labels import LabelTable
from blemore_lab.methods import FusedRows


@dataclass(frozen=True)
class Causes:
    """Parts of cross-fitted minus unseen Score; their sum is the whole difference.

    Attributes:
        seen: base models and weights that saw the actors that are scored; also chance, which has mean 0.
        mix: labels of the new actors in other shares.
        fewer_actors: models of four fifths of the actors, each with its best thresholds.
        thresholds: thresholds, which were fitted on the models of the folds.
    """

    seen: float
    mix: float
    fewer_actors: float
    thresholds: float


def split_causes(
    rows: FusedRows, decided: tuple[str, float, LabelArray], table: LabelTable, truth: LabelArray
) -> Causes:
    """Return the causes for one method in one replicate.

    Args:
        rows: of the method.
        decided: the strategy that decodes, its cross-fitted Score, and its labels int8 (T, 6) of the new clips.
        table: the training actors.
        truth: int8 (T, 6) labels of the new clips.
    """
    name, reported, labels = decided
    strategy = STRATEGIES[name]
    sample = make_sample(rows.validation, table.truth, table.folds, table.actors)
    numbers = np.unique(table.folds).tolist()
    by_fold = [
        score(truth, strategy.learn(sample.without(number)).decode(values, None)).score
        for number, values in zip(numbers, rows.by_fold, strict=True)
    ]
    fold_best = float(np.mean([search_official(values, truth).scores.score for values in rows.by_fold]))
    final_best = search_official(rows.unseen, truth).scores.score
    other_actors, final = float(np.mean(by_fold)), score(truth, labels).score
    mix = -_shift(table.truth, decode_folds(strategy, sample), truth)
    return Causes(
        seen=reported - other_actors - mix,
        mix=mix,
        fewer_actors=fold_best - final_best,
        thresholds=(other_actors - fold_best) - (final - final_best),
    )


def _shift(truth: LabelArray, labels: LabelArray, other: LabelArray) -> float:
    """Return how much the Score would grow if the labels had the shares that they have in other clips."""
    kinds, index = np.unique(truth, axis=0, return_inverse=True)
    shares = np.array([(other == kind).all(axis=1).sum() for kind in kinds], dtype=np.float64)
    right = [score(truth[index.ravel() == number], labels[index.ravel() == number]) for number in range(len(kinds))]
    blend = (kinds > 0).sum(axis=1) == 2
    presence = np.average([each.presence for each in right], weights=shares)
    salience = np.average([each.salience for each in right], weights=shares * blend) if (shares * blend).any() else 0.0
    return Scores(float(presence), float(salience)).score - score(truth, labels).score
