"""Reads the organisers' aggregated features, `<encoder>_static_features.npz`: seven statistics per clip and dimension.

Their script writes `X` (N, 7 x D) and `filenames` (N,). The names contain labels, so plugins never see such a file:
`neutral_features` writes each row to a file of its own. A file may hold training clips, test clips or both.
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
"""The organisers' file names by the name of the released folder of the same encoder: both are one feature set."""

LARGEST = 4_000_000_000
"""Maximum size of an unpacked array in bytes; the largest one of the challenge (2 x 1408 numbers, 3050 clips) takes
0.5 GB."""

Place = tuple[Path, int]
"""A file and the index of a row in it."""


@dataclass(frozen=True)
class Aggregate:
    """The aggregated features of one encoder.

    Attributes:
        files: one file, or several of the same name in different folders.
        places: file and row of each clip, by clip id; several where files overlap.
        trouble: why the files cannot be used; empty if they can.
    """

    files: tuple[Path, ...]
    places: Mapping[str, tuple[Place, ...]]
    trouble: str = ""


def find_aggregate(file: Path) -> str | None:
    """Return the feature set of an aggregated file, such as `wavlm_static_features`; None for other files."""
    name = file.name.lower()
    if not name.endswith(ENDING) or name == ENDING or not file.is_file():
        return None
    encoder = name.removesuffix(ENDING)
    return OTHER_NAMES.get(encoder, encoder) + ENDING.removesuffix(".npz")


def index_aggregate(files: Sequence[Path], is_clip: Callable[[str], bool]) -> Aggregate:
    """Read which clips are in the files; a problem is kept as `trouble`, because the features may never be needed.

    Args:
        files: all files of one feature set.
        is_clip: returns whether a name is a clip of the dataset; rows of other names are ignored.
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
    """Read the features of every clip, (7 x D,), as float32 or float64 as saved; NaN is not checked here.

    Raises:
        DataError: a file that is damaged, holds Python objects or lacks a key; inconsistent lengths, a length that is
            not 7 x D; a clip twice in one file, or with different values in two.
    """
    if aggregate.trouble:
        raise DataError(aggregate.trouble)
    tables = {path: _read_table(path) for path in aggregate.files}
    widths = {path: table.shape[1] for path, table in tables.items()}
    if len(set(widths.values())) > 1:
        found = " and ".join(f"{width} in {path}" for path, width in widths.items())
        raise DataError(
            f"expected aggregated features of one length per feature set, found {found}: keep one of the files"
        )
    vectors = {}
    for name, [(path, row), *others] in aggregate.places.items():
        vectors[name] = tables[path][row]
        for other, again in others:
            if not np.array_equal(tables[other][again], vectors[name], equal_nan=True):
                raise DataError(
                    f"{path} and {other} have different values for clip '{printable(name)}': keep one of the files"
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
        raise _refusal(path, f"'filenames' lists {first_and_count(map(printable, twice), 'clip')} more than once")
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
                raise _refusal(path, f"expected the arrays {' and '.join(KEYS)}, found {printable(', '.join(there))}")
            size = archive.getinfo(f"{key}.npy").file_size
            if size > LARGEST:
                raise _refusal(path, f"expected at most {LARGEST / 1e9:.0f} GB in '{key}', found {size / 1e9:.0f} GB")
            with archive.open(f"{key}.npy") as file:
                array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except DataError:
        raise
    except Exception as error:  # zipfile and numpy raise many kinds of errors for damaged archives and headers
        raise _refusal(path, f"'{key}' is damaged or not a plain numpy array") from error
    return array


def _refusal(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: {what}; expected a file written by np.savez(X=..., filenames=...): create it again, or remove it "
        "from the dataset"
    )
