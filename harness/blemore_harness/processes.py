"""Processes that share the work of a call: fresh ones, which know modules but not the script that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType


def end_group(leader: int) -> None:
    """End a process and all others of its group at once, those that its children started too; one may be gone.

    Args:
        leader: process id, which nobody has waited for yet: until then no other group can have its number.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


class _Process(SpawnProcess):
    """A process that does not run the script of its parent: it would carry out the same call once more."""

    def start(self) -> None:
        """Start it as a child of a program without a file."""
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            super().start()
        finally:
            sys.modules["__main__"] = script


class _Fresh(SpawnContext):
    Process = _Process


def open_pool(count: int, initializer: Callable[[], object] | None = None) -> ProcessPoolExecutor:
    """Return a pool of fresh processes; a fork of a process with running threads (torch) can hang.

    What they are given must come from modules: nothing of a script, which needs no `if __name__ == "__main__"`.

    Args:
        count: of processes.
        initializer: called in each of them first.
    """
    return ProcessPoolExecutor(count, _Fresh(), initializer)
