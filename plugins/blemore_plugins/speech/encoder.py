"""Frozen audio encoders with one embedding per clip: mean hidden states, seven statistics, a classification head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Store
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.heads.frames import FrameSource
from blemore_harness.hookspecs import Card, Encoder, Modality, Requirement
from blemore_harness.media.audio import warn_of_silence
from blemore_harness.pooling import pool_statistics
from blemore_harness.predictions import Embeddings
from blemore_plugins.cards import card_of
from blemore_plugins.hub import identify_source
from blemore_plugins.requirements import HUB_TOKEN, need
from blemore_plugins.speech.extraction import extract
from blemore_plugins.speech.options import (
    RANDOM_SMALL,
    AudeeringOptions,
    AudioOptions,
    Voc2vecOptions,
    Wav2Vec2NarrowOptions,
    Wav2Vec2Options,
)
from blemore_plugins.speech.recipe import Recipe, settle_recipe

UNTRAINED = "untrained small encoders"
"""Caveat of results with the small random networks."""

# Untrained blocks add little; the head is small because the demo has 360 clips and should run on a laptop.
DEMO: Mapping[str, object] = {"model": RANDOM_SMALL, "hidden": "256", "epochs": 80, "patience": 25}
"""Options of all these encoders on the demo dataset."""


class AudioEncoder(Encoder):
    """Embeddings of a frozen audio model of any type in `kinds`, with the harness's classification head.

    The network always runs in float32, because bfloat16 changes its output by about 1 %. Audio is normalised or
    converted into spectrograms according to the model's preprocessor settings. For networks of fixed input length
    (Whisper, 30 s; audio spectrogram transformer, 10 s) longer clips are split. Licence of the default weights: MIT.

    Attributes (besides those of `Encoder`):
        small: name of the small random network that replaces the default one on the demo dataset.
        always_normalise: whether audio for models of type wav2vec2 is normalised regardless of their settings.
    """

    name: ClassVar[str] = "audio"
    summary: ClassVar[str] = "any frozen audio model of transformers (HuBERT, Whisper, AST ...), statistics, MLP head"
    modality: ClassVar[Modality] = "audio"
    prepares_each_clip: ClassVar[bool] = True
    Options: ClassVar[type[Any]] = AudioOptions
    demo_options: ClassVar[Mapping[str, object]] = DEMO
    small: ClassVar[str] = "wav2vec2-bert"
    always_normalise: ClassVar[bool] = False

    def caveat(self, options: AudioOptions) -> str | None:
        """Return the caveat of an untrained random network."""
        return UNTRAINED if options.model == RANDOM_SMALL else None

    def card(self, options: AudioOptions) -> Card:
        """Return the card of the weights."""
        return card_of(options.model)

    def identify(self, options: AudioOptions) -> Mapping[str, object]:
        """Identify a local model by its contents."""
        return {} if options.model == RANDOM_SMALL else {"model": identify_source(options.model)}

    def requirements(self, options: AudioOptions) -> tuple[Requirement, ...]:
        """Return the packages, and the token of the hub."""
        return (*need("transformers"), HUB_TOKEN)

    def prepare(self, clips: Clips, options: AudioOptions, context: Context) -> None:
        """Download the weights and compute the missing embeddings.

        Raises:
            WeightsMissing, DataError, InvalidOption: see `hub`, `recipe` and `network`.
            MediaError: a clip without usable audio.
        """
        recipe = self._settle(options, download=True)
        vectors, states = _open_store(recipe, options, context), open_states(recipe, context)
        context.note("model", {"type": recipe.kind.type, **recipe.identity(context.cache)})

        def keep(clip: Clip, frames: NDArray[np.float32], outputs: NDArray[np.float32]) -> None:
            frames = keep_states(states, clip, frames)
            vectors.save(clip, np.concatenate([describe_frames(frames, options), outputs]))

        missing = {clip.content: clip for store in (states, vectors) for clip in store.missing(clips)}
        if missing:
            extract(list(missing.values()), recipe, keep, context)
        warn_of_silence(clips, context)

    def frame_features(self, clip: Clip, options: AudioOptions, context: Context) -> NDArray[np.float32]:
        """Return the mean hidden states of a clip, float32 (T, D)."""
        return read_frames(open_states(self._settle(options), context), clip)

    def frame_source(self, options: AudioOptions, context: Context) -> FrameSource | None:
        """Return the layers for a weighted sum."""
        if not options.weighted:
            return super().frame_source(options, context)
        return FrameSource(open_states(self._settle(options), context).load, layers=True, parts=options.parts)

    def embed(self, clips: Clips, options: AudioOptions, context: Context) -> Embeddings:
        """Read the embeddings from the cache: float32 (N, 7 x width of the model, plus the outputs of the model)."""
        store = _open_store(self._settle(options), options, context)
        vectors = [store.load(clip) for clip in clips]
        return Embeddings(clips.ids, np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32))

    def _settle(self, options: AudioOptions, download: bool = False) -> Recipe:
        return settle_recipe(
            self.name,
            self.small,
            options,
            always_normalise=self.always_normalise,
            outputs=isinstance(options, AudeeringOptions) and options.outputs,
            download=download,
        )


class Wav2Vec2Encoder(AudioEncoder):
    """wav2vec2 with the mean of layers 6 to 12: the reference recipe of the UZH paper (arXiv 2603.23650).

    The paper does not name the checkpoint unambiguously. Licence of the default weights: Apache-2.0.
    """

    name: ClassVar[str] = "wav2vec2"
    summary: ClassVar[str] = "frozen wav2vec2-large, layers 6-12, seven statistics, MLP head"
    Options: ClassVar[type[Any]] = Wav2Vec2Options
    demo_options: ClassVar[Mapping[str, object]] = {**DEMO, "layers": "0-2"}
    small: ClassVar[str] = "wav2vec2"
    always_normalise: ClassVar[bool] = True


class Wav2Vec2NarrowEncoder(Wav2Vec2Encoder):
    """The same embeddings with the paper's smaller head (the second row of its table)."""

    name: ClassVar[str] = "wav2vec2-512"
    summary: ClassVar[str] = "frozen wav2vec2-large, layers 6-12, seven statistics, MLP head of 512"
    Options: ClassVar[type[Any]] = Wav2Vec2NarrowOptions


class Voc2vecEncoder(Wav2Vec2Encoder):
    """voc2vec: a wav2vec2-base trained on 125 hours of non-verbal vocalisations, as in BLEMORE.

    Licence of the default weights: Apache-2.0.
    """

    name: ClassVar[str] = "voc2vec"
    summary: ClassVar[str] = "frozen voc2vec (non-verbal vocalisations), layers 6-12, seven statistics, MLP head"
    Options: ClassVar[type[Any]] = Voc2vecOptions


class AudeeringEncoder(Wav2Vec2Encoder):
    """audeering's wav2vec2, pruned to 12 layers and trained to predict arousal, dominance and valence of speech.

    Licence of the default weights: CC-BY-NC-SA-4.0, which excludes commercial use.
    """

    name: ClassVar[str] = "audeering-dim"
    summary: ClassVar[str] = "frozen audeering wav2vec2 for arousal, dominance, valence (non-commercial), MLP head"
    Options: ClassVar[type[Any]] = AudeeringOptions
    demo_options: ClassVar[Mapping[str, object]] = {**DEMO, "layers": "0-2"}
    small: ClassVar[str] = "wav2vec2-robust"


def describe_frames(frames: NDArray[np.float32], options: AudioOptions) -> NDArray[np.float32]:
    """Pool a clip's frames, float32 (T, D), to one vector according to `pooling`.

    Returns:
        float32 (7 x D,); with `moments` ((2 x segments + 1) x D,): mean and standard deviation (ddof 0) of each part
        in turn, then the mean of the whole clip. If a clip has fewer frames than parts, the last frame is repeated.
    """
    if options.pooling != "moments":
        return pool_statistics(frames, options.parts)
    exact = frames.astype(np.float64)
    exact = np.pad(exact, ((0, max(0, options.parts - len(exact))), (0, 0)), mode="edge")
    moments = [[part.mean(axis=0), part.std(axis=0)] for part in np.array_split(exact, options.parts)]
    return np.concatenate([*np.concatenate(moments), frames.mean(axis=0, dtype=np.float64)]).astype(np.float32)


def open_states(recipe: Recipe, context: Context) -> Store:
    """Return the cache store of hidden states: float32 (T, D) per clip, or layer by layer, float16 (T, L, D)."""
    return context.cache.store("speech-features", **recipe.facts(context.cache))


def keep_states(store: Store, clip: Clip, states: NDArray[np.float32]) -> NDArray[np.float32]:
    """Save the hidden states of a clip, and return their mean, float32 (T, D).

    Those of several layers are saved as float16: normalised values are small, and half the size.
    """
    if states.ndim == 2:
        store.save(clip, states)
        return states
    layers = states.astype(np.float16)
    store.save(clip, layers)
    return layers.mean(axis=1, dtype=np.float32)


def read_frames(store: Store, clip: Clip) -> NDArray[np.float32]:
    """Return the hidden states of a clip, float32 (T, D), of several layers their mean."""
    found = store.load(clip)
    return found if found.ndim == 2 else found.mean(axis=1, dtype=np.float32)


def _open_store(recipe: Recipe, options: AudioOptions, context: Context) -> Store:
    """Return the cache store of the embeddings with these options and weights."""
    parts = f"moments {options.parts}" if options.pooling == "moments" else options.parts
    return context.cache.store("speech-vectors", parts=parts, **recipe.facts(context.cache))
