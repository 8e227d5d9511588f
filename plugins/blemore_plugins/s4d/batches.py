"""From stored crops to the network's input: reading, normalising, mirroring, random crops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from blemore_harness.cache import Store
from blemore_harness.clips import Clip
from blemore_plugins.s4d.options import S4DOptions
from blemore_plugins.s4d.sampling import prediction_indices, training_indices

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which S4D was trained with."""


def normalise(crops: Tensor) -> Tensor:
    """Map uint8 (clips, frames, height, width, 3) to float32 (clips, 3, frames, height, width)."""
    mean, std = (torch.tensor(values, device=crops.device).view(3, 1, 1, 1) * 255 for values in (MEAN, STD))
    return crops.permute(0, 4, 1, 2, 3).float().sub_(mean).div_(std)


def read_views(clip: Clip, store: Store, options: S4DOptions, device: str) -> Tensor:
    """Read all views of one clip for prediction: (segments * views, 3, frames, size, size)."""
    crops = store.load(clip, mmap=True)
    indices = prediction_indices(len(crops), options.frames, options.rate, options.segments)
    inputs = normalise(_to(np.ascontiguousarray(crops[indices]), device))
    return torch.cat([inputs, inputs.flip(-1)]) if options.views == 2 else inputs


class TrainingBatches:
    """Gives shuffled, augmented batches, reading one batch ahead.

    Everything random is drawn from one generator on the CPU, so that its state is all there is to keep for a resume,
    and the same on every device.

    Args:
        clips: to learn from.
        targets: float32 (N, 6).
        store: of the crops.
        options: frames, stride, batch, flip, crop.
        device: where batches go.
    """

    def __init__(
        self, clips: Sequence[Clip], targets: NDArray[np.float32], store: Store, options: S4DOptions, device: str
    ) -> None:
        self._options, self._device = options, device
        # Opened for each batch anew: an open file a clip is more than most systems allow.
        self._clips, self._store = clips, store
        self._targets = torch.from_numpy(np.array(targets))

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self._clips) // self._options.batch_size)

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs (B, 3, frames, size, size) and targets (B, 6), each clip once, nearly equal batches."""
        order = torch.randperm(len(self._clips), generator=generator)
        draws = torch.rand(len(self._clips), 5, generator=generator)
        parts = torch.tensor_split(torch.arange(len(self._clips)), self.steps)
        with ThreadPoolExecutor(1) as reader:
            waiting = reader.submit(self._read, order[parts[0]], draws[parts[0]])
            for number, part in enumerate(parts):
                crops = waiting.result()
                if number + 1 < len(parts):
                    following = parts[number + 1]
                    waiting = reader.submit(self._read, order[following], draws[following])
                inputs = self._augment(normalise(_to(crops, self._device)), draws[part, 1:])
                yield inputs, self._targets[order[part]].to(self._device)

    def _read(self, which: Tensor, draws: Tensor) -> NDArray[np.uint8]:
        options = self._options
        found = []
        for number, draw in zip(which.tolist(), draws[:, 0].tolist(), strict=True):
            crops = self._store.load(self._clips[number], mmap=True)
            found.append(crops[training_indices(len(crops), options.frames, options.rate, draw)])
        return np.stack(found)

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
        # Middles of pixels in the units of grid_sample: -1 and 1 are the outer edges of the picture.
        line = (torch.arange(size) * 2 + 1) / size - 1
        columns, rows = (line * side[:, None] + shift[:, None] for shift in (across, down))
        square = columns[:, None, :].expand(-1, size, -1), rows[:, :, None].expand(-1, -1, size)
        grid = torch.stack(square, dim=-1).to(inputs.device)
        # Frames join the channels: one grid per clip is enough.
        pictures = F.grid_sample(inputs.flatten(1, 2), grid, padding_mode="border", align_corners=False)
        return pictures.view(inputs.shape)


def _to(crops: NDArray[np.uint8], device: str) -> Tensor:
    tensor = torch.from_numpy(crops)
    return tensor.pin_memory().to(device, non_blocking=True) if device != "cpu" else tensor
