"""The dataset as plugins may see it: opaque ids, neutral paths, an order that says nothing.

Released file names spell out the label and metadata lists clips by label, so both are replaced; the harness
translates back. Labels and actors go out with training clips only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.data.aggregates import Aggregate, Place, read_aggregate
from blemore_harness.data.contents import digest_files
from blemore_harness.data.download import Dataset
from blemore_harness.disk import atomic_file, digest_of, write_atomically
from blemore_harness.errors import DataError

INDEX_FILE = "contents.json"
"""Where digests of files are remembered."""

WRITTEN_FROM = "written-from.txt"
"""Says from which aggregated file the rows of a store were written; written last, so that it means complete."""

_OPAQUE = re.compile(r"(?<![^\W_])c[0-9a-f]{16}(?![^\W_])")


@dataclass(frozen=True)
class View:
    """A dataset behind stand-in names.

    Attributes:
        train: all training clips with labels and actors, in the order of their opaque ids.
        test: the test clips, likewise.
        folds: int64 (N,), fold of each clip of `train`.
        real: real clip id by opaque id.
        digest: hex digest of everything in the dataset that can change a number, but for released features of clips
            that have a video.
        stores: names of the released features that the dataset has.
        digest_store: gives the hex digest of one of them, and makes its files ready to be read; `DataError` where there
            is none of that name, or where it is damaged.
    """

    train: Clips
    test: Clips
    folds: NDArray[np.int64]
    real: Mapping[str, str]
    digest: str
    stores: frozenset[str]
    digest_store: Callable[[str], str] = field(repr=False)

    @property
    def opaque(self) -> dict[str, str]:
        """Opaque id by real clip id."""
        return {name: stand_in for stand_in, name in self.real.items()}

    def fold(self, index: int | None) -> Fold:
        """Give fold `index`, or for None the final fit: all training clips, with the test clips held out."""
        if index is None:
            return Fold(None, self.train, self.test)
        held_out = self.folds == index
        return Fold(index, self.train.take(~held_out), self.train.take(held_out).unlabelled())

    def everything(self) -> Clips:
        """Give all clips, training and test, unlabelled and without actors: what `prepare` is called with."""
        return Clips(tuple(sorted((*self.train, *self.test), key=lambda clip: clip.id)))

    def translate(self, text: str) -> str:
        """Put real clip names into a message that was written with opaque ids."""
        return _OPAQUE.sub(lambda match: self.real.get(match[0], match[0]), text)


def open_view(dataset: Dataset, folder: Path, progress: Callable[[int, int], None] | None = None) -> View:
    """Make the view of a dataset, with neutral links to its files.

    Args:
        dataset: as read from disk.
        folder: where links and the index of content digests are kept, such as the user's cache.
        progress: called with (files digested, files in all) while contents are read for the first time.
    """
    contents = digest_files(_needed_files(dataset), folder / INDEX_FILE, progress)
    # Sorted: neither names, nor order, nor digest depend on the order of metadata rows.
    key = digest_of([sorted(dataset.ids), sorted(dataset.test_ids)], 32).encode()
    names = {
        name: "c" + hashlib.blake2b(name.encode(), key=key, digest_size=8).hexdigest()
        for name in (*dataset.ids, *dataset.test_ids)
    }
    links = folder / "views" / digest_of([str(dataset.root), key.decode()])
    clips = {
        name: _link_clip(name, names[name], dataset, contents, links) for name in sorted(names, key=names.__getitem__)
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
    facts = {
        "train": [
            [dataset.ids[i], clip.content, dataset.actors[i], dataset.truth[i].tolist(), int(dataset.folds[i])]
            for i, clip in zip(order, train, strict=True)
        ],
        "test": [[name, clips[name].content] for name in sorted(dataset.test_ids)],
    }
    real = {names[name]: name for name in names}
    digest_store = partial(_digest_store, dataset, names, folder / INDEX_FILE, links)
    return View(train, test, folds, real, digest_of(facts), frozenset(dataset.stores), digest_store)


def _digest_store(dataset: Dataset, names: Mapping[str, str], index: Path, links: Path, store: str) -> str:
    if store not in dataset.stores:
        there = ", ".join(sorted(dataset.stores)) or "none"
        where = (
            f"a file {store}.npz with the keys X and filenames is expected at any depth"
            if store.endswith("_static_features")
            else "they are expected in pre_extracted_train_data and pre_extracted_test_data beside the metadata"
        )
        raise DataError(f"no released features '{store}' below {dataset.root} (there: {there}): {where}")
    if store in dataset.features:
        files = {name: path for name, path in dataset.features[store].items() if name in names}
        contents = digest_files(list(files.values()), index)
        return digest_of(sorted((name, contents[path]) for name, path in files.items()))
    aggregate = dataset.aggregates[store]
    digest = digest_of(sorted(digest_files(aggregate.files, index).values()))
    _write_rows(
        aggregate, digest, {name: links / store / f"{names[name]}.npy" for name in aggregate.places}, links / store
    )
    return digest


def _write_rows(aggregate: Aggregate, digest: str, paths: Mapping[str, Path], folder: Path) -> None:
    """Write the row of each clip to a file with a neutral name, unless that was done from files of this digest."""
    if aggregate.trouble:
        raise DataError(aggregate.trouble)
    done = folder / WRITTEN_FROM
    if done.exists() and done.read_text(encoding="utf-8") == digest and all(path.exists() for path in paths.values()):
        return
    vectors = read_aggregate(aggregate)
    done.unlink(missing_ok=True)
    for name, path in paths.items():
        with atomic_file(path) as file:
            np.save(file, vectors[name], allow_pickle=False)
    write_atomically(done, digest)


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


def _link_clip(name: str, opaque: str, dataset: Dataset, contents: Mapping[Path, str], links: Path) -> Clip:
    video = dataset.videos.get(name)
    features = _released_files(dataset, name)
    places = _places(dataset, name)
    if video is not None:
        content = contents[video]
    elif features:
        content = digest_of([contents[path] for path in features.values()], 32)
    else:
        content = digest_of([[contents[path], row] for path, row in places], 32) if places else ""
    # Rows of aggregated files lie here once somebody asks for the digest of their store.
    rows = {s: links / s / f"{opaque}.npy" for s, aggregate in dataset.aggregates.items() if name in aggregate.places}
    released = {
        store: _link(path, links / store / f"{opaque}{path.suffix.lower()}") for store, path in features.items()
    }
    return Clip(
        opaque,
        None if video is None else _link(video, links / f"{opaque}{video.suffix.lower()}"),
        dict(sorted({**rows, **released}.items())),
        content,
    )


def _link(target: Path, link: Path) -> Path:
    target = target.resolve()
    if not link.is_symlink() or link.readlink() != target:
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # a new one needs no temporary name, which a kill would leave
            link.symlink_to(target)
            return link
        temporary = link.with_name(f".{link.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)
    return link
