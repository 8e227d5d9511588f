"""The frozen audio encoders that give a vector per clip: hidden states averaged, seven statistics, a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Store
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.hookspecs import Encoder, Modality, Requirement
from blemore_harness.media.audio import warn_of_silence
from blemore_harness.pooling import pool_statistics
from blemore_harness.predictions import Embeddings
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
"""Mark of results with the small random networks."""

# Untrained blocks add little; the head is small because the demo has 360 clips and a laptop to run on.
DEMO: Mapping[str, object] = {"model": RANDOM_SMALL, "hidden": "256", "epochs": 80, "patience": 25}
"""What all of these encoders set on the demo dataset."""


class AudioEncoder(Encoder):
    """Embeddings of a frozen audio model of any type that `kinds` lists, under the harness's head.

    The network runs in float32 everywhere, because bfloat16 changes its output by about 1 %. Waves are normalised, or
    made into spectrograms, as the model's own preprocessor settings say. A network of fixed length (Whisper, 30 s; an
    audio spectrogram transformer, 10 s) hears a longer clip in pieces. Licence of the default weights: MIT.

    Attributes (besides those of `Encoder`):
        small: name of the small random network that stands in for the default one.
        always_normalise: whether models of type wav2vec2 hear normalised waves without being asked for their settings.
    """

    name: ClassVar[str] = "audio"
    summary: ClassVar[str] = "any frozen audio model of transformers (HuBERT, Whisper, AST ...), statistics, MLP head"
    modality: ClassVar[Modality] = "audio"
    Options: ClassVar[type[Any]] = AudioOptions
    demo_options: ClassVar[Mapping[str, object]] = DEMO
    small: ClassVar[str] = "wav2vec2-bert"
    always_normalise: ClassVar[bool] = False

    def caveat(self, options: AudioOptions) -> str | None:
        """Report that the random network is no trained one."""
        return UNTRAINED if options.model == RANDOM_SMALL else None

    def identify(self, options: AudioOptions) -> Mapping[str, object]:
        """Tell a local model by its content."""
        return {} if options.model == RANDOM_SMALL else {"model": identify_source(options.model)}

    def requirements(self, options: AudioOptions) -> tuple[Requirement, ...]:
        """Return the packages, and the token of the hub."""
        return (*need("transformers"), HUB_TOKEN)

    def prepare(self, clips: Clips, options: AudioOptions, context: Context) -> None:
        """Fetch the weights, and compute the embeddings that are not in the cache.

        Raises:
            WeightsMissing, DataError, InvalidOption: see `hub`, `recipe` and `network`.
            MediaError: a clip without usable audio.
        """
        recipe = self._settle(options, download=True)
        store = _open_store(recipe, options, context)
        context.note("model", {"type": recipe.kind.type, **recipe.identity(context.cache)})

        def keep(clip: Clip, frames: NDArray[np.float32], outputs: NDArray[np.float32]) -> None:
            store.save(clip, np.concatenate([describe_frames(frames, options), outputs]))

        missing = store.missing(clips)
        if missing:
            extract(missing, recipe, keep, context)
        warn_of_silence(clips, context)

    def embed(self, clips: Clips, options: AudioOptions, context: Context) -> Embeddings:
        """Read the embeddings from the cache: float32 (N, 7 x width of the model, and what the model says itself)."""
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
    """wav2vec2 with layers 6 to 12 averaged: the recipe of the UZH paper (arXiv 2603.23650).

    The paper's name of the checkpoint is not certain. Licence of the default weights: Apache-2.0.
    """

    name: ClassVar[str] = "wav2vec2"
    summary: ClassVar[str] = "frozen wav2vec2-large, layers 6-12, seven statistics, MLP head"
    Options: ClassVar[type[Any]] = Wav2Vec2Options
    demo_options: ClassVar[Mapping[str, object]] = {**DEMO, "layers": "0-2"}
    small: ClassVar[str] = "wav2vec2"
    always_normalise: ClassVar[bool] = True


class Wav2Vec2NarrowEncoder(Wav2Vec2Encoder):
    """The same embeddings under the paper's smaller head: its second row."""

    name: ClassVar[str] = "wav2vec2-512"
    summary: ClassVar[str] = "frozen wav2vec2-large, layers 6-12, seven statistics, MLP head of 512"
    Options: ClassVar[type[Any]] = Wav2Vec2NarrowOptions


class Voc2vecEncoder(Wav2Vec2Encoder):
    """voc2vec: a wav2vec2-base trained on 125 hours of vocalisations without words, as the blends' sounds are.

    Licence of the default weights: Apache-2.0.
    """

    name: ClassVar[str] = "voc2vec"
    summary: ClassVar[str] = "frozen voc2vec (non-verbal vocalisations), layers 6-12, seven statistics, MLP head"
    Options: ClassVar[type[Any]] = Voc2vecOptions


class AudeeringEncoder(Wav2Vec2Encoder):
    """audeering's wav2vec2, pruned to 12 layers and trained to tell arousal, dominance and valence of speech.

    Licence of the default weights: CC-BY-NC-SA-4.0, which excludes commercial use.
    """

    name: ClassVar[str] = "audeering-dim"
    summary: ClassVar[str] = "frozen audeering wav2vec2 for arousal, dominance, valence (non-commercial), MLP head"
    Options: ClassVar[type[Any]] = AudeeringOptions
    demo_options: ClassVar[Mapping[str, object]] = {**DEMO, "layers": "0-2"}
    small: ClassVar[str] = "wav2vec2-robust"


def describe_frames(frames: NDArray[np.float32], options: AudioOptions) -> NDArray[np.float32]:
    """Make one vector of a clip's frames, float32 (T, D), as `pooling` says.

    Returns:
        float32 (7 x D,); with `moments` ((2 x segments + 1) x D,): mean and deviation (ddof 0) of the first part, of
        the next, and so on, then the mean of the whole clip. A clip of fewer frames has its last one repeated.
    """
    if options.pooling != "moments":
        return pool_statistics(frames, options.parts)
    exact = frames.astype(np.float64)
    exact = np.pad(exact, ((0, max(0, options.parts - len(exact))), (0, 0)), mode="edge")
    moments = [[part.mean(axis=0), part.std(axis=0)] for part in np.array_split(exact, options.parts)]
    return np.concatenate([*np.concatenate(moments), frames.mean(axis=0, dtype=np.float64)]).astype(np.float32)


def _open_store(recipe: Recipe, options: AudioOptions, context: Context) -> Store:
    """Open the store of the embeddings that these options and weights give."""
    parts = f"moments {options.parts}" if options.pooling == "moments" else options.parts
    return context.cache.store("speech-vectors", parts=parts, **recipe.facts(context.cache))
