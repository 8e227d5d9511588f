"""What a plugin must leave as it found it: generators of random numbers, settings of torch, folder, environment."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

Surroundings = Mapping[str, Any]

Part = tuple[Callable[[], Any], Callable[[Any], object] | None]
"""How one part of the global state is read, as something that can be compared, and how it is put back."""


def look_around() -> Surroundings:
    """Take down the global state of this process, by what a person calls it; that of torch where it is loaded."""
    return {name: read() for name, (read, _) in _parts().items()}


def put_back(before: Surroundings) -> None:
    """Make what can be put back as it was."""
    for name, (read, write) in _parts().items():
        if write is not None and name in before and read() != before[name]:
            write(before[name])


def list_changes(before: Surroundings, after: Surroundings) -> list[str]:
    """Name what is not as it was; what was not there before does not count."""
    names = [name for name, value in before.items() if after.get(name) != value]
    return [_detail(name, before[name], after.get(name)) for name in names]


@contextmanager
def stirred(number: int) -> Iterator[None]:
    """Put the shared generators into a state that depends on `number` while the block lasts.

    Who draws from one without seeding it gets other numbers each time, and who seeds it always changes it.
    """
    before = look_around()
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002  # the shared one is what is stirred
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(number)
    try:
        yield
    finally:
        put_back(before)


def _parts() -> dict[str, Part]:
    parts: dict[str, Part] = {
        "the generator of `random`": (random.getstate, random.setstate),
        "the global generator of numpy": (_read_numpy, _write_numpy),
        "numpy's floating-point warnings (`np.seterr`)": (np.geterr, lambda value: np.seterr(**value)),
        "the current folder": (os.getcwd, os.chdir),
        "the environment": (lambda: dict(os.environ), _write_environment),
        "`sys.path`": (lambda: list(sys.path), None),
        "what happens on Ctrl-C": (lambda: signal.getsignal(signal.SIGINT), None),
        "threads that keep the program alive": (lambda: {t.ident for t in threading.enumerate() if not t.daemon}, None),
    }
    torch = sys.modules.get("torch")
    return parts if torch is None else {**parts, **_parts_of_torch(torch)}


def _parts_of_torch(torch: Any) -> dict[str, Part]:
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    parts: dict[str, Part] = {
        "torch's generator": (
            lambda: torch.get_rng_state().numpy().tobytes(),
            lambda value: torch.set_rng_state(torch.tensor(list(value), dtype=torch.uint8)),
        ),
        "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
        "torch's default type": (torch.get_default_dtype, torch.set_default_dtype),
        "torch's default device": (torch.get_default_device, torch.set_default_device),
        "torch's gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
        "torch's deterministic algorithms": (
            torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms,
        ),
        "torch's precision of products": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        "torch's cudnn.benchmark": (lambda: cudnn.benchmark, lambda value: setattr(cudnn, "benchmark", value)),
        "torch's cudnn.deterministic": (
            lambda: cudnn.deterministic, lambda value: setattr(cudnn, "deterministic", value),
        ),
        "torch's TF32 of convolutions": (lambda: cudnn.allow_tf32, lambda value: setattr(cudnn, "allow_tf32", value)),
        "torch's TF32 of products": (lambda: products.allow_tf32, None),
    }  # fmt: skip
    if torch.cuda.is_initialized():
        parts["torch's generator of the GPU"] = (lambda: torch.cuda.get_rng_state().numpy().tobytes(), None)
    return parts


def _read_numpy() -> tuple[object, ...]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002  # the shared one is what is watched
    return (name, np.asarray(keys).tobytes(), *rest)


def _write_numpy(value: Any) -> None:
    name, keys, *rest = value
    np.random.set_state((name, np.frombuffer(keys, dtype=np.uint32), *rest))  # noqa: NPY002


def _write_environment(value: Mapping[str, str]) -> None:
    for name in os.environ.keys() - value.keys():
        del os.environ[name]
    os.environ.update(value)


def _detail(name: str, before: object, after: object) -> str:
    """Report what changed where that fits into a line."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
        return f"{name} ({', '.join(map(str, keys[:3]))})"
    if isinstance(before, str | int | bool) and isinstance(after, str | int | bool):
        return f"{name} ({before} before, {after} after)"
    return name
