"""What a plugin must leave as it found it: generators of random numbers, settings of torch, folder, environment."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

Surroundings = Mapping[str, object]


def look_around() -> Surroundings:
    """Take down the global state of this process, by what a person calls it; that of torch where it is loaded."""
    numpy_state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002  # the global one is what is watched
    found: dict[str, object] = {
        "the generator of `random`": random.getstate(),
        "the global generator of numpy": {key: np.asarray(value).tolist() for key, value in numpy_state.items()},
        "numpy's floating-point warnings (`np.seterr`)": np.geterr(),
        "the current folder": os.getcwd(),  # noqa: PTH109  # as the process has it
        "the environment": dict(os.environ),
        "`sys.path`": list(sys.path),
        "what happens on Ctrl-C": signal.getsignal(signal.SIGINT),
        "threads that keep the program alive": {t.ident for t in threading.enumerate() if not t.daemon},
    }
    torch = sys.modules.get("torch")
    return found if torch is None else {**found, **_look_at_torch(torch)}


def list_changes(before: Surroundings, after: Surroundings) -> list[str]:
    """Name what is not as it was; what was not there before does not count."""
    names = [name for name, value in before.items() if after.get(name) != value]
    return [_detail(name, before[name], after.get(name)) for name in names]


def _look_at_torch(torch: Any) -> dict[str, object]:
    found: dict[str, object] = {
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's default type": str(torch.get_default_dtype()),
        "torch's default device": str(torch.get_default_device()),
        "torch's gradients": torch.is_grad_enabled(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's precision of products": torch.get_float32_matmul_precision(),
        "torch's cudnn.benchmark": torch.backends.cudnn.benchmark,
        "torch's cudnn.deterministic": torch.backends.cudnn.deterministic,
        "torch's TF32 of convolutions": torch.backends.cudnn.allow_tf32,
        "torch's TF32 of products": torch.backends.cuda.matmul.allow_tf32,
    }
    if torch.cuda.is_initialized():
        found["torch's generator of the GPU"] = torch.cuda.get_rng_state().numpy().tobytes()
    return found


def _detail(name: str, before: object, after: object) -> str:
    """Say what changed where that fits into a line."""
    if isinstance(before, dict) and isinstance(after, dict) and "generator" not in name:
        keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
        return f"{name} ({', '.join(map(str, keys[:3]))})"
    if isinstance(before, str | int | bool) and isinstance(after, str | int | bool):
        return f"{name} ({before} before, {after} after)"
    return name
