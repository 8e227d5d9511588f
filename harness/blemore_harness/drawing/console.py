"""Consoles for names and messages of others: they are shown as they are written, and can do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment

from blemore_harness.errors import printable


class PlainConsole(Console):
    """A console on which square brackets and `:smile:` are text, and what a terminal would obey is written out.

    Where its reader goes away, as of `| head`, it falls silent on stderr, and raises `BrokenPipeError` on stdout.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, **settings)
        self.push_render_hook(_WrittenOut())

    def on_broken_pipe(self) -> None:
        """See the class: the work goes on without its story, and a command ends without its answer."""
        if not self.stderr:
            raise BrokenPipeError
        self.quiet = True


class _WrittenOut(RenderHook):
    """Puts `_Written` around everything that is drawn."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Written(renderable) for renderable in renderables]


class _Written:
    """What is drawn, with characters that a terminal would obey written out; codes of the console itself stay."""

    def __init__(self, renderable: ConsoleRenderable) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for text, style, control in console.render(self._renderable, options):
            lines = text if control else "\n".join(map(printable, text.split("\n")))
            yield Segment(lines, style, control)
