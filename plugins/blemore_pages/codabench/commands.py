"""The command `codabench`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

import click

from blemore_harness.cli.root import Command
from blemore_harness.errors import printable

DAY, FORM = click.DateTime(["%Y-%m-%d"]), "YYYY-MM-DD"


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
    refused: Literal["fail", "zero"],
) -> None:  # fmt: skip
    """Write a competition bundle for Codabench.

    DIR gets the bundle as a folder and as a zip file to upload: two phases, pages, terms, a starting kit with a
    checker, your labels, and a scoring program that gives the numbers of this harness.
    """
    from blemore_harness.files.scoring import read_reference
    from blemore_pages import api

    written = api.codabench(
        folder, reference=reference, title=title, start=start and start.date(), final=final and final.date(),
        end=end and end.date(), refused=refused,
    )  # fmt: skip
    click.echo(printable(f"{written}: upload this bundle to Codabench ({len(read_reference(reference).ids)} clips)"))
    click.echo(printable(f"{folder}: holds the true labels in reference_data, so keep it to yourself"))
