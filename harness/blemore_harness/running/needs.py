"""What requests need of a machine, and what this one has: cores, memory and GPUs, for several workers at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from blemore_harness.executors import Needs
from blemore_harness.hookspecs import Encoder
from blemore_harness.networks import usable_cpus
from blemore_harness.systems.resolved import ResolvedSystem

GIB = 1024**3

BASE_MEMORY = 3 * GIB // 2
"""Of a worker with its libraries, a batch of frames and the arrays of its clips."""

UNDECLARED_PARAMETERS = 100_000_000
"""Of pretrained weights whose card gives no number: a base model of transformers has about as many."""

WEIGHT_BYTES = 4
TRAINED_BYTES = 16
"""Of a parameter in float32: alone, and with its gradient and the two averages of Adam."""


def estimate_needs(
    resolved: ResolvedSystem, preparing: bool, device: str, part: str, cpus: int = 1, limit: float | None = None
) -> Needs:
    """Estimate what a request needs; memory roughly, from the number of parameters on the card.

    Args:
        preparing: whether it is a preparation: one without a network needs no GPU.
        device: `cpu`, or where a GPU may be used; `auto` for a worker elsewhere, which gets one for networks only.
        part: what is done, as of `open_call`.
        cpus, limit: as of `Needs`.
    """
    count = resolved.card.parameters
    if count is None:
        count = 0 if resolved.card.weights_licence == "none" or not resolved.modality else UNDECLARED_PARAMETERS
    memory = BASE_MEMORY + count * (WEIGHT_BYTES if preparing else TRAINED_BYTES)
    light = not resolved.modality or (resolved.card.parameters == 0 and (preparing or device == "auto"))
    gpus = 0 if device == "cpu" or light else 1
    kind = resolved.modality or "fusion"
    return Needs(f"{resolved.name} {part}", resolved.name, kind, gpus, cpus, memory, limit)


def list_imports(systems: Iterable[ResolvedSystem]) -> tuple[str, ...]:
    """Return the large libraries that workers of these systems import: torch, for networks and classification heads."""
    for resolved in systems:
        if isinstance(resolved.system, Encoder) and (
            resolved.card.parameters or type(resolved.system).fit is Encoder.fit
        ):
            return "torch", "torch._dynamo"  # the second by the first step of an optimiser
    return ()


def list_gpus(device: str) -> tuple[str, ...]:
    """Return the GPUs of this machine as CUDA_VISIBLE_DEVICES names them; none where `device` is `cpu`."""
    if device == "cpu":
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(filter(None, map(str.strip, visible.split(","))))
    import torch

    return tuple(map(str, range(torch.cuda.device_count())))


def free_memory() -> int:
    """Return the bytes of memory that programs may still take here; without a limit where nobody says."""
    found = [2**63]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        root = Path("/sys/fs/cgroup")
        limit, used = ((root / f"memory.{name}").read_text(encoding="ascii").strip() for name in ("max", "current"))
        found += [int(limit) - int(used)] if limit != "max" else []
    except (OSError, ValueError):  # no Linux, or no control group
        pass
    return max(0, min(found))


def count_room(device: str) -> int:
    """Return how many workers this machine has room for: as cores and memory allow, and one more than it has GPUs."""
    room = min(usable_cpus(), free_memory() // BASE_MEMORY)
    gpus = len(list_gpus(device))
    return max(1, min(room, gpus + 1) if gpus else room)
