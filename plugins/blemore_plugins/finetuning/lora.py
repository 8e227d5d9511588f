"""Low-rank adaptation (LoRA, arXiv 2106.09685): a few trained numbers beside each frozen attention matrix."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from blemore_harness.errors import DataError, InvalidOption

SCALE = 2.0
"""Factor of the product, alpha / rank of the paper, with alpha twice the rank as is usual."""

QUERY_AND_VALUE = (True, False, True)
"""Which thirds of a fused matrix are adapted."""


class LowRank(nn.Module):
    """Adds `SCALE * up @ down` to a weight, separately for each of its row parts that is adapted.

    Attributes:
        down: (parts, rank, inputs), random at first.
        up: (parts, outputs of a part, rank), zero at first: the network begins as it was.
    """

    def __init__(self, weight: Tensor, rank: int, adapted: tuple[bool, ...]) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.adapted = adapted
        parts = sum(adapted)
        bound = 1 / math.sqrt(inputs)  # as torch draws a linear layer
        self.down = nn.Parameter(torch.empty(parts, rank, inputs, device=weight.device).uniform_(-bound, bound))
        self.up = nn.Parameter(torch.zeros(parts, outputs // len(adapted), rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the adapted weight, (outputs, inputs)."""
        products = iter(SCALE * self.up @ self.down)
        rows = weight.chunk(len(self.adapted))
        return torch.cat(
            [row + next(products) if adapt else row for row, adapt in zip(rows, self.adapted, strict=True)]
        )


def attach_lora(network: nn.Module, layers: re.Pattern[str], rank: int, fused: bool) -> None:
    """Put low-rank matrices beside the linear layers of a network; seed torch first.

    Args:
        network: changed in place.
        layers: full names of the modules.
        rank: of the matrices.
        fused: whether these layers make queries, keys and values at once; then keys stay as they are.

    Raises:
        DataError: no such layer.
        InvalidOption: a rank above the width.
    """
    found = [module for name, module in network.named_modules() if layers.fullmatch(name)]
    if not found:
        raise DataError(f"LoRA found no layer named like {layers.pattern}: this network has another structure")
    for module in found:
        weight = module.weight
        if rank > weight.shape[1]:
            raise InvalidOption(f"lora: expected a rank of at most the width {weight.shape[1]}, found {rank}")
        adaptation = LowRank(weight.detach(), rank, QUERY_AND_VALUE if fused else (True,))
        parametrize.register_parametrization(module, "weight", adaptation)


def merge_lora(network: nn.Module) -> None:
    """Write the low-rank products into the weights and remove the matrices; the outputs stay the same to the bit."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight") and isinstance(module.parametrizations.weight[0], LowRank):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
