"""The log file of a run: what its reporter is told, with the time, beside the record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from blemore_harness.context import Progress, Reporter
from blemore_harness.errors import printable
from blemore_harness.running.progress import Show, Standing, ignore_standing

LOG_FILE = "log.txt"


class RunLog:
    """A reporter that writes each line to a file as well; runs of the same folder append.

    Args:
        reporter: shows the lines, too.
        path: the file.
        command: the command line, which the log of a run begins with.
        show: shows how far the run is, too.
    """

    def __init__(self, reporter: Reporter, path: Path, command: Sequence[str], show: Show = ignore_standing) -> None:
        self._reporter = reporter
        self._show = show
        self._path = path
        self._write(f"started: {' '.join(command)}")

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Progress]:
        """Write when work begins and when it ends."""
        self._write(f"{label}: 0 of {total}")
        with self._reporter.progress(label, total) as bar:
            yield bar
        self._write(f"{label}: done")

    def log(self, message: str) -> None:
        """Write and show a line."""
        self._write(message)
        self._reporter.log(message)

    def warn(self, message: str) -> None:
        """Write and show a warning."""
        self._write(f"warning: {message}")
        self._reporter.warn(message)

    def note(self, name: str, value: object) -> None:
        """Facts are for the record; nothing is written."""
        self._reporter.note(name, value)

    def show(self, standing: Standing | None) -> None:
        """Write and show how far the run is."""
        if standing is not None:
            self._write(standing.text)
        self._show(standing)

    def _write(self, message: str) -> None:
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(message)}\n")
