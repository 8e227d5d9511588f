"""The command `simulate`: which fusion and which thresholds generalise, where the truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blemore_harness.cli.root import Command, data_option, json_option, open_reporter


@click.command(cls=Command)
@click.option(
    "--world",
    "worlds",
    default="logits",
    show_default=True,
    metavar="A,B,...|all",
    help="Worlds to simulate: logits, embeddings, weak, styles, identity, twins, pair.",
)
@click.option(
    "--replicates",
    type=int,
    default=20,
    show_default=True,
    help="Replicates (simulated challenges) of each world; 0 shows what --results holds.",
)
@click.option(
    "--encoders",
    metavar="A,B,...",
    help="Whose published accuracies to simulate [default: the world's; s4d,gemini,videomae,wav2vec2,timesformer].",
)
@click.option(
    "--fusions",
    metavar="A,B,...",
    help="Fusions to compare besides the reference recipe [default: mean,logit-mean,weighted-logit-mean,late,stack,"
    "structured,best-of]; name@variant is one with options of its own.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME.OPTION=VALUE",
    help="Set an option of a fusion, of all heads (head.epochs=9), of the heads below a fusion "
    "(mean@x.head.epochs=9) or of the worlds (world.style=1).",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Base seed of everything random.")
@click.option("--test-actors", type=int, default=11, show_default=True, help="Unseen actors of a replicate.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes [default: one per CPU]; the numbers do not depend on it."
)
@click.option(
    "--results",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that keeps every replicate (JSON lines); the same command goes on where it ended.",
)
@click.option("--markdown", is_flag=True, help="Print the tables of methods as Markdown.")
@data_option
@json_option
def simulate(
    worlds: str, replicates: int, encoders: str | None, fusions: str | None, settings: tuple[str, ...], seed: int,
    test_actors: int, workers: int | None, results: Path | None, markdown: bool, data: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Compare fusions and thresholds on simulated encoders.

    Probabilities or embeddings are drawn for a real label table, to see which methods generalise to unseen actors.

    No clip is decoded: only labels are read (those of the demo dataset without --data), and no number is a result on
    BLEMORE. Worlds are described in docs/explanation/simulation.md.
    """
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.options import parse_settings
    from blemore_lab import api
    from blemore_lab.report import draw_simulation, write_markdown
    from blemore_lab.study import NOTICE

    records = api.carry_out(
        worlds, replicates, _names(encoders), _names(fusions), parse_settings(settings), seed, test_actors, workers,
        results, data, open_reporter(),
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps({"simulation": True, "notice": NOTICE, "worlds": records}, indent=2))
    elif markdown:
        click.echo(write_markdown(records))
    else:
        answer_console().print(draw_simulation(records))


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())
