"""Digests of files, remembered by size and time of change, so that a large dataset is read once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blemore_harness.disk import write_atomically
from blemore_harness.errors import DataError


def digest_files(
    files: Sequence[Path], index: Path, progress: Callable[[int, int], None] | None = None
) -> dict[Path, str]:
    """Give the SHA-256 of each file (32 hex digits), from the index where size and time of change are as they were.

    Args:
        files: which.
        index: JSON file where digests are remembered; made again where it is absent or damaged.
        progress: called with (files digested, files in all) while contents are read.

    Raises:
        DataError: a file that cannot be read.
    """
    known = _read_index(index)
    stamps = {path: _stamp(path) for path in files}
    fresh = [path for path in stamps if known.get(str(path), [None])[:-1] != stamps[path]]
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
