"""What encoders of hosted services have in common: the stand-in of the demo, caveat, card, waits between attempts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from blemore_harness.context import Context
from blemore_harness.hookspecs import Card, Encoder
from blemore_plugins.cards import CODE, NO_WEIGHTS
from blemore_plugins.hosted.extraction import Service
from blemore_plugins.hosted.pace import Pace


class HostedEncoder(Encoder):
    """An encoder that asks a service about clips, or with `service=stand-in` a server of its own that has no model.

    Attributes:
        noun: what the service gives for a clip, in the singular.
        documentation: web page of the service.
        demo_options: the stand-in, and a smaller head for the 360 clips of the demo dataset.

    Args:
        make_pace: makes the clock that waits between attempts; tests pass one that does not sleep.
    """

    noun: ClassVar[str] = "embedding"
    documentation: ClassVar[str] = ""
    demo_options: ClassVar[Mapping[str, object]] = {
        "service": "stand-in",
        "hidden": "256",
        "epochs": 60,
        "patience": 20,
    }

    def __init__(self, make_pace: Callable[[str, int, Callable[[str], None]], Pace] = Pace) -> None:
        self._make_pace = make_pace

    def caveat(self, options: Any) -> str | None:
        """Return the caveat of what the stand-in server gives."""
        return f"stand-in {self.noun}s" if options.service == "stand-in" else None

    def card(self, options: Any) -> Card:
        """Return the card of the service; the stand-in has no weights and is free."""
        return NO_WEIGHTS if options.service == "stand-in" else self._service_card(options)

    def _service_card(self, options: Any) -> Card:
        """Return the card of a paid service, of whose model little is public."""
        terms = "weights not released: terms of the service"
        return Card(CODE, terms, "unknown", "unknown", paid=True, source=self.documentation)

    def _service(self, options: Any) -> Service:
        """Return what is asked for, in words."""
        return Service(self.name, self.noun, options.workers)

    def _pace(self, context: Context) -> Pace:
        """Return the clock of one extraction."""
        return self._make_pace(self.name, context.seed, context.log)
