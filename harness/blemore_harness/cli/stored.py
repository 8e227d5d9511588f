"""Commands that look after stored runs: runs, runs watch, runs remove, runs clean."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemore_harness.cli.completion import complete_runs
from blemore_harness.cli.root import cli, json_option, open_reporter, runs_option
from blemore_harness.errors import printable

if TYPE_CHECKING:
    from blemore_harness.files.housekeeping import Doomed

yes_option = click.option("--yes", is_flag=True, help="Delete without asking.")


@cli.group("runs", invoke_without_command=True)
@runs_option
@json_option
@click.pass_context
def stored_runs(context: click.Context, runs: Path, as_json: bool) -> None:
    """List stored runs, or remove some.

    Shows time, Score, size and state. Score is the cross-fitted Score of the best system. A run's size includes its
    systems, which other runs may share, and their kept models (`run --keep-models`), whose own size stands in the next
    column.
    """
    if context.invoked_subcommand is not None:
        context.default_map = {context.invoked_subcommand: {"runs": str(runs)}}
        return
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.run_list import draw_runs, list_rows

    rows = list_rows(runs)
    click.echo(json.dumps(rows, indent=2)) if as_json else answer_console().print(draw_runs(rows, runs))


@stored_runs.command("watch")
@click.argument("name", metavar="RUN", shell_complete=complete_runs)
@runs_option
def watch(name: str, runs: Path) -> int:
    """Follow a run that goes on elsewhere, until it has ended.

    Prints its log since it was last started, and lines as they come. Exit code 0 for a run that finished.
    """
    from blemore_harness.api.watching import find_watched, follow_run, has_begun
    from blemore_harness.files.runs import Runs, read_record

    folder = find_watched(Runs(runs), name)
    if not has_begun(folder):
        open_reporter().log(f"{folder.name}: has not begun yet")
    for line in follow_run(folder):
        click.echo(printable(line))
    status = read_record(folder).status
    if status == "started":
        click.echo(printable(f"{folder.name}: no process works on it, it was ended; the same command resumes it"))
    else:
        click.echo(printable(f"{folder.name}: {status}"))
    return 0 if status == "finished" else 3


@stored_runs.command("remove")
@click.argument("names", metavar="RUN...", nargs=-1, required=True, shell_complete=complete_runs)
@yes_option
@runs_option
def remove_runs(names: tuple[str, ...], yes: bool, runs: Path) -> int:
    """Delete runs, and systems that no other run uses.

    What is deleted is shown first.
    """
    from blemore_harness.files.housekeeping import list_removals
    from blemore_harness.files.runs import Runs

    stored = Runs(runs)
    return _delete(list_removals(stored, [stored.find(name) for name in names]), yes)


@stored_runs.command("clean")
@yes_option
@runs_option
def clean_runs(yes: bool, runs: Path) -> int:
    """Delete what no run needs: unused systems, runs without a result.

    Such are systems that no run uses, and runs that failed without a result; temporary files of killed processes go
    without being asked for. What a process works on is left alone, and so are finished folds of a run that can be
    resumed. What is deleted is shown first.
    """
    from blemore_harness.files.housekeeping import list_rubbish, sweep
    from blemore_harness.files.runs import Runs

    swept = sweep(Runs(runs))
    if swept:
        open_reporter().log(f"{swept} temporary file{'s' * (swept > 1)} deleted")
    doomed = list_rubbish(Runs(runs))
    if not doomed:
        click.echo(printable(f"{runs}: nothing to delete"))
        return 0
    return _delete(doomed, yes)


def _delete(doomed: list[Doomed], yes: bool) -> int:
    """Show folders, ask, and delete them."""
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.run_list import draw_doomed, show_size
    from blemore_harness.files.housekeeping import delete

    answer_console().print(draw_doomed(doomed))
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nothing was deleted: without a terminal to ask on, add --yes")
        if not click.confirm("Delete these folders?"):
            click.echo("nothing was deleted")
            return 1
    left = delete(doomed)
    for each in left:
        click.echo(printable(f"{each.folder}: left alone, a process works on it"))
    freed = sum(each.size for each in doomed) - sum(each.size for each in left)
    click.echo(f"deleted: {len(doomed) - len(left)} of {len(doomed)}, {show_size(freed)}")
    return 1 if left else 0
