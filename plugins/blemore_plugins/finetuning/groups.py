"""Which weights of a network are trained, and how fast: layers by their depth, the head, what stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

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


def count_weights(parameters: Iterable[nn.Parameter]) -> dict[str, int]:
    """Count numbers in weights: all, and those that are trained."""
    held = list(parameters)
    return {"total": sum(p.numel() for p in held), "trained": sum(p.numel() for p in held if p.requires_grad)}
