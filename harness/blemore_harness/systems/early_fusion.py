"""Early fusion.

The embeddings of several encoders side by side under one head, for any set of encoders that give some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from blemore_harness.clips import Clips
from blemore_harness.context import Context, Progress, Reporter
from blemore_harness.errors import ConfigError
from blemore_harness.heads.options import HeadOptions
from blemore_harness.hookspecs import Card, Encoder, Modality
from blemore_harness.predictions import Embeddings, embeddings_of

PLUS = "+"
"""Stands between the names of encoders whose embeddings are concatenated: `imagebind+wavlm`."""


@dataclass(frozen=True)
class Part:
    """One of the encoders of an early fusion.

    Attributes:
        name: as the user wrote it.
        encoder: the system.
        options: its resolved options, of which those of its head are not used.
    """

    name: str
    encoder: Encoder
    options: Any


class EarlyFusion(Encoder):
    """The concatenated embeddings of its parts under the harness's head.

    Args:
        parts: at least two encoders that define `embed`.

    Raises:
        ConfigError: a part without embeddings, or one that is named twice.
    """

    Options: ClassVar[type[Any]] = HeadOptions
    demo_options: ClassVar[Mapping[str, object]] = {"hidden": "256", "epochs": 80, "patience": 25}

    def __init__(self, parts: tuple[Part, ...]) -> None:
        names = [part.name for part in parts]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ConfigError(f"'{twice[0]}' is named twice in '{PLUS.join(names)}': name each encoder once")
        for part in parts:
            if type(part.encoder).embed is Encoder.embed:
                raise ConfigError(
                    f"'{part.name}' gives no embeddings for '{PLUS.join(names)}': only encoders that define "
                    "`embed` can take part; separate the names by commas to fuse probabilities"
                )
        self._parts = parts
        modalities = {part.encoder.modality for part in parts}
        self._describe(PLUS.join(names), modalities.pop() if len(modalities) == 1 else "audiovisual")

    def _describe(self, name: str, modality: Modality) -> None:
        # What other encoders state in their class belongs to the instance here.
        each = all(part.encoder.prepares_each_clip for part in self._parts)
        summary = f"embeddings of {name} side by side, one head"
        vars(self).update(name=name, modality=modality, summary=summary, prepares_each_clip=each)

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """The encoders whose embeddings are concatenated."""
        return tuple(part.encoder for part in self._parts)

    def caveat(self, options: Any) -> str | None:
        """Return the caveats of the parts."""
        caveats = [part.encoder.caveat(part.options) for part in self._parts]
        return ", ".join(dict.fromkeys(caveat for caveat in caveats if caveat)) or None

    def card(self, options: Any) -> Card:
        """Return what the parts' cards add up to."""
        return join_cards([part.encoder.card(part.options) for part in self._parts])

    def feature_sets(self, options: Any) -> tuple[str, ...]:
        """Name what the parts read."""
        return tuple(dict.fromkeys(store for part in self._parts for store in part.encoder.feature_sets(part.options)))

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        """Prepare every part; what one notes stands under its name."""
        for part in self._parts:
            part.encoder.prepare(clips, part.options, self._context_of(part, context))

    def embed(self, clips: Clips, options: Any, context: Context) -> Embeddings:
        """Return the parts' embeddings side by side, float32 (N, sum of their lengths)."""
        columns = []
        for part in self._parts:
            given = part.encoder.embed(clips, part.options, self._context_of(part, context))
            columns.append(embeddings_of(given, clips.ids).values)
        return Embeddings(clips.ids, np.concatenate(columns, axis=1))

    def _context_of(self, part: Part, context: Context) -> Context:
        workspace = context.workspace / part.name
        workspace.mkdir(parents=True, exist_ok=True)
        return replace(context, workspace=workspace, reporter=_PartReporter(context.reporter, part.name))


@dataclass(frozen=True)
class _PartReporter:
    """Adds the name of the encoder to notes; passes everything else on."""

    reporter: Reporter
    name: str

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        return self.reporter.progress(label, total)

    def log(self, message: str) -> None:
        self.reporter.log(message)

    def warn(self, message: str) -> None:
        self.reporter.warn(message)

    def note(self, name: str, value: object) -> None:
        self.reporter.note(f"{self.name}: {name}", value)


def join_cards(cards: Sequence[Card]) -> Card:
    """Return the card of several systems together: what one does not declare, they do not declare."""

    def words(name: str) -> str | None:
        found = [getattr(card, name) for card in cards]
        return None if None in found else "; ".join(dict.fromkeys(found))

    def whole(name: str) -> list[Any] | None:
        found = [getattr(card, name) for card in cards]
        return None if None in found else found

    acted = [card.acted for card in cards]
    counts, paid = whole("parameters"), whole("paid")
    return Card(
        words("code_licence"), words("weights_licence"), words("pretraining"),
        next((answer for answer in ("yes", None, "unknown") if answer in acted), "no"),
        tuple(dict.fromkeys(name for card in cards for name in card.acted_corpora)),
        None if counts is None else sum(counts), None if paid is None else any(paid), words("source"),
    )  # fmt: skip
