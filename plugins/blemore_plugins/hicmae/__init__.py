"""HiCMAE, frozen: picture and audio together as frame-level features, and a head.

The features are what the organisers released: the pre-trained network (VoxCeleb2, no labels), of which every 16 frames
with their audio give 2048 numbers. Code upstream: MIT; its weights carry no licence of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from blemore_harness.hookspecs import Encoder, Modality, hookimpl
from blemore_plugins.features.encoder import Extractor, FeatureEncoder
from blemore_plugins.hicmae.extraction import HiCMAEExtractor
from blemore_plugins.hicmae.options import RANDOM_SMALL, HiCMAEOptions


class HiCMAEEncoder(FeatureEncoder):
    """Features of a frozen HiCMAE under the harness's head."""

    name: ClassVar[str] = "hicmae"
    summary: ClassVar[str] = "frozen HiCMAE, face and audio together (released or from the clips), MLP head"
    modality: ClassVar[Modality] = "audiovisual"
    Options: ClassVar[type[Any]] = HiCMAEOptions
    store: ClassVar[str] = "HiCMAE"
    statistics_store: ClassVar[str] = "hicmae_static_features"
    width: ClassVar[int | None] = 2048
    extractor: ClassVar[Extractor | None] = HiCMAEExtractor()
    # The demo's clips last one or two seconds, hence the stride; the head is small because there are 360 of them and a
    # laptop to run on.
    demo_options: ClassVar[Mapping[str, object]] = {
        "weights": RANDOM_SMALL,
        "stride": 2,
        "size": 32,
        "detect_every": 16,
        "detect_size": 96,
        "smallest_face": 0.45,
        "hidden": "256",
        "epochs": 80,
        "patience": 25,
    }

    def named_weights(self, options: HiCMAEOptions) -> str:
        """Return the option `weights`."""
        return options.weights


@hookimpl
def blemore_encoders() -> list[Encoder]:
    """Return the encoder `hicmae`."""
    return [HiCMAEEncoder()]
