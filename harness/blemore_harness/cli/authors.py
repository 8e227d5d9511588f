"""Commands for authors of plugins: check, new-plugin."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemore_harness.cli.completion import complete_systems
from blemore_harness.cli.root import cli, json_option, keeping_stdout, open_reporter, set_option
from blemore_harness.errors import ConfigError, printable

if TYPE_CHECKING:
    from blemore_harness.testing import Subject, Verdict

KINDS = ("encoder", "frozen", "fusion")


@cli.command()
@click.argument("name", shell_complete=complete_systems)
@set_option
@click.option("--only", metavar="A,B,...", help="Run only these checks.")
@click.option("--network", is_flag=True, help="Let `prepare` use the network.")
@click.option(
    "--skip", "skipped", multiple=True, metavar="CHECK=REASON",
    help="A check that says nothing about this system, and why.",
)  # fmt: skip
@click.option(
    "--known", multiple=True, metavar="CHECK=REASON", help="A check that is known to fail, and why; it must then fail."
)
@json_option
def check(
    name: str, settings: tuple[str, ...], only: str | None, network: bool, skipped: tuple[str, ...],
    known: tuple[str, ...], as_json: bool,
) -> int:  # fmt: skip
    """Check whether an encoder or a fusion keeps the contract.

    The checks run on a few generated clips, with the demo options of NAME. Exit code 1 where a check fails, 3 where
    the plugin crashes.
    """
    import tempfile

    from blemore_harness.cli.terminal import answer_console
    from blemore_harness.drawing.tables import draw_rows
    from blemore_harness.systems.plugins import load_plugins
    from blemore_harness.testing import Session, check_subject, checks_for, exit_code

    with keeping_stdout():
        plugins = load_plugins()
    subject = _find(name, plugins, settings, network, _reasons("--skip", skipped), _reasons("--known", known))
    names = [part.strip() for part in (only or "").split(",") if part.strip()]
    says = {check.name: check.says for check in checks_for(subject.is_fusion)}
    verdicts: list[Verdict] = []
    with (
        tempfile.TemporaryDirectory(prefix="blemore-check-") as folder,
        open_reporter().progress(f"checking {name}", len(names or says)) as bar,
        keeping_stdout(),
    ):
        for verdict in check_subject(subject, Session(Path(folder)), names):
            verdicts.append(verdict)
            bar.advance()
    if as_json:
        rows = [{"check": v.check, "status": v.status, "says": says[v.check], "reason": v.reason} for v in verdicts]
        click.echo(json.dumps([row | {"trace": v.trace} for row, v in zip(rows, verdicts, strict=True)], indent=2))
    else:
        rows = [{"check": v.check, "status": v.status, "summary": v.reason or says[v.check]} for v in verdicts]
        answer_console().print(draw_rows(rows))
        for trace in dict.fromkeys(verdict.trace for verdict in verdicts if verdict.trace):
            click.echo("\n".join(map(printable, trace.splitlines())), err=True)
    return exit_code(verdicts)


def _find(
    name: str, plugins: object, settings: tuple[str, ...], network: bool, skipped: dict[str, str], known: dict[str, str]
) -> Subject:
    """Look a system up, whichever kind it is."""
    from blemore_harness.options import parse_settings
    from blemore_harness.systems.plugins import Plugins
    from blemore_harness.systems.submission import plain_name
    from blemore_harness.testing import Subject

    assert isinstance(plugins, Plugins)
    parsed = parse_settings(settings)
    stranger = next((system for system in parsed if system != name), None)
    if stranger is not None:
        raise ConfigError(f"--set {stranger}...: only '{name}' is checked")
    offer = plugins.find(plain_name(name))
    return Subject(offer.system, parsed.get(name, {}), network, skipped, known)


def _reasons(option: str, given: tuple[str, ...]) -> dict[str, str]:
    reasons = {}
    for text in given:
        check, equals, reason = text.partition("=")
        if not (check.strip() and equals and reason.strip()):
            raise click.UsageError(f"{option} expects CHECK=REASON, found '{text}'")
        reasons[check.strip()] = reason.strip()
    return reasons


@cli.command("new-plugin")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default="frozen", show_default=True, help=(
    "`frozen` gives embeddings and the harness trains a head, `encoder` trains itself, `fusion` combines base models."
))  # fmt: skip
@click.option(
    "--into", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Where to [default: here]."
)
def new_plugin(name: str, kind: str, into: Path) -> None:
    """Write a package with a working plugin and its tests."""
    from blemore_harness.scaffold import write_plugin
    from blemore_harness.systems.plugins import load_plugins

    folder = write_plugin(name, kind, into, load_plugins().offers)
    click.echo(f"{folder}: written. Next:")
    # With ./ where a name could be taken for an option or a requirement.
    place = shlex.quote(str(folder) if folder.is_absolute() else f"./{folder}")
    click.echo(f"    pip install -e {place} && blemore-harness check {name}")
    click.echo(f"    cd {place} && pytest")
