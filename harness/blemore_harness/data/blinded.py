"""The dataset as plugins may see it: opaque ids, neutral paths, an order that says nothing.

Released file names spell out the label and metadata lists clips by label, so both are replaced; the harness
translates back. Labels and actors go out with training clips only.
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
from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.data.aggregates import Place
from blemore_harness.data.contents import digest_files, find_copies
from blemore_harness.data.download import Dataset
from blemore_harness.data.neutral_features import StoreDigests, feature_file, publish_feature_set
from blemore_harness.data.neutral_files import hand_out
from blemore_harness.disk import digest_of

HOMES = "blinded"
"""Folder of a cache that holds the neutral files of each dataset."""

OLD_HOMES, OLD_INDEX = "views", "contents.json"
"""Where earlier versions kept symbolic links, which lead to real names, and an index of digests by real path."""

_OPAQUE = re.compile(r"(?<![^\W_])c[0-9a-f]{16}(?![^\W_])")


@dataclass(frozen=True)
class BlindedDataset:
    """A dataset behind stand-in names.

    Attributes:
        train: all training clips with labels and actors, in the order of their opaque ids.
        test: the test clips, likewise.
        folds: int64 (N,), fold of each clip of `train`.
        real: real clip id by opaque id.
        digest: hex digest of all that can change a number of cross-validation: training clips with labels, actors,
            folds and videos. Test clips and released features are apart, see `test_digest` and `publish_feature_set`.
        test_digest: hex digest of the test clips and their videos.
        feature_sets: names of the released features that the dataset has.
        publish_feature_set: digests one of them, and makes its files ready to be read; `DataError` where there is none
            of that name, or where it is damaged.
        warnings: what the contents of clips tell: the same one in several folds, or in training and test.
    """

    train: Clips
    test: Clips
    folds: NDArray[np.int64]
    real: Mapping[str, str]
    digest: str
    test_digest: str
    feature_sets: frozenset[str]
    publish_feature_set: Callable[[str], StoreDigests] = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def opaque(self) -> dict[str, str]:
        """Opaque id by real clip id."""
        return {name: stand_in for stand_in, name in self.real.items()}

    def fold(self, index: int | None) -> Fold:
        """Return fold `index`, or for None the final fit: all training clips, with the test clips held out."""
        if index is None:
            return Fold(None, self.train, self.test)
        held_out = self.folds == index
        return Fold(index, self.train.take(~held_out), self.train.take(held_out).unlabelled())

    def everything(self) -> Clips:
        """Return all clips, training and test, unlabelled and without actors: what `prepare` is called with."""
        return Clips(tuple(sorted((*self.train, *self.test), key=lambda clip: clip.id)))

    def translate(self, text: str) -> str:
        """Put real clip names into a message that was written with opaque ids."""
        return _OPAQUE.sub(lambda match: self.real.get(match[0], match[0]), text)


def blind_dataset(
    dataset: Dataset,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> BlindedDataset:
    """Return a dataset as plugins may see it, with neutral names for its files.

    Names and order of training clips come from the training clips alone: test clips may come and go.

    Args:
        dataset: as read from disk.
        folder: where neutral files and digests of contents are kept, such as the user's cache.
        progress: called with (files digested, files in all) while contents are read for the first time.
        log: told where files have to be copied, and how much that is.

    Raises:
        DataError: a file that cannot be read, or no room for copies where files cannot be linked.
    """
    shutil.rmtree(folder / OLD_HOMES, ignore_errors=True)
    (folder / OLD_INDEX).unlink(missing_ok=True)
    # Sorted: neither names, nor order, nor digest depend on the order of metadata rows.
    key = digest_of(sorted(dataset.ids), 32).encode()
    names = {
        name: "c" + hashlib.blake2b(name.encode(), key=key, digest_size=8).hexdigest()
        for name in (*dataset.ids, *dataset.test_ids)
    }
    home = folder / HOMES / digest_of([str(dataset.root), key.decode()])
    memo = folder / DIGESTS
    videos = {
        name: home / f"{names[name]}{path.suffix.lower()}" for name, path in dataset.videos.items() if name in names
    }
    hand_out({videos[name]: dataset.videos[name] for name in videos}, home, memo, log)
    contents = digest_files(_needed_files(dataset), memo, progress)
    clips = {
        name: Clip(
            opaque, videos.get(name), _name_features(name, opaque, dataset, home), _content(name, dataset, contents)
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
    seen = {name: contents[path] for name, path in dataset.videos.items() if name in names}
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
        tuple(find_copies(dataset, {name: clip.content for name, clip in clips.items()})),
    )


def _needed_files(dataset: Dataset) -> list[Path]:
    """List what contents are keyed by: the video where there is one, else all released features, else aggregates."""
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
    """List where the rows of a clip are in aggregated files."""
    return [place for _, aggregate in sorted(dataset.aggregates.items()) for place in aggregate.places.get(name, ())]


def _name_features(name: str, opaque: str, dataset: Dataset, home: Path) -> dict[str, Path]:
    """Name a clip's files of features by store; they lie there once somebody asks for the digest of the store."""
    rows = {s: home / s / f"{opaque}.npy" for s, aggregate in dataset.aggregates.items() if name in aggregate.places}
    released = {s: feature_file(home, s, opaque, path) for s, path in _released_files(dataset, name).items()}
    return dict(sorted({**rows, **released}.items()))


def _content(name: str, dataset: Dataset, contents: Mapping[Path, str]) -> str:
    if name in dataset.videos:
        return contents[dataset.videos[name]]
    if features := _released_files(dataset, name):
        return digest_of([contents[path] for path in features.values()], 32)
    places = _places(dataset, name)
    return digest_of([[contents[path], row] for path, row in places], 32) if places else ""
