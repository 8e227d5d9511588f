"""The command `leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import click

from blemore_harness.cli.root import Command, data_option, open_reporter

BY = ("out-of-sample", "official")
FORMATS = ("table", "markdown", "csv", "latex", "json")


class _Folders(click.Option):
    """An option that is given several times, and whose default from a configuration file is one path."""

    def consume_value(self, *arguments: Any, **named: Any) -> Any:
        """Put a single path into a tuple."""
        value, source = super().consume_value(*arguments, **named)
        return (value,) if isinstance(value, str | Path) else value, source


@click.command(cls=Command)
@click.option(
    "--runs", cls=_Folders, type=click.Path(path_type=Path, file_okay=False), multiple=True,
    default=("blemore-runs",), show_default=True, envvar="BLEMORE_RUNS", metavar="DIR",
    help="Where runs are kept; give it several times for several folders [BLEMORE_RUNS].",
)  # fmt: skip
@click.option("--by", type=click.Choice(BY), default=BY[0], show_default=True, help="Which Score ranks.")
@click.option("--format", "form", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a page instead of printing."
)
@data_option
def leaderboard(runs: tuple[Path, ...], by: str, form: str, html: Path | None, data: Path | None) -> None:
    """Rank the systems of all stored runs beside published results.

    Systems are ranked where they are comparable: on one dataset, by one version of the protocol. Differences are tested
    on the predictions, so that a rank is a group of systems that cannot be told apart.
    """
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.disk import write_atomically
    from blemore_pages.api import rank_runs
    from blemore_pages.leaderboard import formats

    chosen = cast(Literal["out-of-sample", "official"], by)
    boards, remarks = rank_runs(runs, chosen, data, open_reporter())
    if html is not None:
        write_atomically(html, formats.write_html(boards, remarks, chosen))
        click.echo(str(html))
        return
    if form == "table":
        answer_console().print(formats.draw_boards(boards, remarks, chosen))
        return
    writers = {
        "markdown": lambda: formats.write_markdown(boards, chosen),
        "csv": lambda: formats.write_csv(boards),
        "latex": lambda: formats.write_latex(boards),
        "json": lambda: formats.write_json(boards, remarks, chosen),
    }
    click.echo(writers[form]().rstrip("\n"))
