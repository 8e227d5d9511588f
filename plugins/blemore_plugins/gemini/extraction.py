"""The embeddings of a run: requests the missing ones, several at a time, and stores each as soon as it arrives.

Embeddings that were paid for are kept: an interrupted extraction continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Cache, Store
from blemore_harness.clips import Clip
from blemore_harness.context import Context
from blemore_harness.media.audio import audio_key
from blemore_plugins.gemini.client import Material
from blemore_plugins.gemini.clipping import Window, cut_sound, cut_video, find_rule
from blemore_plugins.gemini.options import CUT_RULE, GeminiOptions, Input
from blemore_plugins.hosted.extraction import CALLS_FILE, Service, Tally, note_call, work
from blemore_plugins.hosted.pace import Pace, insist

REFUSED = "refused"
"""Cache entry of a clip that the service refused."""


@dataclass(frozen=True)
class Item:
    """One embedding of a clip, from its video or audio, in a cache store.

    If a later rule cuts other bytes of the clip, it is stored under a separate entry.
    """

    clip: Clip
    kind: Input
    store: Store
    part: str = ""

    @property
    def made(self) -> bool:
        """Whether the embedding is stored."""
        return self.store.has(self.clip, self.part)

    @property
    def refused(self) -> bool:
        """Whether the service refused the clip."""
        return self.store.has(self.clip, REFUSED + self.part)


def list_items(
    clips: Iterable[Clip], feature_sets: Sequence[Store], options: GeminiOptions, cache: Cache
) -> list[list[Item]]:
    """Return the embeddings of clips: one per clip for each input of `options`, which has its own store.

    The rule by which a clip is cut is determined once and stored.
    """
    everything, window, found = list(clips), Window(options.start, options.seconds), []
    for kind, store in zip(options.inputs, feature_sets, strict=True):
        facts = {"rule": CUT_RULE, "kind": kind, "start": window.start, "seconds": window.seconds}
        rules = cache.store("gemini-rules", **facts, **audio_key())
        for clip in rules.missing(everything):
            rules.save(clip, np.array(find_rule(clip, kind, window, cache)))
        parts = ["-rule2" if rules.load(clip) == CUT_RULE else "" for clip in everything]
        found.append([Item(clip, kind, store, part) for clip, part in zip(everything, parts, strict=True)])
    return found


class Asking(Protocol):
    """The part of `client.Client` that an extraction needs."""

    def ask(self, material: Material) -> NDArray[np.float32]:
        """Return the embedding of one content, or raise `Refusal`."""


def extract(
    items: Sequence[Item], client: Asking, pace: Pace, options: GeminiOptions, service: Service, context: Context
) -> Tally:
    """Request and store the embeddings of `items`; the tally lists the clips without one and the reasons."""
    proven = any((item.store.folder / CALLS_FILE).exists() for item in items)

    def get(item: Item) -> None:
        material = _cut(item, Window(options.start, options.seconds), context.cache)
        item.store.save(item.clip, insist(lambda: client.ask(material), pace, options.attempts), item.part)
        note_call(item.store.folder, item.clip)

    tally = work(items, get, pace, service, proven, context)
    if proven or tally.made:
        for item in items:
            if item.clip.id in tally.refused:
                item.store.save(item.clip, np.zeros(0, np.float32), REFUSED + item.part)
    return tally


def _cut(item: Item, window: Window, cache: Cache) -> Material:
    return Material(
        video=None if item.kind == "sound" else cut_video(item.clip, window),
        sound=None if item.kind == "video" else cut_sound(item.clip, window, cache),
    )
