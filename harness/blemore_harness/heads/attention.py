"""Learned pooling of frame-level features: a weighted sum of layers, and attention of a few queries over time.

Training starts exactly at the statistics of `pooling.pool_statistics`: queries and layer weights start at zero, which
is uniform attention and equal weights. What attention adds to the input of the MLP is how far the attended mean of each
query lies from the plain mean of the clip: zero at the start. Whether a fold uses attention is decided in `models`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from blemore_harness.heads.frames import ClipFrames
from blemore_harness.pooling import PERCENTILES, STATISTICS

if TYPE_CHECKING:
    from torch import Generator, Tensor

TINY = 1e-12
"""Least variance over time that has a gradient: the root of a smaller one has none that is finite."""


def build_pool(queries: int, frame: Sequence[int], parts: int, dropout: float = 0.0) -> Any:
    """Build what pools the frames of clips into inputs of the MLP; see `pool_frames`.

    Args:
        queries: number of attention queries.
        frame: shape of a frame: (D,), or (L, D) for a weighted sum of L layers.
        parts: parts of a clip in the statistics of the weighted sum.
        dropout: share of the attended differences that are dropped in training.

    Returns:
        A torch module with the parameters `queries` and `layer_weights` and, for standardisation, the buffers `scale`,
        `row_mean` and `row_scale`; `layers` is 0 for features without layers, `width` the number of inputs it gives.
    """
    import torch
    from torch import nn

    pool: Any = nn.Module()
    width, pool.layers = frame[-1], frame[0] if len(frame) == 2 else 0
    statistics = STATISTICS * width if pool.layers else 0
    pool.shape = {"queries": queries, "frame": list(frame), "parts": parts}
    pool.dropout, pool.width = dropout, queries * width + statistics
    pool.queries = nn.Parameter(torch.zeros(queries, width))
    pool.layer_weights = nn.Parameter(torch.zeros(pool.layers))
    pool.register_buffer("scale", torch.ones(width))
    pool.register_buffer("row_mean", torch.zeros(statistics, dtype=torch.float64))
    pool.register_buffer("row_scale", torch.ones(statistics, dtype=torch.float64))
    return pool


def build_pooled_head(pool: Any, mlp: Any) -> Any:
    """Build a torch module of a pool and the MLP on what it gives, `pool` and `mlp`."""
    from torch import nn

    head: Any = nn.Module()
    head.pool, head.mlp = pool, mlp
    return head


def pool_frames(pool: Any, clips: Sequence[Tensor], generator: Generator | None = None) -> Tensor:
    """Return the inputs of the MLP, float32 (B, width): statistics of the weighted sum, then attended differences.

    Args:
        pool: of `build_pool`.
        clips: the features of each clip, centred (T, D) or layers (T, L, D), T as it comes.
        generator: where dropout comes from; None for none.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    # One clip by itself needs no copy, and no mask below.
    frames = (clips[0][None] if len(clips) == 1 else pad_sequence(list(clips), batch_first=True)).float()
    lengths = torch.tensor([len(each) for each in clips], device=frames.device)
    found = []
    if pool.layers:
        # SUPERB's weighted sum: a softmax over layers whose states were normalised when they were extracted.
        frames = torch.einsum("btld,l->btd", frames, pool.layer_weights.softmax(dim=0))
        statistics = _describe_parts(frames, lengths, pool.shape["parts"])
        found.append(((statistics.double() - pool.row_mean) / pool.row_scale).float())
        if len(pool.queries):
            frames = centre(frames, lengths)
    if len(pool.queries):
        differences = attend(frames, lengths, pool.queries, pool.scale)
        if generator is not None and pool.dropout:
            kept = torch.empty_like(differences).uniform_(generator=generator) >= pool.dropout
            differences = differences * kept / (1 - pool.dropout)
        found.append(differences)
    return torch.cat(found, dim=1)


def read_inputs(head: Any, rows: Tensor, clips: Sequence[Tensor], generator: Generator | None = None) -> Tensor:
    """Return the inputs of the MLP: what the pool gives, beside the embeddings where there are no layers.

    Args:
        head: of `build_pooled_head`.
        rows: standardised embeddings of the clips, (B, E).
        clips, generator: as of `pool_frames`.
    """
    import torch

    pooled = pool_frames(head.pool, clips, generator)
    return pooled if head.pool.layers else torch.cat([rows, pooled], dim=1)


def read_all_inputs(head: Any, rows: Tensor, frames: ClipFrames) -> Tensor:
    """Return the inputs of the MLP for prediction: each clip by itself, so that they do not depend on others."""
    import torch

    with torch.no_grad():
        return torch.cat([read_inputs(head, rows[k : k + 1], [frames.one(k)]) for k in range(len(frames))])


def _describe_parts(frames: Tensor, lengths: Tensor, parts: int) -> Tensor:
    """Return `pool_statistics` of padded clips (B, T, D), (B, 7 D), with gradients."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    cuts = [frames[k, :length].tensor_split(min(parts, length)) for k, length in enumerate(lengths.tolist())]
    whole = [part for each in cuts for part in each]
    sizes = torch.tensor([len(part) for part in whole], device=frames.device)
    described = describe(pad_sequence(whole, batch_first=True), sizes).split([len(each) for each in cuts])
    return torch.stack([each.mean(dim=0) for each in described])


def attend(frames: Tensor, lengths: Tensor, queries: Tensor, scale: Tensor) -> Tensor:
    """Return, for each query, the attended mean of a clip less its plain mean, in units of `scale`: (B, K D).

    Scaled dot-product attention with the standardised frames as keys and values, softmax((x / scale) . q / sqrt(D)).
    Subtracting the clip's mean first changes no weight, and a large mean costs no digits. Frames are neither scaled nor
    masked, which would take a pass over them each: queries and results are, and weights in the padding are 0.

    Args:
        frames: (B, T, D), centred by clip and padded with finite numbers, which have no effect; one clip by itself
            has no padding.
        lengths: (B,), frames of each clip.
        queries: (K, D).
        scale: (D,), standard deviation of each feature over training frames.
    """
    import torch

    scores = frames @ (queries / scale / frames.shape[2] ** 0.5).T
    if len(frames) > 1:
        scores = scores.masked_fill(~mask(frames, lengths)[:, :, None], -torch.inf)
    weights = scores.softmax(dim=1)
    return (weights.transpose(1, 2) @ frames / scale).flatten(1)


def centre(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return padded clips (B, T, D) less the mean over the frames of each, and 0 in the padding."""
    there = mask(frames, lengths)[:, :, None]
    mean = frames.masked_fill(~there, 0).sum(dim=1) / lengths[:, None]
    return (frames - mean[:, None]).masked_fill(~there, 0)


def describe(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return mean, standard deviation (ddof 0) and the percentiles of padded clips, (B, 7 D), as `pool_statistics`.

    Args:
        frames: (B, T, D), padded.
        lengths: (B,), frames of each clip.
    """
    import torch

    there = mask(frames, lengths)[:, :, None]
    mean = frames.masked_fill(~there, 0).sum(dim=1) / lengths[:, None]
    variance = (frames - mean[:, None]).masked_fill(~there, 0).square().sum(dim=1) / lengths[:, None]
    found = [mean, variance.clamp(min=TINY).sqrt() * (variance > TINY)]
    places = (lengths - 1)[:, None] * torch.tensor(PERCENTILES, device=frames.device) / 100
    below = places.floor().long()
    above = torch.minimum(below + 1, (lengths - 1)[:, None])
    # Gradients go through the frames that percentiles lie at only, and not through all of the sorted ones.
    order = _argsort(frames.detach().masked_fill(~there, torch.inf))
    wanted = torch.cat([below, above], dim=1)[:, :, None].expand(-1, -1, frames.shape[2])
    low, high = frames.gather(1, order.gather(1, wanted)).chunk(2, dim=1)
    found.append((low + (high - low) * (places - below)[:, :, None]).flatten(1))
    return torch.cat(found, dim=1)


def mask(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return which frames (B, T) belong to their clip."""
    import torch

    return torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]


def _argsort(frames: Tensor) -> Tensor:
    """Return the positions that sort the frames (B, T, D) by each feature; on a CPU NumPy takes a sixth of the time."""
    import torch

    columns = frames.transpose(1, 2).contiguous()
    found = columns.argsort(dim=2) if columns.is_cuda else torch.from_numpy(np.argsort(columns.numpy(), axis=2))
    return found.transpose(1, 2)
