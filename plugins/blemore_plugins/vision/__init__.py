"""Frozen image and video networks: frame-level features of a clip with a classification head.

Where the organisers released features, these are read; otherwise, and where asked for, the same kind of features is
made from the clips, whose frames are decoded once for all of these encoders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from blemore_harness.hookspecs import Encoder, Modality, hookimpl
from blemore_plugins.features.encoder import Extractor, FeatureEncoder
from blemore_plugins.features.whole_clip import WholeClipEncoder
from blemore_plugins.vision import families, options
from blemore_plugins.vision.empathic import EmpathicFaceExtractor
from blemore_plugins.vision.expression import ExpressionExtractor
from blemore_plugins.vision.options import RANDOM_SMALL

# Small untrained networks and heads: the demo has 360 clips and a laptop to run on.
SMALL: Mapping[str, object] = {"model": RANDOM_SMALL, "hidden": "128", "epochs": 40, "patience": 15}
SMALL_PICTURES: Mapping[str, object] = {**SMALL, "stride": 4}
# Faces are looked for as in the demo of `s4d`.
SMALL_FACES: Mapping[str, object] = {**SMALL_PICTURES, "detect_every": 16, "detect_size": 96, "smallest_face": 0.45}


class ClipEncoder(FeatureEncoder):
    """CLIP: the projected vector of every frame. Licence of the default weights: MIT."""

    name: ClassVar[str] = "clip"
    summary: ClassVar[str] = "frozen CLIP ViT-B/32, an embedding per frame (released or from the clips), MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.ClipOptions
    store: ClassVar[str] = "CLIP"
    statistics_store: ClassVar[str] = "clip_static_features"
    extractor: ClassVar[Extractor | None] = families.ClipExtractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL_PICTURES


class Dinov2Encoder(FeatureEncoder):
    """DINOv2: the class token of every frame. Licence of the default weights: Apache-2.0."""

    name: ClassVar[str] = "dinov2"
    summary: ClassVar[str] = "frozen DINOv2 base, an embedding per frame (released or from the clips), MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.Dinov2Options
    store: ClassVar[str] = "DINOv2"
    statistics_store: ClassVar[str] = "dinov2_static_features"
    extractor: ClassVar[Extractor | None] = families.Dinov2Extractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL_PICTURES


class Dinov3Encoder(FeatureEncoder):
    """DINOv3: the class token of every frame. The weights are gated, under the DINOv3 licence."""

    name: ClassVar[str] = "dinov3"
    summary: ClassVar[str] = "frozen DINOv3 ViT-B/16, an embedding per frame (released or from the clips), MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.Dinov3Options
    store: ClassVar[str] = "DINOv3"
    statistics_store: ClassVar[str] = "dinov3_static_features"
    extractor: ClassVar[Extractor | None] = families.Dinov3Extractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL_PICTURES


class ImageBindEncoder(FeatureEncoder):
    """ImageBind: the joint vector of every frame. Licence of the weights: CC-BY-NC-SA-4.0."""

    name: ClassVar[str] = "imagebind"
    summary: ClassVar[str] = "frozen ImageBind huge, an embedding per frame (released or from the clips), MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.ImageBindOptions
    store: ClassVar[str] = "ImageBind"
    statistics_store: ClassVar[str] = "imagebind_static_features"
    width: ClassVar[int | None] = 1024
    extractor: ClassVar[Extractor | None] = families.ImageBindExtractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL_PICTURES


class VideoMaeV2Encoder(FeatureEncoder):
    """VideoMAE V2 giant: an embedding per 16 frames. Licence of the default weights: CC-BY-NC-4.0.

    The organisers' aggregated file carries the name of the first version, `videomae`.
    """

    name: ClassVar[str] = "videomaev2"
    summary: ClassVar[str] = "frozen VideoMAE V2 giant, an embedding per 16 frames (released or from clips), MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.VideoMaeV2Options
    store: ClassVar[str] = "VideoMAEv2"
    statistics_store: ClassVar[str] = "videomae_static_features"
    width: ClassVar[int | None] = 1408
    extractor: ClassVar[Extractor | None] = families.VideoMaeV2Extractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL


class VideoSwinEncoder(FeatureEncoder):
    """Video Swin base: an embedding per window of 32 frames, every 16.

    The released features come from a network that was never released, fine-tuned on 13 classes: what is extracted here
    with torchvision's weights is another thing. A fine-tuned file in torchvision's layout may be named instead. The
    organisers' aggregated file is called `videoswintransformer`.
    """

    name: ClassVar[str] = "videoswin"
    summary: ClassVar[str] = "frozen Video Swin base, an embedding per 32 frames (released or from the clips), MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.VideoSwinOptions
    store: ClassVar[str] = "VideoSwin"
    statistics_store: ClassVar[str] = "videoswintransformer_static_features"
    extractor: ClassVar[Extractor | None] = families.VideoSwinExtractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL


class VJepa2Encoder(FeatureEncoder):
    """V-JEPA 2 large: an embedding per two frames, seen in windows of 64; nothing was released. Licence: MIT."""

    name: ClassVar[str] = "vjepa2"
    summary: ClassVar[str] = "frozen V-JEPA 2 large, an embedding per 2 frames in windows of 64, MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.VJepa2Options
    extractor: ClassVar[Extractor | None] = families.VJepa2Extractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL


class XClipEncoder(WholeClipEncoder):
    """X-CLIP: one embedding of 8 frames of the clip; nothing was released. Licence of the default weights: MIT.

    The frames are the middles of 8 equal parts of the clip, as its authors sample them for testing.
    """

    name: ClassVar[str] = "xclip"
    summary: ClassVar[str] = "frozen X-CLIP base, one embedding of 8 frames of the clip, MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.XClipOptions
    extractor: ClassVar[Extractor | None] = families.XClipExtractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL


class VideoPrismEncoder(FeatureEncoder):
    """VideoPrism: an embedding of each of 16 (large: 8) frames that see each other. Licence: Apache-2.0.

    The frames are the middles of equal parts of the clip; nothing was released.
    """

    name: ClassVar[str] = "videoprism"
    summary: ClassVar[str] = "frozen VideoPrism base, an embedding for each of 16 frames of the clip, MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.VideoPrismOptions
    extractor: ClassVar[Extractor | None] = families.VideoPrismExtractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL


class FramesEncoder(FeatureEncoder):
    """Any image model by name: its pooled embedding of every fourth frame, or face crop (`faces=true`).

    `model` is a Hugging Face id or a folder in the layout of timm or transformers; the preprocessing is the one that
    the model comes with. Licence of the default weights: Apache-2.0.
    """

    name: ClassVar[str] = "frames"
    summary: ClassVar[str] = "any frozen image model of timm or transformers, an embedding per frame, MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.FramesOptions
    extractor: ClassVar[Extractor | None] = families.FramesExtractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL_PICTURES


class EmpathicFaceEncoder(FeatureEncoder):
    """Empathic-Insight-Face: 40 emotion intensities of every fourth face crop.

    Licences: Apache-2.0 (SigLIP 2), CC-BY-4.0 (regressors). The regressors were trained on synthetic faces.
    """

    name: ClassVar[str] = "empathic-face"
    summary: ClassVar[str] = "frozen SigLIP 2 with 40 emotion regressors, intensities per face crop, MLP head"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.EmpathicFaceOptions
    extractor: ClassVar[Extractor | None] = EmpathicFaceExtractor()
    demo_options: ClassVar[Mapping[str, object]] = {**SMALL_FACES, "scale": 1.3, "size": 32}

    def named_weights(self, options: options.EmpathicFaceOptions) -> str:
        """Return the regressors where they stand on the SigLIP 2 that they were trained on."""
        default = type(options).model
        return options.model if options.model == RANDOM_SMALL else options.regressors * (options.model == default)


class ExpressionEncoder(FeatureEncoder):
    """Seven facial expressions of every fourth face crop: scores from 0 to 1 over time. Usable without a hub.

    The weights are in the package facial-emotion-recognition of PyPI (MIT); which faces they were trained on is not
    documented.
    """

    name: ClassVar[str] = "expression"
    summary: ClassVar[str] = "frozen CNN of facial expressions, seven scores per face crop, MLP head; needs no hub"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = options.ExpressionOptions
    extractor: ClassVar[Extractor | None] = ExpressionExtractor()
    demo_options: ClassVar[Mapping[str, object]] = SMALL_FACES


@hookimpl
def blemore_encoders() -> list[Encoder]:
    """Return the frozen visual encoders."""
    return [
        ClipEncoder(), Dinov2Encoder(), Dinov3Encoder(), ImageBindEncoder(), VideoMaeV2Encoder(), VideoSwinEncoder(),
        VJepa2Encoder(), XClipEncoder(), VideoPrismEncoder(), FramesEncoder(), EmpathicFaceEncoder(),
        ExpressionEncoder(),
    ]  # fmt: skip
