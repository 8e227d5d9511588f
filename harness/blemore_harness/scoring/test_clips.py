"""Labels for the test clips: which threshold strategy decodes them, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from blemore_harness.clips import LabelArray
from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.decoding.actors import join_vectors, learn_actors, rand_index
from blemore_harness.decoding.decoders import Decoder, Groups, ThresholdDecoder
from blemore_harness.decoding.strategies import HONEST, STRATEGIES, Strategy, evaluate_strategy
from blemore_harness.errors import ConfigError, UnknownName
from blemore_harness.predictions import Embeddings
from blemore_harness.protocol.grid import Thresholds
from blemore_harness.protocol.thresholds import summarise
from blemore_harness.scoring.intervals import short
from blemore_harness.scoring.results import ScoredSystem, SystemPredictions, sample_of


@dataclass(frozen=True)
class GuessedActors:
    """Groups of clips that are likely to be of one actor, guessed without labels.

    Attributes:
        train: int64 (N,) for the training clips, each fold guessed as if its actors were unknown.
        test: int64 (M,) for the test clips.
        rand_index: adjusted Rand index of `train` against the true actors, mean over folds: 1 is perfect, 0 chance.
    """

    train: Groups
    test: Groups
    rand_index: float


@dataclass(frozen=True)
class PredictedLabels:
    """Decoded test clips and how they were decoded.

    Attributes:
        ids: real clip ids, sorted.
        labels: int8 (N, 6) percentages.
        strategy: name of the threshold strategy.
        why: what it was chosen for.
        thresholds: alpha and beta; None where the labels do not come from a pair of thresholds alone.
        guessed: where the strategy looks at other clips of an actor: which are of one.
        guessed_score: out-of-sample Score where actors are guessed; None without guesses.
    """

    ids: tuple[str, ...]
    labels: LabelArray
    strategy: str
    why: str
    thresholds: Thresholds | None
    guessed: GuessedActors | None = None
    guessed_score: float | None = None


def predict_test(
    rows: SystemPredictions,
    blinded: BlindedDataset,
    scores: ScoredSystem,
    wanted: str | None = None,
    vectors: Mapping[str, Embeddings] | None = None,
) -> PredictedLabels:
    """Decode the test rows by a strategy trained on the out-of-fold rows of all training clips.

    Args:
        scores: of the system.
        wanted: name of the strategy; None takes the simplest of those that look at one clip at a time, unless the
            cross-fitted Score of another is higher by more than a standard error.
        embeddings: base models' embeddings of all clips, for a strategy that looks at other clips of an actor.
    """
    assert rows.test is not None
    sample = sample_of(rows.out_of_fold, blinded)
    name, why = (scores.selection.name, explain_choice(scores)) if wanted is None else (wanted, "asked for")
    decoder = STRATEGIES[name].learn(sample)
    guessed = reached = None
    if STRATEGIES[name].transductive:
        guessed = guess_actors(blinded, vectors or {})
        scores_with_guesses = evaluate_strategy(STRATEGIES[name], sample, guessed.train).values()
        reached = summarise(scores_with_guesses)["score"]["mean"]
    labels = decoder.decode(rows.test.values, guessed.test if guessed else None)
    real = [blinded.real[clip] for clip in rows.test.ids]
    order = np.argsort(real)
    thresholds = decoder.thresholds if isinstance(decoder, ThresholdDecoder) else None
    return PredictedLabels(tuple(real[i] for i in order), labels[order], name, why, thresholds, guessed, reached)


def choose_decoder(
    rows: SystemPredictions, blinded: BlindedDataset, scores: ScoredSystem, wanted: str | None
) -> tuple[str, Decoder]:
    """Return the strategy and the decoder for new clips: as of `predict_test`, but never a transductive one."""
    name = scores.selection.name if wanted is None or STRATEGIES[wanted].transductive else wanted
    return name, STRATEGIES[name].learn(sample_of(rows.out_of_fold, blinded))


def explain_choice(scores: ScoredSystem) -> str:
    """Return in a few words what the threshold strategy of a scored system was chosen for."""
    found = scores.selection
    means = scores.strategies[found.name]
    reached = f"cross-fitted {'Score' if means.score else 'ACC_P'} {short(means.ranked.mean)}"
    if found.name not in found.gains:
        return f"{reached}; no other strategy gains more than a standard error"
    gain = found.gains[found.name]
    return f"{reached}, {short(gain.difference)} ± {short(gain.error)} (standard error) more than {HONEST[0]}"


def find_strategy(name: str) -> Strategy:
    """Return a strategy that can decode test clips.

    Raises:
        UnknownName: nobody knows it.
        ConfigError: it needs labels of the very clips that it decodes.
    """
    if name not in STRATEGIES:
        raise UnknownName.among("threshold strategy", name, STRATEGIES)
    if STRATEGIES[name].sees == "itself":
        raise ConfigError(f"'{name}' chooses thresholds on the clips that it decodes, and test clips have no labels")
    return STRATEGIES[name]


def guess_actors(blinded: BlindedDataset, vectors: Mapping[str, Embeddings]) -> GuessedActors:
    """Guess which clips are of one actor, for each training fold as for the test clips.

    Args:
        embeddings: by base model, embeddings of all clips, training and test; label-free.

    Raises:
        DataError: no base model gives embeddings.
    """
    ids = (*blinded.train.ids, *blinded.test.ids)
    joined = join_vectors([given.pick(ids).values for given in vectors.values()])
    train, test = joined[: len(blinded.train)], joined[len(blinded.train) :]
    assert blinded.train.actors is not None
    actors = np.unique(blinded.train.actors, return_inverse=True)[1].astype(np.int64)
    guessed, indices = np.zeros(len(train), dtype=np.int64), []
    for fold in np.unique(blinded.folds):
        own = blinded.folds == fold
        guessed[own] = learn_actors(train[~own], actors[~own]).group(train[own])
        indices.append(rand_index(guessed[own], actors[own]))
    return GuessedActors(guessed, learn_actors(train, actors).group(test), float(np.mean(indices)))
