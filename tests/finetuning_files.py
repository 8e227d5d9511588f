"""Small networks for fine-tuning, saved as the hub has them; no tensor is left at zero or one."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

THIN = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 8}


SOUND = {
    "conv_dim": (8,) * 7, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "codevector_dim": 8, "proj_codevector_dim": 8,
    "num_codevectors_per_group": 4,
}  # fmt: skip


def scramble(network: torch.nn.Module) -> None:
    """No tensor is left at zero or one: a bias that is lost must show."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + 0.05)


def save(network: torch.nn.Module, folder: Path) -> Path:
    scramble(network)
    network.save_pretrained(folder)
    return folder
