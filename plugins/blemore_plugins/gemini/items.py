"""The embeddings that a run wants, and where each of them is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from blemore_harness.cache import Cache, Store
from blemore_harness.clips import Clip
from blemore_harness.media.audio import audio_key
from blemore_plugins.gemini.clipping import Window, find_rule
from blemore_plugins.gemini.options import CUT_RULE, GeminiOptions, Input

REFUSED = "refused"
"""Part of the cache that marks a clip which the service did not take."""


@dataclass(frozen=True)
class Item:
    """One vector: of a clip, from its picture or audio, in a store.

    Where a later rule cuts other bytes of the clip, it is kept in a part of its own.
    """

    clip: Clip
    kind: Input
    store: Store
    part: str = ""

    @property
    def made(self) -> bool:
        """Whether the vector is there."""
        return self.store.has(self.clip, self.part)

    @property
    def refused(self) -> bool:
        """Whether the service did not take the clip."""
        return self.store.has(self.clip, REFUSED + self.part)


def list_items(
    clips: Iterable[Clip], feature_sets: Sequence[Store], options: GeminiOptions, cache: Cache
) -> list[list[Item]]:
    """List the embeddings of clips: for each input of `options`, which has its store, one per clip.

    By which rule the bytes of a clip are cut is found out once and kept.
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
