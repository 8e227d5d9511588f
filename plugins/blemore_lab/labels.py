"""The label tables of a replicate: the training actors as they are, and new actors by the same design."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip, Clips, LabelArray
from blemore_harness.data.download import Dataset
from blemore_harness.demo.plan import make_plan
from blemore_harness.errors import DataError
from blemore_harness.protocol.rules import parse_clip_id

Groups: TypeAlias = NDArray[np.int64]
"""A number per actor for every clip, (N,)."""

DEMO_ACTORS, DEMO_TEST_ACTORS = 12, 2
"""Actors of the demo dataset, the unlabelled ones among them, as `demo.write_demo` has them."""


@dataclass(frozen=True)
class LabelTable:
    """What is known of clips without looking at any of them.

    Attributes:
        truth: int8 (N, 6) percentages.
        actors: int64 (N,) a number per actor, from 0.
        folds: int64 (N,) fold of each clip; no actor is in two.
        source: where the labels come from, in a few words.
    """

    truth: LabelArray
    actors: Groups
    folds: NDArray[np.int64]
    source: str

    def __post_init__(self) -> None:
        if len(np.unique(self.folds)) < 2:
            raise DataError(f"a simulated replicate needs at least 2 folds, found {len(np.unique(self.folds))}")

    @property
    def actor_count(self) -> int:
        """How many actors there are."""
        return int(self.actors.max()) + 1

    def clips(self) -> Clips:
        """Return the clips with labels and actors, under ids that say nothing."""
        return Clips(name_clips(len(self.truth), "c"), tuple(f"a{actor:03d}" for actor in self.actors), self.truth)


def name_clips(count: int, prefix: str) -> tuple[Clip, ...]:
    """Return clips without media, under ids that are a prefix and a number."""
    return tuple(Clip(f"{prefix}{number:05x}") for number in range(count))


def table_of(dataset: Dataset) -> LabelTable:
    """Return the label table of a dataset's training clips.

    Raises:
        DataError: clips without blends, of which no Score can be simulated.
    """
    if not dataset.blends.any():
        raise DataError(f"{dataset.root} holds no blends: the Score is not defined there, and cannot be simulated")
    actors = np.unique(dataset.actors, return_inverse=True)[1].astype(np.int64)
    words = "the generated demo dataset" if dataset.demo else f"a dataset with {dataset.fold_source} folds"
    return LabelTable(dataset.truth, actors, dataset.folds.astype(np.int64), words)


def demo_table(seed: int = 0) -> LabelTable:
    """Return the label table of the demo dataset from its plan; no clip is drawn for it."""
    plan = make_plan(seed, DEMO_ACTORS, DEMO_TEST_ACTORS)
    rows = list(csv.DictReader(io.StringIO(plan.metadata())))
    names = [parse_clip_id(row["filename"]) for row in rows]
    truth = np.stack([name.truth for name in names if name is not None])
    actors = np.unique([row["video_id"] for row in rows], return_inverse=True)[1].astype(np.int64)
    return LabelTable(truth, actors, np.array([int(row["fold"]) for row in rows]), "the generated demo dataset")


def draw_actors(table: LabelTable, count: int, random: np.random.Generator) -> tuple[LabelArray, Groups]:
    """Return labels and actors of new actors, each with the labels of a training actor drawn for it.

    Args:
        table: the training actors.
        count: how many new actors there are.
        random: draws whose labels they get, without repetition while there are enough.

    Returns:
        int8 (T, 6) percentages and int64 (T,) numbers of actors from 0.
    """
    drawn = random.choice(table.actor_count, count, replace=count > table.actor_count)
    clips = [np.flatnonzero(table.actors == actor) for actor in drawn]
    actors = np.repeat(np.arange(count), [len(own) for own in clips])
    return table.truth[np.concatenate(clips)], actors
