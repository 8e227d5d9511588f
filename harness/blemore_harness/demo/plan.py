"""The clips of the demo dataset: names, folders, folds and lengths.

Lengths and test names are assigned by seeded permutations, so they are independent of labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemore_harness.clips import EMOTIONS
from blemore_harness.errors import ConfigError

FRAME_RATE = 25
SHORTEST_S, LONGEST_S = 1.0, 2.4
FOLDS = 5
"""Number of folds of the official metadata."""
TEST_CLIPS = 20
"""Clips per unlabelled test actor."""
PART_CLIPS = 120
"""Clips per `part_NN` folder; the released parts are also divided by size and not by actor."""
FIRST_ACTOR = 901
"""Demo actors are A901, A902, ...: the released ids end at A438 and A2313."""
SALIENCES = ((50, 50), (70, 30), (30, 70))
COLUMNS = (
    "filename,video_id,gender,mix,emotion_1,version,intensity_level,situation,"
    "emotion_2,emotion_1_salience,emotion_2_salience,fold"
)
"""Header of the official train_metadata.csv."""


@dataclass(frozen=True)
class Cell:
    """One of the 36 labels: an emotion alone at 100, or two in alphabetical order with saliences that sum to 100."""

    emotions: tuple[str, ...]
    saliences: tuple[int, ...]

    @property
    def is_blend(self) -> bool:
        """Return whether two emotions are shown."""
        return len(self.emotions) == 2

    @property
    def weights(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Saliences as float64 (6,) shares in the order of `EMOTIONS`."""
        weights = np.zeros(len(EMOTIONS))
        for emotion, salience in zip(self.emotions, self.saliences, strict=True):
            weights[EMOTIONS.index(emotion)] = salience / 100
        return weights


def label_cells() -> tuple[Cell, ...]:
    """Return the 36 label cells of BLEMORE: 6 single emotions, then 10 pairs with 3 saliences each.

    >>> cells = label_cells()
    >>> len(cells), cells[0], cells[-1].emotions
    (36, Cell(emotions=('ang',), saliences=(100,)), ('hap', 'sad'))
    """
    singles = [Cell((emotion,), (100,)) for emotion in EMOTIONS]
    pairs = itertools.combinations(sorted(set(EMOTIONS) - {"neu"}), 2)
    return (*singles, *(Cell(pair, saliences) for pair in pairs for saliences in SALIENCES))


@dataclass(frozen=True)
class PlannedClip:
    """One clip of the plan.

    Attributes:
        path: file below the dataset folder, such as `part_01/A901_ang_int2_ver1.mov`.
        actor: number of the actor, from 0.
        take: number of the clip within its actor; with actor and seed it determines all randomness in the clip.
        cell: the label.
        level: intensity of a single emotion or situation of neutral, 1 to 4; 0 for blends, which have none.
        frames: length in video frames.
    """

    path: str
    actor: int
    take: int
    cell: Cell
    level: int
    frames: int


@dataclass(frozen=True)
class Plan:
    """The plan of the demo dataset.

    Attributes:
        seed: determines all randomness.
        actors: number of actors, including the test actors (the last ones).
        test_actors: number of actors whose clips are unlabelled.
        clips: all clips, training clips first.
    """

    seed: int
    actors: int
    test_actors: int
    clips: tuple[PlannedClip, ...]

    def metadata(self) -> str:
        """Return the text of train_metadata.csv: the labelled clips, with the official columns."""
        labelled = [clip for clip in self.clips if clip.actor < self.actors - self.test_actors]
        return "\n".join([COLUMNS, *(_row(clip) for clip in labelled)]) + "\n"


def make_plan(seed: int, actors: int, test_actors: int) -> Plan:
    """Return the plan of all clips.

    Every training actor shows each of the 36 labels once; a test actor shows 20 labels, and names of test clips are
    shuffled over actors and labels.

    Raises:
        ConfigError: there would be no training actor.
    """
    if test_actors < 0 or actors - test_actors < 1:
        raise ConfigError(
            f"expected at least 1 training actor, found {actors} actors including {test_actors} test actors"
        )
    rng = np.random.default_rng([seed, 0])
    cells = label_cells()
    train: list[PlannedClip] = []
    for actor in range(actors - test_actors):
        lengths = _lengths(rng, len(cells))
        for take, cell in enumerate(cells):
            level = 0 if cell.is_blend else int(rng.integers(1, 5))
            path = f"part_{1 + len(train) // PART_CLIPS:02d}/{_name(actor, cell, level)}.mov"
            train.append(PlannedClip(path, actor, take, cell, level, lengths[take]))
    numbers = iter(rng.permutation(test_actors * TEST_CLIPS).tolist())
    test: list[PlannedClip] = []
    for actor in range(actors - test_actors, actors):
        lengths = _lengths(rng, TEST_CLIPS)
        for take, index in enumerate(rng.permutation(len(cells))[:TEST_CLIPS].tolist()):
            level = 0 if cells[index].is_blend else int(rng.integers(1, 5))
            path = f"test/test_{1 + next(numbers):04d}.mov"
            test.append(PlannedClip(path, actor, take, cells[index], level, lengths[take]))
    return Plan(seed, actors, test_actors, (*train, *sorted(test, key=lambda clip: clip.path)))


def actor_name(actor: int) -> str:
    """Return the id of an actor: A901 for number 0."""
    return f"A{FIRST_ACTOR + actor}"


def gender_of(actor: int) -> str:
    """Return the gender of an actor; both genders occur in every fold and among the test actors."""
    return "f" if (actor + actor // FOLDS) % 2 == 0 else "m"


def _lengths(rng: np.random.Generator, count: int) -> list[int]:
    """The same evenly spaced lengths for every actor in random order, so that lengths are independent of labels."""
    lengths = np.linspace(SHORTEST_S * FRAME_RATE, LONGEST_S * FRAME_RATE, count).round().astype(int)
    shuffled: Sequence[int] = rng.permutation(lengths).tolist()
    return list(shuffled)


def _name(actor: int, cell: Cell, level: int) -> str:
    if cell.is_blend:
        return f"{actor_name(actor)}_mix_{'_'.join(cell.emotions)}_{'_'.join(map(str, cell.saliences))}_ver1"
    kind = "sit" if cell.emotions == ("neu",) else "int"
    return f"{actor_name(actor)}_{cell.emotions[0]}_{kind}{level}_ver1"


def _row(clip: PlannedClip) -> str:
    cell, neutral = clip.cell, clip.cell.emotions == ("neu",)
    second = (cell.emotions[1], *map(str, cell.saliences)) if cell.is_blend else ("", "", "")
    intensity = "" if cell.is_blend or neutral else str(clip.level)
    situation = str(clip.level) if neutral else ""
    stem = clip.path.split("/")[1].removesuffix(".mov")
    first = (stem, actor_name(clip.actor), gender_of(clip.actor), str(int(cell.is_blend)), cell.emotions[0], "1")
    return ",".join([*first, intensity, situation, *second, str(clip.actor % FOLDS)])
