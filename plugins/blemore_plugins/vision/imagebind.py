"""The image encoder of ImageBind, in the layout of the released `imagebind_huge.pth`, without the other modalities.

Written from a description of the published network, because no maintained package has it; names and shapes of all
parameters are those of the file.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemore_harness.errors import DataError
from blemore_harness.networks import seeded
from blemore_plugins.s4d.network import Mlp
from blemore_plugins.vision.loading import count_blocks, load_exactly, read_weights
from blemore_plugins.vision.running import Network

NORM_EPS = 1e-6
HEADS = 16
"""Of the huge network, the only one that was released."""

SMALL_HEADS = 2

STEM = "modality_preprocessors.vision.rgbt_stem.proj.1.weight"
POSITIONS = "modality_preprocessors.vision.pos_embedding_helper.pos_embed"
PROJECTION = "modality_heads.vision.2.weight"

OTHER_SENSES = re.compile(r"modality_\w+\.(text|audio|depth|thermal|imu)\..*")
"""What the file has for other inputs."""


class Block(nn.Module):
    """Attention, then the MLP, each after its norm and beside its skip.

    Args:
        dim, heads: of the attention.
        add_bias_kv: whether a learned token is added to keys and values, as for audio.
    """

    def __init__(self, dim: int, heads: int, add_bias_kv: bool = False) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(dim, heads, add_bias_kv=add_bias_kv, batch_first=True)
        self.norm_1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, 4 * dim)
        self.norm_2 = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (images, tokens, dim) to the same shape."""
        normed = self.norm_1(tokens)
        tokens = tokens + self.attn(normed, normed, normed, need_weights=False)[0]
        return tokens + self.mlp(self.norm_2(tokens))


class Stem(nn.Module):
    """Divides images into patches, with a video stem of two frames, to which each image is given twice."""

    def __init__(self, dim: int, frames: int, patch: int) -> None:
        super().__init__()
        size = (frames, patch, patch)
        # The released name of the convolution is `proj.1`: a layer without weights stands before it.
        self.proj = nn.Sequential(nn.Identity(), nn.Conv3d(3, dim, size, stride=size, bias=False))

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (images, 3, height, width) to (images, patches, dim)."""
        weight = self.proj[1].weight
        return functional.conv2d(pictures, weight.sum(dim=2), stride=weight.shape[3:]).flatten(2).transpose(1, 2)


class ImageBindVision(nn.Module):
    """Pictures in, embeddings of length 1 in the joint space out.

    Args:
        dim, depth, heads: of the transformer.
        tokens: patches of an image plus one.
        frames, patch: of the stem.
        width: of the joint space.
    """

    def __init__(self, dim: int, depth: int, heads: int, tokens: int, frames: int, patch: int, width: int) -> None:
        super().__init__()
        before = nn.Module()
        before.cls_token = nn.Parameter(torch.randn(1, 1, dim) * dim**-0.5)
        before.rgbt_stem = Stem(dim, frames, patch)
        before.pos_embedding_helper = nn.Module()
        before.pos_embedding_helper.pos_embed = nn.Parameter(torch.randn(1, tokens, dim) * dim**-0.5)
        trunk = nn.Module()
        trunk.pre_transformer_layer = nn.Sequential(nn.LayerNorm(dim, eps=NORM_EPS))
        trunk.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(depth)])
        head = nn.Sequential(nn.LayerNorm(dim, eps=NORM_EPS), nn.Identity(), nn.Linear(dim, width, bias=False))
        self.modality_preprocessors = nn.ModuleDict({"vision": before})
        self.modality_trunks = nn.ModuleDict({"vision": trunk})
        self.modality_heads = nn.ModuleDict({"vision": head})

    def forward(self, windows: Tensor) -> Tensor:
        """Map windows of one frame (B, 1, 3, height, width) to features (B, 1, width)."""
        before, trunk = self.modality_preprocessors["vision"], self.modality_trunks["vision"]
        patches = before.rgbt_stem(windows[:, 0])
        tokens = torch.cat([before.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        tokens = trunk.pre_transformer_layer(tokens + before.pos_embedding_helper.pos_embed)
        features = self.modality_heads["vision"](trunk.blocks(tokens)[:, :1])
        return functional.normalize(features, dim=-1)


def build_imagebind(path: Path | None) -> Network:
    """Load the network from the released file; without one, make the small random one.

    Raises:
        DataError: a file that is damaged, or not of this layout.
    """
    if path is None:
        with seeded(0):
            network = ImageBindVision(64, 2, SMALL_HEADS, tokens=17, frames=2, patch=8, width=32).eval()
        return Network(network, network, side=32)
    tensors = read_weights(path, {STEM: 5, POSITIONS: 3, PROJECTION: 2}, "ImageBind")
    dim, _, frames, patch, _ = tensors[STEM].shape
    tokens = tensors[POSITIONS].shape[1]
    grid = math.isqrt(max(tokens - 1, 0))
    if grid**2 != tokens - 1 or dim % HEADS:
        raise DataError(
            f"{path}: expected positions of a square image and a width that {HEADS} heads divide, found {tokens - 1} "
            f"patches and width {dim}: fetch imagebind_huge.pth again"
        )
    depth = count_blocks(tensors, "modality_trunks.vision.blocks.#.norm_1.weight")
    width = tensors[PROJECTION].shape[0]
    with torch.device("meta"):
        empty = ImageBindVision(dim, depth, HEADS, tokens, frames, patch, width)
    network = load_exactly(empty, tensors, str(path), OTHER_SENSES)
    return Network(network, network, side=grid * patch)
