"""wav2vec2, frozen: layers 6 to 12 averaged, seven statistics over the clip, and a head trained on them.

The recipe is the UZH paper's (arXiv 2603.23650); the network runs in float32 everywhere, because bfloat16 changes its
output by about 1 %. Licence of the default weights: Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from blemore_harness.context import Context
from blemore_harness.dataset import Clips
from blemore_harness.hookspecs import Encoder, Modality, hookimpl
from blemore_harness.rows import Embeddings
from blemore_plugins.hub import Weights, find_weights, identify_source
from blemore_plugins.wav2vec2.extraction import extract, open_store
from blemore_plugins.wav2vec2.options import RANDOM_SMALL, Wav2Vec2Options

FILES = (("config.json",), ("model.safetensors", "pytorch_model.bin"))
"""What is needed of a model. The released feature extractor's settings are not: its normalisation is always applied."""


class Wav2Vec2Encoder(Encoder):
    """Vectors of a frozen wav2vec2 model under the harness's head."""

    name: ClassVar[str] = "wav2vec2"
    summary: ClassVar[str] = "frozen wav2vec2-large, layers 6-12, seven statistics, MLP head"
    modality: ClassVar[Modality] = "audio"
    Options: ClassVar[type[Any]] = Wav2Vec2Options
    # Untrained blocks add little; the head is small because the demo has 360 clips and a laptop to run on.
    demo_options: ClassVar[Mapping[str, object]] = {
        "model": RANDOM_SMALL,
        "layers": "0-2",
        "hidden": "256",
        "epochs": 80,
        "patience": 25,
    }

    def mark(self, options: Wav2Vec2Options) -> str | None:
        """Say that the random network is not wav2vec2."""
        return "untrained small encoders" if options.model == RANDOM_SMALL else None

    def identify(self, options: Wav2Vec2Options) -> Mapping[str, object]:
        """Tell a local model by its content."""
        return {} if options.model == RANDOM_SMALL else {"model": identify_source(options.model)}

    def prepare(self, clips: Clips, options: Wav2Vec2Options, context: Context) -> None:
        """Fetch the weights, and compute the vectors that are not in the cache.

        Raises:
            WeightsMissing, DataError, InvalidOption: see `hub` and `network.build_network`.
            MediaError: a clip without usable sound.
        """
        weights = _weights(options, download=True)
        store = open_store(options, weights, context)
        context.note("model", RANDOM_SMALL if weights is None else weights.identity(context.cache))
        missing = store.missing(clips)
        if missing:
            extract(missing, store, options, weights, context)

    def embed(self, clips: Clips, options: Wav2Vec2Options, context: Context) -> Embeddings:
        """Read the vectors from the cache: float32 (N, 7 x width of the model)."""
        store = open_store(options, _weights(options), context)
        vectors = [store.load(clip) for clip in clips]
        return Embeddings(clips.ids, np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32))


@hookimpl
def blemore_encoders() -> list[Encoder]:
    """Offer the encoder `wav2vec2`."""
    return [Wav2Vec2Encoder()]


def _weights(options: Wav2Vec2Options, download: bool = False) -> Weights | None:
    """Find the weights; None for the random network."""
    if options.model == RANDOM_SMALL:
        return None
    return find_weights(options.model, FILES, "wav2vec2.model", revision=options.revision, download=download)
