"""Digests of many files, stored in the cache so that a large dataset is read only once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blemore_harness.data.download import Dataset
from blemore_harness.disk import digest_file, known_digest
from blemore_harness.errors import DataError, printable


def digest_files(
    files: Sequence[Path], memo: Path, progress: Callable[[int, int], None] | None = None
) -> dict[Path, str]:
    """Return the SHA-256 of each file (first 32 hex digits), from the cache if the file is unchanged.

    Args:
        files: the files.
        memo: folder of stored digests, see `disk.digest_file`.
        progress: called with (files digested, total files) while contents are read.

    Raises:
        DataError: a file that cannot be read.
    """
    try:
        found = {path: known_digest(path, memo) for path in files}
    except OSError as error:
        raise _unreadable(error) from error
    fresh = [path for path, digest in found.items() if digest is None]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, (path, digest) in enumerate(
            zip(fresh, pool.map(lambda path: _digest(path, memo), fresh), strict=True), 1
        ):
            found[path] = digest
            if progress:
                progress(done, len(fresh))
    return {path: str(digest)[:32] for path, digest in found.items()}


def _digest(path: Path, memo: Path) -> str:
    try:
        return digest_file(path, memo)
    except OSError as error:
        raise _unreadable(error) if error.filename == str(path) else error from error


def _unreadable(error: OSError) -> DataError:
    return DataError(f"cannot read {error.filename}: {error.strerror}")


def find_equal(files: Mapping[str, Path], others: Mapping[str, Path], memo: Path) -> dict[str, str]:
    """Return which files have the contents of one of the others: name among `others` by name among `files`.

    Only files of equal size are read; `memo` as of `digest_files`.

    Raises:
        DataError: a file that cannot be read.
    """
    try:
        sizes = {path: path.stat().st_size for path in (*files.values(), *others.values())}
    except OSError as error:
        raise _unreadable(error) from error
    alike = {sizes[path] for path in files.values()} & {sizes[path] for path in others.values()}
    digests = digest_files([path for path, size in sizes.items() if size in alike], memo)
    known = {digests[path]: name for name, path in others.items() if path in digests}
    return {name: known[digests[path]] for name, path in files.items() if digests.get(path) in known}


def find_copies(dataset: Dataset, contents: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for every file content that occurs in different folds, or in training and test.

    Args:
        dataset: as read from disk.
        contents: digest by real clip id; empty for a clip without files.
    """
    parts = {name: f"fold {fold}" for name, fold in zip(dataset.ids, dataset.folds, strict=True)}
    parts |= dict.fromkeys(dataset.test_ids, "test")
    groups: dict[str, list[str]] = {}
    for name in parts:
        groups.setdefault(contents[name], []).append(name)
    for content, names in groups.items():
        if content and len({parts[name] for name in names}) > 1:
            listed = ", ".join(f"{name} ({parts[name]})" for name in names[:4])
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            yield printable(
                f"{listed}{more} have identical contents, which leaks training data into the evaluation; keep the "
                "right one and remove the others"
            )
