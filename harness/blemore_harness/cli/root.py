"""The command group, and the options that several commands share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from blemore_harness import __version__
from blemore_harness.networks import CHOICES

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="BLEMORE_DATA",
    help="Folder of a BLEMORE download [BLEMORE_DATA].",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout.")
runs_option = click.option(
    "--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("blemore-runs"), show_default=True,
    envvar="BLEMORE_RUNS", help="Where runs are kept [BLEMORE_RUNS].",
)  # fmt: skip


seed_option = click.option(
    "--seed", type=int, help="Base seed of everything random [default: the submission's, else 0]."
)
device_option = click.option("--device", type=click.Choice(CHOICES), default="auto", show_default=True)
plugin_option = click.option(
    "--plugin", "plugins", multiple=True, metavar="A,B,...",
    help="Encoders, separated by commas; a+b joins vectors under one head, a@v is a variant of a.",
)  # fmt: skip
set_option = click.option(
    "--set", "settings", multiple=True, metavar="PLUGIN.OPTION=VALUE", help="Set an option of a plugin."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Evaluate systems on the BLEMORE challenge by its official protocol.

    Try `blemore-harness run --plugin s4d,wav2vec2,gemini`: it needs no data, weights or key.
    """


@contextlib.contextmanager
def keeping_stdout() -> Iterator[None]:
    """Keep stdout for the answer: what plugins and libraries print in the block goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
