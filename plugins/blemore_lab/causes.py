"""Why an out-of-sample estimate misses the Score on unseen actors: one difference per cause, which add up.

The new actors are scored a second time, by the models of the folds: what differs between this and the cross-fitted
Score is who was seen, and what differs between this and their real Score is how much was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blemore_harness.clips import LabelArray
from blemore_harness.protocol.rules import Scores, score
from blemore_harness.protocol.thresholds import search_official
from blemore_lab.methods import FusedRows


@dataclass(frozen=True)
class Decoded:
    """What a strategy decodes.

    Attributes:
        used: the strategy; another than asked for where that is `CHOSEN`.
        train: int8 (N, 6) labels of the training clips, each by the decoder that was fitted on the other folds.
        reported: mean Score of these over the folds: the cross-fitted Score.
        unseen: int8 (T, 6) labels of the new actors' clips, by the decoder that was fitted on all training clips.
        by_fold: K of int8 (T, 6), the labels of these as the models and the decoder of each fold have them.
    """

    used: str
    train: LabelArray
    reported: float
    unseen: LabelArray
    by_fold: tuple[LabelArray, ...]


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


def split_causes(rows: FusedRows, decoded: Decoded, truth: LabelArray, other: LabelArray) -> Causes:
    """Return the causes for one method in one replicate.

    Args:
        rows: of the method.
        decoded: by the strategy that decodes.
        truth: int8 (N, 6) labels of the training clips.
        other: int8 (T, 6) labels of the new actors' clips.
    """
    by_fold = float(np.mean([score(other, labels).score for labels in decoded.by_fold]))
    fold_best = float(np.mean([search_official(values, other).scores.score for values in rows.by_fold]))
    final, final_best = score(other, decoded.unseen).score, search_official(rows.unseen, other).scores.score
    mix = -_shift(truth, decoded.train, other)
    return Causes(
        seen=decoded.reported - by_fold - mix,
        mix=mix,
        fewer_actors=fold_best - final_best,
        thresholds=(by_fold - fold_best) - (final - final_best),
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
