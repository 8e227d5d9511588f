"""What is asked of an encoder, and what it has to do: the common shape of all that `encoder_sizes.py` measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from blemore_harness.clips import Clip
from blemore_harness.context import Context


@dataclass(frozen=True)
class Order:
    """What is to be built.

    Attributes:
        name: of the encoder, or of the head.
        clips: videos of one length.
        context: where to compute, with a cache of its own.
        batch: clips of a training step.
        small: build the small random network of the demo in place of one of the released size.
        folder: empty, for weights that are loaded from files; gone when the network is built.
    """

    name: str
    clips: Sequence[Clip]
    context: Context
    batch: int
    small: bool
    folder: Path


@dataclass(frozen=True)
class Work:
    """An encoder's network and the two ways through it.

    Attributes:
        parameters: numbers in all weights that run.
        network: gives the network whose gradients are looked at after the way back.
        forward: runs so many clips, whose frames or waves are in memory, and says how many it did.
        backward: runs so many clips forwards and backwards, likewise; trained encoders take training steps.
        waiting: share of the last `backward` in which the network had no batch; None where nothing is read meanwhile.
    """

    parameters: int
    network: Callable[[], Any]
    forward: Callable[[int], int]
    backward: Callable[[int], int]
    waiting: Callable[[], float] | None = None


def count_weights(network: Any) -> int:
    """Count the numbers in all weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def check_gradients(network: Any) -> None:
    """Refuse a way back that left no gradients, or some that are no numbers.

    Raises:
        ValueError: saying which.
    """
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    wrong = [name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()]
    if wrong:
        raise ValueError(f"gradients that are no numbers in {len(wrong)} of {len(gradients)} tensors: {wrong[0]}")
    if not any(gradient.any() for gradient in gradients.values()):
        raise ValueError("no gradient came back")
