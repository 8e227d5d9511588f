"""Files: read with limits where somebody else made them, written whole, locked, told apart by content."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import stat
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

from blemore_harness.errors import ConfigError, RunError

LARGEST_TABLE = 250_000_000
"""Bytes of a table that is read; the challenge's metadata takes 0.3 MB, and probabilities of its clips 0.5 MB. Those of
`MOST_ROWS` clips take 150 MB."""

MOST_ROWS = 1_000_000
"""Rows of a table that are read, its header not among them; the challenge has 3050 clips. To score as many takes 1.5 GB
of memory (`benchmarks/score_rows.py`)."""


SEED = re.compile(r"@seed(0|[1-9][0-9]*)(?=\+|$)")
"""What gives an encoder a base seed of its own, behind its name: `wavlm@seed1`."""


TAIL_BYTES = 1 << 16
"""As much of the end of a log is read: a program may print gigabytes, in one line too."""


def read_tail(path: Path) -> list[str]:
    """Return the last lines of a log, as far as `TAIL_BYTES` go; the first of them may be a part of one."""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
        return file.read(TAIL_BYTES).decode(errors="replace").splitlines()


def check_file(path: Path, most: int) -> None:
    """Refuse what would never end or fill the memory, before it is opened.

    Args:
        path: what is to be read; what is absent or a folder is left to whoever opens it, who says so.
        most: bytes that it may have.

    Raises:
        OSError: a pipe, a socket or a device, or a file that is too large; `strerror` says which.
    """
    try:
        state = path.stat()
    except ValueError as error:  # a name with a null byte
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    except OSError:
        return
    if not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):
        raise OSError(errno.EINVAL, "expected a regular file, found a pipe or device: copy it to a file", str(path))
    if state.st_size > most:
        found = f"{state.st_size / 1e6:.0f} MB, and at most {most / 1e6:.0f} MB are read: is it the right file?"
        raise OSError(errno.EFBIG, found, str(path))


def read_number(text: str) -> float:
    """Read a number as tables have them: `float` also takes digits of other scripts, and `7_0` for 70.

    >>> read_number(" 7e1 ")
    70.0

    Raises:
        ValueError: anything else.
    """
    if not text.isascii() or "_" in text:
        raise ValueError(f"not a plain number: {text!r}")
    return float(text)


LONGEST_NAME = 200
"""Bytes of a name that are kept in that of a folder; file systems take 255, and a digest stands behind it."""


MINUTE = 60.0
"""After so many seconds an empty temporary file without a lock is nobody's."""


def digest_of(facts: object, length: int = 16) -> str:
    """Return a short hex digest of JSON-able facts, independent of the order of keys.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def package_file(module: object) -> Path | None:
    """Return the file of the top-level package that `module` (or the class of an object) belongs to."""
    name = module.__name__ if isinstance(module, types.ModuleType) else getattr(module, "__module__", "")
    # A namespace package has no file: use the first package below it that has one.
    parts = name.split(".")
    packages = (sys.modules.get(".".join(parts[: depth + 1])) for depth in range(len(parts)))
    file = next((found for package in packages if (found := getattr(package, "__file__", None))), None)
    return Path(file) if file else None


def digest_sources(path: Path) -> str:
    """Digest a module, or all modules of the package whose `__init__.py` it is."""
    inside = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    files = [source for source in inside if source.is_file()]  # lock files of some editors are broken links
    digest = hashlib.sha256()
    for source in files:
        digest.update(source.relative_to(path.parent).as_posix().encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def cut_name(name: str) -> str:
    """Return as much of a name as a file system takes: a list of thirty plugins is longer.

    >>> len(cut_name("wavlm," * 50)), cut_name("wavlm,s4d")
    (200, 'wavlm,s4d')
    """
    data = os.fsencode(name)
    return name if len(data) <= LONGEST_NAME else data[:LONGEST_NAME].decode(errors="ignore")


def split_seed(name: str) -> tuple[str, int | None]:
    """Split a base seed off an encoder's name: such a system is the plain encoder of a run with that seed.

    >>> split_seed("wavlm@seed1"), split_seed("wavlm@quick")
    (('wavlm', 1), ('wavlm@quick', None))
    >>> split_seed("imagebind@seed1+wavlm@seed1")
    ('imagebind+wavlm', 1)
    """
    parts = name.split("+")
    seeds = {int(found[1]) for found in map(SEED.search, parts) if found}
    if len(seeds) != 1 or not all(map(SEED.search, parts)):
        return name, None
    return SEED.sub("", name), seeds.pop()


@contextlib.contextmanager
def atomic_file(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block ends without an error: existing means complete.

    `durable` waits until the content is safely on disk, so that it is complete after a crash of the machine as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:60]}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            with contextlib.suppress(OSError):  # a file system without locks: its leftovers stay
                fcntl.flock(file, fcntl.LOCK_EX)  # whoever sweeps may hold it for a moment
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say which file it was
        raise


def sweep_leftovers(folder: Path, alone: bool) -> int:
    """Delete temporary files whose writer was killed; returns how many.

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
    r"""Write a whole file or nothing.

    Text is written in UTF-8. Bytes of file names that are no UTF-8, which Python keeps as lone surrogates, are written
    out as `\udcfc`, which JSON reads back as it was.
    """
    with atomic_file(path) as file:
        file.write(data.encode(errors="backslashreplace") if isinstance(data, str) else data)


TICK = 0.02
"""Seconds in which a file can change twice and keep its times: Linux counts them in ticks of up to 10 ms."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


def stamp_file(path: Path) -> str:
    """Digest what the file system says of a file: another one wherever its content may be another.

    Size, number (inode), time of change of the content and time of change of anything (ctime), which no program can
    set back: a file that is replaced by one of equal size and time has another.
    """
    status = path.stat()
    return digest_of([status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns])


def digest_file(path: Path, memo: Path) -> str:
    """Return the SHA-256 of a file, from a folder of remembered digests where the file is as it was (`stamp_file`).

    Names and contents of what is remembered say nothing of where files lie.
    """
    known = known_digest(path, memo)
    if known is not None:
        return known
    # Within one tick of the file system's clock a second change has the same time as the first.
    time.sleep(min(max(path.stat().st_ctime + TICK - time.time(), 0), TICK))
    stamp = stamp_file(path)  # before it is read: what changes meanwhile is read again next time
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        error.filename = str(path)
        raise
    _remember(path, memo, stamp, digest)
    return digest


def known_digest(path: Path, memo: Path) -> str | None:
    """Return the digest of a file as it was remembered; None where there is none, or the file may have changed."""
    stamp = stamp_file(path)
    try:
        found = _memo_entry(path, memo).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return found[1] if len(found) == 2 and found[0] == stamp and _SHA256.fullmatch(found[1]) else None


def keep_digest(path: Path, memo: Path, digest: str) -> None:
    """Remember a digest under a file's new stamp, after something that changed its times and not its content."""
    _remember(path, memo, stamp_file(path), digest)


def _memo_entry(path: Path, memo: Path) -> Path:
    return memo / f"{digest_of(str(path.absolute()), 32)}.txt"


def _remember(path: Path, memo: Path, stamp: str, digest: str) -> None:
    # Not waited for until it is safely on disk: an entry that a crash leaves empty is made again.
    with atomic_file(_memo_entry(path, memo), durable=False) as file:
        file.write(f"{stamp} {digest}\n".encode())


LOCK_FILE = ".lock"


PATIENCE = 0.5
"""Seconds after which somebody who waits for a folder says so."""


@contextlib.contextmanager
def hold(folder: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Hold a folder against other processes; a second one waits and says for whom. Freed even by SIGKILL.

    Gives the lock's file descriptor: a process that inherits it holds the folder too, while this one does and, where
    this one is killed, until that one has ended as well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a+") as file:
        if not lock_soon(file):
            file.seek(0)
            say(f"{folder.name} is being worked on by process {file.read().strip() or '?'}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        sweep_leftovers(folder, alone=True)
        try:
            yield file.fileno()
        finally:
            file.truncate(0)
            fcntl.flock(file, fcntl.LOCK_UN)  # for whoever inherited it, too


def lock_soon(file: IO[str]) -> bool:
    """Take a lock, or find that somebody keeps it; who is just ending is not worth a line."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(PATIENCE / 20)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that the harness wrote; `RunError` where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # no JSON, or no UTF-8
        raise RunError(f"cannot read {path}: damaged, it is no longer the JSON that was written") from error
    if not isinstance(content, dict):
        raise RunError(f"expected a JSON object in {path}, found {type(content).__name__}")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object whole, keys in the order given."""
    write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def cache_root(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the cache: `BLEMORE_CACHE`, else `blemore-harness` in the user's cache directory.

    Raises:
        ConfigError: somebody's home is asked for, and nobody knows where it is.
    """
    named, base = environment.get("BLEMORE_CACHE"), environment.get("XDG_CACHE_HOME")
    try:
        if named:
            return Path(named).expanduser()
        return (Path(base) if base else Path.home() / ".cache") / "blemore-harness"
    except RuntimeError:
        found = f"BLEMORE_CACHE={named}" if named else "no HOME"
        raise ConfigError(
            f"nobody knows which home folder is meant (found {found}): name a folder for the cache with BLEMORE_CACHE"
        ) from None
