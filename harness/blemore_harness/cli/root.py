"""The command group, and the options that several commands share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blemore_harness import __version__
from blemore_harness.cli.completion import complete_encoders, complete_settings
from blemore_harness.cli.defaults import DEVICES, config_files, read_defaults
from blemore_harness.cli.plugin_commands import failed, find_plugin_commands
from blemore_harness.errors import HarnessError, printable

if TYPE_CHECKING:
    from blemore_harness.cli.terminal import TerminalReporter

VERBOSE, QUIET = "blemore_harness.verbose", "blemore_harness.quiet"
"""Under which a command's context keeps how much it shows."""

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="BLEMORE_DATA",
    help="Folder of a BLEMORE download, or NAME:FOLDER of another corpus [BLEMORE_DATA].",
)
"""`--data`: a path or None, as `data`."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout.")
"""`--json`: a flag, as `as_json`."""

runs_option = click.option(
    "--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("blemore-runs"), show_default=True,
    envvar="BLEMORE_RUNS", help="Where runs are kept [BLEMORE_RUNS].",
)  # fmt: skip
"""`--runs`: a path, as `runs`."""

seed_option = click.option(
    "--seed", type=int, help="Base seed of everything random [default: the submission's, else 0]."
)
"""`--seed`: a number or None, as `seed`."""

device_option = click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
"""`--device`: `auto`, `cpu` or `cuda`, as `device`."""

plugin_option = click.option(
    "--plugin", "plugins", multiple=True, metavar="A,B,...", shell_complete=complete_encoders,
    help="Encoders, separated by commas; a+b joins embeddings under one head, a@v is a variant of a.",
)  # fmt: skip
"""`--plugin`: encoders as typed, as `plugins`."""

set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="PLUGIN.OPTION=VALUE",
    shell_complete=complete_settings,
    help="Set an option of a plugin; `blemore-harness plugins NAME` shows all of them.",
)
"""`--set`: texts as typed, as `settings`; `options.parse_settings` reads them."""


def _keep(context: click.Context, option: click.Parameter, value: bool) -> None:
    """Remember a flag for the functions below."""
    key = VERBOSE if option.name == "verbose" else QUIET
    context.meta[key] = context.meta.get(key, False) or value


class Command(click.Command):
    """A command that takes `--verbose` and `--quiet`; a plugin's is made with `@click.command(cls=Command)`."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params += [
            click.Option(["-v", "--verbose"], is_flag=True, expose_value=False, callback=_keep,
                         help="Show the tracebacks of errors and of plugins that failed."),
            click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_keep,
                         help="Show warnings and errors only."),
        ]  # fmt: skip


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


class Root(Group):
    """The group of all commands, those of plugins included."""

    group_class = Group

    def list_commands(self, context: click.Context) -> list[str]:
        """List the harness's own commands and those of plugins."""
        return sorted({*self.commands, *find_plugin_commands()})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return a command of the harness, or else of a plugin."""
        return super().get_command(context, name) or find_plugin_commands().get(name)

    def invoke(self, context: click.Context) -> Any:
        """Call a command; a bug in one of a plugin is the plugin's failure.

        Raises:
            PluginFailed: a plugin's command raised what no command should.
        """
        try:
            return super().invoke(context)
        except (HarnessError, OSError, click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            name = context.invoked_subcommand
            if name is None or name in self.commands:
                raise
            raise failed(name, "crashed", error) from error


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.pass_context
def cli(context: click.Context) -> None:
    """Evaluate systems on the BLEMORE challenge by its official protocol.

    Try `blemore-harness run --plugin s4d,wav2vec2,gemini`: it needs no data, weights or key.
    """
    context.default_map = {str(context.invoked_subcommand): read_defaults(config_files())}


def open_reporter() -> TerminalReporter:
    """Return the reporter of the running command: with `--quiet` it shows warnings only."""
    from blemore_harness.cli.terminal import open_reporter as opened

    return opened(verbose=not click.get_current_context().meta.get(QUIET, False))


def show_trace(trace: str) -> None:
    """Show a traceback on stderr where the running command has `--verbose`."""
    if click.get_current_context().meta.get(VERBOSE, False):
        click.echo("\n".join(map(printable, trace.splitlines())), err=True)


def find_run(runs: Path, run: str) -> Path:
    """Find the run that a user names, and say on stderr which one it is where the name alone does not."""
    from blemore_harness.files.runs import RECORD_FILE, Runs

    folder = Runs(runs).find(run)
    if Path(run).name not in (folder.name, RECORD_FILE):
        click.echo(printable(f"{run}: run {folder.name}"), err=True)
    return folder


@contextlib.contextmanager
def keeping_stdout() -> Iterator[None]:
    """Keep stdout for the answer: what plugins and libraries print in the block goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
