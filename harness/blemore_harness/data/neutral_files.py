"""Provides files of a download under neutral names, so that no operation on a path reveals the real one.

Files are hard links where possible, which take no disk space and do not reveal another name; otherwise clones that
share blocks, or copies.
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
"""Lists by neutral name from which state of the real file a copy was made."""

FICLONE = 0x40049409
"""Linux ioctl number: two files of one file system (btrfs, XFS) share their blocks until one is written."""


def hand_out(files: Mapping[Path, Path], home: Path, memo: Path, log: Callable[[str], None] | None = None) -> None:
    """Provide each real file in its present state under its neutral name; up-to-date files are kept.

    Args:
        files: real file by neutral file, all below `home`.
        home: folder of a dataset's neutral files.
        memo: folder of stored digests; those of linked files stay valid, although linking changes a timestamp.
        log: called with a message if files have to be copied.

    Raises:
        DataError: a real file that cannot be read, or not enough disk space for copies.
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
        raise DataError(f"cannot provide files under neutral names: {advise(error)}") from error


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
    """Create a hard link; False where this is not possible, as between file systems or for files of other users."""
    digest = known_digest(real, memo)
    source = os.path.realpath(real)  # a link to a symbolic link would reveal its target
    # An old file is replaced atomically, because another process may be about to open it.
    target = neutral if not os.path.lexists(neutral) else neutral.with_name(f".{neutral.name}.{os.getpid()}")
    try:
        if target != neutral:
            target.unlink(missing_ok=True)
        os.link(source, target)
    except FileExistsError:
        return _link(real, neutral, memo)  # created by another process meanwhile
    except OSError:
        return False
    if target != neutral:
        target.replace(neutral)
        target.unlink(missing_ok=True)  # still there if another process created the same link
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
            f"not enough disk space in {home} to copy {what}: {free / 1e9:.2f} GB are free. Plugins get files under "
            "neutral names, which are hard links if the cache is on the same file system as the download, else copies. "
            "Set BLEMORE_CACHE to a folder on that file system, or free disk space"
        )
    if plain and log:
        log(
            f"copying {what} to {home} (once): plugins get files under neutral names, and the cache cannot use hard "
            "links to the download"
        )
    for neutral, real in plain.items():
        with atomic_file(neutral) as file, real.open("rb") as origin:
            shutil.copyfileobj(origin, file, 1 << 20)
    copied |= {_key(neutral, home): stamp for neutral, stamp in stamps.items()}
    write_atomically(home / COPIES_FILE, json.dumps(copied))


def _clone(real: Path, neutral: Path) -> bool:
    """Create a file that shares the blocks of another; False where the file system does not support this."""
    if real.stat().st_dev != neutral.parent.stat().st_dev:
        return False
    with contextlib.suppress(OSError), atomic_file(neutral) as file, real.open("rb") as origin:
        fcntl.ioctl(file.fileno(), FICLONE, origin.fileno())
        return True
    return False


def _read_copies(home: Path) -> dict[str, str]:
    """Return the state of the file from which each copy was made; empty if unknown, so that copies are made again."""
    try:
        found = json.loads((home / COPIES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _key(neutral: Path, home: Path) -> str:
    return str(neutral.relative_to(home))
