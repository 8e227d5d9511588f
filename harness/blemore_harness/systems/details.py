"""What an encoder or a fusion says about itself: card, requirements, options."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from blemore_harness.errors import HarnessError, PluginFailed
from blemore_harness.hookspecs import Card, Encoder, Requirement
from blemore_harness.options import Option, list_options
from blemore_harness.systems.plugins import Offer


@dataclass(frozen=True)
class Details:
    """An encoder or a fusion with its default options.

    Attributes:
        name: as users type it.
        kind: encoder, or fusion.
        modality: of an encoder: audio, video, or audio and video; empty for a fusion.
        takes: what a fusion takes of its base models; empty for an encoder.
        summary: one line.
        plugin: name of the entry point, distribution, version and commit.
        card: with the default options.
        requirements: packages and keys, with the default options.
        options: all of them.
        demo_options: values of options on the demo dataset.
    """

    name: str
    kind: str
    modality: str
    takes: str
    summary: str
    plugin: Mapping[str, str | None]
    card: Card
    requirements: tuple[Requirement, ...]
    options: tuple[Option, ...]
    demo_options: Mapping[str, object]


def describe_offer(offer: Offer) -> Details:
    """Ask a system about itself, with its default options and no dataset.

    Raises:
        PluginFailed: its code raised.
    """
    system = offer.system
    try:
        options = system.Options()
        if isinstance(system, Encoder):
            options = system.resolve_options(options, frozenset())
        return Details(
            name=system.name,
            kind="encoder" if isinstance(system, Encoder) else "fusion",
            modality=system.modality if isinstance(system, Encoder) else "",
            takes="" if isinstance(system, Encoder) else system.takes,
            summary=system.summary,
            plugin={"name": offer.plugin, **offer.distribution.describe()},
            card=system.card(options),
            requirements=system.requirements(options) if isinstance(system, Encoder) else (),
            options=list_options(system.Options),
            demo_options=dict(system.demo_options),
        )
    except HarnessError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginFailed(
            f"{system.name} cannot be described: {reason}", system.name, traceback.format_exc()
        ) from error
