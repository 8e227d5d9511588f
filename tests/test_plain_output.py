"""Names and messages of others on a terminal: shown as they are written, and nothing that a terminal would obey."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from blemore_harness.cli.terminal import QUIET_SECONDS, LineBar, TerminalReporter
from blemore_harness.drawing.console import PlainConsole
from blemore_harness.drawing.tables import draw_rows

NASTY = "a[/x] [red]b :smile: \x1b[31m\x1b]0;title\x07\x9b2J\r\u202eevil"
WRITTEN = "a[/x] [red]b :smile: \\x1b[31m\\x1b]0;title\\x07\\x9b2J\\r\\u202eevil"


def console(**settings: Any) -> PlainConsole:
    return PlainConsole(file=io.StringIO(), width=300, **settings)


def text_of(drawn: PlainConsole) -> str:
    assert isinstance(drawn.file, io.StringIO)
    return drawn.file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_reporters_write_out_what_a_terminal_would_obey(terminal: bool) -> None:
    screen = console(force_terminal=terminal, color_system=None)
    reporter = TerminalReporter(screen)
    with reporter.progress(NASTY, 2) as bar:
        bar.advance()
        reporter.log(NASTY)
        reporter.warn(NASTY)
    said = text_of(screen)
    assert f"{WRITTEN}\n" in said
    assert f"warning: {WRITTEN}\n" in said
    for piece in ("\x1b[31m", "\x1b]0", "\x07", "\x9b", "\u202e"):
        assert piece not in said


@pytest.mark.parametrize("uptime", [0.0, 0.1, 1234.56789, 3e7 + 0.3])
def test_a_log_file_gets_few_lines_and_no_time_left_at_the_end(monkeypatch: pytest.MonkeyPatch, uptime: float) -> None:
    screen = console()
    passed = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: uptime + passed)
    bar = LineBar(TerminalReporter(screen), "looking", 100)
    for count in range(1, 101):
        # No step ends just when the next line is due, where rounding would decide.
        passed = 0.24 * count + (count == 100) * QUIET_SECONDS
        bar.advance()
    assert text_of(screen).splitlines() == [
        "looking: 42 of 100, 4.2/s, about 14 s left", "looking: 84 of 100, 4.2/s, about 4 s left",
        "looking: 100 of 100, 2.9/s",
    ]  # fmt: skip


def test_the_first_items_tell_no_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """They load libraries and weights: 27 s for the first clip are not 3 h for 400."""
    screen, clock = console(), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[-1])
    bar = LineBar(TerminalReporter(screen), "features", 400)
    for count, now in ((1, 1027.0), (1, 1040.0), (98, 1060.0)):
        clock.append(now)
        bar.advance(count)
    assert text_of(screen).splitlines() == [
        "features: 1 of 400", "features: 2 of 400", "features: 100 of 400, 1.7/s, about 3 min left",
    ]  # fmt: skip


def test_tables_show_brackets_and_codes_as_text() -> None:
    screen = console(color_system=None)
    screen.print(draw_rows([{"name": NASTY, "summary": "[bold]plain[/bold] 1 \u00b1 2 \u2588"}]))
    table = Table(title=NASTY)
    table.add_column(NASTY)
    table.add_row(NASTY)
    screen.print(table)
    assert text_of(screen).count("a[/x] [red]b :smile: \\x1b[31m\\x1b]0;title") == 4
    assert all(line.isprintable() for line in text_of(screen).splitlines())
    assert "[bold]plain[/bold] 1 \u00b1 2 \u2588" in text_of(screen)
    coloured = console(color_system="standard", force_terminal=True)
    coloured.print("[red]", style="red", highlight=False)
    assert text_of(coloured) == "\x1b[31m[red]\x1b[0m\n"


def test_who_reads_a_story_may_leave_it_and_who_reads_an_answer_too(capfd: pytest.CaptureFixture[str]) -> None:
    story = PlainConsole(stderr=True)
    story.on_broken_pipe()
    story.print("nobody reads this")
    assert capfd.readouterr().err == ""
    with pytest.raises(BrokenPipeError):  # the command ends then, with exit code 0
        PlainConsole().on_broken_pipe()


@pytest.mark.parametrize("words", ["submissions | head -1", "submissions --json | head -1", "plugins 2>&1 | head -1"])
def test_a_reader_that_goes_away_is_no_failure(words: str, tmp_path: Path) -> None:
    code = "from blemore_harness.cli import main; main()"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    environment = {**os.environ, "BLEMORE_PLUGINS": "none"}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} {words}"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
