"""Clips and folds, the data types that all other modules use, and how other corpora are read.

Instances are frozen and validated on construction; their arrays are read-only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemore_harness.errors import DataError, MediaError, PluginFailed, first_and_count

LabelArray: TypeAlias = NDArray[np.int8]

EMOTIONS = ("ang", "disg", "fea", "hap", "sad", "neu")
"""Label order of the official protocol; the neutral rule relies on neutral being last."""


@dataclass(frozen=True)
class Clip:
    """One video with its audio, as plugins see it: an opaque id and neutral paths.

    The released file names contain the label, so `id` and all paths here are replaced by the harness.

    Attributes:
        id: replaces the clip's name; stable within one dataset.
        video_file: the video file under a neutral name, None where the dataset has no media for the clip.
        feature_files: released feature files under neutral names by feature set, such as `WavLM_large`; the files
            exist for encoders that name the set in `feature_sets`.
        content: hex digest of the video file's bytes (of the feature files where there is no video): the cache key of
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
        """Path of the clip's released features in a feature set, such as `WavLM_large`, which the encoder must name in
        `feature_sets`.
        """
        there = sorted(self.feature_files)
        if store not in there:
            raise MediaError(
                f"clip {self.id} has no features '{store}' (available: {', '.join(there) or 'none'})", self.id
            )
        path = self.feature_files[store]
        if not path.exists():
            raise DataError(
                f"the features '{store}' were not requested: an encoder must name all feature sets that it reads in "
                "`feature_sets`, so that its results are computed again when these change"
            )
        return path


@dataclass(frozen=True)
class Clips:
    """An ordered set of clips, with labels and actors where these may be used.

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
        """The labels; `DataError` where these clips have none."""
        if self.truth is None:
            raise DataError("these clips have no labels: only the training clips of a fold have labels")
        return self.truth

    @property
    def targets(self) -> NDArray[np.float32]:
        """Soft targets, float32 (N, 6): salience / 100, one-hot for single emotions."""
        return self.labels.astype(np.float32) / np.float32(100)

    def take(self, which: ArrayLike) -> Clips:
        """Return the clips selected by a boolean mask (N,) or by integer positions, in that order."""
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
        """Return the same clips without labels and actors, as systems get them for prediction."""
        return Clips(self.items)

    def inner_split(self, seed: int, share: float = 0.2) -> tuple[Clips, Clips]:
        """Split the clips by actor into (train, validation), for choosing an epoch or a setting without bias.

        Args:
            seed: decides which actors are in the validation part.
            share: approximate share of actors in the validation part; each part has at least one actor.

        Raises:
            DataError: fewer than two actors, or clips without actors.
        """
        if self.actors is None:
            raise DataError("these clips have no actors: only the training clips of a fold can be split by actor")
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
    """The clips that a system is trained on and the clips that it predicts.

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
            raise DataError("held-out clips of a fold must not have labels or actors")
        both = set(self.train.ids) & set(self.held_out.ids)
        if both:
            found = first_and_count(sorted(both), "clip")
            raise DataError(f"fold {self.index}: expected disjoint training and held-out clips, found {found} in both")


@dataclass(frozen=True)
class CorpusClip:
    """A media file of another corpus, as the adapter of the corpus reads it.

    Attributes:
        id: of the clip; several files of one clip, such as `.flv` and `.wav`, have the same.
        actor: who acts.
        emotions: percentages by emotion of `EMOTIONS`: one at 100, or the two of a blend; empty where the challenge has
            no class for it.
        file: the media file.
        fold: number of the fold that holds the clip out; None for all clips has folds made from a seed.
        other: the corpus' name of an emotion that the challenge has no class for; such clips are counted and left out.
        rank: of several files of a clip that with the lowest rank is used; of equal ones the first, with a warning.
    """

    id: str
    actor: str
    emotions: Mapping[str, int]
    file: Path
    fold: int | None = None
    other: str = ""
    rank: int = 0


class Corpus:
    """Another corpus of acted emotions: `--data NAME:FOLDER` scores it, `--extra-train NAME:FOLDER` trains on it too.

    Attributes:
        name: what users type before the folder: lower case letters, digits and dashes.
        summary: one line for `blemore-harness plugins`.
        endings: of the media files, in lower case with the dot.
        example: name of a file, for messages.
        size: number of clips of a complete download with a class of the challenge, so that a smaller one is warned of;
            0 where this is not known.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]
    example: ClassVar[str]
    size: ClassVar[int] = 0

    def read(self, folder: Path, files: Sequence[Path]) -> Iterable[CorpusClip]:
        """Return what each media file is; files that are not returned are counted as strange, and ignored.

        Args:
            folder: the folder of the corpus, where tables of labels may lie.
            files: the media files below it, sorted, without hidden ones.
        """
        raise PluginFailed(f"'{self.name}' does not define `read`", self.name)


def _checked_labels(truth: ArrayLike, ids: list[str]) -> LabelArray:
    """Return the labels as read-only int8; `DataError` for labels that the protocol does not know."""
    labels = np.array(truth)
    if labels.shape != (len(ids), len(EMOTIONS)):
        raise DataError(f"expected truth of shape {(len(ids), len(EMOTIONS))}, found {labels.shape}")
    # Sorted, a single emotion ends in 0 100, and a blend (neutral, in the last column, is never part of one) in 50 50
    # or 30 70.
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
