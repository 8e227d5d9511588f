"""Arrays computed from clips, kept on disk under what they were computed from: content of the clip and settings."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from blemore_harness.dataset import Clip
from blemore_harness.errors import DataError, MediaError

LONGEST_NAME = 200
"""Bytes of a name that are kept in that of a folder; file systems take 255, and a digest stands behind it."""

MINUTE = 60.0
"""After so many seconds an empty temporary file without a lock is nobody's."""

NOT_DAMAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
"""Why a file that is whole may not be read just now: limits, rights, a disk or a network that fails."""


def digest_of(facts: object, length: int = 16) -> str:
    """Give a short hex digest of JSON-able facts, independent of the order of keys.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def cut_name(name: str) -> str:
    """Give as much of a name as a file system takes: a list of thirty plugins is longer.

    >>> len(cut_name("wavlm," * 50)), cut_name("wavlm,s4d")
    (200, 'wavlm,s4d')
    """
    data = os.fsencode(name)
    return name if len(data) <= LONGEST_NAME else data[:LONGEST_NAME].decode(errors="ignore")


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block ends without an error: existing means complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:60]}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            with contextlib.suppress(OSError):  # a file system without locks: its leftovers stay
                fcntl.flock(file, fcntl.LOCK_EX)  # whoever sweeps may hold it for a moment
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say which file it was
        raise


def sweep_leftovers(folder: Path, alone: bool) -> int:
    """Delete temporary files whose writer was killed; gives how many.

    Whoever writes one holds a lock on it, which ends with the process.

    Args:
        folder: where to look.
        alone: the caller holds the folder, so that nobody else can be writing right in it. Otherwise everything below
            it is looked through, and young empty files are left alone: they may be about to be locked.
    """
    swept = 0
    for path in (folder.glob if alone else folder.rglob)(".*.tmp"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            facts = os.fstat(file.fileno())
            if alone or facts.st_size or time.time() - facts.st_mtime > MINUTE:
                path.unlink()
                swept += 1
    return swept


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a whole file or nothing."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@dataclass(frozen=True)
class Store:
    """One folder of arrays made with the same settings, an array per clip (and part).

    Files are plain `.npy` named by the clip's content digest; they are never pickles.
    """

    folder: Path

    def path(self, clip: Clip, part: str = "") -> Path:
        """Where the array of a clip is or would be."""
        if not clip.content:
            raise MediaError(f"clip {clip.id} has neither video nor features to compute anything from", clip.id)
        return self.folder / f"{clip.content}{'-' + part if part else ''}.npy"

    def has(self, clip: Clip, part: str = "") -> bool:
        """Say whether the array of a clip is there, complete."""
        return self.path(clip, part).exists()

    def missing(self, clips: Iterable[Clip], part: str = "") -> list[Clip]:
        """Give the clips whose array is not there yet, one per content: an interrupted extraction goes on from here."""
        wanted = {clip.content: clip for clip in clips if not self.has(clip, part)}
        return list(wanted.values())

    def save(self, clip: Clip, array: np.ndarray[Any, Any], part: str = "") -> None:
        """Keep the array of a clip, whole or not at all."""
        with atomic_file(self.path(clip, part)) as file:
            np.save(file, array, allow_pickle=False)

    def load(self, clip: Clip, part: str = "", mmap: bool = False) -> np.ndarray[Any, Any]:
        """Give the array of a clip; `mmap` leaves it on disk and reads what is touched.

        Raises:
            DataError: not computed yet, or a damaged file (which is named, so that it can be deleted).
        """
        path = self.path(clip, part)
        try:
            if mmap:
                return np.lib.format.open_memmap(path, mode="r")
            # Not `np.load`, which takes archives and pickles as well.
            with path.open("rb") as file:
                array: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
        except FileNotFoundError:
            raise DataError(f"nothing computed for clip {clip.id} in {self.folder}: run `prepare` first") from None
        except Exception as error:  # a damaged header makes numpy stumble in many ways
            if isinstance(error, OSError) and error.errno in NOT_DAMAGE:
                raise DataError(f"cannot read cache file {path} ({error.strerror})") from error
            raise DataError(f"damaged cache file {path} ({error}): delete it and run again") from error
        return array


@dataclass(frozen=True)
class Cache:
    """The root of all stores; safe to share between runs, and to delete."""

    root: Path

    def store(self, name: str, **settings: object) -> Store:
        """Open the store for arrays called `name` made with `settings` (JSON types; every fact that changes a value).

        A changed setting is another folder; `settings.json` inside says which is which.
        """
        facts = {"name": name, **settings}
        folder = self.root / name / digest_of(facts)
        described = folder / "settings.json"
        if not described.exists():
            write_atomically(described, json.dumps(facts, indent=2, sort_keys=True) + "\n")
        return Store(folder)
