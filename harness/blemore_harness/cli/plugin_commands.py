"""Commands of plugins: listed from the metadata of installed packages, imported when one is called."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import click

from blemore_harness.errors import ConfigError, PluginFailed, printable

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "blemore_harness.commands"
"""Entry-point group of commands: the name is the command's, the value its click command, as `package.module:object`."""


class PluginCommand(click.Command):
    """A command that stands for the one of a plugin, which is imported only when it is called or asked for its help.

    Args:
        points: the entry points of this name; more than one is an error of whoever calls it.
    """

    def __init__(self, points: list[EntryPoint]) -> None:
        packages = " and ".join(map(_package_of, points))
        super().__init__(points[0].name, short_help=printable(f"From the package {packages}."))
        self._points, self._packages = points, packages

    def make_context(self, *arguments: Any, **named: Any) -> click.Context:
        """Import the plugin's command, and let it read its arguments; errors as of `load`."""
        return self.load().make_context(*arguments, **named)

    def load(self) -> click.Command:
        """Import the plugin's command.

        Raises:
            ConfigError: several packages offer it.
            PluginFailed: it cannot be imported, or is no click command.
        """
        if len(self._points) > 1:
            raise ConfigError(f"{self._packages} offer the command '{self.name}': uninstall all but one")
        try:
            command = self._points[0].load()
            if not isinstance(command, click.Command):
                raise TypeError(f"expected a click command, found {type(command).__name__}")
        except (Exception, SystemExit) as error:
            raise failed(str(self.name), f"of {self._packages} cannot be loaded", error) from error
        return command


def find_plugin_commands() -> dict[str, PluginCommand]:
    """Return a stand-in for every command that an installed package offers, by name; nothing of it is imported."""
    from importlib.metadata import entry_points

    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return {
        name: PluginCommand([p for p in points if p.name == name]) for name in dict.fromkeys(p.name for p in points)
    }


def failed(command: str, what: str, error: BaseException) -> PluginFailed:
    """Return the failure of a plugin's command, in one line, with the traceback for `-v`."""
    reason = " ".join(f"{type(error).__name__}: {error}".rstrip(": ").split())
    return PluginFailed(
        f"the command '{command}' {what}: {reason}", command, "".join(traceback.format_exception(error))
    )


def _package_of(point: EntryPoint) -> str:
    # A half removed installation has no metadata.
    facts = {} if point.dist is None else point.dist.metadata.json
    return f"{facts.get('name', 'unknown')} {facts.get('version', '')}".rstrip()
