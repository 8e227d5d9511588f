"""The command `tune`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blemore_harness.cli.completion import complete_encoders, complete_fusions, complete_submissions
from blemore_harness.cli.root import (
    Command,
    data_option,
    device_option,
    json_option,
    keeping_stdout,
    open_reporter,
    plugin_option,
    runs_option,
    seed_option,
    set_option,
)


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=complete_submissions)
@plugin_option
@click.option("--fusion", metavar="NAME", shell_complete=complete_fusions, help="Fusion of several encoders.")
@set_option
@click.option(
    "--space", "spaces", multiple=True, metavar="NAME.OPTION=VALUES",
    help="Values to try: LOW:HIGH, LOW:HIGH:log or A,B,C [default: those that plugins declare].",
)  # fmt: skip
@click.option("--only", metavar="A,B,...", shell_complete=complete_encoders,
              help="Search declared values of these systems only, such as the fusion.")  # fmt: skip
@click.option("--trials", type=click.IntRange(min=1), default=20, show_default=True, help="Trials of each study.")
@click.option(
    "--inner-folds", type=click.IntRange(min=2), default=3, show_default=True,
    help="Folds inside the training part of a fold.",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True,
              help="Processes; the result does not depend on it.")  # fmt: skip
@seed_option
@device_option
@click.option("--fold-seed", type=int, default=0, show_default=True, help="Seed of the folds if the metadata has none.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.toml",
    help="The submission [default: NAME-tuned.toml here].",
)  # fmt: skip
@data_option
@runs_option
@json_option
def tune(
    name: str | None, plugins: tuple[str, ...], fusion: str | None, settings: tuple[str, ...], spaces: tuple[str, ...],
    only: str | None, trials: int, inner_folds: int, jobs: int, seed: int | None, device: str, fold_seed: int,
    output: Path | None, data: Path | None, runs: Path, as_json: bool,
) -> None:  # fmt: skip
    """Search the options of a submission or of plugins.

    Expects the NAME of a submission or of an encoder, or a list of plugins. Trials are scored on actors inside the
    training part of a fold only; the held-out fold then gives an out-of-sample number. A last study on all training
    clips makes a submission. If the command is repeated, it goes on where it ended; more --trials are added.
    """
    from blemore_harness.cli.evaluation import open_named_run
    from blemore_harness.cli.terminal import answer_console
    from blemore_tuning import report
    from blemore_tuning.api import is_encoder, search
    from blemore_tuning.extra import load_optuna

    load_optuna()
    if name is not None and not plugins and is_encoder(name):
        plugins, name = (name,), None
    with keeping_stdout():
        run = open_named_run("tune", name, plugins, fusion, None, settings, seed, device, fold_seed, data, runs)
        names = [each.strip() for each in (only or "").split(",") if each.strip()]
        plan, found, facts = search(run, spaces, names, trials, inner_folds, jobs, fold_seed, output, open_reporter())
    file = Path(facts["file"])
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    console = answer_console()
    console.print(report.draw(plan, found, run.dataset.demo))
    console.print(f"submission   {file}", soft_wrap=True)
    there = "" if file.parent in (Path(), Path("submissions")) else f"cd {file.parent} && "
    console.print(f"next         {there}blemore-harness run {file.stem}", soft_wrap=True)
