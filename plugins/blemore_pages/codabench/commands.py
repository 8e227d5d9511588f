"""The command `codabench`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from blemore_harness.cli.root import Command
from blemore_harness.errors import printable

DAY, FORM = click.DateTime(["%Y-%m-%d"]), "YYYY-MM-DD"

DURATION = timedelta(days=90)
"""Of a competition without `--end`."""


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--reference", type=click.Path(path_type=Path), metavar="FILE", required=True,
    help="True labels, in the format of train_metadata.csv.",
)  # fmt: skip
@click.option("--title", default="BLEMORE challenge", show_default=True, help="Title of the competition.")
@click.option(
    "--start", type=DAY, metavar="YYYY-MM-DD", help="First day of the development phase, UTC [default: today]."
)
@click.option(
    "--final", type=DAY, metavar="YYYY-MM-DD", help="First day of the final phase [default: a week before the end]."
)
@click.option(
    "--end",
    type=DAY,
    metavar="YYYY-MM-DD",
    help="Day on which the final phase ends [default: 90 days after the start].",
)
@click.option(
    "--refused", type=click.Choice(["fail", "zero"]), default="fail", show_default=True,
    help="What a submission gets that cannot be scored: it fails, and does not count, or a Score of 0.",
)  # fmt: skip
def codabench(
    folder: Path, reference: Path, title: str, start: datetime | None, final: datetime | None, end: datetime | None,
    refused: str,
) -> None:  # fmt: skip
    """Write a competition bundle for Codabench.

    DIR gets the bundle as a folder and as a zip file to upload: two phases, pages, terms, a starting kit with a
    checker, your labels, and a scoring program that gives the numbers of this harness.
    """
    from blemore_harness.files.scoring import read_reference
    from blemore_pages.codabench.bundle import Competition, write_bundle

    first = start or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    last = end or first + DURATION
    middle = final or max(first + (last - first) / 2, last - timedelta(days=7))
    competition = Competition(title, first.date(), middle.date(), last.date(), refused == "zero")
    labels = read_reference(reference)
    written = write_bundle(folder, labels, competition)
    click.echo(printable(f"{written}: upload this bundle to Codabench ({len(labels.ids)} clips)"))
    click.echo(printable(f"{folder}: holds the true labels in reference_data, so keep it to yourself"))
