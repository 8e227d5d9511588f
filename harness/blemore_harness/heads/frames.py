"""Frame-level features for a head that pools them itself: read clip by clip, kept in memory up to a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip, Clips
from blemore_harness.errors import DataError
from blemore_harness.networks import usable_cpus

if TYPE_CHECKING:
    import torch

FrameArray: TypeAlias = NDArray[np.float32] | NDArray[np.float16]

ROOM = 1 << 30
"""Bytes of frame-level features that are kept in memory during training; those of further clips are read again for
every batch."""

THREADS = 8
"""Files read side by side, at most."""


@dataclass(frozen=True)
class FrameSource:
    """Where a head finds the frame-level features that it pools.

    Attributes:
        read: returns those of a clip, float32 or float16 (T, D); with `layers` the states of L layers, (T, L, D).
        layers: whether the head learns a weighted sum of layers. The clips' embeddings must then be `pool_statistics`
            of the plain mean of the layers, which is where training starts.
        parts: number of parts of a clip in these statistics.
    """

    read: Callable[[Clip], FrameArray]
    layers: bool = False
    parts: int = 1


class FrameReader:
    """Reads frame-level features, and keeps those that fit.

    Features without layers are centred when they are read: attention needs how far they lie from the mean of their
    clip, in every epoch. Those of layers can only be centred after their weighted sum.

    Args:
        source: where they come from.
        device: where they are to lie.
        room: bytes that may be kept.

    Attributes:
        means: by clip, what was subtracted from its features, float64 (D,).
    """

    def __init__(self, source: FrameSource, device: str, room: int = ROOM) -> None:
        self.source, self.device = source, device
        self._room = room
        self.means: dict[str, NDArray[np.float64]] = {}
        self._kept: dict[str, torch.Tensor] = {}
        self._width: tuple[int, ...] = ()

    def read(self, clips: Sequence[Clip]) -> list[torch.Tensor]:
        """Return the features of clips on the device: of layers as they are stored, others centred, float32.

        Raises:
            DataError: features of another shape than expected, or NaN or infinite values; the clip is named.
        """
        missing = [clip for clip in clips if clip.id not in self._kept]
        found = dict(zip((clip.id for clip in missing), self._read_all(missing), strict=True))
        for name, frames in found.items():
            size = frames.numel() * frames.element_size()
            if size <= self._room:
                self._kept[name] = frames
                self._room -= size
        return [found[clip.id] if clip.id in found else self._kept[clip.id] for clip in clips]

    def forget(self) -> None:
        """Keep nothing any more."""
        self._kept.clear()
        self._room = 0

    def _read_all(self, clips: Sequence[Clip]) -> Iterable[torch.Tensor]:
        import torch

        def load(clip: Clip) -> torch.Tensor:
            return torch.from_numpy(
                np.ascontiguousarray(self._centre(clip, self._checked(clip, self.source.read(clip))))
            )

        workers = min(THREADS, usable_cpus(), len(clips))
        if workers < 2:
            return [load(clip).to(self.device) for clip in clips]
        with ThreadPoolExecutor(workers) as pool:
            return [frames.to(self.device) for frames in pool.map(load, clips)]

    def _centre(self, clip: Clip, frames: FrameArray) -> FrameArray:
        if self.source.layers:
            return frames
        self.means[clip.id] = mean = frames.mean(axis=0, dtype=np.float64)
        return (frames - mean).astype(np.float32)

    def _checked(self, clip: Clip, frames: FrameArray) -> FrameArray:
        expected = "(T, L, D)" if self.source.layers else "(T, D)"
        if frames.ndim != 2 + self.source.layers or not frames.size:
            raise DataError(
                f"clip {clip.id}: expected frame-level features {expected}, none of them 0, found {frames.shape}"
            )
        self._width = self._width or frames.shape[1:]
        if frames.shape[1:] != self._width:
            raise DataError(
                f"clip {clip.id}: expected frame-level features {expected} with {self._width} as of the first clip, "
                f"found {frames.shape[1:]}"
            )
        if not np.isfinite(frames).all():
            raise DataError(f"clip {clip.id}: expected finite frame-level features, found NaN or infinite values")
        return frames


@dataclass(frozen=True)
class ClipFrames:
    """The frame-level features of some clips.

    Attributes:
        reader: reads them when they are needed.
        clips: whose they are; positions count these.
    """

    reader: FrameReader
    clips: Clips

    def __len__(self) -> int:
        return len(self.clips)

    def one(self, position: int) -> torch.Tensor:
        """Return the features of one clip, centred (T, D) or layers (T, L, D)."""
        return self.reader.read([self.clips.items[position]])[0]

    def batch(self, positions: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of the clips at some positions."""
        return self.reader.read([self.clips.items[position] for position in positions.tolist()])

    def measure(self) -> tuple[tuple[int, ...], NDArray[np.float32]]:
        """Return the shape of a frame, (D,) or (L, D), and the standard deviation of each feature, float32 (D,).

        Over all frames of the clips, in float64; of layers, that of their plain mean. One that does not vary has 1.
        """
        count, mean, squares = 0, np.zeros(1), np.zeros(1)
        shape: tuple[int, ...] = ()
        for position in range(len(self)):
            frames: Any = self.one(position).cpu().numpy().astype(np.float64)
            shape = frames.shape[1:]
            # The parts' means and squares together (Chan et al. 1979): one pass, without the loss of a sum of squares.
            if self.reader.source.layers:
                frames = frames.mean(axis=1)
                new = frames.mean(axis=0)
                frames -= new
            else:
                new = self.reader.means[self.clips.items[position].id]
            size = len(frames)
            squares = squares + np.square(frames).sum(axis=0)
            squares = squares + np.square(new - mean) * (count * size / (count + size))
            mean = mean + (new - mean) * (size / (count + size))
            count += size
        deviation = np.sqrt(squares / count)
        flat = deviation <= np.finfo(np.float32).eps * np.abs(mean)
        return shape, np.where(flat, 1.0, deviation).astype(np.float32)
