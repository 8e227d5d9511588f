"""A running average of a network's trained weights (exponential, EMA)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class Average:
    """Follows the trained weights of a network.

    Args:
        network: whose.
        decay: how much of the average stays at a step, in the long run.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._followed = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.tensors = {name: p.detach().clone() for name, p in self._followed.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1; early on the average is shorter, or it would stay fresh."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.tensors.values()), list(self._followed.values()), 1 - decay)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put in an average that was kept.

        Raises:
            KeyError: it is of other weights.
        """
        if tensors.keys() != self.tensors.keys():
            raise KeyError("the averaged weights differ")
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Return the network the averaged weights inside the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self._followed.items():
            parameter.data, self.tensors[name] = self.tensors[name], parameter.data
