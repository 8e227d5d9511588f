"""What each family of frozen visual encoders has of its own: its weights, its preprocessing, its network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.error import HTTPError

from blemore_harness.errors import WeightsMissing
from blemore_plugins.hub import Weights, find_weights
from blemore_plugins.vision.extraction import FOLDER, Files, VisionExtractor
from blemore_plugins.vision.options import VideoMaeV2Options
from blemore_plugins.vision.pictures import CLIP_MEAN, CLIP_STD, PictureRule
from blemore_plugins.vision.preprocessing import PROCESSOR, VIDEO_PROCESSOR

if TYPE_CHECKING:
    from blemore_plugins.vision.running import Network

TORCHVISION = "https://download.pytorch.org/models"
"""Where torchvision's weights lie."""

MARGIN = (8, 7)
"""The shorter side is resized to 256 px for a crop of 224, to 292 for one of 256."""


class ClipExtractor(VisionExtractor):
    """CLIP: constants of openai/clip-vit-base-patch32's `preprocessor_config.json`."""

    name: ClassVar[str] = "clip"
    rule: ClassVar[PictureRule] = PictureRule(CLIP_MEAN, CLIP_STD, "bicubic")

    def build(self, options: Any, weights: Weights | None) -> Network:
        """Load the image encoder."""
        from blemore_plugins.vision.hub_networks import build_clip

        return build_clip(weights)


class Dinov2Extractor(VisionExtractor):
    """DINOv2: constants of facebook/dinov2-base's `preprocessor_config.json`."""

    name: ClassVar[str] = "dinov2"
    rule: ClassVar[PictureRule] = PictureRule(filter="bicubic", zoom=MARGIN)

    def build(self, options: Any, weights: Weights | None) -> Network:
        """Load the network, with registers or without."""
        from blemore_plugins.vision.hub_networks import build_dino

        return build_dino(weights, ("dinov2", "dinov2_with_registers"))


class Dinov3Extractor(VisionExtractor):
    """DINOv3: the released processor squashes frames into the square and does not round what it resized."""

    name: ClassVar[str] = "dinov3"
    libraries: ClassVar[tuple[str, ...]] = ("transformers", "timm")
    hint: ClassVar[str] = (
        "these weights are gated: ask for access on the model's page of the hub, log in with `hf auth login`, and run "
        "again; or set dinov3.model=timm/vit_base_patch16_dinov3.lvd1689m, which is not gated (the DINOv3 licence "
        "holds there too)"
    )
    rule: ClassVar[PictureRule] = PictureRule(zoom=None, rounded=False)

    def build(self, options: Any, weights: Weights | None) -> Network:
        """Load the network, of transformers' layout or timm's."""
        from blemore_plugins.vision.hub_networks import build_dino

        return build_dino(weights, ("dinov3_vit", "timm"))


class ImageBindExtractor(VisionExtractor):
    """ImageBind's image preprocessing: constants of its released `load_and_transform_vision_data`."""

    name: ClassVar[str] = "imagebind"
    files: ClassVar[Files] = (("imagebind_huge.pth", "model.safetensors", "pytorch_model.bin"),)
    libraries: ClassVar[tuple[str, ...]] = ()
    hint: ClassVar[str] = (
        "or fetch https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth (4.5 GB, CC-BY-NC-SA-4.0) and set "
        "imagebind.model to its path"
    )
    rule: ClassVar[PictureRule] = PictureRule(CLIP_MEAN, CLIP_STD, "bicubic", even=True)

    def build(self, options: Any, weights: Weights | None) -> Network:
        """Load the image encoder."""
        from blemore_plugins.vision.imagebind import build_imagebind

        return build_imagebind(weights.files[0] if weights else None)


class VideoMaeV2Extractor(VisionExtractor):
    """VideoMAE V2: 16 frames after another, and the next 16."""

    name: ClassVar[str] = "videomaev2"
    files: ClassVar[Files] = (
        (
            "mae-g/vit_g_hybrid_pt_1200e_k710_ft.pth", "vit_g_hybrid_pt_1200e_k710_ft.pth", "model.safetensors",
            "pytorch_model.bin",
        ),
    )  # fmt: skip
    libraries: ClassVar[tuple[str, ...]] = ()
    hint: ClassVar[str] = (
        "its authors ask for a form, which docs/MODEL_ZOO.md of github.com/OpenGVLab/VideoMAEv2 names; the file may be "
        "named itself: videomaev2.model=FILE"
    )
    rule: ClassVar[PictureRule] = PictureRule(even=True)

    def build(self, options: Any, weights: Weights | None) -> Network:
        """Load the network, of any size."""
        from blemore_plugins.vision.videomae import build_videomae

        return build_videomae(weights.files[0] if weights else None)

    def rule_of(self, options: VideoMaeV2Options) -> PictureRule:
        """Return the organisers' rule with `compat`: blue first, squashed without a filter, from 0 to 1."""
        if not options.compat:
            return self.rule
        return replace(
            self.rule, mean=(0.0,) * 3, std=(1.0,) * 3, zoom=None, antialias=False, rounded=False, swapped=True
        )

    def fills_with_zeros(self, options: VideoMaeV2Options) -> bool:
        """Fill as the organisers do with `compat`."""
        return options.compat

    def reads_full(self, options: VideoMaeV2Options) -> bool:
        """Decode at full size with `compat`: without a filter, smaller frames give other pictures."""
        return options.compat or options.frames == "full"


class VideoSwinExtractor(VisionExtractor):
    """Video Swin: constants of torchvision's preset for swin3d_b; 32 frames, every 16."""

    name: ClassVar[str] = "videoswin"
    libraries: ClassVar[tuple[str, ...]] = ("torchvision",)
    caution: ClassVar[str] = (
        "the organisers' released features come from a network that was not released (Video Swin fine-tuned on 13 "
        "classes); these are torchvision's, and other features"
    )
    rule: ClassVar[PictureRule] = PictureRule(zoom=MARGIN, antialias=False, even=True)

    def build(self, options: Any, weights: Weights | None) -> Network:
        """Load the network, of any size."""
        from blemore_plugins.vision.videoswin import build_videoswin

        return build_videoswin(weights.files[0] if weights else None)

    def find(self, options: Any, download: bool) -> Weights:
        """Find a local file, or torchvision's own by name, which torch keeps in its folder of checkpoints."""
        path = Path(options.model).expanduser()
        if path.is_file():
            return find_weights(options.model, [(path.name,)], "videoswin.model")
        try:
            from torch import hub

            from blemore_plugins.vision.loading import fetch_checked
        except ImportError as error:
            raise self._extra_missing(error) from error
        address = f"{TORCHVISION}/{options.model}"
        kept = Path(hub.get_dir()) / "checkpoints" / options.model
        if "/" in options.model or path.suffix != ".pth":
            raise WeightsMissing(
                f"no weights at '{options.model}': expected a .pth file in torchvision's layout, or the name of one of "
                "torchvision's; say which with --set videoswin.model=..."
            )
        if not kept.is_file() and download:
            try:
                fetch_checked(address, kept)
            except Exception as error:  # whatever networks and disks can do
                answered = isinstance(error, HTTPError) or not isinstance(error, OSError)
                raise self._not_here(options.model, address, str(error), not answered) from error
        if not kept.is_file():
            raise self._not_here(options.model, address, "nothing is fetched after `prepare`")
        return Weights((kept,), None)

    def _not_here(self, name: str, address: str, why: str, fetchable: bool = False) -> WeightsMissing:
        todo = f"fetch {address} on a machine with internet access, and use --set videoswin.model=FILE"
        return WeightsMissing(
            f"the weights '{name}' are not on this machine ({why[:160]}): {todo}", address if fetchable else None, todo
        )


class VJepa2Extractor(VisionExtractor):
    """V-JEPA 2: constants of transformers' `VJEPA2VideoProcessor` for crops of 256."""

    name: ClassVar[str] = "vjepa2"
    rule: ClassVar[PictureRule] = PictureRule(zoom=MARGIN)

    def build(self, options: Any, weights: Weights | None) -> Network:
        """Load the network."""
        from blemore_plugins.vision.hub_networks import build_vjepa2

        return build_vjepa2(weights)


class XClipExtractor(VisionExtractor):
    """X-CLIP: one embedding of frames evenly spaced over the clip, in the space that it shares with texts."""

    name: ClassVar[str] = "xclip"
    files: ClassVar[Files] = (*FOLDER, PROCESSOR)

    def build(self, options: Any, weights: Weights | None) -> Network:
        """Load the video part."""
        from blemore_plugins.vision.hub_networks import build_xclip

        return build_xclip(weights)


class VideoPrismExtractor(VisionExtractor):
    """VideoPrism: an embedding of each of the frames that are evenly spaced over the clip."""

    name: ClassVar[str] = "videoprism"
    files: ClassVar[Files] = (*FOLDER, VIDEO_PROCESSOR)
    hint: ClassVar[str] = (
        "the transformers layout may be in another revision than main: set videoprism.revision, such as refs/pr/4"
    )

    def build(self, options: Any, weights: Weights | None) -> Network:
        """Load the video encoder."""
        from blemore_plugins.vision.hub_networks import build_videoprism

        return build_videoprism(weights)


class FramesExtractor(VisionExtractor):
    """Any image model of timm or transformers, with the preprocessing that it comes with."""

    name: ClassVar[str] = "frames"
    libraries: ClassVar[tuple[str, ...]] = ("transformers", "timm")

    def find(self, options: Any, download: bool) -> Weights:
        """Find the configuration, then what it asks for: models of timm have their preprocessing in it."""
        from blemore_plugins.vision.image_models import is_timm

        def look(wanted: Files) -> Weights:
            return find_weights(
                options.model, wanted, f"{self.name}.model", revision=options.revision, download=download
            )

        # Two files are asked for, so that a path to a single file is no model.
        return look(FOLDER if is_timm(look(FOLDER).folder) else (*FOLDER, PROCESSOR))

    def build(self, options: Any, weights: Weights | None) -> Network:
        """Load the model; the random one is that of `dinov2`."""
        from blemore_plugins.vision.hub_networks import build_dino
        from blemore_plugins.vision.image_models import build_image_model

        if weights is None:
            return replace(build_dino(None, ("dinov2",)), rule=PictureRule())
        return build_image_model(weights)
