"""Commands that list what there is: plugins, submissions."""

from __future__ import annotations

import json

import click

from blemore_harness.cli.completion import complete_systems
from blemore_harness.cli.root import cli, json_option, keeping_stdout


@cli.command("plugins")
@click.argument("name", required=False, shell_complete=complete_systems)
@json_option
def list_plugins(name: str | None, as_json: bool) -> None:
    """List encoders, fusions and plugins that failed to load.

    Each with the package that offers it, or the reason. With the NAME of an encoder or a fusion: its card, requirements
    and options with their defaults, choices and meanings.
    """
    from dataclasses import asdict

    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.plugin_details import draw_details
    from blemore_harness.drawing.tables import draw_rows
    from blemore_harness.systems.details import describe_offer
    from blemore_harness.systems.plugins import load_plugins
    from blemore_harness.systems.submission import plain_name

    with keeping_stdout():
        plugins = load_plugins()
        details = None if name is None else describe_offer(plugins.find(plain_name(name)))
    if details is not None:
        click.echo(json.dumps(asdict(details), indent=2)) if as_json else answer_console().print(draw_details(details))
        return
    rows = [asdict(row) for row in plugins.rows()]
    click.echo(json.dumps(rows, indent=2)) if as_json else answer_console().print(draw_rows(rows))


@cli.command("submissions")
@json_option
def show_submissions(as_json: bool) -> None:
    """List the named systems that ship with the harness."""
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.tables import draw_rows
    from blemore_harness.systems.submission import list_submissions

    rows = [
        {"name": s.name, "encoders": ", ".join(s.encoders), "fusion": s.fusion or "", "summary": s.summary}
        for s in list_submissions()
    ]
    click.echo(json.dumps(rows, indent=2)) if as_json else answer_console().print(draw_rows(rows))
