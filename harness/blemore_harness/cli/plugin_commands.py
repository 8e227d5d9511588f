"""Commands of plugins: listed from the metadata of installed packages, imported when one is called."""

from __future__ import annotations

import ast
import sys
import traceback
from pathlib import Path
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

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence of the command's docstring; without one, the package that offers it."""
        said = _read_docstring(self._points[0]) if len(self._points) == 1 else None
        if not said:
            return super().get_short_help_str(limit)
        return click.Command(self.name, help=printable(said)).get_short_help_str(limit)

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


def _read_docstring(point: EntryPoint) -> str | None:
    """Read the first paragraph of the docstring of a command's function from its source; nothing is imported.

    None where there is none to be found.
    """
    try:
        source = _find_source(point.module)
        body = [] if source is None else ast.parse(source.read_bytes()).body
        found = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == point.attr]
        said = ast.get_docstring(found[-1]) if found else None
    except Exception:  # whatever is broken there is reported when the command is called
        return None
    return None if said is None else " ".join(said.partition("\n\n")[0].split())


def _find_source(module: str) -> Path | None:
    """Find the file of a module as `importlib` does, but without importing the packages that it is in."""
    path, name, spec = None, "", None
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        found = (finder.find_spec(name, path) for finder in sys.meta_path)
        spec = next((each for each in found if each is not None), None)
        path = None if spec is None else spec.submodule_search_locations
    return None if spec is None or not spec.has_location else Path(str(spec.origin))


def _package_of(point: EntryPoint) -> str:
    # A half removed installation has no metadata.
    facts = {} if point.dist is None else point.dist.metadata.json
    return f"{facts.get('name', 'unknown')} {facts.get('version', '')}".rstrip()
