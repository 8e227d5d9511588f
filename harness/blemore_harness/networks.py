"""The small torch pieces that heads and encoders share: the MLP, seeding that leaves no trace, batches, passes."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemore_harness.clips import EMOTIONS
from blemore_harness.errors import ConfigError, DataError

if TYPE_CHECKING:
    import torch

BLOCK = 256
"""Rows per forward pass at prediction."""

LANES = 16
"""Sizes of linear layers are padded to multiples of this at prediction: floats in the widest vector register."""

CPUS_VARIABLE = "BLEMORE_CPUS"
"""Number of CPUs that a process takes for its share, set for the workers of a run."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", CPUS_VARIABLE)
"""What libraries take their number of threads from when they are loaded, and the harness its own."""

SMALL = 2_000_000
"""Below so many parameters threads cost more than they give; on a busy machine they took twenty times as long."""


def build_mlp(inputs: int, widths: Sequence[int], batch_norm: bool, dropout: float) -> Any:
    """Build the MLP: linear, batch normalisation, ReLU, dropout per hidden layer, then linear to six logits.

    Initial weights come from torch's global generator: seed it first.
    """
    from torch import nn

    layers: list[Any] = []
    for width in widths:
        # Batch normalisation takes a bias out again: its gradient would be rounding noise, of which Adam makes steps.
        layers.append(nn.Linear(inputs, width, bias=not batch_norm))
        layers += [nn.BatchNorm1d(width)] if batch_norm else []
        layers += [nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, len(EMOTIONS)))


def shape_of_mlp(network: Any) -> dict[str, Any]:
    """Return what `build_mlp` needs to build a network of the same shape: `inputs`, `widths` and `batch_norm`."""
    from torch import nn

    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    return {
        "inputs": linear[0].in_features,
        "widths": [layer.out_features for layer in linear[:-1]],
        "batch_norm": any(isinstance(layer, nn.BatchNorm1d) for layer in network),
    }


def save_weights(network: Any, path: Path) -> None:
    """Write a network's parameters and buffers as a `.safetensors` file."""
    from safetensors.torch import save_file

    # Copies, because weights that share memory would be refused.
    save_file({name: value.detach().cpu().clone() for name, value in network.state_dict().items()}, path)


def load_weights(network: Any, path: Path) -> Any:
    """Read what `save_weights` wrote into a network of the same shape; return it in eval mode.

    Raises:
        DataError: weights of a network of another shape.
    """
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise DataError(f"{path.name} holds the weights of another network: {' '.join(str(error).split())}") from error
    return network.eval()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block and put its generators back as they were."""
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def has_bfloat16() -> bool:
    """Return whether the GPU computes in bfloat16; before Ampere (V100, T4) it is imitated, slower than float32."""
    import torch

    return torch.cuda.is_available() and bool(torch.cuda.is_bf16_supported(including_emulation=False))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread inside the block, as heads do: the same bits on any number of cores.

    Threads that wait for each other at every small step cost more than they give where another process uses a core.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def fitting_threads(network: Any) -> Iterator[None]:
    """Compute with a small network on one CPU thread inside the block; with a large one, on as many as torch likes."""
    small = sum(parameter.numel() for parameter in network.parameters()) < SMALL
    with one_thread() if small else nullcontext():
        yield


def batches(
    count: int, size: int, generator: torch.Generator, pair_last: bool, device: Any = "cpu"
) -> Iterator[torch.Tensor]:
    """Shuffle `count` rows into batches of `size`, each the positions of its rows.

    Args:
        count, size: of all rows, and of a batch.
        generator: where the order comes from; on the CPU.
        pair_last: let a last batch of one row join the one before, which batch normalisation needs.
        device: where the positions are to lie.
    """
    import torch

    order = torch.randperm(count, generator=generator).to(device)
    cuts = list(range(0, count, size))
    if pair_last and len(cuts) > 1 and count - cuts[-1] == 1:
        cuts.pop()
    for start, end in zip(cuts, [*cuts[1:], count], strict=True):
        yield order[start:end]


def training_logits(
    networks: Sequence[Any], inputs: torch.Tensor, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """Return the logits of several networks of one shape at once, each on rows of its own, for training.

    One network takes the same way as many: what it gives does not depend on its company by more than rounding, and its
    dropout not at all.

    Args:
        networks: F networks of `build_mlp`, all in the same mode.
        inputs: (F, B, D), the rows of each.
        generators: where the dropout of each comes from; on the device of `inputs`.

    Returns:
        (F, B, 6); gradients flow to each network's own parameters, running statistics are updated.
    """
    from torch import nn
    from torch.nn import functional

    for layers in zip(*networks, strict=True):
        first = layers[0]
        if isinstance(first, nn.Linear):
            inputs = _stacked_linear(layers, inputs)
        elif isinstance(first, nn.BatchNorm1d):
            inputs = _stacked_batch_norm(layers, inputs)
        elif isinstance(first, nn.ReLU):
            inputs = functional.relu(inputs)
        elif first.training and first.p:
            inputs = inputs * _dropout_masks(inputs, first.p, generators)
    return inputs


def stack_rows(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack tensors of one shape, without a copy where there is only one."""
    import torch

    return tensors[0][None] if len(tensors) == 1 else torch.stack(tuple(tensors))


def _stacked_linear(layers: Sequence[Any], inputs: torch.Tensor) -> torch.Tensor:
    import torch
    from torch.nn import functional

    if len(layers) == 1:
        return functional.linear(inputs, layers[0].weight, layers[0].bias)
    # Weights first: their gradients come out in the layout that they have, without a copy.
    weights, columns = stack_rows([layer.weight for layer in layers]), inputs.transpose(1, 2)
    if layers[0].bias is None:
        return torch.bmm(weights, columns).transpose(1, 2)
    biases = stack_rows([layer.bias for layer in layers])
    return torch.baddbmm(biases[:, :, None], weights, columns).transpose(1, 2)


def _stacked_batch_norm(layers: Sequence[Any], inputs: torch.Tensor) -> torch.Tensor:
    """Normalise (F, B, C) as one batch of F x C channels: torch's own rule, a channel knows nothing of the others."""
    import torch
    from torch.nn import functional

    count, rows, channels = inputs.shape
    joined = {
        name: torch.cat([getattr(layer, name) for layer in layers])
        for name in ("running_mean", "running_var", "weight", "bias")
    }
    side_by_side = inputs.transpose(0, 1).reshape(rows, count * channels)
    first = layers[0]
    done = functional.batch_norm(
        side_by_side, **joined, training=first.training, momentum=first.momentum, eps=first.eps
    )
    if first.training:
        for name in ("running_mean", "running_var"):
            for layer, part in zip(layers, joined[name].split(channels), strict=True):
                getattr(layer, name).copy_(part)
    return done.reshape(rows, count, channels).transpose(0, 1)


def _dropout_masks(inputs: torch.Tensor, share: float, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Draw what keeps a unit with probability 1 - share, and makes up for the others."""
    import torch

    masks = torch.empty(inputs.shape, dtype=inputs.dtype, device=inputs.device)
    for mask, generator in zip(masks, generators, strict=True):
        mask.uniform_(generator=generator)
    return (masks >= share) / (1 - share)


def forward_rows(network: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Return the logits of rows (N, D) in blocks of a fixed size.

    Matrix products of other shapes differ in the last bits, and so a clip's row would depend on its company. Where a
    linear layer's sizes are no multiples of `LANES`, they even differ from row to row of one block (MKL): such layers
    of a `Sequential` are padded with zeros.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    steps = [_evenly(part) for part in network] if isinstance(network, nn.Sequential) else [network]
    with torch.no_grad():
        parts = []
        for block in inputs.split(BLOCK):
            rows = functional.pad(block, (0, 0, 0, BLOCK - len(block)))
            for step in steps:
                rows = step(rows)
            parts.append(rows[: len(block)])
        return torch.cat(parts)


def _evenly(layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what a layer computes, a linear one with its sizes padded to multiples of `LANES`."""
    from torch import nn
    from torch.nn import functional

    if not isinstance(layer, nn.Linear) or not (layer.in_features % LANES or layer.out_features % LANES):
        return layer
    inputs, outputs = -layer.in_features % LANES, -layer.out_features % LANES
    weight = functional.pad(layer.weight.detach(), (0, inputs, 0, outputs))
    bias = None if layer.bias is None else functional.pad(layer.bias.detach(), (0, outputs))

    def apply(rows: torch.Tensor) -> torch.Tensor:
        return functional.linear(functional.pad(rows, (0, inputs)), weight, bias)[:, : layer.out_features].contiguous()

    return apply


def usable_cpus() -> int:
    """Return how many CPUs this process may use: its share, where it is one of several workers of a run."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get(CPUS_VARIABLE, "")
    return max(1, min(found, int(share))) if share.isdigit() else found


def thread_variables(count: int) -> dict[str, str]:
    """Return the variables of the environment that give a process and its libraries so many threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(count))


def resolve_device(asked: str) -> str:
    """Return `cpu` or `cuda`.

    Raises:
        ConfigError: `cuda` where torch is missing or sees no GPU.
    """
    if asked == "cpu":
        return "cpu"
    found = _cuda_available()
    if asked == "cuda" and not found:
        raise ConfigError(
            "--device cuda: torch sees no GPU here; check the driver with nvidia-smi, or use --device cpu or auto"
        )
    return "cuda" if found else "cpu"


class Device:
    """The device of a run, resolved by the first call that needs it: to look for a GPU, torch has to be imported.

    Args:
        asked: `auto`, `cpu` or `cuda`.
    """

    def __init__(self, asked: str) -> None:
        self.asked = asked
        self._found: str | None = None

    def resolve(self) -> str:
        """Return `cpu` or `cuda`; errors as of `resolve_device`."""
        if self._found is None:
            self._found = resolve_device(self.asked)
        return self._found

    def elsewhere(self) -> Device:
        """Return one for calls that workers elsewhere carry out: they resolve what `resolve` gives as it was asked."""
        found = Device(self.asked)
        found._found = self.asked
        return found

    def describe(self) -> dict[str, Any]:
        """Return the device and, for a GPU, its name, for the record; None for both where no call needed one."""
        if self._found != "cuda":
            return {"device": self._found, "gpu": None}
        import torch

        return {"device": self._found, "gpu": torch.cuda.get_device_name()}


def may_have_gpu() -> bool:
    """Return whether there is a driver of NVIDIA or AMD: without one, torch need not be imported to find no GPU."""
    if sys.platform != "linux":
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True


def _cuda_available() -> bool:
    if not may_have_gpu() or importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())
