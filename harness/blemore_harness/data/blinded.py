"""The blinded dataset that plugins get: opaque ids, neutral paths, and an order without information.

The released file names contain the label and the metadata lists clips by label, so both are replaced; the harness
translates results back. Only training clips come with labels and actors. Clips of other corpora (`Dataset.extra`) are
training clips of every fold, between the others and under names of the same kind.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import DIGESTS
from blemore_harness.clips import EMOTIONS, Clip, Clips, Fold
from blemore_harness.data.aggregates import Place
from blemore_harness.data.contents import digest_files, find_copies
from blemore_harness.data.download import Dataset
from blemore_harness.data.neutral_features import StoreDigests, feature_file, publish_feature_set
from blemore_harness.data.neutral_files import hand_out
from blemore_harness.disk import digest_of

HOMES = "blinded"
"""Folder of the cache for the neutral files of each dataset."""

OLD_HOMES, OLD_INDEX = "views", "contents.json"
"""Earlier versions kept symbolic links, which reveal real names, and an index of digests by real path; both are
deleted."""

NO_CLIPS = Clips((), (), np.empty((0, len(EMOTIONS)), dtype=np.int8))

_OPAQUE = re.compile(r"(?<![^\W_])c[0-9a-f]{16}(?![^\W_])")


@dataclass(frozen=True)
class BlindedDataset:
    """A dataset with opaque ids and neutral paths.

    Attributes:
        train: all training clips with labels and actors, in the order of their opaque ids.
        test: the test clips, in the order of their opaque ids, without labels and actors.
        folds: int64 (N,), fold of each clip of `train`.
        real: real clip id by opaque id.
        digest: hex digest of everything that can change a cross-validation result: training clips with labels, actors,
            folds and videos. Test clips and released features have digests of their own, see `test_digest` and
            `publish_feature_set`, and clips of other corpora `extra_digests`.
        test_digest: hex digest of the test clips and their videos.
        feature_sets: names of the released feature sets in the dataset.
        publish_feature_set: digests a feature set and provides its files; `DataError` if it does not exist or is
            damaged.
        extra: clips of other corpora with labels and actors, which every fold is trained on; in the order of their
            opaque ids.
        extra_digests: hex digest of each other corpus' clips with labels, actors and files, by its name.
        warnings: clips with identical contents in several folds, or in training and test.
    """

    train: Clips
    test: Clips
    folds: NDArray[np.int64]
    real: Mapping[str, str]
    digest: str
    test_digest: str
    feature_sets: frozenset[str]
    publish_feature_set: Callable[[str], StoreDigests] = field(repr=False)
    extra: Clips = field(default_factory=lambda: NO_CLIPS)
    extra_digests: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def opaque(self) -> dict[str, str]:
        """Opaque id by real clip id."""
        return {name: stand_in for stand_in, name in self.real.items()}

    def fold(self, index: int | None, extra: bool = True) -> Fold:
        """Return fold `index`, or for None the final fit: all training clips, with the test clips held out.

        Args:
            extra: whether the clips of other corpora are among the training clips, as for all systems but those that
                are trained on out-of-fold predictions, of which these clips have none.
        """
        added = self.extra if extra else NO_CLIPS
        if index is None:
            return Fold(None, _join(self.train, added), self.test)
        held_out = self.folds == index
        return Fold(index, _join(self.train.take(~held_out), added), self.train.take(held_out).unlabelled())

    def everything(self, extra: bool = True) -> Clips:
        """Return all clips, of training, test and other corpora, unlabelled and without actors: those that `prepare`
        is called with.

        Args:
            extra: whether the clips of other corpora are among them, which nothing is predicted for.
        """
        added = self.extra if extra else NO_CLIPS
        return Clips(tuple(sorted((*self.train, *self.test, *added), key=lambda clip: clip.id)))

    def translate(self, text: str) -> str:
        """Return a message with opaque ids replaced by real clip names."""
        return _OPAQUE.sub(lambda match: self.real.get(match[0], match[0]), text)


def blind_dataset(
    dataset: Dataset,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> BlindedDataset:
    """Return the blinded version of a dataset, with neutral names for its files.

    Names and order of training clips depend on the training clips only, not on which test clips are present.

    Args:
        dataset: as read from disk.
        folder: folder for neutral files and digests, such as the user's cache.
        progress: called with (files digested, total files) while contents are read for the first time.
        log: called with a message if files have to be copied.

    Raises:
        DataError: a file that cannot be read, or not enough disk space for copies where files cannot be linked.
    """
    shutil.rmtree(folder / OLD_HOMES, ignore_errors=True)
    (folder / OLD_INDEX).unlink(missing_ok=True)
    # Sorted, so that names, order and digest do not depend on the order of metadata rows.
    key = digest_of(sorted(dataset.ids), 32).encode()
    added = {f"{each.corpus}:{name}": (each, name) for each in dataset.extra for name in each.ids}
    names = {
        name: "c" + hashlib.blake2b(name.encode(), key=key, digest_size=8).hexdigest()
        for name in (*dataset.ids, *dataset.test_ids, *added)
    }
    homes = {
        each.corpus: folder / HOMES / digest_of([str(each.root), key.decode()]) for each in (dataset, *dataset.extra)
    }
    home, memo = homes[dataset.corpus], folder / DIGESTS
    real = {name: path for name, path in dataset.videos.items() if name in names}
    real |= {name: each.videos[clip] for name, (each, clip) in added.items()}
    videos = {
        name: homes[added[name][0].corpus if name in added else dataset.corpus] / f"{names[name]}{path.suffix.lower()}"
        for name, path in real.items()
    }
    for place in homes.values():
        hand_out({videos[name]: real[name] for name in videos if videos[name].parent == place}, place, memo, log)
    contents = digest_files([*_needed_files(dataset), *(real[name] for name in added)], memo, progress)
    clips = {
        name: Clip(
            opaque,
            videos.get(name),
            _name_features(name, opaque, dataset, home),
            _content(name, real, dataset, contents),
        )
        for name, opaque in sorted(names.items(), key=lambda item: item[1])
    }
    order = sorted(range(len(dataset.ids)), key=lambda i: names[dataset.ids[i]])
    train = Clips(
        tuple(clips[dataset.ids[i]] for i in order),
        tuple(dataset.actors[i] for i in order),
        dataset.truth[order],
    )
    folds = dataset.folds[order]
    folds.setflags(write=False)
    test = Clips(tuple(sorted((clips[name] for name in dataset.test_ids), key=lambda clip: clip.id)))
    seen = {name: contents[path] for name, path in real.items()}
    facts = [
        [
            dataset.ids[i],
            seen.get(dataset.ids[i], ""),
            dataset.actors[i],
            dataset.truth[i].tolist(),
            int(dataset.folds[i]),
        ]
        for i in order
    ]
    tests = [[name, seen.get(name, "")] for name in sorted(dataset.test_ids)]
    return BlindedDataset(
        train,
        test,
        folds,
        {opaque: name for name, opaque in names.items()},
        digest_of(facts),
        digest_of(tests),
        frozenset(dataset.feature_sets),
        partial(publish_feature_set, dataset, names, home, memo, log),
        *_extra_clips(dataset, clips),
        tuple(find_copies(dataset, {name: clip.content for name, clip in clips.items()})),
    )


def _extra_clips(dataset: Dataset, clips: Mapping[str, Clip]) -> tuple[Clips, dict[str, str]]:
    """Return the clips of other corpora with labels and actors, and a digest of each corpus.

    Actors are named after their corpus too, so that none is taken for one of another corpus.
    """
    found, digests = NO_CLIPS, {}
    for each in dataset.extra:
        items = tuple(clips[f"{each.corpus}:{name}"] for name in each.ids)
        actors = tuple(f"{each.corpus}:{actor}" for actor in each.actors)
        found = _join(found, Clips(items, actors, each.truth))
        rows = zip(each.ids, items, each.actors, each.truth.tolist(), strict=True)
        digests[each.corpus] = digest_of([[name, clip.content, actor, label] for name, clip, actor, label in rows])
    return found, digests


def _join(one: Clips, two: Clips) -> Clips:
    """Return the clips of both, with labels and actors, in the order of their opaque ids."""
    if not len(two):
        return one
    both = Clips((*one, *two), (*(one.actors or ()), *(two.actors or ())), np.concatenate([one.labels, two.labels]))
    return both.take(np.argsort(np.array(both.ids)))


def _needed_files(dataset: Dataset) -> list[Path]:
    """Return the files that determine contents of clips: the video, else released features, else aggregated ones."""
    files = []
    for name in (*dataset.ids, *dataset.test_ids):
        if name in dataset.videos:
            files.append(dataset.videos[name])
        else:
            files += _released_files(dataset, name).values() or [path for path, _ in _places(dataset, name)]
    return list(dict.fromkeys(files))


def _released_files(dataset: Dataset, name: str) -> dict[str, Path]:
    return {store: paths[name] for store, paths in sorted(dataset.features.items()) if name in paths}


def _places(dataset: Dataset, name: str) -> list[Place]:
    """Return the rows of a clip in aggregated files."""
    return [place for _, aggregate in sorted(dataset.aggregates.items()) for place in aggregate.places.get(name, ())]


def _name_features(name: str, opaque: str, dataset: Dataset, home: Path) -> dict[str, Path]:
    """Return a clip's neutral feature files by feature set; `publish_feature_set` writes them."""
    rows = {s: home / s / f"{opaque}.npy" for s, aggregate in dataset.aggregates.items() if name in aggregate.places}
    released = {s: feature_file(home, s, opaque, path) for s, path in _released_files(dataset, name).items()}
    return dict(sorted({**rows, **released}.items()))


def _content(name: str, videos: Mapping[str, Path], dataset: Dataset, contents: Mapping[Path, str]) -> str:
    if name in videos:
        return contents[videos[name]]
    if features := _released_files(dataset, name):
        return digest_of([contents[path] for path in features.values()], 32)
    places = _places(dataset, name)
    return digest_of([[contents[path], row] for path, row in places], 32) if places else ""
