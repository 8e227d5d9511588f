"""The command `export`."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from blemore_harness.cli.completion import complete_runs
from blemore_harness.cli.root import Command, runs_option

TARGETS = ("every-eval-ever", "hf-eval-results")


@click.command(cls=Command)
@click.argument("run", shell_complete=complete_runs)
@click.option("--to", type=click.Choice(TARGETS), required=True, help="Format.")
@click.option("--system", help="System to export [default: all, for hf-eval-results the last one].")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), default=Path(), metavar="DIR",
    help="Folder to write to [default: here].",
)  # fmt: skip
@click.option("--organization", default="unknown", show_default=True, help="Who publishes it (every-eval-ever).")
@click.option("--dataset", metavar="OWNER/NAME", help="The benchmark's dataset on the Hub (hf-eval-results).")
@runs_option
def export(
    run: str, to: str, system: str | None, output: Path, organization: str, dataset: str | None, runs: Path
) -> None:
    """Write a run's results in a format of others.

    `every-eval-ever` is a JSON file per system in the schema 0.3.0 of that data store, `hf-eval-results` the files
    `.eval_results/*.yaml` of a model repository on the Hugging Face Hub. Caveats are written with the numbers.
    """
    from blemore_pages import api

    for path in api.export(
        run, cast(api.Target, to), output=output, system=system, organization=organization, dataset=dataset, runs=runs
    ):
        click.echo(str(path))
