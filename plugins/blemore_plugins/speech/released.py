"""WavLM and HuBERT: the organisers' released frame-level features, or the same features extracted from the clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Store
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.errors import InvalidOption
from blemore_harness.heads.frames import FrameSource
from blemore_harness.hookspecs import Modality, Requirement
from blemore_harness.media.audio import warn_of_silence
from blemore_harness.pooling import pool_statistics
from blemore_plugins.features.encoder import PART, Extractor, FeatureEncoder
from blemore_plugins.hub import identify_source
from blemore_plugins.requirements import HUB_TOKEN, need
from blemore_plugins.speech.encoder import DEMO, UNTRAINED, keep_states, open_states
from blemore_plugins.speech.extraction import extract
from blemore_plugins.speech.kinds import Kind
from blemore_plugins.speech.options import RANDOM_SMALL, HubertOptions, WavLMOptions
from blemore_plugins.speech.recipe import Recipe, settle_recipe

OUTPUTS = "outputs"
"""Name of the cache entry for what a model computes for a whole clip."""


@dataclass(frozen=True)
class SpeechExtractor:
    """Extracts frame-level hidden states from clips.

    Attributes:
        encoder: name of the encoder, as in `--set`.
        small: name of its small random network.
        kind: kind of its models; None for every kind that `audio` runs.
    """

    encoder: str
    small: str
    kind: Kind | None = None

    def caveat(self, options: Any) -> str | None:
        """Return the caveat of an untrained random network."""
        return UNTRAINED if options.model == RANDOM_SMALL else None

    def identify(self, options: Any) -> Mapping[str, object]:
        """Identify a local model by its contents."""
        return {} if options.model == RANDOM_SMALL else {"model": identify_source(options.model)}

    def requirements(self, options: Any) -> tuple[Requirement, ...]:
        """Return the packages, and the token of the hub."""
        return (*need("transformers"), HUB_TOKEN)

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        """Download the weights and compute the missing features with their statistics.

        Raises:
            WeightsMissing, DataError, InvalidOption: see `hub`, `recipe` and `network`.
            MediaError: a clip without usable audio.
        """
        recipe = self.settle(options, context, download=True)
        store = open_states(recipe, context)
        context.note("model", {"type": recipe.kind.type, **recipe.identity(context.cache)})

        def keep(clip: Clip, frames: NDArray[np.float32], outputs: NDArray[np.float32]) -> None:
            # Statistics are computed here, in threads.
            store.save(clip, pool_statistics(keep_states(store, clip, frames)), PART)
            if recipe.outputs:
                store.save(clip, outputs, OUTPUTS)

        parts = ("", PART, *((OUTPUTS,) if recipe.outputs else ()))
        missing = {clip.content: clip for part in parts for clip in store.missing(clips, part)}
        if missing:
            extract(list(missing.values()), recipe, keep, context)
        warn_of_silence(clips, context)

    def open_store(self, options: Any, context: Context) -> Store:
        """Return the cache store of hidden states: float32 (T, D) per clip, or layer by layer, float16 (T, L, D)."""
        return open_states(self.settle(options, context), context)

    def settle(self, options: Any, context: Context, download: bool = False) -> Recipe:
        """Find the weights and resolve how features are computed; see `recipe.settle_recipe` for errors."""
        return settle_recipe(
            self.encoder,
            self.small,
            options,
            kind=self.kind,
            outputs=getattr(options, "embedding", "statistics") != "statistics",
            compat=getattr(options, "compat", False),
            download=download,
        )


class SpeechFeatureEncoder(FeatureEncoder):
    """Frame-level features of a speech model, whose layers may be extracted for a learned weighted sum."""

    def resolve_options(self, options: Any, feature_sets: frozenset[str]) -> Any:
        """Extract layers from the clips: the released features have one."""
        if options.weighted and options.source not in ("auto", "media"):
            raise InvalidOption(
                f"layers: '{options.layers}' requires source=media, because released features have one layer; "
                f"found source={options.source}"
            )
        chosen = replace(options, source="media") if options.weighted else options
        return super().resolve_options(chosen, feature_sets)

    def frame_source(self, options: Any, context: Context) -> FrameSource | None:
        """Return the layers for a weighted sum."""
        if not options.weighted:
            return super().frame_source(options, context)
        return FrameSource(self._extractor.open_store(options, context).load, layers=True)


class WavLMEncoder(SpeechFeatureEncoder):
    """WavLM: released hidden states, or those of the network's last layer after its final norm.

    Extraction: the mean of the channels at 16 kHz, normalised according to the checkpoint's settings; one hidden state
    of 1024 values per 20 ms. How the organisers extracted their features is not published, except for the name of the
    released folder. `compat` assumes s3prl's `wavlm_large`, by analogy with HuBERT: the same network and last hidden
    state, each clip run separately, and audio normalised by torch's `layer_norm` (which adds 1e-5 to the variance
    instead of 1e-7) if the checkpoint normalises. Unknown are the resampler, the handling of stereo, and whether s3prl
    was used. Compare with a released array before assuming equality.
    Licence of the default weights: unclear (CC-BY-SA-3.0 in the model card, MIT in the repository).
    """

    name: ClassVar[str] = "wavlm"
    summary: ClassVar[str] = "frozen WavLM-large: released or extracted hidden states, seven statistics, a head"
    modality: ClassVar[Modality] = "audio"
    Options: ClassVar[type[Any]] = WavLMOptions
    demo_options: ClassVar[Mapping[str, object]] = DEMO
    store: ClassVar[str] = "WavLM_large"
    statistics_store: ClassVar[str] = "wavlm_static_features"
    width: ClassVar[int | None] = 1024
    extractor: ClassVar[Extractor | None] = SpeechExtractor("wavlm", "wavlm")


class HubertEncoder(SpeechFeatureEncoder):
    """HuBERT: released hidden states, or those of the network's last layer after its final norm.

    Extraction: as of `WavLMEncoder`. The organisers used the `last_hidden_state` (after the final norm, as here) of
    s3prl's `hubert_large_ll60k`, one file at a time, at 16 kHz. `compat` normalises audio as s3prl does (torch's
    `layer_norm`, 1e-5 added to the variance) and runs each clip separately. Unknown are the resampler and, as their
    script does not support stereo, the conversion to mono: the mean of the channels is an assumption.
    Licence of the default weights: Apache-2.0.
    """

    name: ClassVar[str] = "hubert"
    summary: ClassVar[str] = "frozen HuBERT-large: released or extracted hidden states, seven statistics, a head"
    modality: ClassVar[Modality] = "audio"
    Options: ClassVar[type[Any]] = HubertOptions
    demo_options: ClassVar[Mapping[str, object]] = DEMO
    store: ClassVar[str] = "HuBERT_large"
    statistics_store: ClassVar[str] = "hubert_static_features"
    width: ClassVar[int | None] = 1024
    extractor: ClassVar[Extractor | None] = SpeechExtractor("hubert", "hubert")
