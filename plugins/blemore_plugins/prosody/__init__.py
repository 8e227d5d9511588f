"""Prosody: pitch, energy, timbre and rhythm of a clip, without pretrained weights, with a classification head.

Contours with a step of 10 ms are summarised into about four hundred named features per clip
(`vocabulary.describe_features`). Nothing is downloaded, and only the head is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.errors import DataError
from blemore_harness.heads.options import HeadOptions
from blemore_harness.hookspecs import Card, Encoder, Modality, Requirement, hookimpl
from blemore_harness.media.audio import warn_of_silence
from blemore_harness.predictions import Embeddings
from blemore_plugins.cards import NO_WEIGHTS
from blemore_plugins.prosody.extraction import CONTOURS, extract, open_store
from blemore_plugins.prosody.vocabulary import feature_names
from blemore_plugins.requirements import need


class ProsodyEncoder(Encoder):
    """Named acoustic features of the voice with the harness's classification head."""

    name: ClassVar[str] = "prosody"
    summary: ClassVar[str] = "pitch, energy, timbre and rhythm of the voice, no weights, MLP head"
    modality: ClassVar[Modality] = "audio"
    prepares_each_clip: ClassVar[bool] = True
    Options: ClassVar[type[Any]] = HeadOptions
    # The same features; the head is small because the demo has 360 clips and should run on a laptop.
    demo_options: ClassVar[Mapping[str, object]] = {"hidden": "256", "epochs": 80, "patience": 25}

    def card(self, options: HeadOptions) -> Card:
        """Return the card of a system without weights."""
        return NO_WEIGHTS

    def requirements(self, options: HeadOptions) -> tuple[Requirement, ...]:
        """Return the packages that measure pitch, timbre and rhythm."""
        return need("librosa", "scipy")

    def prepare(self, clips: Clips, options: HeadOptions, context: Context) -> None:
        """Compute the missing embeddings.

        Raises:
            MediaError: a clip without usable audio; the embeddings of the others are kept.
            ExtraMissing: av, librosa or scipy is not installed.
        """
        store = open_store(context)
        missing = store.missing(clips)
        if missing:
            extract(missing, store, context)
        warn_of_silence(clips, context)

    def frame_features(self, clip: Clip, options: HeadOptions, context: Context) -> NDArray[np.float32]:
        """Return the contours of a clip, float32 (T, C), a frame every 10 ms; see `vocabulary.contour_names`.

        Raises:
            DataError: no contours of a clip.
        """
        return open_store(context).load(clip, CONTOURS)

    def embed(self, clips: Clips, options: HeadOptions, context: Context) -> Embeddings:
        """Read the embeddings from the cache: float32 (N, length of `vocabulary.feature_names()`).

        Raises:
            DataError: no embedding of a clip, or one of another length.
        """
        store, width = open_store(context), len(feature_names())
        values = np.empty((len(clips), width), dtype=np.float32)
        for row, clip in enumerate(clips):
            vector = store.load(clip)
            if vector.shape != (width,):
                raise DataError(
                    f"expected {width} features in {store.path(clip)}, found an array of shape {vector.shape}: "
                    "delete it and run again"
                )
            values[row] = vector
        return Embeddings(clips.ids, values)


@hookimpl
def blemore_encoders() -> list[Encoder]:
    """Return the encoder `prosody`."""
    return [ProsodyEncoder()]
