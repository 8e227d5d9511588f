"""Processes that share the work of a call: fresh ones, which know modules but not the script that started them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType


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
