"""Learned pooling of frame-level features: a weighted sum of layers, and attention of a few queries over time.

Training starts exactly at the statistics of `pooling.pool_statistics`: queries and layer weights start at zero, which
is uniform attention and equal weights. What attention adds to the input of the MLP is how far the attended mean of each
query lies from the plain mean of the clip: zero at the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from blemore_harness.heads.frames import ClipFrames
from blemore_harness.pooling import PERCENTILES, STATISTICS

TINY = 1e-12
"""Least variance over time that has a gradient: the root of a smaller one has none that is finite."""


class Pool(nn.Module):
    """Pools the frames of clips into inputs of the MLP.

    Args:
        queries: number of attention queries.
        frame: shape of a frame: (D,), or (L, D) for a weighted sum of L layers.
        parts: parts of a clip in the statistics of the weighted sum.
        dropout: share of the attended differences that are dropped in training.
    """

    scale: Tensor
    row_mean: Tensor
    row_scale: Tensor

    def __init__(self, queries: int, frame: Sequence[int], parts: int, dropout: float) -> None:
        super().__init__()
        self.frame, self.parts, self.dropout = tuple(frame), parts, dropout
        width, statistics = self.frame[-1], STATISTICS * self.frame[-1] if self.layers else 0
        self.queries = nn.Parameter(torch.zeros(queries, width))
        self.layer_weights = nn.Parameter(torch.zeros(self.layers))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("row_mean", torch.zeros(statistics, dtype=torch.float64))
        self.register_buffer("row_scale", torch.ones(statistics, dtype=torch.float64))

    @property
    def layers(self) -> int:
        """Number of layers of which it learns a weighted sum; 0 for features without layers."""
        return self.frame[0] if len(self.frame) == 2 else 0

    @property
    def width(self) -> int:
        """Inputs of the MLP that it gives."""
        return int(self.queries.numel() + len(self.row_mean))

    def shape(self) -> dict[str, Any]:
        """Return the arguments, but for dropout, that make a pool of the same shape."""
        return {"queries": len(self.queries), "frame": list(self.frame), "parts": self.parts}

    def forward(self, clips: Sequence[Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Return the inputs of the MLP, float32 (B, width): statistics of the weighted sum, then attended differences.

        Args:
            clips: the features of each clip, (T, D) or (T, L, D), T as it comes.
            generator: where dropout comes from; None for none.
        """
        frames = pad_sequence(list(clips), batch_first=True).float()
        lengths = torch.tensor([len(each) for each in clips], device=frames.device)
        found = []
        if self.layers:
            # SUPERB's weighted sum: a softmax over layers whose states were normalised when they were extracted.
            frames = torch.einsum("btld,l->btd", frames, self.layer_weights.softmax(dim=0))
            statistics = self._statistics(frames, lengths)
            found.append(((statistics.double() - self.row_mean) / self.row_scale).float())
        if len(self.queries):
            differences = attend(frames, lengths, self.queries, self.scale)
            if generator is not None and self.dropout:
                kept = torch.empty_like(differences).uniform_(generator=generator) >= self.dropout
                differences = differences * kept / (1 - self.dropout)
            found.append(differences)
        return torch.cat(found, dim=1)

    def _statistics(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return `pool_statistics` of padded clips (B, T, D) with `parts`, (B, 7 D), with gradients."""
        cuts = [frames[k, :length].tensor_split(min(self.parts, length)) for k, length in enumerate(lengths.tolist())]
        counts = [len(parts) for parts in cuts]
        parts = [part for each in cuts for part in each]
        sizes = torch.tensor([len(part) for part in parts], device=frames.device)
        described = describe(pad_sequence(parts, batch_first=True), sizes).split(counts)
        return torch.stack([each.mean(dim=0) for each in described])


class PooledHead(nn.Module):
    """A pool and the MLP on what it gives; of features without layers, on the embedding and what it gives.

    Args:
        pool, mlp: as of `Pool` and `networks.build_mlp`.
    """

    def __init__(self, pool: Pool, mlp: Any) -> None:
        super().__init__()
        self.pool, self.mlp = pool, mlp

    def read(self, rows: Tensor, clips: Sequence[Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Return the inputs of the MLP for clips: `rows` are their standardised embeddings, (B, E)."""
        pooled = self.pool(clips, generator)
        return pooled if self.pool.layers else torch.cat([rows, pooled], dim=1)

    def read_all(self, rows: Tensor, frames: ClipFrames) -> Tensor:
        """Return the inputs of the MLP for prediction: each clip by itself, so that they do not depend on others."""
        with torch.no_grad():
            return torch.cat([self.read(rows[k : k + 1], [frames.one(k)]) for k in range(len(frames))])


def attend(frames: Tensor, lengths: Tensor, queries: Tensor, scale: Tensor) -> Tensor:
    """Return, for each query, the attended mean of a clip less its plain mean, in units of `scale`: (B, K D).

    Scaled dot-product attention with the standardised frames as keys and values, softmax((x / scale) . q / sqrt(D)).
    Subtracting the clip's mean first changes no weight, and a large mean costs no digits.

    Args:
        frames: (B, T, D), padded; what stands in the padding has no effect.
        lengths: (B,), frames of each clip.
        queries: (K, D).
        scale: (D,), standard deviation of each feature over training frames.
    """
    there = mask(frames, lengths)[:, :, None]
    centred = frames.masked_fill(~there, 0)
    mean = centred.sum(dim=1) / lengths[:, None]
    centred = ((centred - mean[:, None]) / scale).masked_fill(~there, 0)
    scores = centred @ queries.T / frames.shape[2] ** 0.5
    weights = scores.masked_fill(~there, -torch.inf).softmax(dim=1)
    return (weights.transpose(1, 2) @ centred).flatten(1)


def describe(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return mean, standard deviation (ddof 0) and the percentiles of padded clips, (B, 7 D), as `pool_statistics`.

    Args:
        frames: (B, T, D), padded.
        lengths: (B,), frames of each clip.
    """
    there = mask(frames, lengths)[:, :, None]
    mean = frames.masked_fill(~there, 0).sum(dim=1) / lengths[:, None]
    variance = (frames - mean[:, None]).masked_fill(~there, 0).square().sum(dim=1) / lengths[:, None]
    found = [mean, variance.clamp(min=TINY).sqrt() * (variance > TINY)]
    ordered = frames.masked_fill(~there, torch.inf).sort(dim=1).values
    for percentile in PERCENTILES:
        place = (lengths - 1) * (percentile / 100)
        below = place.floor().long()
        above = torch.minimum(below + 1, lengths - 1)
        low, high = (ordered.gather(1, at[:, None, None].expand(-1, 1, frames.shape[2]))[:, 0] for at in (below, above))
        found.append(low + (high - low) * (place - below)[:, None])
    return torch.cat(found, dim=1)


def mask(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return which frames (B, T) belong to their clip."""
    return torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]
