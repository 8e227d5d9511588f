"""Running a frozen network over the frames of a clip, window by window, at the requested precision."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemore_harness.media.frames import uniform_indices
from blemore_plugins.vision.pictures import PictureRule, fit, normalise

AT_ONCE: Mapping[str, int] = {"cpu": 32, "cuda": 256}
"""Frames that enter a network together. Always frames of one clip: what its row is does not depend on its company."""


@dataclass(frozen=True)
class Network:
    """A frozen network and what it wants to see.

    Attributes:
        module: the torch module, in eval mode.
        run: float32 windows (B, length, 3, side, side) to features (B, positions, D).
        side: pixels.
        length, step: frames of a window, and from one window's start to the next.
        span: frames that one position of the features stands for; `length` for one vector per window.
        spread: the window is one for the whole clip: `length` frames evenly spaced over it.
        rule: how frames become the input, where the weights say it; None where the family does.
    """

    module: Any
    run: Callable[[Tensor], Tensor]
    side: int
    length: int = 1
    step: int = 1
    span: int = 1
    spread: bool = False
    rule: PictureRule | None = None

    def choose(self, count: int, stride: int) -> Sequence[int]:
        """Return which frames of a clip of `count` frames are read: every `stride`-th, or those of one window."""
        return uniform_indices(count, self.length).tolist() if self.spread else range(0, count, stride)

    def starts(self, count: int) -> range:
        """Return the first frames of the windows that a clip of `count` frames needs."""
        more = -(-max(0, count - self.length) // self.step)
        return range(0, more * self.step + 1, self.step)


def run_clip(
    network: Network, rule: PictureRule, zeros: bool, frames: NDArray[Any], device: str
) -> NDArray[np.float32]:
    """Return the features of a clip, float32 (T, D).

    Args:
        network: what to run.
        rule: how frames become its input.
        zeros: fill the last window with zeros; else with the clip's last frame. Positions that stand for nothing but
            filling are left out.
        frames: uint8 (T, height, width, 3); or float32 (T, 3, side, side) grey levels that `fit` has made.
        device: where to compute.
    """
    starts, length = network.starts(len(frames)), network.length
    many = max(1, AT_ONCE["cuda" if device.startswith("cuda") else "cpu"] // length)
    found: list[NDArray[np.float32]] = []
    for place in range(0, len(starts), many):
        block = starts[place : place + many]
        low, high = block[0], min(len(frames), block[-1] + length)
        part = torch.from_numpy(np.ascontiguousarray(frames[low:high])).to(device)
        squares = normalise(part if part.dtype == torch.float32 else fit(part, rule, network.side), rule)
        index = torch.arange(length)[None] + (torch.tensor(list(block)) - low)[:, None]
        beyond = index >= high - low
        windows = squares[index.clamp(max=high - low - 1).to(device)]
        if zeros:
            windows[beyond.to(device)] = 0
        features = network.run(windows).float().cpu().numpy()
        for start, row in zip(block, features, strict=True):
            found.append(row[: -(-min(length, len(frames) - start) // network.span)])
    return np.concatenate(found)


@contextlib.contextmanager
def computing(precision: str, device: str) -> Iterator[None]:
    """Compute without gradients inside the block, at `fp32`, `tf32` or `bf16`; a GPU does not choose by speed."""
    rounded = precision != "fp32"
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if rounded and device.startswith("cuda") else "highest")
    kind = torch.device(device).type
    cast = torch.autocast(kind, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=rounded)
    try:
        with flags, cast, torch.inference_mode():
            yield
    finally:
        torch.set_float32_matmul_precision(before)
