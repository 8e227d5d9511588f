"""The command `predictions`."""

from __future__ import annotations

from pathlib import Path

import click

from blemore_harness.cli.root import Command, data_option, json_option, runs_option


@click.command(cls=Command)
@click.argument("run")
@click.option("--system", help="Whose predictions [default: the last system of the run].")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write a .csv, .json or .parquet file [default: CSV on stdout].",
)  # fmt: skip
@data_option
@runs_option
@json_option
def predictions(
    run: str, system: str | None, output: Path | None, data: Path | None, runs: Path, as_json: bool
) -> None:
    """List a system's answers clip by clip.

    For every training clip (out of fold) and test clip of RUN: actor, fold, truth, answer, the six probabilities, and
    whether the set of emotions and the saliences are right.
    """
    from blemore_pages import api
    from blemore_pages.predictions.columns import check_ending, to_csv, to_json, write_predictions

    if output is not None and as_json:
        raise click.UsageError("expected either -o FILE or --json")
    if output is not None:
        check_ending(output)  # before anything is read
    columns = api.predictions(run, system=system, data=data, runs=runs)
    if output is None:
        click.echo(to_json(columns) if as_json else to_csv(columns), nl=False)
    else:
        write_predictions(columns, output)
        click.echo(f"{output}: {len(columns['clip'])} clips", err=True)
