"""One replicate, a simulated challenge: everything is chosen on training actors and scored on new ones."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.clips import Clips, LabelArray
from blemore_harness.context import Context, Silent
from blemore_harness.decoding.choosing import choose_simplest
from blemore_harness.decoding.strategies import HONEST, STRATEGIES, Sample, Strategy, make_sample
from blemore_harness.heads.options import HeadOptions
from blemore_harness.protocol.grid import GridCounter
from blemore_harness.protocol.rules import Scores, score
from blemore_lab.calibration import Calibrated, mean_scores
from blemore_lab.causes import Causes, Decoded, split_causes
from blemore_lab.embeddings import Draws, EmbeddingSetting, draw_scene, embed
from blemore_lab.encoders import Setting, draw_errors, make_rows
from blemore_lab.labels import Groups, LabelTable, draw_actors, name_clips
from blemore_lab.methods import FusedRows, Material, Method
from blemore_lab.training import train_heads

CHOSEN = "chosen"
"""Stands for the strategy that the harness chooses for test clips (`choose_strategy`)."""

DECODABLE = tuple(strategy.name for strategy in STRATEGIES.values() if strategy.sees == "others")
"""Strategies that can decode new actors' clips.

`official` and `pooled` differ from `other-folds` only in which clips they are scored on; on unseen clips they are it.
"""


@dataclass(frozen=True)
class Outcome:
    """What a fusion with a strategy came to in one replicate.

    Attributes:
        reported: cross-fitted Score on the training actors.
        unseen: scores on the new actors.
        used: the strategy that decoded; another than the outcome's own where that is `CHOSEN`.
    """

    reported: float
    unseen: Scores
    used: str


@dataclass(frozen=True)
class ReplicateResult:
    """The result of one replicate.

    Attributes:
        official: by method, accuracies as papers report them: thresholds and weights that saw the fold.
        outcomes: by method and strategy.
        thresholds: by encoder and by method, (alpha, beta) at their best on each fold.
        encoders: by encoder, official accuracies on each fold.
        causes: by method, why the cross-fitted Score of `CHOSEN` misses the unseen one.
    """

    official: Mapping[str, Scores]
    outcomes: Mapping[tuple[str, str], Outcome]
    thresholds: Mapping[str, tuple[tuple[float, float], ...]]
    encoders: Mapping[str, tuple[Scores, ...]]
    causes: Mapping[str, Causes]


@dataclass(frozen=True)
class NewActors:
    """Labels of the new actors, for scoring and for nothing else, and who is who."""

    truth: LabelArray
    groups: Groups


def draw_replicate(
    encoders: Sequence[Calibrated],
    table: LabelTable,
    setting: Setting | EmbeddingSetting,
    test_actors: int,
    seed: Sequence[int],
    heads: HeadOptions | None = None,
) -> tuple[Material, NewActors]:
    """Return the probabilities of all encoders for the training actors and for as many new ones.

    Args:
        encoders: what is simulated.
        table: labels, actors and folds of the training clips.
        setting: draws probabilities, or embeddings on which heads are trained.
        test_actors: how many actors are new.
        seed: base seed and number of the replicate.
        heads: how heads are trained on embeddings.
    """
    truth, groups = draw_actors(table, test_actors, np.random.default_rng([*seed, 3]))
    everyone = np.concatenate([table.actors, table.actor_count + groups])
    labels = np.concatenate([table.truth, truth])
    train, unseen, count = table.clips(), Clips(name_clips(len(truth), "u")), len(table.truth)
    new = NewActors(truth, groups)
    if isinstance(setting, Setting):
        errors = draw_errors([encoder.name for encoder in encoders], setting, everyone, seed)
        rows = {encoder.name: make_rows(labels, encoder.skill, errors[encoder.name]) for encoder in encoders}
        first, last = ({name: v[part] for name, v in rows.items()} for part in (slice(count), slice(count, None)))
        return Material(train, table.folds, unseen, first, last), new
    assert heads is not None
    draws = Draws(seed)
    scene = draw_scene(labels, everyone, setting, draws)
    vectors = {encoder.name: embed(encoder.name, encoder.skill, scene, setting, draws) for encoder in encoders}
    trained = train_heads(vectors, train, table.folds, unseen, heads, seed[0])
    train_rows = {name: rows.train for name, rows in trained.items()}
    unseen_rows = {name: rows.unseen for name, rows in trained.items()}
    fold_rows = {name: rows.by_fold for name, rows in trained.items()}
    return Material(train, table.folds, unseen, train_rows, unseen_rows, fold_rows, vectors), new


def score_replicate(
    methods: Sequence[Method], material: Material, table: LabelTable, new: NewActors, seed: int
) -> ReplicateResult:
    """Fuse, choose and decode by everything that is compared, and score it on the new actors."""
    official: dict[str, Scores] = {}
    outcomes: dict[tuple[str, str], Outcome] = {}
    causes: dict[str, Causes] = {}
    counter = GridCounter(table.truth, table.folds)
    chosen = {
        name: [grid.choose() for grid in counter.per_fold(rows).values()] for name, rows in material.train_rows.items()
    }
    encoders = {name: tuple(choice.scores for choice in choices) for name, choices in chosen.items()}
    with tempfile.TemporaryDirectory() as folder:
        context = Context("cpu", seed, Path(folder), Cache(Path(folder) / "cache"), Silent())
        for method in methods:
            rows = method.fuse(material, context)
            choices = [grid.choose() for grid in counter.per_fold(rows.official).values()]
            chosen[method.name] = choices
            official[method.name] = mean_scores([choice.scores for choice in choices])
            decided = decode_unseen(rows, table, new.groups)
            outcomes |= {
                (method.name, name): Outcome(decoded.reported, score(new.truth, decoded.unseen), decoded.used)
                for name, decoded in decided.items()
            }
            causes[method.name] = split_causes(rows, decided[CHOSEN], table.truth, new.truth)
    thresholds = {
        name: tuple((c.thresholds.alpha, c.thresholds.beta) for c in choices) for name, choices in chosen.items()
    }
    return ReplicateResult(official, outcomes, thresholds, encoders, causes)


def decode_unseen(rows: FusedRows, table: LabelTable, groups: Groups) -> dict[str, Decoded]:
    """Decode the new actors' clips by every strategy, trained on the training actors.

    Args:
        rows: of a method.
        table: the training actors.
        groups: int64 (T,) actor of each new clip, for strategies that look at other clips of the actor: what no
            participant of the challenge is told.

    Returns:
        By strategy, and by `CHOSEN`.
    """
    sample = make_sample(rows.validation, table.truth, table.folds, table.actors)
    found = {name: _decode(STRATEGIES[name], sample, rows, groups) for name in DECODABLE}
    labels = {name: found[name].train for name in HONEST}
    return {**found, CHOSEN: found[choose_simplest(labels, table.truth, table.actors).name]}


def _decode(strategy: Strategy, sample: Sample, rows: FusedRows, groups: Groups) -> Decoded:
    others = groups if strategy.transductive else None
    train, by_fold, scores = np.zeros_like(sample.truth), [], []
    for number, values in zip(np.unique(sample.folds).tolist(), rows.by_fold, strict=True):
        own = sample.folds == number
        decoder = strategy.learn(sample.without(number))
        train[own] = decoder.decode(sample.values[own], sample.groups[own])
        scores.append(score(sample.truth[own], train[own]))
        by_fold.append(decoder.decode(values, others))
    unseen = strategy.learn(sample).decode(rows.unseen, others)
    return Decoded(strategy.name, train, mean_scores(scores).score, unseen, tuple(by_fold))
