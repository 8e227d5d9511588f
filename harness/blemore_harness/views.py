"""The dataset as plugins may see it: opaque ids, neutral paths, an order that says nothing.

Released file names spell out the label and metadata lists clips by label, so both are replaced; the harness
translates back. Labels and actors go out with training clips only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import digest_of, write_atomically
from blemore_harness.dataset import Clip, Clips, Fold
from blemore_harness.download import Dataset
from blemore_harness.errors import DataError

INDEX_FILE = "contents.json"
"""Where digests of files are remembered."""

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
        digest_store: gives the hex digest of one of them; `DataError` where there is none of that name.
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
    contents = _digest_files(_needed_files(dataset), folder / INDEX_FILE, progress)
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
    stores = frozenset(dataset.features)
    digest_store = partial(_digest_store, dataset, folder / INDEX_FILE)
    return View(train, test, folds, real, digest_of(facts), stores, digest_store)


def _digest_store(dataset: Dataset, index: Path, store: str) -> str:
    if store not in dataset.features:
        there = ", ".join(sorted(dataset.features)) or "none"
        raise DataError(
            f"no released features '{store}' below {dataset.root} (there: {there}): "
            "they are expected in pre_extracted_train_data and pre_extracted_test_data beside the metadata"
        )
    files = dataset.features[store]
    contents = _digest_files(list(files.values()), index, None)
    return digest_of(sorted((name, contents[path]) for name, path in files.items()))


def _needed_files(dataset: Dataset) -> list[Path]:
    """List what contents are keyed by: the video where there is one, else all released features."""
    files = []
    for name in (*dataset.ids, *dataset.test_ids):
        if name in dataset.videos:
            files.append(dataset.videos[name])
        else:
            files += [paths[name] for paths in dataset.features.values() if name in paths]
    return files


def _link_clip(name: str, opaque: str, dataset: Dataset, contents: Mapping[Path, str], links: Path) -> Clip:
    video = dataset.videos.get(name)
    features = {store: paths[name] for store, paths in sorted(dataset.features.items()) if name in paths}
    if video is not None:
        content = contents[video]
    else:
        content = digest_of([contents[path] for path in features.values()], 32) if features else ""
    return Clip(
        opaque,
        None if video is None else _link(video, links / f"{opaque}{video.suffix.lower()}"),
        {store: _link(path, links / store / f"{opaque}{path.suffix.lower()}") for store, path in features.items()},
        content,
    )


def _link(target: Path, link: Path) -> Path:
    target = target.resolve()
    if not link.is_symlink() or link.readlink() != target:
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary = link.with_name(f".{link.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)
    return link


def _digest_files(files: Sequence[Path], index: Path, progress: Callable[[int, int], None] | None) -> dict[Path, str]:
    """Give the SHA-256 of each file, from the index where size and time of change are as they were."""
    known = _read_index(index)
    stamps = {path: _stamp(path) for path in files}
    fresh = [path for path in files if known.get(str(path), [None])[:-1] != stamps[path]]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, (path, digest) in enumerate(zip(fresh, pool.map(_digest_file, fresh), strict=True), 1):
            known[str(path)] = [*stamps[path], digest]
            if progress:
                progress(done, len(fresh))
    if fresh:
        write_atomically(index, json.dumps(known))
    return {path: str(known[str(path)][-1]) for path in files}


def _read_index(index: Path) -> dict[str, list[object]]:
    """Give what is known; nothing where the index is absent or damaged, for it can be made again."""
    try:
        known = json.loads(index.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) and all(isinstance(v, list) and v for v in known.values()) else {}


def _stamp(path: Path) -> list[object]:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _digest_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
