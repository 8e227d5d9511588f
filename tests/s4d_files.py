"""Small S4D checkpoints as the released trainer saves them."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from blemore_plugins.s4d.checkpoint import load_into, read_tensors, shape_of  # noqa: E402
from blemore_plugins.s4d.network import build_network  # noqa: E402
from blemore_plugins.s4d.shape import Routing, Shape  # noqa: E402

SMALL = Shape(dim=64, depth=3, first_expert=1, image=32, frames=4, adapter=16, routing=Routing(experts=4))


def pretraining_file(path: Path, prefix: str = "encoder.") -> dict[str, torch.Tensor]:
    """Save what the masked autoencoder's trainer saves: the plain trunk, its last norm, the decoder, an optimizer."""
    draw = torch.Generator().manual_seed(7)
    network = build_network(SMALL, seed=5)
    trunk = {
        name: torch.randn(tensor.shape, generator=draw)
        for name, tensor in network.state_dict().items()
        if "moe_layer" not in name and not name.startswith(("fc_norm", "head"))
    }
    model = {f"{prefix}{name}": tensor for name, tensor in trunk.items()}
    model |= {f"{prefix}norm.weight": torch.ones(64), f"{prefix}norm.bias": torch.zeros(64)}
    model |= {"mask_token": torch.zeros(1, 1, 32), "encoder_to_decoder.weight": torch.zeros(32, 64)}
    model |= {"decoder.blocks.0.attn.q_bias": torch.zeros(32), "decoder.norm.weight": torch.ones(32)}
    model |= {"decoder.head.weight": torch.zeros(1536, 32), "decoder.head.bias": torch.zeros(1536)}
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([parameter]).state_dict()
    torch.save({"model": model, "optimizer": optimizer, "epoch": 99, "loss": 0.4, "steps": 7, "scaler": {}}, path)
    return trunk


def load(path: Path, base: Shape = SMALL):
    tensors = read_tensors(path)
    network = build_network(shape_of(tensors, base), seed=1)
    return network, load_into(network, tensors, path.name)
