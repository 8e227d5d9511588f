"""Omni embedders: one embedding of audio and video of a clip together, by any model of sentence-transformers.

Needs the extra `omni`; the small untrained network of the demo does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from blemore_harness.hookspecs import Encoder, Modality, hookimpl
from blemore_plugins.features.encoder import Extractor
from blemore_plugins.features.whole_clip import WholeClipEncoder
from blemore_plugins.omni.extraction import OmniExtractor
from blemore_plugins.omni.options import RANDOM_SMALL, OmniOptions
from blemore_plugins.omni.presets import id_of


class OmniEncoder(WholeClipEncoder):
    """An omni embedder: frames evenly spaced over the clip and its audio in one call of `encode`.

    Licence of the default weights: Apache-2.0.
    """

    name: ClassVar[str] = "omni"
    summary: ClassVar[str] = "frozen omni embedder (sentence-transformers), one embedding of audio and video, MLP head"
    modality: ClassVar[Modality] = "audiovisual"
    Options: ClassVar[type[Any]] = OmniOptions
    extractor: ClassVar[Extractor | None] = OmniExtractor()
    demo_options: ClassVar[Mapping[str, object]] = {
        "model": RANDOM_SMALL, "frames": 8, "hidden": "128", "epochs": 40, "patience": 15,
    }  # fmt: skip

    def named_weights(self, options: OmniOptions) -> str:
        """Return the Hugging Face id where a preset is named, else the option `model`."""
        return id_of(options.model)


@hookimpl
def blemore_encoders() -> list[Encoder]:
    """Return the encoder `omni`."""
    return [OmniEncoder()]
