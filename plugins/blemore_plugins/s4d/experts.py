"""The mixture of adapter experts that S4D adds beside the MLP of its later blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemore_plugins.s4d.shape import Routing


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
