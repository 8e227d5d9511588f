"""Messages and progress in Python: the log `blemore_harness`, and in a notebook a bar."""

from __future__ import annotations

import contextlib
import html
import logging
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from blemore_harness.running.progress import Standing, show_duration, show_speed

LOGGER = logging.getLogger("blemore_harness")
"""Gets messages as INFO and warnings as WARNING; Python shows the latter on stderr unless logging is set up."""

LINE_SECONDS = 10.0
"""A running count is logged at most this often."""

FEW = 2
"""Items after which neither a speed nor the time left is shown yet: the first ones load libraries and weights."""

DRAW_SECONDS = 0.2
"""The bars of a notebook are drawn at most this often."""


def open_reporter() -> LogReporter:
    """Return the reporter of a call: it logs, and in a notebook it shows bars as well."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return NotebookReporter() if getattr(shell, "kernel", None) is not None else LogReporter()


@contextlib.contextmanager
def keep_stdout() -> Iterator[None]:
    """Keep stdout clean: what plugins and libraries print in the block goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


class LogReporter:
    """A `context.Reporter` that logs; it keeps nothing."""

    def __init__(self) -> None:
        self._said: set[int] = set()  # hashes: plugins can reach a bar, and lines hold real names
        self._shown = -LINE_SECONDS

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[LogBar]:
        """Log a running count."""
        yield LogBar(label, total)

    def show(self, standing: Standing | None) -> None:
        """Log how far the run is where the last such line is old enough."""
        if standing is not None and time.monotonic() - self._shown >= LINE_SECONDS:
            self._shown = time.monotonic()
            self.log(standing.text)

    def log(self, message: str) -> None:
        """Log a message."""
        LOGGER.info("%s", message)

    def warn(self, message: str) -> None:
        """Log a warning, each text once."""
        if hash(message) not in self._said:
            self._said.add(hash(message))
            LOGGER.warning("%s", message)

    def note(self, name: str, value: object) -> None:
        """Ignore a fact: facts are for the record."""


class LogBar:
    """A running count in the log."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done = label, total, 0
        self.started = self._said = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Count `count` more items as done, and log it where the last line is old enough."""
        self.done += count
        now = time.monotonic()
        if now - self._said >= LINE_SECONDS:
            self._said = now
            LOGGER.info("%s", self.describe(now))

    def describe(self, now: float) -> str:
        """Return the line of the log."""
        return describe_count(self.label, self.done, self.total, now - self.started)


def describe_count(label: str, done: int, total: int, seconds: float) -> str:
    """Return how many items are done, with the speed and the time left once a few are.

    >>> describe_count("features", 2, 400, 54.0), describe_count("features", 100, 400, 50.0)
    ('features: 2 of 400', 'features: 100 of 400, 2.0/s, about 2 min left')
    """
    text = f"{label}: {done} of {total}"
    if done > FEW:
        text += f", {show_speed(done, seconds)}"
        text += f", about {show_duration(seconds / done * (total - done))} left" if done < total else ""
    return text


class NotebookReporter(LogReporter):
    """A reporter of a notebook: how far the run is and all open bars, in one output that is empty again at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._bars: list[NotebookBar] = []
        self._standing: Standing | None = None
        self._output: Any = None
        self._drawn = 0.0

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[NotebookBar]:
        """Show a bar; several may be open at once."""
        bar = NotebookBar(self, label, total)
        self._bars.append(bar)
        try:
            yield bar
        finally:
            self._bars.remove(bar)
            self.draw(last=not self._bars)

    def show(self, standing: Standing | None) -> None:
        """Show how far the run is, above the bars."""
        self._standing = standing
        self.draw(last=True)

    def draw(self, last: bool = False) -> None:
        """Draw all that is open where the last drawing is old enough, or in any case (`last`)."""
        from IPython.display import HTML, display

        with self._lock:
            now = time.monotonic()
            if not last and now - self._drawn < DRAW_SECONDS:
                return
            self._drawn = now
            first = [] if self._standing is None else [self._standing]
            if self._output is None and (first or not last):
                self._output = display(HTML(""), display_id=True)
            if self._output is not None:
                drawn = [draw_bar(each.text, each.done, each.total) for each in first]
                self._output.update(HTML("".join([*drawn, *(bar.to_html(now) for bar in self._bars)])))


class NotebookBar(LogBar):
    """A bar in a notebook."""

    def __init__(self, reporter: NotebookReporter, label: str, total: int) -> None:
        super().__init__(label, total)
        self._reporter = reporter

    def advance(self, count: int = 1) -> None:
        """Move the bar."""
        self.done += count
        self._reporter.draw()

    def to_html(self, now: float) -> str:
        """Return the bar as HTML."""
        return draw_bar(self.describe(now), self.done, self.total)


def draw_bar(text: str, done: int, total: int) -> str:
    """Return a bar with its text as HTML."""
    text = html.escape(text)
    return f'<div><progress value="{done}" max="{total}" aria-label="{text}"></progress> {text}</div>'
