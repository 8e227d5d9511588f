"""The nouns that everything else speaks in: clips and folds.

All are frozen and checked when made: one that exists is valid, and its arrays are read-only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemore_harness.errors import DataError, MediaError, first_and_count

LabelArray: TypeAlias = NDArray[np.int8]

EMOTIONS = ("ang", "disg", "fea", "hap", "sad", "neu")
"""Label order of the official protocol; neutral is last, and the neutral rule relies on that."""


@dataclass(frozen=True)
class Clip:
    """One video with its audio, as plugins see it: an opaque id and neutral paths.

    The released file names spell out the label, so `id` and every path here are stand-ins that the harness made.

    Attributes:
        id: stable stand-in of the clip's name within one dataset.
        video_file: the video file under a neutral name, None where the dataset has no media for the clip.
        feature_files: released feature files under neutral names by store, such as `WavLM_large`; they are there for
            encoders that name the store in `feature_sets`.
        content: hex digest of the video file's bytes (of the feature files where there is no video): the key for
            everything computed from this clip.
    """

    id: str
    video_file: Path | None = field(default=None, repr=False)
    feature_files: Mapping[str, Path] = field(default_factory=dict, repr=False)
    content: str = field(default="", repr=False)

    @property
    def video(self) -> Path:
        """Path of the video file; `MediaError` where the dataset has none for this clip."""
        if self.video_file is None:
            raise MediaError(f"clip {self.id} has no video: expected <clip id>.mov or .mp4 below the dataset", self.id)
        return self.video_file

    @property
    def audio(self) -> Path:
        """Path of the file that holds the clip's audio: the video file, whose audio track it is."""
        return self.video

    def features(self, store: str) -> Path:
        """Path of the released features of this clip in `store`, such as `WavLM_large`, which `feature_sets` must
        name.
        """
        if store not in self.feature_files:
            raise MediaError(
                f"clip {self.id} has no features in '{store}' (has: {sorted(self.feature_files)})", self.id
            )
        path = self.feature_files[store]
        if not path.exists():
            raise DataError(
                f"the features in '{store}' were not handed out: an encoder must name in `feature_sets` what it "
                "reads, so that its results depend on it"
            )
        return path


@dataclass(frozen=True)
class Clips:
    """An ordered set of clips, with labels and actors where the receiver may know them.

    Args:
        items: the clips; ids must be unique.
        actors: one actor id per clip, or None (held-out and test clips).
        truth: int8 (N, 6) percentages in the order of `EMOTIONS`, each row 100 alone or 50/50, 70/30, 30/70; or None.
    """

    items: tuple[Clip, ...]
    actors: tuple[str, ...] | None = None
    truth: LabelArray | None = None

    def __post_init__(self) -> None:
        ids = [clip.id for clip in self.items]
        if len(set(ids)) != len(ids):
            duplicates = sorted(name for name, count in Counter(ids).items() if count > 1)
            raise DataError(f"expected unique clip ids, found {first_and_count(duplicates, 'duplicated id')}")
        if self.actors is not None and len(self.actors) != len(ids):
            raise DataError(f"expected one actor per clip, found {len(self.actors)} actors for {len(ids)} clips")
        if self.truth is not None:
            object.__setattr__(self, "truth", _checked_labels(self.truth, ids))

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.items)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in order."""
        return tuple(clip.id for clip in self.items)

    @property
    def labels(self) -> LabelArray:
        """The truth; `DataError` where these clips carry none."""
        if self.truth is None:
            raise DataError("these clips carry no labels: only the training part of a fold does")
        return self.truth

    @property
    def targets(self) -> NDArray[np.float32]:
        """Soft targets, float32 (N, 6): salience / 100, one-hot for single emotions."""
        return self.labels.astype(np.float32) / np.float32(100)

    def take(self, which: ArrayLike) -> Clips:
        """Return the clips at a boolean mask (N,) or at integer positions, in that order."""
        index = np.asarray(which)
        if index.dtype == bool:
            if index.shape != (len(self),):
                raise DataError(f"expected a mask of shape ({len(self)},), one entry per clip, found {index.shape}")
            index = np.flatnonzero(index)
        positions = [int(i) for i in index]
        return Clips(
            tuple(self.items[i] for i in positions),
            None if self.actors is None else tuple(self.actors[i] for i in positions),
            None if self.truth is None else self.truth[positions],
        )

    def unlabelled(self) -> Clips:
        """Return the same clips without truth and without actors, as they are handed out to be predicted."""
        return Clips(self.items)

    def inner_split(self, seed: int, share: float = 0.2) -> tuple[Clips, Clips]:
        """Split into (learn, check) with no actor in both: the honest place to choose an epoch or a setting.

        Args:
            seed: decides which actors go to the second part.
            share: about which share of the actors goes to the second part; at least one actor stays on each side.

        Raises:
            DataError: fewer than two actors, or clips without actors.
        """
        if self.actors is None:
            raise DataError("these clips carry no actors: only the training part of a fold can be split by actor")
        names = sorted(set(self.actors))
        if len(names) < 2:
            raise DataError(
                f"an actor-disjoint split needs at least 2 actors, found {len(names)}: train on clips of more actors"
            )
        count = min(max(round(share * len(names)), 1), len(names) - 1)
        chosen = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
        check = np.array([actor in chosen for actor in self.actors])
        return self.take(~check), self.take(check)


@dataclass(frozen=True)
class Fold:
    """What a system learns from and what it predicts.

    Attributes:
        index: number of the fold; None for the final fit on all training clips, whose held-out part is the test clips.
        train: clips with labels and actors.
        held_out: clips without labels and actors, of other actors than `train`.
    """

    index: int | None
    train: Clips
    held_out: Clips

    def __post_init__(self) -> None:
        if self.held_out.truth is not None or self.held_out.actors is not None:
            raise DataError("held-out clips of a fold must be handed out unlabelled")
        both = set(self.train.ids) & set(self.held_out.ids)
        if both:
            raise DataError(f"clips in both parts of fold {self.index}: {first_and_count(sorted(both), 'clip')}")


def _checked_labels(truth: ArrayLike, ids: list[str]) -> LabelArray:
    """Return the labels as read-only int8; `DataError` for rows that no clip can have."""
    labels = np.array(truth)
    if labels.shape != (len(ids), len(EMOTIONS)):
        raise DataError(f"expected truth of shape {(len(ids), len(EMOTIONS))}, found {labels.shape}")
    # Sorted, a single emotion ends in 0 100, and a blend (of emotions before neutral, the last) in 50 50 or 30 70.
    ends = np.sort(labels, axis=1)
    alone = ends[:, -1] == 100
    blended = (np.isin(ends[:, -1], (50, 70))) & (ends[:, -2] == 100 - ends[:, -1]) & (labels[:, -1] == 0)
    wrong = np.flatnonzero(~(alone & (ends[:, :-1] == 0).all(axis=1)) & ~(blended & (ends[:, :-2] == 0).all(axis=1)))
    if wrong.size:
        raise DataError(
            "expected one emotion at 100, or two other than neutral at 50/50, 70/30 or 30/70; found other saliences in "
            f"{first_and_count([ids[i] for i in wrong], 'clip')}"
        )
    labels = labels.astype(np.int8)
    labels.setflags(write=False)
    return labels
