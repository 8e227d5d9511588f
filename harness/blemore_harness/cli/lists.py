"""Commands that list what there is: plugins, submissions."""

from __future__ import annotations

import json

import click

from blemore_harness.cli.completion import complete_systems
from blemore_harness.cli.root import cli, json_option


@cli.command("plugins")
@click.argument("name", required=False, shell_complete=complete_systems)
@json_option
def list_plugins(name: str | None, as_json: bool) -> None:
    """List encoders, fusions and plugins that failed to load.

    Each with the package that offers it, or the reason. With the NAME of an encoder or a fusion: its card, requirements
    and options with their defaults, choices and meanings.
    """
    from dataclasses import asdict

    from blemore_harness.api.listing import plugin, plugins
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.plugin_details import draw_details
    from blemore_harness.drawing.tables import draw_rows

    if name is not None:
        details = plugin(name)
        click.echo(json.dumps(asdict(details), indent=2)) if as_json else answer_console().print(draw_details(details))
        return
    rows = plugins()
    click.echo(json.dumps(rows, indent=2)) if as_json else answer_console().print(draw_rows(rows))


@cli.command("submissions")
@json_option
def show_submissions(as_json: bool) -> None:
    """List the named systems that ship with the harness."""
    from blemore_harness.api.listing import submissions
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.tables import draw_rows

    rows = submissions()
    click.echo(json.dumps(rows, indent=2)) if as_json else answer_console().print(draw_rows(rows))
