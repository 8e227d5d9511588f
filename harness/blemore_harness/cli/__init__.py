"""The command line: the only package that prints or exits. stdout is the answer, stderr is the story."""

from __future__ import annotations

import io
import os
import signal
import sys

import click

from blemore_harness.cli import analysis, authors, doctor, evaluation, files, lists, simulation
from blemore_harness.cli.root import cli
from blemore_harness.errors import HarnessError, advise, printable

__all__ = ["analysis", "authors", "cli", "doctor", "evaluation", "files", "lists", "main", "simulation"]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

RESUMED = (["run"], ["prepare"], ["data"])
"""Commands that go on where they were interrupted, clip by clip and fold by fold."""


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    # Schedulers end a job with SIGTERM: it leaves a usable run as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):  # one that knows ASCII alone shows the rest as codes
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        kept = ": what was finished is kept, the same command resumes" if sys.argv[1:2] in RESUMED else ""
        click.echo(f"interrupted{kept}", err=True)
        code = INTERRUPTED
    except HarnessError as error:
        click.echo(f"error: {printable(str(error))}", err=True)
        code = error.exit_code
    except BrokenPipeError:
        # The reader of stdout went away, as `| head` does; nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        # A disk that is full, a folder without permission: the machine's answer, not a bug.
        if error.filename is None and error.errno is None:
            raise
        click.echo(f"error: {printable(advise(error))}", err=True)
        code = HarnessError.exit_code
    sys.exit(code if isinstance(code, int) else 0)
