"""A GPU that only looks: what lies on `cuda` are fake tensors, whose devices and types torch checks without computing.

So code for a GPU can be gone through on a machine without one. What depends on values is made up: how many tokens each
expert gets, what comes back to the CPU. Gradients are not followed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

MADE_HERE = ("tensor", "as_tensor")


def on_gpu(device: object) -> bool:
    """Return whether an argument names a GPU."""
    return str(device).startswith("cuda") and isinstance(device, (str, torch.device))


class FakeGPU(TorchFunctionMode):
    """Makes everything that is asked for on `cuda`, or made of what lies there, a fake tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.weights: list[torch.nn.Parameter] = []
        self.requests = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, first = getattr(func, "__name__", ""), args[0] if args else None
        if isinstance(first, FakeTensor):
            special = getattr(self, f"_{name.strip('_')}", None)
            if special is not None:
                return special(*args, **kwargs)
        elif name == "to" and any(on_gpu(a) for a in (*args[1:], kwargs.get("device"))):
            kind = next((a for a in (*args[1:], kwargs.get("dtype")) if isinstance(a, torch.dtype)), first.dtype)
            return self.empty(first.shape, kind)
        elif name == "type_as" and isinstance(args[1], FakeTensor):
            return self.empty(first.shape, args[1].dtype)
        elif name in MADE_HERE and on_gpu(kwargs.get("device")):
            real = func(*args, **{key: value for key, value in kwargs.items() if key != "device"})
            return self.empty(real.shape, real.dtype)
        given = [*args, *kwargs.values()]
        given += [part for parts in given if isinstance(parts, (list, tuple)) for part in parts]
        if on_gpu(kwargs.get("device")) or any(isinstance(part, FakeTensor) for part in given):
            with self.fake:
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def empty(self, shape: Any, kind: torch.dtype, device: Any = "cuda") -> torch.Tensor:
        """Make a fake tensor."""
        with self.fake:
            return torch.empty(tuple(shape), dtype=kind, device=device)

    def move(self, module: torch.nn.Module) -> torch.nn.Module:
        """Put a network on the GPU."""
        for part in module.modules():
            for name, weight in part._parameters.items():
                if weight is not None:
                    fake = self.empty(weight.shape, weight.dtype)
                    part._parameters[name] = torch.nn.Parameter(fake, requires_grad=weight.requires_grad)
                    self.weights.append(part._parameters[name])
            for name, buffer in part._buffers.items():
                part._buffers[name] = None if buffer is None else self.empty(buffer.shape, buffer.dtype)
        return module

    # What asks for values, by the names of torch's functions.

    def _numpy(self, tensor: torch.Tensor) -> np.ndarray:
        if tensor.device.type != "cpu":
            raise TypeError(f"numpy takes tensors of the CPU, found one on {tensor.device}")
        kind = str(tensor.dtype).removeprefix("torch.")
        return np.random.default_rng(0).standard_normal(tuple(tensor.shape)).astype(kind)

    def _bool(self, tensor: torch.Tensor) -> bool:
        return True

    def _item(self, tensor: torch.Tensor) -> float:
        return 1.0

    def _backward(self, loss: torch.Tensor, **_settings: object) -> None:
        for weight in self.weights:
            weight.grad = self.empty(weight.shape, weight.dtype) if weight.requires_grad else None

    def _deepcopy(self, tensor: torch.Tensor, _memo: object) -> torch.Tensor:
        copy = self.empty(tensor.shape, tensor.dtype)
        return torch.nn.Parameter(copy, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else copy

    def _one_hot(self, tensor: torch.Tensor, classes: int) -> torch.Tensor:
        return self.empty((*tensor.shape, classes), torch.int64)

    def _bincount(self, tensor: torch.Tensor, minlength: int) -> torch.Tensor:
        self.requests = tensor.numel()
        return self.empty((minlength,), torch.int64)

    def _repeat_interleave(self, tensor: torch.Tensor, repeats: torch.Tensor) -> torch.Tensor:
        return self.empty((self.requests,), tensor.dtype)

    def loads(self, tensor: torch.Tensor) -> list[int]:
        """Share out the requests that were counted last."""
        share = self.requests // len(tensor)
        return [self.requests - share * (len(tensor) - 1)] + [share] * (len(tensor) - 1)


@contextlib.contextmanager
def fake_gpu() -> Iterator[FakeGPU]:
    """Have a fake GPU inside the block, of a kind that computes in bfloat16."""
    gpu, move, generator = FakeGPU(), torch.nn.Module.to, torch.Generator
    changes: dict[str, Any] = {
        "torch.nn.Module.to": lambda module, *to: gpu.move(module) if to and on_gpu(to[0]) else move(module, *to),
        "torch.Tensor.pin_memory": lambda tensor: tensor,
        "torch._subclasses.fake_tensor.FakeTensor.tolist": lambda tensor: gpu.loads(tensor),
        "torch.Generator": lambda device="cpu": generator(),
        "torch.cuda.is_bf16_supported": lambda *_given, **_settings: True,
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
        "torch.cuda.reset_peak_memory_stats": lambda: None,
        "torch.cuda.max_memory_allocated": lambda: 1 << 30,
        "torch.cuda.get_device_name": lambda: "a fake",
    }
    with contextlib.ExitStack() as stack:
        for name, change in changes.items():
            stack.enter_context(mock.patch(name, change))
        stack.enter_context(gpu)
        yield gpu
