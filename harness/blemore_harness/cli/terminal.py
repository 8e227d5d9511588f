"""Progress and log lines on stderr: bars with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from blemore_harness.api.reporting import describe_count
from blemore_harness.drawing.console import PlainConsole
from blemore_harness.errors import printable
from blemore_harness.running.progress import Standing

QUIET_SECONDS = 10.0
"""Without a terminal, a running count is printed at most this often."""


class TerminalReporter:
    """A `context.Reporter` that writes to stderr; it keeps nothing.

    Args:
        console: writes to stderr.
        verbose: whether plain lines are printed; warnings always are.
    """

    def __init__(self, console: Console, verbose: bool = True) -> None:
        self._console = console
        self._verbose = verbose
        self._lock = threading.Lock()
        self._live: Progress | None = None
        self._open = 0
        self._standing: TaskID | None = None
        self._shown = time.monotonic()
        self._said: set[int] = set()  # hashes: plugins can reach a bar, and lines hold real names

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Bar]:
        """Open a bar; several may be open at once."""
        if not (self._verbose and self._console.is_terminal):
            yield LineBar(self, label, total)
            return
        live = self._open_live()
        task = live.add_task(printable(label), total=total)
        try:
            yield RichBar(live, task)
        finally:
            live.remove_task(task)
            self._close_live()

    def show(self, standing: Standing | None) -> None:
        """Show how far the run is: above the bars on a terminal, in a line every few seconds elsewhere."""
        if not self._verbose:
            return
        if self._console.is_terminal:
            self._show_live(standing)
        elif standing is not None and time.monotonic() - self._shown >= QUIET_SECONDS:
            self._shown = time.monotonic()
            self.log(standing.text)

    def _show_live(self, standing: Standing | None) -> None:
        if standing is None:
            if self._standing is not None and self._live is not None:
                self._live.remove_task(self._standing)
                self._standing = None
                self._close_live()
            return
        if self._standing is None:
            self._standing = self._open_live().add_task("", says_left=True)
        if self._live is not None:
            text = printable(standing.text)
            self._live.update(self._standing, description=text, completed=standing.done, total=standing.total)

    def _open_live(self) -> Progress:
        with self._lock:
            if self._live is None:
                self._live = Progress(
                    TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
                    TimeElapsedColumn(), TimeLeft(), console=self._console, transient=True,
                )  # fmt: skip
                self._live.start()
            self._open += 1
            return self._live

    def _close_live(self) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0 and self._live is not None:
                self._live.stop()
                self._live = None

    def log(self, message: str) -> None:
        """Print one line."""
        if self._verbose:
            self._console.print(printable(message), markup=False, highlight=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Print a warning, each text once."""
        line = printable(f"warning: {message}")
        with self._lock:
            if hash(line) in self._said:  # several encoders find the same in the clips
                return
            self._said.add(hash(line))
        self._console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def note(self, name: str, value: object) -> None:
        """Ignore a fact: facts are for the record."""


class TimeLeft(TimeRemainingColumn):
    """The time left of a bar; that of the run stands in its text."""

    def render(self, task: Task) -> Text:
        """Return the cell of a bar."""
        return Text() if "says_left" in task.fields else Text.assemble("left ", super().render(task))


class Bar:
    """A running count."""

    def advance(self, count: int = 1) -> None:
        """Count `count` more items as done."""


class RichBar(Bar):
    """A bar on a terminal."""

    def __init__(self, live: Progress, task: object) -> None:
        self._live, self._task = live, task

    def advance(self, count: int = 1) -> None:
        """Move the bar."""
        self._live.advance(self._task, count)  # type: ignore[arg-type]


class LineBar(Bar):
    """A line every few seconds, for log files and pipes."""

    def __init__(self, reporter: TerminalReporter, label: str, total: int) -> None:
        self._reporter, self._label, self._total = reporter, label, total
        self._done = 0
        self._started = self._said = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Print the count and the time left, where the last line is old enough."""
        self._done += count
        now = time.monotonic()
        if now - self._said < QUIET_SECONDS:
            return
        self._said = now
        self._reporter.log(describe_count(self._label, self._done, self._total, now - self._started))


def open_reporter(verbose: bool = True) -> TerminalReporter:
    """Return the reporter of a command, which writes to stderr; without `verbose` warnings only."""
    return TerminalReporter(PlainConsole(stderr=True), verbose)


def answer_console() -> Console:
    """Return the console of a command's answer, stdout; 120 columns wide where it is a file or a pipe."""
    console = PlainConsole()
    return console if console.is_terminal else PlainConsole(width=120)
