"""Reads a BLEMORE download as it lies on disk: metadata, videos and released features, joined on the clip id."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blemore_harness.dataset import LabelArray
from blemore_harness.demo import DEMO_MARKER
from blemore_harness.errors import DataError, first_and_count, printable
from blemore_harness.folds import are_official, make_folds
from blemore_harness.metadata import read_metadata

METADATA_FILE = "train_metadata.csv"
VIDEO_ENDINGS = (".mov", ".mp4")
FEATURE_ENDINGS = (".npy", ".csv")
FEATURE_FOLDERS = {"pre_extracted_train_data": "_train", "pre_extracted_test_data": "_test"}
"""Folders of released features, and how the names of the stores inside end."""

TEST_ID = re.compile(r"test_\d{4,}")

FoldSource = Literal["official", "metadata", "made"]


@dataclass(frozen=True)
class Dataset:
    """A BLEMORE download with its real names; never handed to a plugin.

    Attributes:
        root: the directory it was read from.
        ids: training clip ids in metadata order (N).
        actors: actor per training clip.
        genders: gender per training clip, empty text where the metadata has none.
        truth: int8 (N, 6) percentages.
        folds: int64 (N,), fold per training clip.
        fold_source: whose folds they are: the organisers', other ones of the metadata, or made here from a seed.
        test_ids: ids of the unlabelled test clips, sorted.
        videos: video file by clip id.
        features: released feature files by store, then clip id.
        demo: whether this is the generated demo dataset.
        warnings: what looked odd but can be worked with.
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
    demo: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def fold_numbers(self) -> tuple[int, ...]:
        """The folds in order."""
        return tuple(int(k) for k in np.unique(self.folds))

    @property
    def blends(self) -> NDArray[np.bool_]:
        """Bool (N,): whether a training clip is a blend."""
        return np.asarray((self.truth > 0).sum(axis=1) == 2)


def read_dataset(path: Path, fold_seed: int = 0) -> Dataset:
    """Read a download.

    Args:
        path: the directory that holds `train_metadata.csv`, or that file.
        fold_seed: seed of the folds that are made where the metadata has none.

    Raises:
        DataError: nothing there, or metadata that contradicts itself (see `metadata.read_metadata`).
    """
    table = _find_metadata(path)
    root = table.parent
    rows = read_metadata(table)
    labelled = [name for name in rows.ids if TEST_ID.fullmatch(name)]
    if labelled:
        raise DataError(
            f"{first_and_count(labelled, 'test clip')} in {table.name}: test clips carry no labels, keep training clips"
        )
    videos, features, warnings = _find_files(root, rows.ids)
    if rows.folds is None:
        folds, source = make_folds(rows.actors, rows.truth, fold_seed), "made"
        warnings.append(
            f"the metadata has no fold column: made {len(set(folds))} actor-disjoint folds (seed {fold_seed})"
        )
    else:
        folds, source = rows.folds, "official" if are_official(rows.actors, rows.folds) else "metadata"
    folds.setflags(write=False)
    known = set(videos).union(*features.values()) if features else set(videos)
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
        videos=videos,
        features=features,
        demo=(root / DEMO_MARKER).is_file(),
        warnings=tuple(warnings),
    )


def _find_metadata(path: Path) -> Path:
    """Give the metadata file that `path` is or holds."""
    try:
        table = path / METADATA_FILE if path.is_dir() else path
        found, there = table.is_file(), path.exists()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if not found:
        what = f"no {METADATA_FILE} in {path}" if there else f"{path} does not exist"
        raise DataError(
            f"{what}: point --data (or BLEMORE_DATA) at the folder of your BLEMORE download, or leave it out to use "
            "the generated demo dataset"
        )
    return table


def _find_files(root: Path, ids: tuple[str, ...]) -> tuple[dict[str, Path], dict[str, dict[str, Path]], list[str]]:
    """Find videos and released features by clip id, at any depth; gives what looks odd, too."""
    videos: dict[str, Path] = {}
    features: dict[str, dict[str, Path]] = {}
    copies, broken, strange, closed = [], [], [], list[str]()
    known = set(ids)
    for folder, names in _walk(root, closed):
        store = _feature_store(folder)
        for name in names:
            stem, ending = Path(name).stem, Path(name).suffix
            file = folder / name
            if ending.lower() in VIDEO_ENDINGS:
                if stem not in known and not TEST_ID.fullmatch(stem):
                    strange.append(name)
                elif stem in videos:
                    copies.append(f"{videos[stem]} and {file}")
                elif not file.is_file() or not file.stat().st_size:
                    broken.append(name)
                else:
                    videos[stem] = file
            elif store and ending.lower() in FEATURE_ENDINGS and file.is_file():
                features.setdefault(store, {})[stem] = file
    odd = (
        (copies, "video", "more than once", "the first is used"),
        (broken, "video", "empty or no files", "counted as missing, download them again"),
        (strange, "video", "that no row of the metadata names", "left alone"),
        (closed, "folder", "that cannot be looked into", "what is inside counts as missing"),
    )
    warnings = [
        printable(f"{first_and_count(found, noun)} found {what}: {advice}")
        for found, noun, what, advice in odd
        if found
    ]
    return videos, features, warnings


def _walk(root: Path, closed: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """Visit folders in a fixed order, linked ones too but each once, leaving hidden files and folders out.

    Folders that cannot be looked into are added to `closed`.
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


def _feature_store(folder: Path) -> str | None:
    """Give `WavLM_large` for `pre_extracted_train_data/WavLM_large_train`, None for other folders."""
    ending = FEATURE_FOLDERS.get(folder.parent.name)
    return folder.name.removesuffix(ending) if ending and folder.name.endswith(ending) else None
