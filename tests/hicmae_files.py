"""Small HiCMAE checkpoints as the released trainer saves them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor  # noqa: E402

from blemore_plugins.hicmae.network import HiCMAE  # noqa: E402
from blemore_plugins.hicmae.shape import Shape  # noqa: E402

TINY = Shape(dim=64, depth=2, fusion=1, mlp=2, image=32, patch=8, sound_patch=32, classes=6)


FRESH = ("video_layer_weights", "audio_layer_weights", "fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")


def draw_weights(shape: Shape = TINY) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {
        name: torch.randn(tensor.shape, generator=generator) * 0.3
        for name, tensor in HiCMAE(shape).state_dict().items()
    }


def pretrained_weights() -> dict[str, Tensor]:
    """What pre-training leaves: no layer weights, last norm or head, but mask tokens and two decoders."""
    tensors = {name: tensor for name, tensor in draw_weights().items() if name not in FRESH}
    for which in ("", "_audio"):
        tensors[f"mask_token{which}"] = torch.zeros(1, 1, 48)
        tensors[f"encoder_to_decoder{which}.weight"] = torch.zeros(48, 64)
        tensors[f"decoder{which}.blocks.0.norm1.weight"] = torch.zeros(48)
        tensors[f"decoder{which}.blocks.1.cross_attn.kv.weight"] = torch.zeros(96, 48)
        tensors[f"decoder{which}.norm.bias"] = torch.zeros(48)
        tensors[f"decoder{which}.head.weight"] = torch.zeros(99, 48)
    return tensors


def save(path: Path, tensors: dict[str, Tensor]) -> Path:
    """As the released trainer saves: optimiser, scaler and command line beside the weights."""
    arguments = argparse.Namespace(model="pretrain_hicmae", mask_ratio=0.9, data_path=None)
    optimizer = {"state": {0: {"step": 5, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 3e-4, "params": [0]}]}
    held = {"model": tensors, "optimizer": optimizer, "epoch": 99, "scaler": {"scale": 1.0}, "args": arguments}
    torch.save(held, path)
    return path
