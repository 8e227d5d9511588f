"""Functions of installed packages: `bh.report`, `bh.leaderboard` and others of commands that the core does not know."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from blemore_harness.errors import ConfigError, PluginFailed

GROUP = "blemore_harness.functions"
"""Entry-point group of functions: the name is the one in Python, the value `package.module:function`.

A package that offers a command offers its function under the same name, with underscores for dashes.
"""


def list_functions() -> tuple[str, ...]:
    """Return the names of all functions that installed packages offer, sorted; nothing is imported."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def find_function(name: str) -> Callable[..., Any] | None:
    """Return a function that an installed package offers; None where none has this name.

    Raises:
        ConfigError: several packages offer it.
        PluginFailed: it cannot be imported, or is no function.
    """
    points = list(dict.fromkeys(entry_points(group=GROUP, name=name)))
    if not points:
        return None
    packages = " and ".join(map(_package_of, points))
    if len(points) > 1:
        raise ConfigError(f"{packages} offer the function '{name}': uninstall all but one")
    try:
        found = points[0].load()
        if not callable(found):
            raise TypeError(f"expected a function, found {type(found).__name__}")
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginFailed(
            f"the function '{name}' of {packages} cannot be loaded: {reason}", name, traceback.format_exc()
        ) from error
    function: Callable[..., Any] = found
    return function


def call_function(name: str, *arguments: Any, **named: Any) -> Any:
    """Call a function of an installed package.

    Raises:
        ConfigError: no package offers it. Others as of `find_function` and of the function.
    """
    found = find_function(name)
    if found is None:
        raise ConfigError(f"no installed package offers the function '{name}': reinstall blemore-harness")
    return found(*arguments, **named)


def _package_of(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "unknown"
