"""Where an unfinished training stands, in one file of its workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from blemore_harness.disk import atomic_file
from blemore_harness.errors import DataError
from blemore_plugins.finetuning.averaging import Average


@dataclass
class Standing:
    """Where a training stands.

    Attributes:
        epoch: epochs done.
        best: quality of the epoch that is kept, and its number; None before the first look.
        kept: its trained weights on the CPU.
    """

    epoch: int = 0
    best: tuple[tuple[float, ...], int] | None = None
    kept: dict[str, Tensor] | None = None


def trained_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights that are trained; the others never change and would fill disks."""
    return {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}


def put(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy trained weights into a network.

    Raises:
        KeyError: they are another network's.
    """
    own = trained_weights(network)
    if own.keys() != weights.keys():
        raise KeyError("the trained parts differ")
    for name, tensor in own.items():
        tensor.copy_(weights[name])


def write_standing(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, average: Average | None, state: Standing
) -> None:
    """Write everything that a training needs to go on, whole or not at all."""
    held = {
        "network": trained_weights(network),
        "optimiser": optimiser.state_dict(),
        "average": average.tensors if average else None,
        "epoch": state.epoch,
        "best": state.best,
        "kept": state.kept,
    }
    with atomic_file(path) as file:
        torch.save(held, file)


def read_standing(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, average: Average | None
) -> Standing:
    """Put a training where its file says it stood; without a file it stands at the beginning.

    Raises:
        DataError: a damaged file, or one of another training.
    """
    if not path.exists():
        return Standing()
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        put(network, held["network"])
        optimiser.load_state_dict(held["optimiser"])
        if average:
            average.restore(held["average"])
    except Exception as error:
        raise DataError(f"damaged checkpoint {path} ({error!r}): delete it and run again") from error
    return Standing(held["epoch"], held["best"], held["kept"])
