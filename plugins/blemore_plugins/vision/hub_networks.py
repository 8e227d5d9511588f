"""The frozen networks that transformers and timm have: CLIP, DINOv2, DINOv3, V-JEPA 2, X-CLIP, VideoPrism."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from blemore_harness.errors import DataError, InvalidOption
from blemore_harness.networks import seeded
from blemore_plugins.hub import Weights, load_strictly
from blemore_plugins.vision.loading import load_exactly, read_weights
from blemore_plugins.vision.pictures import PictureRule
from blemore_plugins.vision.preprocessing import read_rule
from blemore_plugins.vision.running import Network

NOTHING = re.compile(r"(?!)")
OTHER_HALF = re.compile(r"text_model\..*|text_projection\.weight|logit_scale|vision_model\.embeddings\.position_ids")
"""Parameters of a CLIP besides its image encoder, and a buffer of old files."""

OLD_POSITIONS = re.compile(r".*\.embeddings\.position_ids")
"""A buffer of old files."""

SIDE = 224
"""Pixels of DINOv2 and DINOv3 at their released preprocessing, whatever the configuration says of training."""

DINO: Mapping[str, str] = {
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
}
MASK_TOKEN = re.compile(r"embeddings\.mask_token")

SMALL: Mapping[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL_SIDE = 32


def build_clip(weights: Weights | None) -> Network:
    """Load the image encoder of a CLIP: the projected vector of each frame, not normalised, as the organisers keep it.

    Raises:
        DataError, InvalidOption: weights that do not fit, or another kind of model.
    """
    if weights is None:
        config = transformers.CLIPVisionConfig(
            **SMALL, intermediate_size=128, projection_dim=32, image_size=SMALL_SIDE, patch_size=8
        )
        model = _make_small(transformers.CLIPVisionModelWithProjection, config)
    else:
        _read_config(weights.folder, ("clip", "clip_vision_model"))
        model = _load(transformers.CLIPVisionModelWithProjection, weights, OTHER_HALF)
    return Network(model, _of_frames(lambda frames: model(pixel_values=frames).image_embeds), model.config.image_size)


def build_dino(weights: Weights | None, kinds: tuple[str, ...]) -> Network:
    """Load a DINOv2 or DINOv3: the class token of each frame after the last norm.

    Args:
        weights: their files; None for the small random network of the first kind.
        kinds: which `model_type` may be there; `timm` allows timm's layout too.

    Raises:
        DataError, InvalidOption: weights that do not fit, or another kind of model.
    """
    if weights is None:
        kind = getattr(transformers, DINO[kinds[0]])
        model = _make_small(kind, kind.config_class(**SMALL, image_size=SMALL_SIDE, patch_size=8))
        return Network(model, _of_frames(lambda frames: model(frames).pooler_output), SMALL_SIDE)
    found = _read_config(weights.folder, kinds)
    if found == "timm":
        return _build_timm(weights)
    model = _load(getattr(transformers, DINO[found]), weights, MASK_TOKEN)
    return Network(model, _of_frames(lambda frames: model(frames).pooler_output), SIDE)


def build_vjepa2(weights: Weights | None) -> Network:
    """Load a V-JEPA 2: per pair of frames the mean over the picture; its predictor is not used.

    Raises:
        DataError, InvalidOption: weights that do not fit, or another kind of model.
    """
    if weights is None:
        config = transformers.VJEPA2Config(
            **SMALL, crop_size=SMALL_SIDE, patch_size=8, frames_per_clip=16, pred_hidden_size=24,
            pred_num_hidden_layers=1, pred_num_attention_heads=2,
        )  # fmt: skip
        model = _make_small(transformers.VJEPA2Model, config)
    else:
        _read_config(weights.folder, ("vjepa2",))
        model = _load(transformers.VJEPA2Model, weights, NOTHING)
        config = model.config
    model.predictor = None
    length, span = config.frames_per_clip, config.tubelet_size

    def run(windows: Tensor) -> Tensor:
        tokens = model(pixel_values_videos=windows, skip_predictor=True).last_hidden_state
        return tokens.unflatten(1, (length // span, -1)).mean(dim=2)

    return Network(model, run, config.crop_size, length, length, span)


def build_xclip(weights: Weights | None) -> Network:
    """Load the video part of an X-CLIP: `get_video_features` of one window for the whole clip.

    Raises:
        DataError, InvalidOption: weights that do not fit, or another kind of model.
    """
    if weights is None:
        vision = {**SMALL, "intermediate_size": 128, "image_size": SMALL_SIDE, "patch_size": 8, "mit_hidden_size": 32,
                  "mit_intermediate_size": 64, "mit_num_attention_heads": 2}  # fmt: skip
        text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 8}
        config = transformers.XCLIPConfig(
            vision_config=vision, text_config=text, projection_dim=32, prompt_num_attention_heads=2
        )
        model = _make_small(transformers.XCLIPModel, config)
        rule, side = PictureRule(), SMALL_SIDE
    else:
        _read_config(weights.folder, ("xclip",))
        rule, side = read_rule(weights.folder, "AutoImageProcessor")
        model = _load(transformers.XCLIPModel, weights, OLD_POSITIONS)
    # What only texts need.
    model.text_model = model.text_projection = model.prompts_generator = None
    model.prompts_visual_layernorm = model.prompts_visual_projection = None
    length = model.config.vision_config.num_frames

    def run(windows: Tensor) -> Tensor:
        return model.get_video_features(pixel_values=windows).pooler_output[:, None]

    return Network(model, run, side, length, length, length, spread=True, rule=rule)


def build_videoprism(weights: Weights | None) -> Network:
    """Load the video encoder of a VideoPrism: per frame the mean over the picture.

    Raises:
        DataError, InvalidOption: weights that do not fit, or another kind of model.
    """
    if weights is None:
        config = transformers.VideoPrismVisionConfig(
            hidden_size=64, num_attention_heads=2, intermediate_size=128, num_spatial_layers=2, num_temporal_layers=1,
            image_size=SMALL_SIDE, tubelet_size=[1, 8, 8], num_frames=8,
        )  # fmt: skip
        model = _make_small(transformers.VideoPrismVisionModel, config)
        rule, side = PictureRule(zoom=None), SMALL_SIDE
    else:
        _read_config(weights.folder, ("videoprism_vision_model",))
        rule, side = read_rule(weights.folder, "AutoVideoProcessor")
        # Its capped attention has no fused implementation.
        model = load_strictly(transformers.VideoPrismVisionModel, weights.folder, NOTHING, dtype=torch.float32)
    length = model.config.num_frames

    def run(windows: Tensor) -> Tensor:
        return model(pixel_values_videos=windows).last_hidden_state.unflatten(1, (length, -1)).mean(dim=2)

    return Network(model, run, side, length, length, 1, spread=True, rule=rule)


def _build_timm(weights: Weights) -> Network:
    """Load a DINOv3 of timm's layout; the class token, not the mean that timm's configuration asks for.

    timm rounds the periods of the rotary positions differently: its features differ in the fourth digit.
    """
    import timm

    config = json.loads((weights.folder / "config.json").read_text(encoding="utf-8"))
    settings = {**config.get("model_args", {}), "num_classes": 0, "global_pool": "token", "img_size": SIDE}
    try:
        with seeded(0):
            model = timm.create_model(config["architecture"], pretrained=False, **settings)
    except (RuntimeError, TypeError) as error:
        raise DataError(
            f"timm {timm.__version__} cannot make '{config['architecture']}' ({error}): expected a DINOv3 network, "
            'which timm has from 1.0.20 on; pip install -U "blemore-harness[encoders]"'
        ) from error
    tensors = read_weights(weights.files[1], {"patch_embed.proj.weight": 4}, "DINOv3 in timm's layout")
    load_exactly(model, tensors, str(weights.files[1]))
    return Network(model, _of_frames(model), SIDE)


def _load(kind: Any, weights: Weights, allowed: re.Pattern[str]) -> Any:
    """Load strictly and compute in float32, in whatever type the file is."""
    return load_strictly(kind, weights.folder, allowed, dtype=torch.float32, attn_implementation="sdpa")


def _of_frames(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Convert a function of images into one of windows of one frame."""
    return lambda windows: run(windows[:, 0])[:, None]


def _make_small(kind: Any, config: Any) -> Any:
    with seeded(0):
        return kind(config).eval()


def _read_config(folder: Path, kinds: tuple[str, ...]) -> str:
    """Return the kind of a model, which must be one of `kinds`."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        found = config.get("model_type") or ("timm" if "dinov3" in str(config.get("architecture")) else None)
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path} is not a model's configuration ({error}): fetch it again") from error
    if found not in kinds:
        raise InvalidOption(f"model: expected one of type {' or '.join(kinds)}, found '{found}' in {folder}")
    return str(found)
