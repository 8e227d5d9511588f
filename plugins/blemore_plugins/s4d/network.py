"""S4D-ViTMoE: a video vision transformer whose later blocks carry a mixture of adapter experts.

Written from a description of the published S4D. Names and shapes of all parameters are those of the released
checkpoints, so that these load by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemore_plugins.s4d.shape import Routing, Shape


class Mlp(nn.Module):
    """Linear, GELU, linear, without skip or dropout: the dense part of a block, and one expert's bottleneck."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class Router(nn.Module):
    """Scores every token against every expert; the parameters' names are those of the released checkpoints."""

    def __init__(self, dim: int, experts: int) -> None:
        super().__init__()
        self.topkroute_linear = nn.Linear(dim, experts)
        self.noise_linear = nn.Linear(dim, experts)

    def forward(self, tokens: Tensor, noise: Tensor | None) -> Tensor:
        """Return logits (..., experts); `noise` is standard normal of that shape, or None for none."""
        logits = self.topkroute_linear(tokens)
        return logits if noise is None else logits + noise * F.softplus(self.noise_linear(tokens))


class MixtureOfExperts(nn.Module):
    """Sends every token to its best experts and adds up what they say, weighted.

    The weights are a softmax over the chosen experts' logits alone. A token that an expert has no room for gets nothing
    from that one, and its other weight stays as it is.

    Attributes:
        routing: may be exchanged between calls.
        balance: load-balance loss of the last forward pass in training mode, see `load_balance`; else None.
    """

    def __init__(self, dim: int, hidden: int, routing: Routing) -> None:
        super().__init__()
        self.router = Router(dim, routing.experts)
        self.experts = nn.ModuleList([Mlp(dim, hidden) for _ in range(routing.experts)])
        self.routing = routing
        self.balance: Tensor | None = None

    def forward(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Map tokens (clips, tokens, dim) to the same shape; `generator` draws the routing noise, None for torch's own.

        Noise is drawn on the generator's device: one on the CPU gives the same sequence for every device.
        """
        logits = self.router(tokens, self._noise(tokens, generator) if self.routing.noise else None)
        best, chosen = logits.float().topk(self.routing.top, dim=-1)
        self.balance = load_balance(logits, chosen) if self.training else None
        served = self._serve(tokens.flatten(0, 1), chosen.flatten(0, 1), best.softmax(dim=-1).flatten(0, 1))
        return served.view(tokens.shape)

    def _noise(self, tokens: Tensor, generator: torch.Generator | None) -> Tensor:
        where = tokens.device if generator is None else generator.device
        drawn = torch.randn((*tokens.shape[:-1], self.routing.experts), generator=generator, device=where)
        return drawn.to(tokens.device, tokens.dtype)

    def _serve(self, tokens: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Add up the weighted answers for tokens (N, dim); `chosen` and `weights` are (N, top).

        Requests are sorted by expert, so that each expert runs once, on a slice. Both reorderings are permutations:
        their gradients add nothing twice, which keeps them exact and repeatable on a GPU too.
        """
        requests = chosen.flatten()
        order = requests.argsort(stable=True)
        loads = torch.bincount(requests, minlength=self.routing.experts)
        weights = weights.flatten().index_select(0, order)
        if self.routing.capacity:
            weights = weights * self._has_room(loads, len(tokens))
        top = self.routing.top
        asked = tokens.unsqueeze(1).expand(-1, top, -1).flatten(0, 1).index_select(0, order)
        parts = asked.split(loads.tolist())
        said = torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True)])
        said = said * weights.to(said.dtype).unsqueeze(-1)
        return said.index_select(0, order.argsort()).unflatten(0, (-1, top)).sum(dim=1)

    def _has_room(self, loads: Tensor, tokens: int) -> Tensor:
        """Report which of the requests, sorted by expert and within it by token, are among the first that fit."""
        rule = self.routing
        limit = int(tokens * rule.top / rule.experts * rule.capacity)
        starts = loads.cumsum(0) - loads
        place = torch.arange(tokens * rule.top, device=loads.device) - starts.repeat_interleave(loads)
        return place < limit


def load_balance(logits: Tensor, chosen: Tensor) -> Tensor:
    """Report how unevenly experts are used: experts^2 times the mean over clips and experts of f * m.

    f is the share of a clip's tokens that chose the expert, m the mean of its raw (noisy) logits over the clip's
    tokens: logits, not probabilities, as upstream has it. Upstream weighs it by 1e-3 but never applies it: the call
    gets lost behind the wrapper for distributed training.

    Args:
        logits: (clips, tokens, experts).
        chosen: indices of the chosen experts, (clips, tokens, top).
    """
    experts = logits.shape[-1]
    share = F.one_hot(chosen, experts).sum(dim=2).to(logits.dtype).mean(dim=1)
    return experts**2 * (share * logits.mean(dim=1)).mean()


NORM_EPS = 1e-6
INIT_STD, INIT_CUT = 0.02, 2.0
"""Initial linear weights: normal, cut at +-2 (an absolute number upstream, which cuts next to nothing)."""


class PatchEmbed(nn.Module):
    """Cuts a clip into tubelets and maps each to a token."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        size = (shape.tubelet, shape.patch, shape.patch)
        self.proj = nn.Conv3d(3, shape.dim, kernel_size=size, stride=size)

    def forward(self, clips: Tensor) -> Tensor:
        """Map (clips, 3, frames, height, width) to (clips, tokens, dim): time first, then row, then column."""
        weight = self.proj.weight
        # A convolution whose stride is its kernel is one matrix product, and much faster as such on a CPU.
        for axis in (2, 3, 4):
            clips = clips.unflatten(2 * axis - 2, (-1, weight.shape[axis]))
        parts = clips.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)
        return F.linear(parts, weight.flatten(1), self.proj.bias)


class Attention(nn.Module):
    """Self-attention with one joint projection, and biases for queries and values only."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (clips, tokens, dim) to the same shape."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        joint = F.linear(tokens, self.qkv.weight, bias)
        query, key, value = joint.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then the MLP and, side by side with it, the experts (if any)."""

    def __init__(self, shape: Shape, experts: bool) -> None:
        super().__init__()
        dim = shape.dim
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, shape.heads)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, shape.mlp * dim)
        self.moe_layer = MixtureOfExperts(dim, shape.adapter, shape.routing) if experts else None

    def forward(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Map (clips, tokens, dim) to the same shape; `generator` draws routing noise."""
        tokens = tokens + self.attn(self.norm1(tokens))
        normed = self.norm2(tokens)
        change = self.mlp(normed)
        if self.moe_layer is not None:
            change = change + self.moe_layer(normed, generator)
        return tokens + change


class S4DViTMoE(nn.Module):
    """The whole network: clips or images in, logits out.

    Args:
        shape: sizes.
        generator: draws the initial weights; None for torch's global one. Build with `build_network` to leave the
            global one alone.
    """

    positions: Tensor

    def __init__(self, shape: Shape, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embed = PatchEmbed(shape)
        self.blocks = nn.ModuleList([Block(shape, index >= shape.first_expert) for index in range(shape.depth)])
        self.fc_norm = nn.LayerNorm(shape.dim, eps=NORM_EPS)
        image, video = nn.Linear(shape.dim, shape.image_classes), nn.Linear(shape.dim, shape.video_classes)
        self.head = nn.ModuleDict({"image": image, "video": video})
        # Not persistent: the released checkpoints hold no table of positions.
        self.register_buffer("positions", sinusoids(shape.tokens, shape.dim), persistent=False)
        self.apply(lambda module: initialise(module, generator))

    def lower(self, clips: Tensor) -> Tensor:
        """Run the patch embedding and the blocks without experts: tokens (clips, tokens, dim).

        An image (images, 3, height, width) counts as a clip that shows it for the length of one tubelet.
        """
        if clips.ndim == 4:
            clips = clips.unsqueeze(2).expand(-1, -1, self.shape.tubelet, -1, -1)
        tokens = self.patch_embed(clips)
        tokens = tokens + self.positions[: tokens.shape[1]].to(tokens.dtype)
        for block in self.blocks[: self.shape.first_expert]:
            tokens = block(tokens)
        return tokens

    def upper(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Run the blocks with experts, average over tokens and normalise: features (clips, dim)."""
        for block in self.blocks[self.shape.first_expert :]:
            tokens = block(tokens, generator)
        return self.fc_norm(tokens.mean(dim=1))

    def forward(self, clips: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return logits.

        Args:
            clips: (clips, 3, frames, height, width) for the video head, (images, 3, height, width) for the other.
            generator: draws routing noise, where `Routing.noise` is on.
        """
        head = self.head["video" if clips.ndim == 5 else "image"]
        return head(self.upper(self.lower(clips), generator))

    def mixtures(self) -> Iterator[MixtureOfExperts]:
        """Return the expert layers from the first to the last."""
        return (block.moe_layer for block in self.blocks if block.moe_layer is not None)

    def balance(self) -> Tensor:
        """Sum the load-balance losses of the last forward pass in training mode over all layers."""
        return torch.stack([layer.balance for layer in self.mixtures()]).sum()

    def set_routing(self, routing: Routing) -> None:
        """Exchange noise and capacity in all layers; the number of experts must stay."""
        for layer in self.mixtures():
            layer.routing = routing


def build_network(shape: Shape, seed: int) -> S4DViTMoE:
    """Make a network with fresh weights that depend on `seed` alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        return S4DViTMoE(shape, torch.Generator().manual_seed(seed))


def initialise(module: nn.Module, generator: torch.Generator | None) -> None:
    """Draw fresh weights for one linear or convolutional layer; other layers start as torch makes them."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD, a=-INIT_CUT, b=INIT_CUT, generator=generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv3d):
        # Torch's default for convolutions, from our generator.
        bound = module.weight[0].numel() ** -0.5
        for parameter in (module.weight, module.bias):
            nn.init.uniform_(parameter, -bound, bound, generator=generator)


def sinusoids(count: int, dim: int) -> Tensor:
    """Return the fixed table of positions, float32 (count, dim), computed in float64.

    Position p has the angle p / 10000^(2 floor(j/2) / dim) in column j: its sine where j is even, its cosine where odd.
    """
    column = torch.arange(dim, dtype=torch.float64)
    rate = torch.pow(10000.0, -2 * torch.div(column, 2, rounding_mode="floor") / dim)
    angle = torch.arange(count, dtype=torch.float64)[:, None] * rate
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


def count_parameters(parts: Iterable[nn.Module]) -> int:
    """Count the numbers in all parameters of some modules."""
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def count_parts(network: S4DViTMoE) -> dict[str, int]:
    """Count the parameters of every part, for the record and for comparison with published counts."""
    first = network.shape.first_expert
    experts = count_parameters(layer.experts for layer in network.mixtures())
    routers = count_parameters(layer.router for layer in network.mixtures())
    return {
        "patch embedding": count_parameters([network.patch_embed]),
        "lower blocks": count_parameters(network.blocks[:first]),
        "upper blocks without experts": count_parameters(network.blocks[first:]) - experts - routers,
        "experts": experts,
        "routers": routers,
        "fc_norm": count_parameters([network.fc_norm]),
        "head.video": count_parameters([network.head["video"]]),
        "head.image": count_parameters([network.head["image"]]),
        "total": count_parameters([network]),
    }
