"""Encoders and fusions that are given as objects, from a notebook or a script, without a package that offers them."""

from __future__ import annotations

from collections.abc import Iterable

from blemore_harness.disk import digest_of
from blemore_harness.errors import ConfigError
from blemore_harness.estimators.code import describe
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.plugins import Offer, Plugins, check_system

SESSION = "this session"
"""In the place of a plugin's and a distribution's name."""


def add_unregistered(plugins: Plugins, systems: Iterable[Encoder | Fusion]) -> None:
    """Add encoders and fusions to those of installed plugins.

    Raises:
        ConfigError: something else, an invalid declaration, or a name that is taken.
    """
    for system in systems:
        if not isinstance(system, Encoder | Fusion):
            raise ConfigError(
                f"expected a name, or an object of a class that extends Encoder or Fusion, found {system!r}"
                + ("; write it with brackets to make an object" if isinstance(system, type) else "")
            )
        try:
            check_system(system)
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error)) from error
        if system.name in plugins.offers:
            raise ConfigError(f"'{system.name}' is the name of an installed system: give yours another one")
        offer = Offer(system, SESSION, Distribution(SESSION, "0", source=digest_code(system)))
        plugins.offers[system.name] = [offer]


def digest_code(system: object) -> str:
    """Digest what an object computes with, so that its results are never taken for those of other code.

    Covered are the code of its class and what that refers to, and the values of its attributes: see `describe`. Of what
    these hold, an object of an installed package counts by its class alone: it must be an option, or be named by
    `identify`.
    """
    return digest_of([describe(type(system)), describe(vars(system))])
