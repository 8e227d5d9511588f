"""Small clips and tiny checkpoints in the released layouts, for the tests of the visual encoders."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import transformers

from blemore_plugins.hub import quiet_transformers
from media_files import clip_of, write_media


def textured_frames(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Moving waves of several lengths with a little noise, uint8 (count, height, width, 3)."""
    generator = np.random.default_rng(seed)
    down, across = np.mgrid[:height, :width]
    frames = [
        np.stack(
            [128 + 60 * np.sin(down / (5 + c) + t / 4) + 40 * np.cos(across / (7 - c) + seed) for c in range(3)], -1
        )
        for t in range(count)
    ]
    return (np.stack(frames) + generator.normal(0, 4, (count, height, width, 1))).clip(0, 255).astype(np.uint8)


def write_clips(folder: Path, counts=(21, 40, 9)) -> list:
    """Clips of some lengths and two sizes."""
    return [
        clip_of(write_media(folder / f"{n}.mov", textured_frames(count, *((60, 82), (90, 64))[n % 2], seed=n)), f"v{n}")
        for n, count in enumerate(counts)
    ]


def randomise(model: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """Return every parameter values that matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.5 if parameter.ndim < 2 else 1.5 * parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale + ("norm" in name))
    return model.eval()


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def save_clip(folder: Path):
    """A whole CLIP, with its text side, as the hub has it."""
    config = transformers.CLIPConfig(
        text_config={**SMALL, "intermediate_size": 32, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1},
        vision_config={**SMALL, "intermediate_size": 48, "image_size": 56, "patch_size": 14, "projection_dim": 24},
        projection_dim=24,
    )
    return save(transformers.CLIPModel(config), folder)


def save_dinov2(folder: Path):
    """Trained at another size than it is used at, as the released ones are."""
    return save(transformers.Dinov2Model(transformers.Dinov2Config(**SMALL, image_size=70)), folder)


def save_dinov3(folder: Path):
    return save(
        transformers.DINOv3ViTModel(
            transformers.DINOv3ViTConfig(**SMALL, intermediate_size=48, num_register_tokens=4, pos_embed_rescale=None)
        ),
        folder,
    )


def save_vjepa2(folder: Path):
    config = transformers.VJEPA2Config(
        **SMALL, crop_size=64, frames_per_clip=8, pred_hidden_size=24, pred_num_hidden_layers=1,
        pred_num_attention_heads=2,
    )  # fmt: skip
    return save(transformers.VJEPA2Model(config), folder)


def save(model, folder: Path):
    """Save a model of transformers with random weights; returns it back."""
    randomise(model)
    with quiet_transformers():
        model.save_pretrained(folder)
    return model


def save_timm_dinov3(folder: Path):
    """A DINOv3 in timm's layout on the hub."""
    import timm
    from safetensors.torch import save_file

    changes = {"embed_dim": 32, "depth": 1, "num_heads": 2}
    model = randomise(
        timm.create_model("vit_small_patch16_dinov3", num_classes=0, global_pool="token", img_size=224, **changes)
    )
    folder.mkdir()
    config = {"architecture": "vit_small_patch16_dinov3", "num_classes": 0, "global_pool": "avg", "model_args": changes}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    return model


def videomae_tensors(dim: int = 64, depth: int = 2, hidden: int = 80) -> dict[str, torch.Tensor]:
    """The names and shapes of `vit_g_hybrid_pt_1200e_k710_ft.pth`, small."""
    shapes = {"patch_embed.proj.weight": (dim, 3, 2, 14, 14), "patch_embed.proj.bias": (dim,)}
    for n in range(depth):
        shapes |= {
            f"blocks.{n}.{name}": shape
            for name, shape in {
                "norm1.weight": (dim,), "norm1.bias": (dim,), "attn.q_bias": (dim,), "attn.v_bias": (dim,),
                "attn.qkv.weight": (3 * dim, dim), "attn.proj.weight": (dim, dim), "attn.proj.bias": (dim,),
                "norm2.weight": (dim,), "norm2.bias": (dim,), "mlp.fc1.weight": (hidden, dim),
                "mlp.fc1.bias": (hidden,), "mlp.fc2.weight": (dim, hidden), "mlp.fc2.bias": (dim,),
            }.items()
        }  # fmt: skip
    shapes |= {"fc_norm.weight": (dim,), "fc_norm.bias": (dim,), "head.weight": (710, dim), "head.bias": (710,)}
    return draw(shapes)


def imagebind_tensors(dim: int = 32, depth: int = 2, width: int = 20) -> dict[str, torch.Tensor]:
    """The names and shapes of `imagebind_huge.pth`, small, with some of its other senses."""
    before, trunk, head = (f"modality_{part}.vision." for part in ("preprocessors", "trunks", "heads"))
    shapes = {
        before + "cls_token": (1, 1, dim), before + "rgbt_stem.proj.1.weight": (dim, 3, 2, 14, 14),
        before + "pos_embedding_helper.pos_embed": (1, 17, dim), trunk + "pre_transformer_layer.0.weight": (dim,),
        trunk + "pre_transformer_layer.0.bias": (dim,), head + "0.weight": (dim,), head + "0.bias": (dim,),
        head + "2.weight": (width, dim), "modality_trunks.audio.blocks.0.norm_1.weight": (7,),
        "modality_postprocessors.text.1.log_logit_scale": (),
    }  # fmt: skip
    for n in range(depth):
        shapes |= {
            f"{trunk}blocks.{n}.{name}": shape
            for name, shape in {
                "attn.in_proj_weight": (3 * dim, dim), "attn.in_proj_bias": (3 * dim,),
                "attn.out_proj.weight": (dim, dim), "attn.out_proj.bias": (dim,), "norm_1.weight": (dim,),
                "norm_1.bias": (dim,), "mlp.fc1.weight": (4 * dim, dim), "mlp.fc1.bias": (4 * dim,),
                "mlp.fc2.weight": (dim, 4 * dim), "mlp.fc2.bias": (dim,),
                "norm_2.weight": (dim,), "norm_2.bias": (dim,),
            }.items()
        }  # fmt: skip
    return draw(shapes)


def draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Random tensors of some sizes."""
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.randn(shape, generator=generator) * (0.3 if len(shape) < 2 else 1.5 * np.prod(shape[1:]) ** -0.5)
        for name, shape in shapes.items()
    }


def save_videoswin(path: Path, classes: int = 13):
    """A Video Swin in torchvision's layout."""
    from torchvision.models.video import SwinTransformer3d

    model = SwinTransformer3d(
        patch_size=[2, 4, 4], embed_dim=8, depths=[2, 1], num_heads=[1, 2], window_size=[8, 7, 7], num_classes=classes,
        stochastic_depth_prob=0.1,
    )  # fmt: skip
    randomise(model)
    torch.save(model.state_dict(), path)
    return model


# Released in 2026


XCLIP_PROCESSOR = {
    "image_processor_type": "VideoMAEImageProcessor", "do_resize": True, "size": {"shortest_edge": 64}, "resample": 2,
    "do_center_crop": True, "crop_size": {"height": 64, "width": 64}, "do_rescale": True, "do_normalize": True,
    "rescale_factor": 1 / 255, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip
SIGLIP_PROCESSOR = {
    "image_processor_type": "SiglipImageProcessor", "do_resize": True, "size": {"height": 64, "width": 64},
    "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip
VIDEOPRISM_PROCESSOR = {
    "video_processor_type": "LlavaOnevisionVideoProcessor", "do_resize": True, "size": {"height": 54, "width": 54},
    "resample": 3, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False,
}  # fmt: skip


def write_json(folder: Path, name: str, content: object) -> None:
    (folder / name).write_text(json.dumps(content))


def save_xclip(folder: Path):
    """A whole X-CLIP, with its text side."""
    config = transformers.XCLIPConfig(
        text_config={**SMALL, "intermediate_size": 32, "vocab_size": 50, "eos_token_id": 1, "bos_token_id": 0},
        vision_config={**SMALL, "intermediate_size": 48, "image_size": 64, "patch_size": 16, "mit_hidden_size": 24,
                       "mit_intermediate_size": 32, "mit_num_attention_heads": 2},
        projection_dim=24, prompt_num_attention_heads=2,
    )  # fmt: skip
    model = save(transformers.XCLIPModel(config), folder)
    write_json(folder, "preprocessor_config.json", XCLIP_PROCESSOR)
    return model


def save_videoprism(folder: Path):
    config = transformers.VideoPrismVisionConfig(
        hidden_size=32, num_attention_heads=2, intermediate_size=48, num_spatial_layers=2, num_temporal_layers=1,
        image_size=54, num_frames=4,
    )  # fmt: skip
    model = save(transformers.VideoPrismVisionModel(config), folder)
    write_json(folder, "video_preprocessor_config.json", VIDEOPRISM_PROCESSOR)
    return model


def save_siglip(folder: Path):
    """A whole SigLIP 2 of fixed size, with its text side."""
    config = transformers.SiglipConfig(
        text_config={**SMALL, "intermediate_size": 32, "vocab_size": 50, "projection_size": 32},
        vision_config={**SMALL, "intermediate_size": 48, "image_size": 64, "patch_size": 16},
    )  # fmt: skip
    model = save(transformers.SiglipModel(config), folder)
    write_json(folder, "preprocessor_config.json", SIGLIP_PROCESSOR)
    return model


def save_vit_classifier(folder: Path):
    """A classifier: its file has no pooler, and a head that nobody asks for."""
    config = transformers.ViTConfig(**SMALL, intermediate_size=48, image_size=64, patch_size=16, num_labels=5)
    model = save(transformers.ViTForImageClassification(config), folder)
    write_json(folder, "preprocessor_config.json", {**SIGLIP_PROCESSOR, "image_processor_type": "ViTImageProcessor"})
    return model


def save_convnext(folder: Path):
    config = transformers.ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], image_size=64)
    model = save(transformers.ConvNextModel(config), folder)
    content = {**XCLIP_PROCESSOR, "image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.875, "resample": 3}
    del content["do_center_crop"], content["crop_size"]
    write_json(folder, "preprocessor_config.json", content)
    return model


def save_timm(folder: Path, architecture: str = "test_vit"):
    """A classifier of timm in the layout of the hub."""
    import timm
    from safetensors.torch import save_file

    model = randomise(timm.create_model(architecture, num_classes=7))
    folder.mkdir()
    settings = {
        "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic", "crop_pct": 0.9,
        "crop_mode": "center", "input_size": list(model.pretrained_cfg["input_size"]), "num_classes": 7,
        "classifier": model.pretrained_cfg["classifier"], "fixed_input_size": model.pretrained_cfg["fixed_input_size"],
    }  # fmt: skip
    config = {"architecture": architecture, "num_classes": 7, "num_features": 64, "pretrained_cfg": settings}
    write_json(folder, "config.json", config)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    return model


def save_regressors(folder: Path, sizes=(32, 16, 8, 1)):
    """The 40 files of Empathic-Insight-Face, small; returns their tensors by emotion."""
    from blemore_plugins.vision.empathic import EMOTIONS

    folder.mkdir()
    held = {}
    for number, name in enumerate(EMOTIONS):
        shapes = {}
        for n, (before, after) in enumerate(pairwise(sizes)):
            shapes |= {f"layers.{3 * n}.weight": (after, before), f"layers.{3 * n}.bias": (after,)}
        held[name] = {key: tensor + 0.01 * number for key, tensor in draw(shapes).items()}
        torch.save(held[name], folder / f"model_{name}_best.pth")
    return held
