"""Pictures on the device: from decoded frames of any shape to the squares that a network takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Look:
    """How a network was shown its pictures.

    Attributes:
        mean, std: of the channels, on the scale from 0 to 1.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def normalise(self, pictures: Tensor) -> Tensor:
        """Map grey levels 0 to 255, float32 (..., 3, height, width), to what the network takes."""
        mean, std = (
            torch.tensor(values, device=pictures.device).view(3, 1, 1) * 255 for values in (self.mean, self.std)
        )
        return (pictures - mean) / std


def fit_middle(frames: Tensor, size: int) -> Tensor:
    """Scale frames so that their shorter side is `size` and take the middle square.

    Bilinear with antialiasing; the longer side is rounded down, and the square begins on a whole pixel, as in the
    networks' released preprocessing.

    Args:
        frames: uint8 (T, height, width, 3).
        size: of the square.

    Returns:
        float32 (T, 3, size, size), still on the scale from 0 to 255.
    """
    height, width = frames.shape[1:3]
    short = min(height, width)
    down, across = height * size // short, width * size // short
    pictures = _resize(frames, (down, across))
    top, left = (down - size) // 2, (across - size) // 2
    return pictures[..., top : top + size, left : left + size]


def cut_square(frames: Tensor, size: int, smallest: float, draws: Sequence[float]) -> Tensor:
    """Cut a random square out of the middle square, the same from all frames, and scale it to `size`.

    Args:
        frames: uint8 (T, height, width, 3).
        size: of the result.
        smallest: least area, as a share of the middle square.
        draws: three numbers from 0 to 1: area, place across, place down.

    Returns:
        float32 (T, 3, size, size), on the scale from 0 to 255.
    """
    height, width = frames.shape[1:3]
    short = min(height, width)
    side = max(1, round(short * math.sqrt(1 - (1 - smallest) * draws[0])))
    top, left = (
        (whole - short) // 2 + min(int(draw * (short - side + 1)), short - side)
        for whole, draw in ((height, draws[2]), (width, draws[1]))
    )
    return _resize(frames[:, top : top + side, left : left + side], (size, size))


def _resize(frames: Tensor, size: tuple[int, int]) -> Tensor:
    pictures = frames.permute(0, 3, 1, 2).float()
    return F.interpolate(pictures, size, mode="bilinear", antialias=True, align_corners=False)
