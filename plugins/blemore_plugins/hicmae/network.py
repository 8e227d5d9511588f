"""HiCMAE: a transformer for pictures, one for audio, and a fusion encoder in which each looks at the other.

Written from a description of the published HiCMAE. Names and shapes of all parameters are those of the released
checkpoints, so that these load by name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemore_plugins.hicmae.shape import Shape
from blemore_plugins.s4d.network import NORM_EPS, Attention, Block, Mlp, PatchEmbed, sinusoids
from blemore_plugins.s4d.shape import Shape as TrunkShape


class SoundPatches(nn.Module):
    """Cuts a spectrum into squares and maps each to a token."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, shape.dim, kernel_size=shape.sound_patch, stride=shape.sound_patch)

    def forward(self, spectra: Tensor) -> Tensor:
        """Map (chunks, 1, time, mel) to (chunks, tokens, dim): time first, then mel."""
        side = self.proj.weight.shape[-1]
        parts = spectra.unflatten(3, (-1, side)).unflatten(2, (-1, side))
        parts = parts.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return F.linear(parts, self.proj.weight.flatten(1), self.proj.bias)


class Encoder(nn.Module):
    """The transformer of one modality, which gives what leaves each of its blocks."""

    positions: Tensor

    def __init__(self, shape: Shape, patches: nn.Module, tokens: int) -> None:
        super().__init__()
        self.patch_embed = patches
        self.blocks = nn.ModuleList([Block(_trunk(shape), experts=False) for _ in range(shape.depth)])
        self.norm = nn.LayerNorm(shape.dim, eps=NORM_EPS)
        # Not persistent: the released checkpoints hold no table of positions.
        self.register_buffer("positions", sinusoids(tokens, shape.dim), persistent=False)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalised tokens of the last block and the mean token of every block.

        Returns:
            (chunks, tokens, dim) and (chunks, depth, dim); all blocks share one norm.
        """
        tokens = self.patch_embed(inputs)
        tokens = tokens + self.positions.to(tokens.dtype)
        means = []
        for block in self.blocks:
            tokens = block(tokens)
            normed = self.norm(tokens)
            means.append(normed.mean(dim=1))
        return normed, torch.stack(means, dim=1)


class CrossAttention(nn.Module):
    """Attention of one modality to the other, with biases for queries and values only."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.kv = nn.Linear(dim, 2 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, other: Tensor) -> Tensor:
        """Map tokens (chunks, tokens, dim), which ask, and others (chunks, others, dim) to the shape of the first."""
        bias = torch.cat([torch.zeros_like(self.v_bias), self.v_bias])
        query = F.linear(tokens, self.q.weight, self.q_bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        joint = F.linear(other, self.kv.weight, bias)
        key, value = joint.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class FusionBlock(nn.Module):
    """Attention to the other modality, to the own one, then the MLP."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.cross_attn = CrossAttention(shape.dim, shape.heads)
        self.cross_norm1, self.cross_norm2 = (nn.LayerNorm(shape.dim, eps=NORM_EPS) for _ in range(2))
        self.norm1 = nn.LayerNorm(shape.dim, eps=NORM_EPS)
        self.attn = Attention(shape.dim, shape.heads)
        self.norm2 = nn.LayerNorm(shape.dim, eps=NORM_EPS)
        self.mlp = Mlp(shape.dim, shape.mlp * shape.dim)

    def forward(self, tokens: Tensor, other: Tensor) -> Tensor:
        """Map tokens (chunks, tokens, dim) to the same shape, looking at (chunks, others, dim)."""
        tokens = tokens + self.cross_attn(self.cross_norm1(tokens), self.cross_norm2(other))
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class FusionEncoder(nn.Module):
    """Layers in which both modalities look at what the other was before the layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([FusionBlock(shape) for _ in range(shape.fusion)])
        self.blocks_audio = nn.ModuleList([FusionBlock(shape) for _ in range(shape.fusion)])
        self.norm = nn.LayerNorm(shape.dim, eps=NORM_EPS)
        self.norm_audio = nn.LayerNorm(shape.dim, eps=NORM_EPS)

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Map the tokens of both, (chunks, tokens, dim) each, to the same shapes."""
        for see, hear in zip(self.blocks, self.blocks_audio, strict=True):
            video, audio = see(video, audio), hear(audio, video)
        return self.norm(video), self.norm_audio(audio)


class HiCMAE(nn.Module):
    """The whole network: pictures and audio of chunks in, features or logits out.

    Fresh weights come from torch's global generator: seed it first.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape, PatchEmbed(_trunk(shape)), shape.video_tokens)
        self.encoder_audio = Encoder(shape, SoundPatches(shape), shape.audio_tokens)
        self.encoder_fusion = FusionEncoder(shape)
        # Through a softmax: equal weights, which is what a pre-trained checkpoint is used with.
        self.video_layer_weights = nn.Parameter(torch.full((shape.depth,), 1 / shape.depth))
        self.audio_layer_weights = nn.Parameter(torch.full((shape.depth,), 1 / shape.depth))
        self.fc_norm = nn.LayerNorm(shape.features, eps=NORM_EPS)
        self.head = nn.Linear(shape.features, shape.classes) if shape.classes else nn.Identity()

    def embed(self, pictures: Tensor, sound: Tensor) -> Tensor:
        """Return the features of chunks.

        Args:
            pictures: (chunks, 3, CHUNK, image, image), normalised.
            audio: (chunks, 1, SOUND_FRAMES, MEL_BANDS), normalised.

        Returns:
            (chunks, 4 x dim): video alone, audio alone, video after fusion, audio after fusion; normalised together.
        """
        video, video_means = self.encoder(pictures)
        audio, audio_means = self.encoder_audio(sound)
        alone = [
            weigh_layers(video_means, self.video_layer_weights),
            weigh_layers(audio_means, self.audio_layer_weights),
        ]
        fused = [tokens.mean(dim=1) for tokens in self.encoder_fusion(video, audio)]
        return self.fc_norm(torch.cat([*alone, *fused], dim=1))

    def forward(self, pictures: Tensor, sound: Tensor) -> Tensor:
        """Return logits (chunks, classes), or the features where there is no head; see `embed`."""
        return self.head(self.embed(pictures, sound))


def weigh_layers(means: Tensor, weights: Tensor) -> Tensor:
    """Sum the mean tokens of layers, (chunks, depth, dim), with the softmax of their weights (depth,)."""
    return (means * weights.softmax(dim=0)[:, None]).sum(dim=1)


def _trunk(shape: Shape) -> TrunkShape:
    """Return the sizes that a plain block and the patches of pictures have, in the words of S4D, whose code they
    are.
    """
    return TrunkShape(dim=shape.dim, mlp=shape.mlp, patch=shape.patch, tubelet=shape.tubelet)
