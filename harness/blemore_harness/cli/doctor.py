"""The command `doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemore_harness.cli.completion import complete_submissions
from blemore_harness.cli.root import (
    cli,
    data_option,
    device_option,
    json_option,
    keeping_stdout,
    plugin_option,
    runs_option,
    set_option,
)

if TYPE_CHECKING:
    from blemore_harness.doctor.surroundings import Finding


@cli.command()
@click.argument("name", required=False, shell_complete=complete_submissions)
@plugin_option
@set_option
@click.option("--measure", is_flag=True, help="Also estimate time and disk space from a minute of work.")
@device_option
@data_option
@runs_option
@json_option
def doctor(
    name: str | None, plugins: tuple[str, ...], settings: tuple[str, ...], measure: bool, device: str,
    data: Path | None, runs: Path, as_json: bool,
) -> int:  # fmt: skip
    """Check this machine and the requirements of a run.

    The run is that of a submission NAME, or of a list of plugins. Exit code 1 where it cannot work.
    Nothing is downloaded, only a generated clip is decoded, and no key is shown; with --measure encoders are prepared
    for a few clips, for which they may download weights.
    """
    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.doctor.diagnosis import examine, has_problem
    from blemore_harness.drawing.tables import draw_rows
    from blemore_harness.options import parse_settings
    from blemore_harness.systems.plugins import load_plugins
    from blemore_harness.systems.submission import find_submission, from_plugins

    if name is not None and plugins:
        raise click.UsageError("give either the NAME of a submission or --plugin, as in: doctor --plugin s4d,wav2vec2")
    if measure and name is None and not plugins:
        raise click.UsageError("--measure expects the NAME of a submission or --plugin: that run is measured")
    if settings and name is None and not plugins:
        raise click.UsageError("--set goes with the NAME of a submission or --plugin: it is their options")
    submission = from_plugins(plugins) if plugins else find_submission(name, Path.cwd())[0] if name else None
    if submission is not None:
        submission = submission.with_options(parse_settings(settings), None, None)
    with keeping_stdout():
        findings = examine(submission, load_plugins(), data, device, runs)
        if measure and not has_problem(findings):
            findings += _measure(name, plugins, settings, device, data, runs)
    rows = [finding.row() for finding in findings]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        answer_console().print(draw_rows(rows))
    return 1 if has_problem(findings) else 0


def _measure(
    name: str | None, plugins: tuple[str, ...], settings: tuple[str, ...], device: str, data: Path | None, runs: Path
) -> list[Finding]:
    from blemore_harness.cli.evaluation import open_named_run
    from blemore_harness.doctor.measuring import measure

    return measure(open_named_run("doctor", name, plugins, None, None, settings, None, device, 0, data, runs))
