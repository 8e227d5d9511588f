"""The command `export`."""

from __future__ import annotations

from pathlib import Path

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
    import json
    import time

    from blemore_harness.disk import write_atomically
    from blemore_harness.files.runs import Runs, read_record
    from blemore_pages.exports.every_eval_ever import describe_system, path_of
    from blemore_pages.exports.facts import find_systems
    from blemore_pages.exports.hf_eval_results import check_dataset, render_results

    folder = Runs(runs).find(run)
    record = read_record(folder)
    systems = find_systems(record, folder.name, system)
    if to == "hf-eval-results":
        files = render_results(record, systems[-1], check_dataset(dataset))
    else:
        contents = {path_of(record, each): describe_system(record, each, organization, time.time()) for each in systems}
        files = {path: json.dumps(content, indent=2) + "\n" for path, content in contents.items()}
    for path, text in files.items():
        write_atomically(output / path, text)
        click.echo(str(output / path))
