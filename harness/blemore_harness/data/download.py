"""Reads a BLEMORE download from disk: metadata, videos and released features, joined by clip id."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import LabelArray
from blemore_harness.data.aggregates import Aggregate, find_aggregate, index_aggregate
from blemore_harness.data.folds import are_official, make_folds
from blemore_harness.data.metadata import read_metadata
from blemore_harness.data.released import FEATURE_ENDINGS, Features, find_extracted, find_feature_set, join_spellings
from blemore_harness.errors import DataError, first_and_count, printable
from blemore_harness.protocol.rules import VIDEO_ENDINGS

METADATA_FILE = "train_metadata.csv"
TEST_ID = re.compile(r"test_\d{4,}")

_ODD = {
    "copies": ("video", "found more than once", "the first is used"),
    "broken": ("video", "empty or not a file", "counted as missing; download it again"),
    "strange": ("video", "without a row in the metadata", "ignored"),
    "closed": ("folder", "that cannot be read", "its contents count as missing; check its permissions (ls -ld)"),
    "twice": ("feature file", "found more than once", "the first is used"),
}
"""Problems on disk that cause a warning: noun, problem, consequence."""

FoldSource = Literal["official", "metadata", "made"]


@dataclass(frozen=True)
class Dataset:
    """A BLEMORE download with its real names; plugins never get it.

    Attributes:
        root: the directory it was read from.
        ids: training clip ids in metadata order (N).
        actors: actor per training clip.
        genders: gender per training clip, empty text where the metadata has none.
        truth: int8 (N, 6) percentages.
        folds: int64 (N,), fold per training clip.
        fold_source: the organisers' folds, other folds of the metadata, or folds made from a seed.
        test_ids: ids of the unlabelled test clips, sorted.
        videos: video file by clip id.
        features: released feature files by feature set, then clip id.
        aggregates: the organisers' aggregated features by feature set, such as `wavlm_static_features`, without those
            in `features`.
        demo: whether this is the generated demo dataset.
        warnings: problems of the download that do not prevent its use.
        left_out: reason by id for clips of the download that were left out: with `--skip-bad-clips`, and of a corpus
            in `extra` those with the contents of a clip that is scored.
        corpus: name of the corpus; empty for BLEMORE.
        extra: other corpora, whose clips are trained on in every fold and never held out.
    """

    root: Path
    ids: tuple[str, ...]
    actors: tuple[str, ...]
    genders: tuple[str, ...]
    truth: LabelArray
    folds: NDArray[np.int64]
    fold_source: FoldSource
    test_ids: tuple[str, ...] = ()
    videos: Mapping[str, Path] = field(default_factory=dict)
    features: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)
    demo: bool = False
    warnings: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    corpus: str = ""
    extra: tuple[Dataset, ...] = ()

    @property
    def fold_numbers(self) -> tuple[int, ...]:
        """The folds in order."""
        return tuple(int(k) for k in np.unique(self.folds))

    @property
    def feature_sets(self) -> dict[str, Collection[str]]:
        """Ids of the clips in each feature set, by its name."""
        released = {store: paths.keys() for store, paths in self.features.items()}
        return {**released, **{store: aggregate.places.keys() for store, aggregate in self.aggregates.items()}}

    @property
    def blends(self) -> NDArray[np.bool_]:
        """Bool (N,): whether a training clip is a blend."""
        return np.asarray((self.truth > 0).sum(axis=1) == 2)


def read_dataset(path: Path, fold_seed: int = 0) -> Dataset:
    """Read a download.

    Args:
        path: the directory that holds `train_metadata.csv`, or that file.
        fold_seed: seed of the folds that are made if the metadata has none.

    Raises:
        DataError: no download at this path, or contradictory metadata (see `metadata.read_metadata`).
    """
    table = _find_metadata(path)
    root = table.parent
    rows = read_metadata(table)
    labelled = [name for name in rows.ids if TEST_ID.fullmatch(name)]
    if labelled:
        raise DataError(
            f"{first_and_count(labelled, 'test clip')} in {table.name}: test clips have no labels, keep training clips"
        )
    found = _find_files(root, set(rows.ids))
    warnings = found.warnings
    if rows.folds is None:
        folds, source = make_folds(rows.actors, rows.truth, fold_seed), "made"
        warnings.append(
            f"the metadata has no fold column: made {len(set(folds))} actor-disjoint folds (seed {fold_seed})"
        )
    else:
        folds, source = rows.folds, "official" if are_official(rows.actors, rows.folds) else "metadata"
    folds.setflags(write=False)
    known = set(found.videos).union(*found.features.values(), *(a.places for a in found.aggregates.values()))
    test_ids = tuple(sorted(name for name in known if TEST_ID.fullmatch(name)))
    return Dataset(
        root=root.resolve(),
        ids=rows.ids,
        actors=rows.actors,
        genders=rows.genders,
        truth=rows.truth,
        folds=folds,
        fold_source=source,  # type: ignore[arg-type]
        test_ids=test_ids,
        videos=found.videos,
        features=found.features,
        aggregates=found.aggregates,
        demo=(root / DEMO_MARKER).is_file(),
        warnings=tuple(warnings),
    )


def _find_metadata(path: Path) -> Path:
    """Return the metadata file that `path` is or holds."""
    try:
        table = path / METADATA_FILE if path.is_dir() else path
        found, there = table.is_file(), path.exists()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if not found:
        what = f"no {METADATA_FILE} in {path}" if there else f"{path} does not exist"
        raise DataError(
            f"{what}: set --data (or BLEMORE_DATA) to the folder of your BLEMORE download, or omit it to use the "
            "generated demo dataset"
        )
    return table


@dataclass
class _Files:
    """The files found below the root; `odd` holds the names of those with problems, by kind."""

    videos: dict[str, Path] = field(default_factory=dict)
    features: Features = field(default_factory=dict)
    aggregates: dict[str, Aggregate] = field(default_factory=dict)
    odd: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in _ODD})
    warnings: list[str] = field(default_factory=list)

    def take_video(self, file: Path, known: set[str]) -> None:
        stem = file.stem
        if stem not in known and not TEST_ID.fullmatch(stem):
            self.odd["strange"].append(file.name)
        elif stem in self.videos:
            self.odd["copies"].append(f"{self.videos[stem]} and {file}")
        elif not file.is_file() or not file.stat().st_size:
            self.odd["broken"].append(file.name)
        else:
            self.videos[stem] = file

    def take_features(self, file: Path, store: str) -> None:
        there = self.features.setdefault(store, {}).setdefault(file.stem, file)
        if there != file:
            self.odd["twice"].append(f"{there} and {file}")


def _find_files(root: Path, known: set[str]) -> _Files:
    """Find videos and released features by clip id, at any depth, and collect warnings."""
    files = _Files()
    aggregated: dict[str, list[Path]] = {}
    for folder, names in walk_folders(root, files.odd["closed"]):
        store = find_feature_set(folder)
        for file in (folder / name for name in names):
            ending = file.suffix.lower()
            if ending in VIDEO_ENDINGS:
                files.take_video(file, known)
            elif store and ending in FEATURE_ENDINGS and file.is_file():
                files.take_features(file, store)
            elif name := find_aggregate(file):
                aggregated.setdefault(name, []).append(file)
    files.features, spelled = join_spellings(files.features)
    for name in sorted(aggregated.keys() - files.features.keys()):
        found = aggregated[name]
        files.aggregates[name] = index_aggregate(found, lambda clip: clip in known or bool(TEST_ID.fullmatch(clip)))
    for kind, (noun, what, advice) in _ODD.items():
        if names := files.odd[kind]:
            files.warnings.append(printable(f"{first_and_count(names, noun)} {what}: {advice}"))
    files.warnings += [
        *find_extracted(files.features),
        *spelled,
        *(printable(a.trouble) for a in files.aggregates.values() if a.trouble),
    ]
    return files


def walk_folders(root: Path, closed: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """Visit folders in a fixed order, following links but visiting each once, without hidden files and folders.

    Folders that cannot be read are added to `closed`.
    """
    seen = set()
    for folder, subfolders, names in os.walk(root, onerror=lambda e: closed.append(e.filename), followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield Path(folder), sorted(name for name in names if not name.startswith("."))


def is_demo(data: Path | None) -> bool:
    """Return whether `--data` (or its absence) means the generated demo dataset, without reading it."""
    return data is None or (data / DEMO_MARKER).is_file()


DEMO_MARKER = "blemore-demo.json"


def leave_out(dataset: Dataset, reasons: Mapping[str, str], all_folds: bool = True) -> Dataset:
    """Return a dataset without some clips; `left_out` of it says why.

    Args:
        dataset: as read from disk.
        reasons: why it cannot be used, by real clip id.
        all_folds: whether each fold must keep a clip, as where folds are held out.

    Raises:
        DataError: a fold of which no clip is left.
    """
    extra = []
    for each in dataset.extra:
        prefix = f"{each.corpus}:"
        own = {name.removeprefix(prefix): reason for name, reason in reasons.items() if name.startswith(prefix)}
        extra.append(leave_out(each, own, all_folds=False))
    kept = [i for i, name in enumerate(dataset.ids) if name not in reasons]
    truth, folds = dataset.truth[kept], dataset.folds[kept]
    gone = set(dataset.fold_numbers) - set(folds.tolist())
    if gone and all_folds:
        raise DataError(
            f"fold {min(gone)} has no usable clip: {first_and_count(sorted(reasons), 'clip')} cannot be used "
            f"({next(iter(reasons.values()))})"
        )
    for array in (truth, folds):
        array.setflags(write=False)
    return replace(
        dataset,
        ids=tuple(dataset.ids[i] for i in kept),
        actors=tuple(dataset.actors[i] for i in kept),
        genders=tuple(dataset.genders[i] for i in kept),
        truth=truth,
        folds=folds,
        test_ids=tuple(name for name in dataset.test_ids if name not in reasons),
        videos=_without(dataset.videos, reasons),
        features={store: _without(paths, reasons) for store, paths in dataset.features.items()},
        aggregates={
            store: replace(aggregate, places=_without(aggregate.places, reasons))
            for store, aggregate in dataset.aggregates.items()
        },
        left_out={**dataset.left_out, **reasons},
        extra=tuple(extra),
    )


def _without(found: Mapping[str, Any], reasons: Mapping[str, str]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in reasons}
