"""The command `simulate`: which fusion and which thresholds generalise, where the truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blemore_harness.cli.root import Command, data_option, json_option, keeping_stdout, open_reporter, set_option


@click.command(cls=Command)
@click.option(
    "--replicates", type=int, default=20, show_default=True, help="Number of replicates (simulated challenges)."
)
@click.option(
    "--encoders",
    metavar="A,B,...",
    help="Whose published accuracies to simulate [default: s4d,gemini,videomae,wav2vec2,timesformer].",
)
@click.option(
    "--fusions",
    metavar="A,B,...",
    help="Fusions to compare besides the reference recipe [default: mean,logit-mean,late,stack,structured,best-of].",
)
@set_option
@click.option("--seed", type=int, default=0, show_default=True, help="Base seed of everything random.")
@click.option("--bias", type=float, help="How much actors shift logits, in errors over clips [default: 0.5].")
@click.option("--correlation", type=float, help="Of two encoders' errors within a modality [default: 0.6].")
@click.option("--sharpness", type=float, help="How much actors' sharpness differs, sd of its logarithm [default: 0.4].")
@click.option("--test-actors", type=int, default=11, show_default=True, help="Unseen actors of a replicate.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes [default: one per CPU]; the numbers do not depend on it."
)
@data_option
@json_option
def simulate(
    replicates: int, encoders: str | None, fusions: str | None, settings: tuple[str, ...], seed: int,
    bias: float | None, correlation: float | None, sharpness: float | None, test_actors: int, workers: int | None,
    data: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Compare fusions and thresholds on simulated encoders.

    Probabilities are drawn for a real label table, to see which methods generalise to unseen actors.

    Nothing is decoded or trained: only labels are read (those of the demo dataset without --data), and no number is a
    result on BLEMORE. See docs/explanation/simulation.md.
    """
    from blemore_harness.cli.opening import open_dataset
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.networks import usable_cpus
    from blemore_harness.options import parse_settings
    from blemore_harness.systems.plugins import load_plugins
    from blemore_lab import study as studies
    from blemore_lab.encoders import Setting
    from blemore_lab.labels import demo_table, table_of
    from blemore_lab.report import draw_simulation

    sizes = {"bias": bias, "correlation": correlation, "sharpness": sharpness}
    chosen = {"encoders": _names(encoders), "fusions": _names(fusions)}
    study = studies.Study(
        replicates=replicates, test_actors=test_actors, seed=seed, fusion_options=parse_settings(settings),
        setting=Setting(**{name: value for name, value in sizes.items() if value is not None}),
        **{name: value for name, value in chosen.items() if value is not None},
    )  # fmt: skip
    reporter = open_reporter()
    with keeping_stdout():
        plugins = load_plugins()
    study.methods(plugins)  # a misspelt name fails before anything is read
    if data is None:
        reporter.warn("No --data given: using the label table of the generated DEMO dataset, with few actors.")
    table = demo_table() if data is None else table_of(open_dataset(data, reporter))
    with keeping_stdout():
        record = studies.simulate(study, table, plugins, reporter, workers or usable_cpus())
    click.echo(json.dumps(record, indent=2)) if as_json else answer_console().print(draw_simulation(record))


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())
