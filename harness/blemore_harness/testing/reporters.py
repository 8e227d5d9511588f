"""The reporter of the checks: it counts what a plugin says, and can end a call in its middle as Ctrl-C does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(KeyboardInterrupt):
    """The end of a call in its middle."""


class CountingReporter:
    """Counts progress.

    Args:
        stop_at: raise `Interrupted` when this much progress was said; None never does.
    """

    def __init__(self, stop_at: int | None = None) -> None:
        self.done = 0
        self.asked = 0
        self._stop_at = stop_at

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[CountingReporter]:
        """Return itself as the bar."""
        yield self

    def advance(self, count: int = 1) -> None:
        """Count, and stop where it was asked to."""
        self.done += count
        if self._stop_at is not None and self.done >= self._stop_at:
            self._stop_at = None
            raise Interrupted

    def log(self, message: str) -> None:
        """Take a line."""

    def warn(self, message: str) -> None:
        """Take a line."""

    def note(self, name: str, value: object) -> None:
        """Take a fact; `TypeError` for what JSON does not know, as in a run."""
        json.dumps(value)
