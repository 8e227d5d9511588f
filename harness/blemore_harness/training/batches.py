"""Clips read in threads ahead of the network: shuffled batches for training, one clip at a time for prediction."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from numpy.typing import ArrayLike

from blemore_harness.clips import Clip
from blemore_harness.media.ahead import read_ahead
from blemore_harness.networks import usable_cpus

if TYPE_CHECKING:
    import torch
    from torch import Tensor

THREADS = 16
"""At most so many readers, however many cores there are."""

AHEAD = 3
"""Batches that are read before they are needed."""

CLIPS_AHEAD = 32
"""Clips that are read ahead at prediction."""


class Source(Protocol):
    """What a network is fed with: reading happens in threads on the CPU, the rest on the device.

    Attributes:
        draws: random numbers from 0 to 1 that a clip needs in an epoch of training.
    """

    draws: int

    def read(self, clip: Clip, draw: Tensor | None) -> Tensor:
        """Read what is needed of a clip, for training by its random numbers, for prediction without."""

    def join(self, held: Sequence[Tensor], draws: Tensor) -> Tensor:
        """Make the inputs of a training step of what was read, already on the device."""

    def views(self, held: Tensor) -> Tensor:
        """Make the inputs of a prediction, all views of one clip as one batch."""


class TrainingBatches:
    """Yields shuffled batches of clips and targets.

    Args:
        clips: to train on.
        targets: (N, 6).
        source: reads them.
        size: clips per step; batches of an epoch are of nearly equal size.
        device: where batches go.
        workers: threads; 0 for one per core.

    Attributes:
        given: clips so far.
        seconds: since each epoch was begun, summed; training takes the most of them.
        waited: seconds of these that the network waited for clips.
    """

    def __init__(
        self, clips: Sequence[Clip], targets: ArrayLike, source: Source, size: int, device: str, workers: int = 0
    ) -> None:
        import torch

        self._clips, self._source, self._device = clips, source, device
        self._targets = torch.as_tensor(targets, dtype=torch.float32).clone()
        self._workers = workers or min(THREADS, usable_cpus())
        self.steps = -(-len(clips) // size)
        self.given, self.seconds, self.waited = 0, 0.0, 0.0

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and targets (B, 6), each clip once.

        Everything random is drawn from the generator, on the CPU, before the first batch: it is the same on every
        device, whatever was asked for before and however many threads read.
        """
        import torch

        order = torch.randperm(len(self._clips), generator=generator)
        draws = torch.rand(len(self._clips), self._source.draws, generator=generator)
        parts = torch.tensor_split(torch.arange(len(order)), self.steps)

        def read(place: int) -> Tensor:
            return _pinned(self._source.read(self._clips[order[place]], draws[place]), self._device)

        begun = time.perf_counter()
        places = read_ahead(read, range(len(order)), self._workers, AHEAD * len(parts[0]))
        with contextlib.closing(places):
            for part in parts:
                started = time.perf_counter()
                held = [future.result() for _, future in islice(places, len(part))]
                self.waited += time.perf_counter() - started
                inputs = self._source.join([_move(tensor, self._device) for tensor in held], draws[part])
                self.given += len(part)
                yield inputs, self._targets[order[part]].to(self._device, non_blocking=True)
        self.seconds += time.perf_counter() - begun


def read_views(clips: Iterable[Clip], source: Source, device: str, workers: int = 0) -> Iterator[Tensor]:
    """Yield the views of each clip, in the order of the clips."""

    def read(clip: Clip) -> Tensor:
        return _pinned(source.read(clip, None), device)

    for _, future in read_ahead(read, clips, workers or min(THREADS, usable_cpus()), CLIPS_AHEAD):
        yield source.views(_move(future.result(), device))


def _pinned(tensor: Tensor, device: str) -> Tensor:
    return tensor.pin_memory() if device.startswith("cuda") else tensor


def _move(tensor: Tensor, device: str) -> Tensor:
    return tensor.to(device, non_blocking=True)
