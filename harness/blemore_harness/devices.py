"""Where to compute: what the user asked for against what this machine has."""

from __future__ import annotations

import importlib.util
from typing import Any

from blemore_harness.errors import ConfigError

CHOICES = ("auto", "cpu", "cuda")


def resolve_device(asked: str) -> str:
    """Give `cpu` or `cuda`.

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


def describe_device(device: str) -> dict[str, Any]:
    """Give the device and, for a GPU, its name, for the record."""
    if device != "cuda":
        return {"device": device, "gpu": None}
    import torch

    return {"device": device, "gpu": torch.cuda.get_device_name()}


def _cuda_available() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())
