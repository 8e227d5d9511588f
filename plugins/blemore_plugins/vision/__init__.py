"""Frozen image and video networks: frame-level features of a clip with a classification head.

Where the organisers released features, these are read; otherwise, and where asked for, the same kind of features is
made from the clips, whose frames are decoded once for all of these encoders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from blemore_harness.hookspecs import Encoder, Modality, hookimpl
from blemore_plugins.features.encoder import Extractor, FeatureEncoder
from blemore_plugins.vision import families, options
from blemore_plugins.vision.options import RANDOM_SMALL

# Small untrained networks and heads: the demo has 360 clips and a laptop to run on.
SMALL: Mapping[str, object] = {"model": RANDOM_SMALL, "hidden": "128", "epochs": 40, "patience": 15}
SMALL_PICTURES: Mapping[str, object] = {**SMALL, "stride": 4}


class ClipEncoder(FeatureEncoder):
    """CLIP: the projected vector of every frame. Licence of the default weights: MIT."""

    name: ClassVar[str] = "clip"
    summary: ClassVar[str] = "frozen CLIP ViT-B/32, a vector per frame (released or from the clips), MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.ClipOptions
    store: ClassVar[str] = "CLIP"
    statistics_store: ClassVar[str] = "clip_static_features"
    extractor: ClassVar[Extractor | None] = families.ClipExtractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL_PICTURES


class Dinov2Encoder(FeatureEncoder):
    """DINOv2: the class token of every frame. Licence of the default weights: Apache-2.0."""

    name: ClassVar[str] = "dinov2"
    summary: ClassVar[str] = "frozen DINOv2 base, a vector per frame (released or from the clips), MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.Dinov2Options
    store: ClassVar[str] = "DINOv2"
    statistics_store: ClassVar[str] = "dinov2_static_features"
    extractor: ClassVar[Extractor | None] = families.Dinov2Extractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL_PICTURES


class Dinov3Encoder(FeatureEncoder):
    """DINOv3: the class token of every frame. The weights are gated, under the DINOv3 licence."""

    name: ClassVar[str] = "dinov3"
    summary: ClassVar[str] = "frozen DINOv3 ViT-B/16, a vector per frame (released or from the clips), MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.Dinov3Options
    store: ClassVar[str] = "DINOv3"
    statistics_store: ClassVar[str] = "dinov3_static_features"
    extractor: ClassVar[Extractor | None] = families.Dinov3Extractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL_PICTURES


class ImageBindEncoder(FeatureEncoder):
    """ImageBind: the joint vector of every frame. Licence of the weights: CC-BY-NC-SA-4.0."""

    name: ClassVar[str] = "imagebind"
    summary: ClassVar[str] = "frozen ImageBind huge, a vector per frame (released or from the clips), MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.ImageBindOptions
    store: ClassVar[str] = "ImageBind"
    statistics_store: ClassVar[str] = "imagebind_static_features"
    width: ClassVar[int | None] = 1024
    extractor: ClassVar[Extractor | None] = families.ImageBindExtractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL_PICTURES


class VideoMaeV2Encoder(FeatureEncoder):
    """VideoMAE V2 giant: a vector per 16 frames. Licence of the default weights: CC-BY-NC-4.0.

    The organisers' aggregated file carries the name of the first version, `videomae`.
    """

    name: ClassVar[str] = "videomaev2"
    summary: ClassVar[str] = "frozen VideoMAE V2 giant, a vector per 16 frames (released or from the clips), MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.VideoMaeV2Options
    store: ClassVar[str] = "VideoMAEv2"
    statistics_store: ClassVar[str] = "videomae_static_features"
    width: ClassVar[int | None] = 1408
    extractor: ClassVar[Extractor | None] = families.VideoMaeV2Extractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL


class VideoSwinEncoder(FeatureEncoder):
    """Video Swin base: a vector per window of 32 frames, every 16.

    The released features come from a network that was never released, fine-tuned on 13 classes: what is extracted here
    with torchvision's weights is another thing. A fine-tuned file in torchvision's layout may be named instead. The
    organisers' aggregated file is called `videoswintransformer`.
    """

    name: ClassVar[str] = "videoswin"
    summary: ClassVar[str] = "frozen Video Swin base, a vector per 32 frames (released or from the clips), MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.VideoSwinOptions
    store: ClassVar[str] = "VideoSwin"
    statistics_store: ClassVar[str] = "videoswintransformer_static_features"
    extractor: ClassVar[Extractor | None] = families.VideoSwinExtractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL


class VJepa2Encoder(FeatureEncoder):
    """V-JEPA 2 large: a vector per two frames, seen in windows of 64; nothing was released. Licence: MIT."""

    name: ClassVar[str] = "vjepa2"
    summary: ClassVar[str] = "frozen V-JEPA 2 large, a vector per 2 frames in windows of 64, MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.VJepa2Options
    extractor: ClassVar[Extractor | None] = families.VJepa2Extractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL


@hookimpl
def blemore_encoders() -> list[Encoder]:
    """Return the frozen visual encoders."""
    return [
        ClipEncoder(), Dinov2Encoder(), Dinov3Encoder(), ImageBindEncoder(), VideoMaeV2Encoder(), VideoSwinEncoder(),
        VJepa2Encoder(),
    ]  # fmt: skip
