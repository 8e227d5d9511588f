"""The network: projections to one latent space, a gate over base models, the best fused, presence and salience heads.

Ours, where the paper's abstract says no more than that: the form of the projections and of the gate, and how gradients
pass the choice of base models (straight-through: as if all base models had been fused).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemore_harness.clips import EMOTIONS, Clips
from blemore_harness.context import Context
from blemore_harness.disk import read_json, write_json
from blemore_harness.heads.scaling import make_scaler
from blemore_harness.networks import forward_rows, load_weights, one_thread, save_weights, seeded
from blemore_harness.predictions import Embeddings, Probabilities, softmax
from blemore_plugins.rank_aware.inputs import BaseModels, Inputs

WEIGHTS, SCALERS, FACTS = "network.safetensors", "scalers.safetensors", "network.json"
"""Files of a model that is kept."""

HEAD = len(EMOTIONS)
"""Logits of either head."""


class RankAwareNetwork(nn.Module):
    """From base models' standardised embeddings side by side to the logits of both heads and the base models' weights.

    Each clip is computed from its own embeddings only: nothing here mixes the rows of a batch.

    Args:
        sizes: lengths of the base models' embeddings, in the order of the columns.
        width: length of the latent embeddings.
        top_n: base models that are kept for a clip.
        dropout: share of latent values dropped in training.
    """

    def __init__(self, sizes: Sequence[int], width: int, top_n: int, dropout: float) -> None:
        super().__init__()
        self.sizes, self.top_n = tuple(sizes), min(top_n, len(sizes))
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(size, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout))
            for size in self.sizes
        )
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.liking = nn.Parameter(torch.zeros(len(self.sizes)))
        self.dropout = nn.Dropout(dropout)
        self.presence = nn.Linear(width, HEAD)
        self.salience = nn.Linear(width, HEAD)

    def fuse(self, vectors: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return fused latent embeddings (N, width) and the base models' weights (N, M), of which at most `top_n` are
        not 0.

        Args:
            vectors: float32 (N, sum of sizes).
            there: bool (N, M), which base models a clip has, at least one; what stands in the columns of others has no
                effect. None for all.
        """
        parts = zip(self.projections, vectors.split(self.sizes, dim=1), strict=True)
        latents = torch.stack([project(part) for project, part in parts], dim=1)
        scores = self.gate(latents, there)
        weights = keep_top(scores, self.top_n)
        fused = mix(weights, latents)
        if self.training and self.top_n < len(self.sizes):
            soft = mix(scores.softmax(dim=1), latents)
            # Straight-through: a base model that is never kept could otherwise not learn, and so never be kept.
            fused = fused.detach() + (soft - soft.detach())
        return fused, weights

    def gate(self, latents: Tensor, there: Tensor | None = None) -> Tensor:
        """Return a score for each base model of a clip, (N, M), from latent embeddings (N, M, width).

        Scaled dot-product attention: what the base models say on average asks, each base model answers; `liking` is
        what a base model is worth whatever the clip. A base model that is not `there` takes no part in the mean, and
        its score is -inf.
        """
        mean = latents.mean(dim=1) if there is None else mix(there / there.sum(dim=1, keepdim=True), latents)
        query, keys = self.query(mean), self.key(latents)
        scores = (keys * query[:, None]).sum(dim=2) / latents.shape[2] ** 0.5 + self.liking
        return scores if there is None else scores.masked_fill(~there, -torch.inf)

    def gate_parameters(self) -> list[nn.Parameter]:
        """Return what only the gate learns."""
        return [*self.query.parameters(), *self.key.parameters(), self.liking]

    def heads(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Return presence and salience logits, (N, 6) each, of fused latent embeddings."""
        fused = self.dropout(fused)
        return self.presence(fused), self.salience(fused)

    def forward(self, vectors: Tensor, there: Tensor | None = None) -> Tensor:
        """Return presence logits, salience logits and base models' weights side by side, (N, 12 + M)."""
        fused, weights = self.fuse(vectors, there)
        return torch.cat([*self.heads(fused), weights], dim=1)


def keep_top(scores: Tensor, count: int) -> Tensor:
    """Return softmax weights over the `count` largest scores of each row and 0 elsewhere; of equals the first is kept.

    Args:
        scores: (N, M).
        count: from 1 to M.
    """
    order = scores.sort(dim=1, descending=True, stable=True).indices
    kept = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order[:, :count], True)
    return scores.masked_fill(~kept, -torch.inf).softmax(dim=1)


def mix(weights: Tensor, latents: Tensor) -> Tensor:
    """Return the weighted sums of base models' latent embeddings: (N, M) and (N, M, width) to (N, width)."""
    return (weights[:, :, None] * latents).sum(dim=1)


def reconcile_logs(presence: Tensor, salience: Tensor) -> Tensor:
    """Return the log of the reconciled rows, (N, 6), from the logits of both heads: as `reconcile`, for training."""
    return (nn.functional.logsigmoid(presence) + salience).log_softmax(dim=1)


def reconcile(presence: NDArray[np.float64], salience: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows, float64 (N, 6): each emotion's salience times the probability that it is there, over their sum.

    So the salience head shares out among emotions that the presence head sees. That both meet as probabilities is the
    paper's, the product is ours.

    Args:
        presence: logits of six sigmoids, (N, 6).
        salience: logits of a softmax, (N, 6).
    """
    return softmax(salience - np.logaddexp(0, -presence))


@dataclass(frozen=True)
class RankAwareModel:
    """A trained network and how its inputs are made.

    Attributes:
        inputs: the base models and how their embeddings are standardised.
        network: in eval mode.
    """

    inputs: Inputs
    network: RankAwareNetwork

    def predict(self, clips: Clips, base_models: Mapping[str, Embeddings], context: Context) -> Probabilities:
        """Return the reconciled rows; each depends on its own clip only.

        Where a base model is missing, the gate chooses among the others.

        Raises:
            DataError: none of the base models, embeddings of another length, or a clip without an embedding.
        """
        return Probabilities(clips.ids, self._read(clips, base_models)[0])

    def save(self, folder: Path) -> None:
        """Write the weights, the standardisation of each base model, and the shape."""
        from safetensors.numpy import save_file

        save_weights(self.network, folder / WEIGHTS)
        scalers = zip(self.inputs.names, self.inputs.scalers, strict=True)
        save_file(
            {f"{name}.{part}": array for name, scaler in scalers for part, array in scaler.arrays().items()},
            folder / SCALERS,
        )
        shape = {"names": self.inputs.names, "width": self.network.query.in_features, "top_n": self.network.top_n}
        write_json(folder / FACTS, shape)

    def weigh(self, clips: Clips, base_models: BaseModels) -> NDArray[np.float64]:
        """Return each base model's weight for each clip, float64 (N, M) in the order of `inputs.names`.

        0 where not kept.
        """
        return self._read(clips, base_models)[1]

    def _read(self, clips: Clips, base_models: BaseModels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        device = next(self.network.parameters()).device
        there = torch.tensor([name in base_models for name in self.inputs.names], device=device)
        rows = self.inputs.join(base_models, clips.ids).to(device)
        return read_rows(self.network, rows, None if there.all() else there)


def load(folder: Path, context: Context) -> RankAwareModel:
    """Read what `RankAwareModel.save` wrote."""
    from safetensors.numpy import load_file

    facts, arrays = read_json(folder / FACTS), load_file(folder / SCALERS)
    names = tuple(facts["names"])
    parts = [
        {key.removeprefix(f"{name}."): arrays[key] for key in arrays if key.startswith(f"{name}.")} for name in names
    ]
    inputs = Inputs(names, tuple(map(make_scaler, parts)))
    with seeded(context.seed):  # weights are drawn before they are replaced
        network = RankAwareNetwork(inputs.sizes, facts["width"], facts["top_n"], 0.0).to(context.device)
    return RankAwareModel(inputs, load_weights(network, folder / WEIGHTS))


def read_rows(
    network: RankAwareNetwork, rows: Tensor, there: Tensor | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return reconciled rows (N, 6) and base models' weights (N, M), float64, of standardised embeddings.

    In fixed blocks. `there`: bool (M,), which base models the clips have; None for all.
    """

    def forward(block: Tensor) -> Tensor:
        return network(block, None if there is None else there.expand(len(block), -1))

    with one_thread():
        given = forward_rows(forward, rows).double().cpu().numpy()
    presence, salience, weights = np.split(given, [HEAD, 2 * HEAD], axis=1)
    return reconcile(presence, salience), weights
