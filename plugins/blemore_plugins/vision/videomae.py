"""VideoMAE V2's video vision transformer, in the layout of the released fine-tuning checkpoints.

Written from a description of the published network; names and shapes of all parameters are those of the files, such as
`vit_g_hybrid_pt_1200e_k710_ft.pth`, so that these load by name. Attention, tubelets and the table of positions are
those of S4D, which is built on VideoMAE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from blemore_harness.networks import seeded
from blemore_plugins.s4d.network import NORM_EPS, Attention, Mlp, PatchEmbed, sinusoids
from blemore_plugins.s4d.shape import Shape
from blemore_plugins.vision.loading import count_blocks, load_exactly, read_weights
from blemore_plugins.vision.running import Network

FRAMES, SIDE = 16, 224
"""Of a chunk; the files do not tell."""

HEAD_WIDTH = 64
HEADS: Mapping[int, int] = {1280: 16, 1408: 16}
"""Attention heads of the huge and the giant network by width; all others have heads of 64."""

CLASSIFIER = re.compile(r"head\.(weight|bias)")
"""What follows the features: left out."""

SMALL = Shape(dim=64, depth=2, image=32, frames=FRAMES, patch=8)


class Block(nn.Module):
    """Attention, then the MLP, each after its norm and beside its skip."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (clips, tokens, dim) to the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class VideoVit(nn.Module):
    """Frames in, one normalised mean over all tokens out.

    Args:
        shape: dim, depth, image, frames, patch and tubelet.
        hidden: width of the MLPs.
    """

    positions: Tensor

    def __init__(self, shape: Shape, hidden: int) -> None:
        super().__init__()
        heads = HEADS.get(shape.dim, shape.dim // HEAD_WIDTH)
        self.patch_embed = PatchEmbed(shape)
        self.blocks = nn.ModuleList([Block(shape.dim, heads, hidden) for _ in range(shape.depth)])
        self.fc_norm = nn.LayerNorm(shape.dim, eps=NORM_EPS)
        # Not persistent: the released checkpoints hold no table of positions.
        with torch.device("cpu"):
            self.register_buffer("positions", sinusoids(shape.tokens, shape.dim), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """Map windows (B, frames, 3, height, width) to features (B, 1, dim)."""
        tokens = self.patch_embed(windows.transpose(1, 2)) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        return self.fc_norm(tokens.mean(dim=1, keepdim=True))


def build_videomae(path: Path | None) -> Network:
    """Load a network of any size from a checkpoint; without one, make the small random one.

    Raises:
        DataError: a file that is damaged, or not of this layout.
    """
    if path is None:
        with seeded(0):
            network, shape = VideoVit(SMALL, SMALL.mlp * SMALL.dim).eval(), SMALL
        return Network(network, network, shape.image, FRAMES, FRAMES, FRAMES)
    markers = {"patch_embed.proj.weight": 5, "blocks.0.mlp.fc1.weight": 2, "fc_norm.weight": 1}
    tensors = read_weights(path, markers, "VideoMAE V2 after fine-tuning")
    dim, _, tubelet, patch, _ = tensors["patch_embed.proj.weight"].shape
    depth = count_blocks(tensors, "blocks.#.norm1.weight")
    shape = Shape(dim=dim, depth=depth, image=SIDE, frames=FRAMES, patch=patch, tubelet=tubelet)
    with torch.device("meta"):
        empty = VideoVit(shape, tensors["blocks.0.mlp.fc1.weight"].shape[0])
    network = load_exactly(empty, tensors, str(path), CLASSIFIER)
    return Network(network, network, SIDE, FRAMES, FRAMES, FRAMES)
