"""Reads the organisers' aggregated features, `<encoder>_static_features.npz`: a row of seven statistics per clip.

Their script writes `X` (N, 7 x D) and `filenames` (N,). The names spell out labels, so plugins never see such a file:
`views` hands out single rows. A file may hold training clips, test clips or both.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.errors import DataError, first_and_count, printable
from blemore_harness.pooling import STATISTICS

ENDING = "_static_features.npz"
KEYS = ("X", "filenames")

OTHER_NAMES = {"videoswin": "videoswintransformer", "videomaev2": "videomae"}
"""Names after the released folders, and the organisers' own for the same encoder, under which both are one store."""

LARGEST = 4_000_000_000
"""Bytes that an array may unpack to; the largest of the challenge's (2 x 1408 numbers, 3050 clips) takes 0.5 GB."""

Place = tuple[Path, int]
"""A file and the number of a row in it."""


@dataclass(frozen=True)
class Aggregate:
    """The aggregated features of one encoder.

    Attributes:
        files: one file, or several of the same name in different folders.
        places: where the rows of each clip are, by clip id; more than one where files overlap.
        trouble: why the files cannot be used; empty where nothing is known against them.
    """

    files: tuple[Path, ...]
    places: Mapping[str, tuple[Place, ...]]
    trouble: str = ""


def find_aggregate(file: Path) -> str | None:
    """Return the store of an aggregated file, `wavlm_static_features` in lower case; None for other files."""
    name = file.name.lower()
    if not name.endswith(ENDING) or name == ENDING or not file.is_file():
        return None
    encoder = name.removesuffix(ENDING)
    return OTHER_NAMES.get(encoder, encoder) + ENDING.removesuffix(".npz")


def index_aggregate(files: Sequence[Path], is_clip: Callable[[str], bool]) -> Aggregate:
    """Read which clips are in the files; what is wrong with one is kept as trouble, for it may never be needed.

    Args:
        files: all files of one store.
        is_clip: says whether a name is a clip of the dataset; rows of others are left alone.
    """
    places: dict[str, tuple[Place, ...]] = {}
    for path in files:
        try:
            names = _read_names(path)
        except DataError as error:
            return Aggregate(tuple(files), {}, str(error))
        for row, name in enumerate(names):
            if is_clip(name):
                places[name] = (*places.get(name, ()), (path, row))
    return Aggregate(tuple(files), places)


def read_aggregate(aggregate: Aggregate) -> dict[str, NDArray[np.floating[Any]]]:
    """Read the row of every clip, (7 x D,), as float32 or float64 as it was saved; NaN is left for readers to name.

    Raises:
        DataError: a file that is damaged, holds Python objects or lacks a key; lengths that do not fit each other, a
            length that is not 7 x D; a clip twice in one file, or with different numbers in two.
    """
    if aggregate.trouble:
        raise DataError(aggregate.trouble)
    tables = {path: _read_table(path) for path in aggregate.files}
    widths = {path: table.shape[1] for path, table in tables.items()}
    if len(set(widths.values())) > 1:
        found = " and ".join(f"{width} in {path}" for path, width in widths.items())
        raise DataError(f"aggregated features of one name must have rows of one length, found {found}: keep one kind")
    vectors = {}
    for name, [(path, row), *others] in aggregate.places.items():
        vectors[name] = tables[path][row]
        for other, again in others:
            if not np.array_equal(tables[other][again], vectors[name], equal_nan=True):
                raise DataError(
                    f"{path} and {other} hold different numbers for clip '{printable(name)}': keep one of the files"
                )
    return vectors


def _read_names(path: Path) -> list[str]:
    """Read the clip ids, in row order: file names without their ending."""
    names = _read_member(path, "filenames")
    if names.ndim != 1 or names.dtype.kind != "U":
        raise _refusal(path, f"expected 'filenames' to be text (N,), found {names.dtype} {names.shape}")
    ids = [Path(name).stem for name in names.tolist()]
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise _refusal(path, f"'filenames' holds {first_and_count(map(printable, twice), 'clip')} more than once")
    return ids


def _read_table(path: Path) -> NDArray[np.floating[Any]]:
    table = _read_member(path, "X")
    count = len(_read_names(path))
    if table.ndim != 2 or table.dtype.kind not in "fiu":
        raise _refusal(path, f"expected 'X' to be numbers (N, {STATISTICS} x D), found {table.dtype} {table.shape}")
    if len(table) != count:
        raise _refusal(path, f"'X' has {len(table)} rows, 'filenames' has {count}: expected the same number")
    if not table.shape[1] or table.shape[1] % STATISTICS:
        raise _refusal(path, f"expected rows of {STATISTICS} x D numbers in 'X', found {table.shape[1]}")
    return table if table.dtype in (np.float32, np.float64) else table.astype(np.float64)


def _read_member(path: Path, key: str) -> NDArray[Any]:
    """Read one array. Not by `np.load`, which takes pickles and bare arrays as well."""
    try:
        with zipfile.ZipFile(path) as archive:
            there = [name.removesuffix(".npy") for name in archive.namelist()]
            if key not in there:
                raise _refusal(path, f"expected the keys {' and '.join(KEYS)}, found {printable(', '.join(there))}")
            size = archive.getinfo(f"{key}.npy").file_size
            if size > LARGEST:
                found = f"{size / 1e9:.0f} GB, and at most {LARGEST / 1e9:.0f} GB are read"
                raise _refusal(path, f"'{key}' unpacks to {found}")
            with archive.open(f"{key}.npy") as file:
                array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except DataError:
        raise
    except Exception as error:  # damaged archives and headers make zipfile and numpy stumble in many ways
        raise _refusal(path, f"'{key}' cannot be read ({printable(str(error) or type(error).__name__)})") from error
    return array


def _refusal(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: {what}; the organisers' script makes it with np.savez(X=..., filenames=...): make it again, or "
        "move it out of the dataset"
    )
