"""From stored crops to the network's input: which frames, normalised, mirrored, cut to random squares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from blemore_harness.cache import Store
from blemore_harness.clips import Clip
from blemore_plugins.s4d.options import S4DOptions

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which S4D was trained with."""

KEPT_BYTES = 2**28
"""Crops of so many bytes stay in memory after the first reading: 970 clips of 6 s at 32 px, 38 at 160 px."""

IndexArray = NDArray[np.int64]


class CropSource:
    """Feeds the network with stored crops.

    Args:
        store: of the crops.
        options: frames, stride, segments, views, flip, crop.
    """

    draws = 5

    def __init__(self, store: Store, options: S4DOptions) -> None:
        self._store, self._options = store, options
        self._kept: dict[str, NDArray[np.uint8]] = {}
        self._room = KEPT_BYTES

    def read(self, clip: Clip, draw: Tensor | None) -> Tensor:
        """Read the frames of one window, uint8 (T, size, size, 3); for prediction (segments, T, size, size, 3)."""
        options = self._options
        crops = self._crops(clip)
        if draw is None:
            indices = prediction_indices(len(crops), options.frames, options.rate, options.segments)
        else:
            indices = training_indices(len(crops), options.frames, options.rate, float(draw[0]))
        return torch.from_numpy(np.ascontiguousarray(crops[indices]))

    def _crops(self, clip: Clip) -> NDArray[np.uint8]:
        """Return the crops of a clip, from memory where they are kept; threads may read the same clip at once."""
        if clip.content in self._kept:
            return self._kept[clip.content]
        # Opened for each reading anew: an open file a clip is more than most systems allow.
        crops = self._store.load(clip, mmap=True)
        if crops.nbytes <= self._room:
            self._room -= crops.nbytes
            self._kept[clip.content] = crops = np.array(crops)
        return crops

    def join(self, held: Sequence[Tensor], draws: Tensor) -> Tensor:
        """Mirror half of the clips and cut a random square from each: (B, 3, T, size, size)."""
        return self._augment(normalise(torch.stack(list(held))), draws[:, 1:])

    def views(self, held: Tensor) -> Tensor:
        """Return all windows of a clip, then their mirror images: (segments * views, 3, T, size, size)."""
        inputs = normalise(held)
        return torch.cat([inputs, inputs.flip(-1)]) if self._options.views == 2 else inputs

    def _augment(self, inputs: Tensor, draws: Tensor) -> Tensor:
        """Mirror half of the clips and cut a random square from each, all frames of a clip alike, bilinear."""
        options = self._options
        if options.flip:
            mirrored = (draws[:, 1] < 0.5).to(inputs.device).view(-1, 1, 1, 1, 1)
            inputs = torch.where(mirrored, inputs.flip(-1), inputs)
        if options.crop == 1:
            return inputs
        side = (1 - (1 - options.crop) * draws[:, 0]).sqrt()
        across, down = ((1 - side) * (2 * draws[:, column] - 1) for column in (2, 3))
        size = inputs.shape[-1]
        # Middles of pixels in the units of grid_sample: -1 and 1 are the outer edges of the image.
        line = (torch.arange(size) * 2 + 1) / size - 1
        columns, rows = (line * side[:, None] + shift[:, None] for shift in (across, down))
        square = columns[:, None, :].expand(-1, size, -1), rows[:, :, None].expand(-1, -1, size)
        grid = torch.stack(square, dim=-1).to(inputs.device)
        # Frames join the channels: one grid per clip is enough.
        images = F.grid_sample(inputs.flatten(1, 2), grid, padding_mode="border", align_corners=False)
        return images.view(inputs.shape)


def normalise(crops: Tensor) -> Tensor:
    """Map uint8 (clips, frames, height, width, 3) to float32 (clips, 3, frames, height, width)."""
    mean, std = (torch.tensor(values, device=crops.device).view(3, 1, 1, 1) * 255 for values in (MEAN, STD))
    return crops.permute(0, 4, 1, 2, 3).float().sub_(mean).div_(std)


def training_indices(count: int, length: int, rate: int, start: float) -> IndexArray:
    """Choose `length` of the stored frames for training: a random window, or all of a short clip.

    The released rules: a clip of at most `length * rate` frames gives `count // rate` points spread over it, and the
    rest repeat its last frame. A longer one gives a window of `length * rate` frames, whose end is drawn from the whole
    numbers from `length * rate` to below `count`, and `length` points spread over it, rounded down.

    Args:
        count: frames of the clip, at least 1.
        length: frames to choose.
        rate: distance between them.
        start: draws the window, uniform in [0, 1).

    >>> training_indices(5, 4, 2, 0.0).tolist()
    [0, 4, 4, 4]
    >>> training_indices(20, 4, 2, 0.0).tolist()
    [0, 2, 5, 7]
    """
    span = length * rate
    if count <= span:
        points = np.linspace(0, count, count // rate)
        points = np.concatenate([points, np.full(length - len(points), count)])
        return np.clip(points, 0, count - 1).astype(np.int64)
    end = span + int(start * (count - span))
    points = np.linspace(end - span, end, length)
    return np.clip(points, end - span, end - 1).astype(np.int64)


def prediction_indices(count: int, length: int, rate: int, segments: int) -> IndexArray:
    """Choose the stored frames of evenly spaced windows, int64 (segments, length).

    The released rules: every `rate`-th frame, the last one repeated up to `length` of them; the windows start evenly
    from the first to the last possible place. A single window is the one in the middle.

    >>> prediction_indices(12, 4, 2, 2).tolist()
    [[0, 2, 4, 6], [4, 6, 8, 10]]
    >>> prediction_indices(5, 4, 2, 1).tolist()
    [[0, 2, 4, 4]]
    """
    sampled = np.arange(0, count, rate)
    if len(sampled) < length:
        sampled = np.concatenate([sampled, np.full(length - len(sampled), sampled[-1])])
    room = len(sampled) - length
    starts = [room // 2] if segments == 1 else [int(number * room / (segments - 1)) for number in range(segments)]
    return np.stack([sampled[start : start + length] for start in starts])
