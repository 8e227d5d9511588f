"""The command `rank`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blemore_harness.cli.root import Command, json_option
from blemore_harness.errors import printable


@click.command(cls=Command)
@click.argument("sent", metavar="FOLDER|FILE...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--reference", type=click.Path(path_type=Path), metavar="FILE", required=True,
    help="True labels, in the format of train_metadata.csv.",
)  # fmt: skip
@click.option("--alpha", type=float, help="Presence threshold for probabilities [default: best on these clips].")
@click.option("--beta", type=float, help="Salience threshold for probabilities [default: best on these clips].")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the ranking as a page as well.")
@json_option
def rank(
    sent: tuple[Path, ...], reference: Path, alpha: float | None, beta: float | None, html: Path | None, as_json: bool
) -> int:
    """Rank submissions by labels that you have.

    Scores zip files as for Codabench, decoded labels (.json) and probabilities (.csv, .npz), found in folders at any
    depth. Where the reference names actors (video_id), there are 95 % CIs over actors and groups of ties.
    What cannot be scored is listed with the reason; the exit code is then 1.
    """
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.score_tables import draw_ranking
    from blemore_pages import api

    found = api.rank(sent, reference=reference, alpha=alpha, beta=beta, html=html)
    if html is not None:
        click.echo(printable(f"{html}: ranking of {len(found['ranked'])} submissions"), err=True)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        answer_console().print(draw_ranking(found))
    return int(bool(found["refused"]))
