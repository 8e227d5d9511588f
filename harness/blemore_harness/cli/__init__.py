"""The command line: the only package that prints or exits. stdout holds the answer, stderr the log."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

import click

from blemore_harness.cli import analysis, authors, doctor, evaluation, files, lists, models, stored
from blemore_harness.cli.root import cli
from blemore_harness.errors import HarnessError, advise, printable

__all__ = ["analysis", "authors", "cli", "doctor", "evaluation", "files", "lists", "main", "models", "stored"]

PROGRAM = "blemore-harness"

COMPLETING = "_BLEMORE_HARNESS_COMPLETE"
"""Set by the functions of shells that complete, as click names it."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

RESUMED = (["run"], ["prepare"], ["data"])
"""Commands that go on where they were interrupted, clip by clip and fold by fold."""


def main() -> None:
    """Run the command line; errors become one line on stderr, with `--json` an object on stdout, and an exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background of a shell
        signal.signal(signal.SIGINT, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):  # one that knows ASCII alone shows the rest as codes
        sys.stdout.reconfigure(errors="backslashreplace")
    if COMPLETING in os.environ:
        _complete()
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = _tell_json(error, error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        kept = ": what was finished is kept, the same command resumes" if sys.argv[1:2] in RESUMED else ""
        click.echo(f"interrupted{kept}", err=True)
        code = _tell_json(error, f"interrupted{kept}", INTERRUPTED)
    except HarnessError as error:
        _trace(error)
        click.echo(f"error: {printable(str(error))}", err=True)
        code = _tell_json(error, str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of stdout went away, as `| head` does; nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        # A disk that is full, a folder without permission: the machine's answer, not a bug.
        if error.filename is None and error.errno is None:
            raise
        _trace(error)
        click.echo(f"error: {printable(advise(error))}", err=True)
        code = _tell_json(error, advise(error), HarnessError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """End what goes on as Ctrl-C does: schedulers send SIGTERM, and it leaves a usable run, too.

    `timeout` and some launchers send a signal twice: the second does not disturb what tidies up after the first. A
    third ends the process at once.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(each) is _interrupt:
            signal.signal(each, _let_tidy_up)
    raise KeyboardInterrupt


def _let_tidy_up(_number: int, _frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(each) is _let_tidy_up:
            signal.signal(each, signal.SIG_DFL)


def _complete() -> NoReturn:
    """Answer a shell that completes; whatever goes wrong, it shows nothing."""
    from blemore_harness.cli.completion import install

    install()
    try:
        cli.main(standalone_mode=False, prog_name=PROGRAM, complete_var=COMPLETING)
    except Exception:
        sys.exit(1)
    sys.exit(0)


def _tell_json(error: BaseException, message: str, code: int) -> int:
    """Print an error as JSON where JSON was asked for; return its exit code."""
    if "--json" in sys.argv[1:]:
        found = {"type": type(error).__name__, "message": message, "exit_code": code}
        with contextlib.suppress(OSError):  # a full disk or a closed pipe: the line on stderr has said it
            click.echo(json.dumps({"error": found}, indent=2))
    return code


def _trace(error: BaseException) -> None:
    """Show where an error comes from, with `-v`."""
    if {"-v", "--verbose"} & set(sys.argv[1:]):
        said = getattr(error, "trace", "") or "".join(traceback.format_exception(error))
        click.echo("\n".join(map(printable, said.splitlines())), err=True)
