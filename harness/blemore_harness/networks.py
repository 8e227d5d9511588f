"""The small torch pieces that heads and encoders share: the MLP, seeding that leaves no trace, batches, one epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.dataset import EMOTIONS

if TYPE_CHECKING:
    import torch

BLOCK = 256
"""Rows per forward pass at prediction."""

SMALL = 2_000_000
"""Below so many parameters threads cost more than they give; on a busy machine they took twenty times as long."""


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give rows of probabilities that sum to 1, from logits (N, 6)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def build_mlp(inputs: int, widths: Sequence[int], batch_norm: bool, dropout: float) -> Any:
    """Build the MLP: linear, batch normalisation, ReLU, dropout per hidden layer, then linear to six logits.

    Initial weights come from torch's global generator: seed it first.
    """
    from torch import nn

    layers: list[Any] = []
    for width in widths:
        layers.append(nn.Linear(inputs, width))
        layers += [nn.BatchNorm1d(width)] if batch_norm else []
        layers += [nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, len(EMOTIONS)))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block and put its generators back as they were."""
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def fitting_threads(network: Any) -> Iterator[None]:
    """Compute with a small network on one CPU thread inside the block; with a large one, on as many as torch likes."""
    import torch

    before = torch.get_num_threads()
    if sum(parameter.numel() for parameter in network.parameters()) < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Shuffle `count` rows into batches of `size`; a last batch of one joins the one before, which batch norm needs."""
    import torch

    order = torch.randperm(count, generator=generator)
    cuts = list(range(0, count, size))
    if len(cuts) > 1 and count - cuts[-1] == 1:
        cuts.pop()
    for start, end in zip(cuts, [*cuts[1:], count], strict=True):
        yield order[start:end]


def train_epoch(
    network: Any, optimiser: Any, inputs: torch.Tensor, targets: torch.Tensor, parts: Iterator[torch.Tensor]
) -> None:
    """Take one pass of soft-label KL (batchmean) over rows (N, D), targets (N, 6); leave the network in eval mode."""
    from torch.nn import functional

    # A single clip in all has no batch statistics: it is passed through the running ones.
    network.train(len(inputs) > 1)
    for part in parts:
        index = part.to(inputs.device)
        optimiser.zero_grad(set_to_none=True)
        log_probabilities = functional.log_softmax(network(inputs[index]), dim=1)
        loss = functional.kl_div(log_probabilities, targets[index], reduction="batchmean")
        loss.backward()
        optimiser.step()
    network.eval()


def forward_rows(network: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Give the logits of rows (N, D) in blocks of a fixed size.

    Matrix products of other shapes differ in the last bits, and so a clip's row would depend on its company.
    """
    import torch
    from torch.nn import functional

    with torch.no_grad():
        parts = [
            network(functional.pad(block, (0, 0, 0, BLOCK - len(block))))[: len(block)] for block in inputs.split(BLOCK)
        ]
        return torch.cat(parts)
