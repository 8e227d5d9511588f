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

from blemore_harness.context import Reporter

LOGGER = logging.getLogger("blemore_harness")
"""Gets messages as INFO and warnings as WARNING; Python shows the latter on stderr unless logging is set up."""

LINE_SECONDS = 10.0
"""A running count is logged at most this often."""

DRAW_SECONDS = 0.2
"""The bars of a notebook are drawn at most this often."""


def open_reporter() -> Reporter:
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

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[LogBar]:
        """Log a running count."""
        yield LogBar(label, total)

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
        """Return the count, with the time left once a few items are done."""
        rest = ""
        if 2 < self.done < self.total:
            left = (now - self.started) / self.done * (self.total - self.done)
            rest = f", about {left:.0f} s left" if left < 100 else f", about {left / 60:.0f} min left"
        return f"{self.label}: {self.done} of {self.total}{rest}"


class NotebookReporter(LogReporter):
    """A reporter of a notebook: all open bars in one output, which is empty again when they are closed."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._bars: list[NotebookBar] = []
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

    def draw(self, last: bool = False) -> None:
        """Draw the bars where the last drawing is old enough, or `last` of all."""
        from IPython.display import HTML, display

        with self._lock:
            now = time.monotonic()
            if not last and now - self._drawn < DRAW_SECONDS:
                return
            self._drawn = now
            if self._output is None and not last:
                self._output = display(HTML(""), display_id=True)
            if self._output is not None:
                self._output.update(HTML("".join(bar.to_html(now) for bar in self._bars)))


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
        text = html.escape(self.describe(now))
        return f'<div><progress value="{self.done}" max="{self.total}" aria-label="{text}"></progress> {text}</div>'
