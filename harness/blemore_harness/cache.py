"""Arrays computed from clips, kept on disk under what they were computed from: content of the clip and settings."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.clips import Clip
from blemore_harness.disk import atomic_file, digest_file, digest_of, write_atomically
from blemore_harness.errors import DataError, MediaError

DIGESTS = "file-digests"
"""Folder of a cache where digests of files are remembered."""

NOT_DAMAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
"""Why a file that is whole may not be read just now: limits, rights, a disk or a network that fails."""


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
        """Return whether the array of a clip is there, complete."""
        return self.path(clip, part).exists()

    def missing(self, clips: Iterable[Clip], part: str = "") -> list[Clip]:
        """Return the clips whose array is not there yet, one per content.

        An interrupted extraction goes on from here.
        """
        wanted = {clip.content: clip for clip in clips if not self.has(clip, part)}
        return list(wanted.values())

    def save(self, clip: Clip, array: np.ndarray[Any, Any], part: str = "") -> None:
        """Keep the array of a clip, whole or not at all."""
        with atomic_file(self.path(clip, part)) as file:
            np.save(file, array, allow_pickle=False)

    def load(self, clip: Clip, part: str = "", mmap: bool = False) -> np.ndarray[Any, Any]:
        """Return the array of a clip; `mmap` leaves it on disk and reads what is touched.

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

    def digest_file(self, path: Path) -> str:
        """Return the SHA-256 of a file (64 hex digits); that of a file that did not change is remembered here."""
        return digest_file(path, self.root / DIGESTS)

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
