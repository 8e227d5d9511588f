"""Watches what a plugin does to the machine while it is called: files that it writes, addresses that it asks for.

Both are seen through Python's audit events: what a library does in C alone, or another process, is not.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")
"""Addresses that do not leave the machine: a stand-in of a service lives there."""

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.symlink", "os.link", "os.chmod")
"""Audit events of changes whose first argument is a path (of a rename and a link, the second one too)."""

TORCH = "torchinductor_"
"""Beginning of a folder for temporary files that torch makes for itself, whoever calls it."""

BYTECODE = "__pycache__"
"""Folders that Python itself writes while it imports."""


@dataclass
class Seen:
    """What was seen while one call lasted.

    Attributes:
        writable: folders that may be written in.
        offline: whether the network is refused.
        written: paths elsewhere that were written or changed.
        asked: addresses that were asked for.
    """

    writable: Sequence[Path]
    offline: bool
    written: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


class Watch:
    """One watch per process: an audit hook cannot be taken away, and does nothing while nobody looks."""

    def __init__(self) -> None:
        self._now: Seen | None = None
        sys.addaudithook(self._hear)

    @contextmanager
    def look(self, writable: Sequence[Path], offline: bool, scratch: Path) -> Iterator[Seen]:
        """Watch while the block lasts.

        Args:
            writable: folders that may be written in.
            offline: refuse every address but this machine's own.
            scratch: where temporary files go meanwhile.
        """
        scratch.mkdir(parents=True, exist_ok=True)
        seen = Seen([*(folder.resolve() for folder in writable), scratch.resolve()], offline)
        before, tempfile.tempdir = tempfile.tempdir, str(scratch)
        printed = io.StringIO()
        self._now = seen
        try:
            with redirect_stdout(printed):
                yield seen
        finally:
            self._now = None
            tempfile.tempdir = before
            if line := printed.getvalue().strip().split("\n")[0]:
                seen.written.append(f"'{line[:40]}' on stdout")

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        seen = self._now
        if seen is None:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = (
                any(letter in mode for letter in "wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            if writes:
                self._note(seen, path)
        elif event in CHANGES:
            for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
                self._note(seen, path)
        elif event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
            self._refuse(seen, arguments[0] if event == "socket.getaddrinfo" else arguments[1])

    def _note(self, seen: Seen, given: object) -> None:
        if not isinstance(given, str | bytes | os.PathLike):
            return  # a file descriptor
        path = Path(os.fsdecode(given)).absolute()
        path = path.parent.resolve() / path.name  # of a link, the link itself is written
        if path.parts[1:2] == ("dev",) or BYTECODE in path.parts or str(path) in seen.written:
            return
        if any(part.startswith(TORCH) for part in path.parts):
            return  # torch's own, made when some of its parts are first used
        if not any(path.is_relative_to(folder) for folder in seen.writable):
            seen.written.append(str(path))

    def _refuse(self, seen: Seen, address: object) -> None:
        if (
            isinstance(address, str | bytes)
            and not os.fsdecode(address).startswith(LOOPBACK)
            and "/" in os.fsdecode(address)
        ):
            return  # a socket of this machine, named by a path
        host = address[0] if isinstance(address, tuple) and address else address
        name = os.fsdecode(host) if isinstance(host, str | bytes) else str(host)
        if host in (None, "", b"") or name.startswith(LOOPBACK) or not seen.offline:
            return
        if name not in seen.asked:
            seen.asked.append(name)
        raise OSError(f"the conformance checks refuse the network: '{name}' was asked for")


def list_leftovers(scratch: Path) -> list[str]:
    """Name the temporary files that were left."""
    return sorted(path.name for path in scratch.iterdir() if not path.name.startswith(TORCH))
