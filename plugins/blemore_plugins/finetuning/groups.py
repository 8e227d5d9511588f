"""Which weights of a network are trained, and how fast: layers by their depth, the head, low-rank matrices (LoRA)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from blemore_harness.errors import DataError, InvalidOption
from blemore_plugins.finetuning.options import FinetuningOptions

NO_DECAY = re.compile(r"(.*\.)?(cls_token|position_embeddings|time_embeddings|masked_spec_embed|weight\.original0)")
"""Tables and lengths that are no matrices although they have their axes; embeddings are told by their shape."""

NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True)
class Anatomy:
    """Where the parts of a network are, by the names of its weights (full matches).

    Attributes:
        depth: number of blocks.
        block: name of a weight inside a block; group 1 is the block's number.
        above: behind the last block, pretrained.
        head: what starts fresh.
        frozen: what is never trained.
        attention: linear layers (names of modules) that make queries and values.
        fused: whether such a layer makes queries, keys and values at once, a third of its rows each.
    """

    depth: int
    block: re.Pattern[str]
    above: re.Pattern[str]
    head: re.Pattern[str]
    attention: re.Pattern[str]
    fused: bool = False
    frozen: re.Pattern[str] = NOTHING

    def layer_of(self, name: str) -> int | None:
        """Return the layer of a weight.

        0 below the first block, k + 1 in block k, depth + 1 above; None in the head.
        """
        if self.head.fullmatch(name):
            return None
        if self.above.fullmatch(name):
            return self.depth + 1
        found = self.block.fullmatch(name)
        return int(found[1]) + 1 if found else 0


@dataclass(frozen=True)
class Built:
    """A network that is ready to be trained.

    Attributes:
        network: inputs to logits (B, 6), on the device.
        anatomy: where its parts are.
    """

    network: nn.Module
    anatomy: Anatomy


def make_groups(network: nn.Module, anatomy: Anatomy, options: FinetuningOptions) -> list[dict[str, Any]]:
    """Sort the trained weights into AdamW's groups, one for each rate and kind; the others stop asking for gradients.

    The rate of layer k is `learning_rate * layer_decay ** (depth + 1 - k)`, the head's `head_rate`.

    Returns:
        Groups with `params`, `names`, `lr` and `peak` (both the full rate) and `weight_decay`, in the network's order.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(is_trained(name, anatomy, options))
        if not parameter.requires_grad:
            continue
        layer = anatomy.layer_of(name)
        slower = 1.0 if layer is None else options.layer_decay ** (anatomy.depth + 1 - layer)
        rate = options.head_rate if layer is None else options.learning_rate * slower
        plain = parameter.ndim > 1 and not NO_DECAY.fullmatch(name)
        decay = options.weight_decay if plain else 0.0
        empty = {"params": [], "names": [], "lr": rate, "peak": rate, "weight_decay": decay}
        group = groups.setdefault((rate, decay), empty)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def is_trained(name: str, anatomy: Anatomy, options: FinetuningOptions) -> bool:
    """Return whether a weight is trained: with `lora`, of what was pretrained only the low-rank matrices."""
    if anatomy.frozen.fullmatch(name):
        return False
    return not options.lora or anatomy.layer_of(name) is None or name.endswith((".0.down", ".0.up"))


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
