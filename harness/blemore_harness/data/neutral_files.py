"""Hands out files of a download under neutral names, so that no operation on a path leads to the real one.

A hard link where the file system allows it, which takes no room and has no other name to follow; a clone that shares
its blocks, or a copy, in the cache elsewhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from blemore_harness.disk import atomic_file, keep_digest, known_digest, stamp_file, write_atomically
from blemore_harness.errors import DataError, advise

COPIES_FILE = "copies.json"
"""Says by neutral name from which state of the real file a copy was made."""

FICLONE = 0x40049409
"""Request of Linux: let two files of one file system (btrfs, XFS) share their blocks until one is written."""


def hand_out(files: Mapping[Path, Path], home: Path, memo: Path, log: Callable[[str], None] | None = None) -> None:
    """Make each neutral file be the real one, in its present state; what is so already is left alone.

    Args:
        files: real file by neutral file, all below `home`.
        home: folder of a dataset's neutral files.
        memo: where digests are remembered: those of files that are linked stay known, though a link changes a time.
        log: told how much is copied.

    Raises:
        DataError: a real file that cannot be read; or there is no room for copies.
    """
    copied = _read_copies(home)
    wanted: dict[Path, Path] = {}
    try:
        for neutral, real in files.items():
            status = _status(real)
            if _is_same(neutral, status) or (neutral.is_file() and copied.get(_key(neutral, home)) == stamp_file(real)):
                continue
            neutral.parent.mkdir(parents=True, exist_ok=True)
            if not _link(real, neutral, memo):
                wanted[neutral] = real
        if wanted:
            _copy_all(wanted, home, copied, log)
    except OSError as error:
        raise DataError(f"cannot hand out files under neutral names: {advise(error)}") from error


def _status(real: Path) -> os.stat_result:
    try:
        return real.stat()
    except OSError as error:
        raise DataError(f"cannot read {real}: {error.strerror}") from error


def _is_same(neutral: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(neutral.lstat(), status)
    except OSError:
        return False


def _link(real: Path, neutral: Path, memo: Path) -> bool:
    """Make a hard link; False where that is refused, as between file systems, or for files of others."""
    digest = known_digest(real, memo)
    source = os.path.realpath(real)  # a link to a symbolic link would still say where that leads
    # An old one is replaced in one step: somebody may be about to open it.
    target = neutral if not os.path.lexists(neutral) else neutral.with_name(f".{neutral.name}.{os.getpid()}")
    try:
        if target != neutral:
            target.unlink(missing_ok=True)
        os.link(source, target)
    except FileExistsError:
        return _link(real, neutral, memo)  # another process made it meanwhile
    except OSError:
        return False
    if target != neutral:
        target.replace(neutral)
        target.unlink(missing_ok=True)  # it stays where another process has made the same link
    if digest is not None:
        keep_digest(real, memo, digest)
    return True


def _copy_all(
    files: Mapping[Path, Path], home: Path, copied: dict[str, str], log: Callable[[str], None] | None
) -> None:
    stamps = {neutral: stamp_file(real) for neutral, real in files.items()}
    plain = {neutral: real for neutral, real in files.items() if not _clone(real, neutral)}
    size, free = sum(real.stat().st_size for real in plain.values()), shutil.disk_usage(home).free
    what = f"{len(plain)} files ({size / 1e9:.2f} GB)"
    if size > free:
        raise DataError(
            f"no room for copies of {what} in {home}, where {free / 1e9:.2f} GB are free. Plugins get files under "
            "neutral names: hard links where the cache lies on the file system of the download, else copies. Name a "
            "folder on that file system with BLEMORE_CACHE, or make room"
        )
    if plain and log:
        log(
            f"copying {what} to {home}, once: plugins get files under neutral names, and the file system of the "
            "download allows no hard links from there"
        )
    for neutral, real in plain.items():
        with atomic_file(neutral) as file, real.open("rb") as origin:
            shutil.copyfileobj(origin, file, 1 << 20)
    copied |= {_key(neutral, home): stamp for neutral, stamp in stamps.items()}
    write_atomically(home / COPIES_FILE, json.dumps(copied))


def _clone(real: Path, neutral: Path) -> bool:
    """Let a new file share the blocks of another; False where the file system does not do that."""
    if real.stat().st_dev != neutral.parent.stat().st_dev:
        return False
    with contextlib.suppress(OSError), atomic_file(neutral) as file, real.open("rb") as origin:
        fcntl.ioctl(file.fileno(), FICLONE, origin.fileno())
        return True
    return False


def _read_copies(home: Path) -> dict[str, str]:
    """Return which state each copy was made from; nothing where that is unknown: copies are made again."""
    try:
        found = json.loads((home / COPIES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _key(neutral: Path, home: Path) -> str:
    return str(neutral.relative_to(home))
