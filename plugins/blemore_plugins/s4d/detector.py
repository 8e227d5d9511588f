"""MTCNN face detection with the networks of facenet-pytorch; imported only where faces are looked for.

The cascade of Zhang et al. (2016): P-net proposes squares at all places and sizes, R-net keeps and moves some of them,
O-net says which are faces, moves them again and gives five landmarks. Boxes are those of `facenet_pytorch.MTCNN()`,
which handles every square of every frame by itself; here all frames and squares of a batch are handled together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from facenet_pytorch import ONet, PNet, RNet
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.ops import batched_nms

from blemore_harness.networks import seeded
from blemore_plugins.s4d.tracking import Detections

BATCH = 16
"""Frames that are searched together; more bring nothing on a GPU at usual sizes and cost memory on a CPU."""

SMALLEST = 12
"""Pixels of the smallest face that P-net sees: its input is as large."""

PYRAMID = 20
"""Pixels of the smallest face that `facenet_pytorch.MTCNN()` finds."""

FACTOR = 0.709
"""Each size of the pyramid in units of the one before, as in facenet-pytorch: half of its area."""

STRIDE = 2
"""Pixels of P-net's input between two of its outputs."""

SURE = (0.6, 0.7, 0.7)
"""Least probability of a face for each of the three networks, as in facenet-pytorch."""

MOST = 2**16, 64 * 24**2, 8 * 48**2
"""Pixels of input that go through each network at a time on a CPU: a layer then finds its input in a core's cache."""


# What cuts boxes out of images (`Sums.cut`), and what is found: boxes (N, 4), landmarks (N, 5, 2), image of each.
Cut = Callable[[torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, ...]]
Found = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class FaceDetector:
    """Finds faces with the networks that ship inside facenet-pytorch.

    Args:
        device: name of a torch device.
        smallest: height of the smallest face to look for as a share of the frame's shorter side.
    """

    def __init__(self, device: str, smallest: float) -> None:
        self._device = torch.device(device)
        self._smallest = smallest
        with seeded(0):  # they draw random weights before they load their own
            networks = [network().eval() for network in (PNet, RNet, ONet)]
        # Colours beside each other: on a CPU pooling is then vectorised, and R-net four times as fast.
        self._networks = [network.to(self._device, memory_format=torch.channels_last) for network in networks]

    def detect(self, frames: Sequence[NDArray[np.uint8]], scale: float = 1.0) -> list[Detections | None]:
        """Find faces in frames of one size.

        Args:
            frames: uint8 RGB (height, width, 3) each.
            scale: coordinates of the answer are multiplied by this, to undo shrinking.

        Returns:
            Per frame all faces, the largest first, or None where there is none.
        """
        found: list[Detections | None] = []
        with torch.inference_mode():
            for start in range(0, len(frames), BATCH):
                sums = Sums(self._load(frames[start : start + BATCH]))
                found += _read(*self._judge(sums.cut, *self._propose(sums, scale)), len(sums), scale)
        return found

    def follow(
        self, frames: Sequence[NDArray[np.uint8]], squares: NDArray[np.float64], scale: float = 1.0
    ) -> list[Detections | None]:
        """Find in each frame the one face of which it is known about where it is: without P-net.

        Args:
            frames: uint8 RGB (height, width, 3) each, of one size.
            squares: float64 (N, 4): where the face is expected, centre x, centre y and side times `scale`; see `Track`.
            scale: as for `detect`.

        Returns:
            Per frame one face, or None where R-net or O-net sees none.
        """
        found: list[Detections | None] = []
        corners = np.hstack([squares[:, :2] - squares[:, 2:3] / 2, squares[:, :2] + squares[:, 2:3] / 2]) / scale
        with torch.inference_mode():
            for start in range(0, len(frames), BATCH):
                images = self._load(frames[start : start + BATCH])
                boxes = torch.from_numpy(corners[start : start + BATCH]).float().to(self._device)
                which = torch.arange(len(images), device=self._device)
                cut = partial(_cut, images)
                first, points, which = self._judge(cut, boxes, which)
                # O-net's boxes vary with the square that it sees: the mean of two varies less.
                second, _, still = self._refine(cut, _square(first), which)
                agreed = torch.isin(which, still)
                found += _read((first[agreed] + second) / 2, points[agreed], still, len(images), scale)
        return found

    def _load(self, frames: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        return torch.from_numpy(np.stack(frames)).to(self._device)

    def _run(self, number: int, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Run a network over inputs (N, size, size, 3), in parts of 1, 2, 4, 8 ...: kernels are made for each shape."""
        inputs = ((inputs - 127.5) * 0.0078125).permute(0, 3, 1, 2)
        most = MOST[number] // inputs[0, 0].numel() if self._device.type == "cpu" else 512
        parts, start = [], 0
        while start < len(inputs):
            size = 2 ** (min(len(inputs) - start, max(most, 1)).bit_length() - 1)
            parts.append(self._networks[number](inputs[start : start + size]))
            start += size
        return [torch.cat(answers) for answers in zip(*parts, strict=True)]

    def _propose(self, sums: Sums, shrunk: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Run P-net over images in all sizes; squares (N, 4), and the image of each."""
        height, width = sums.size
        answers: list[tuple[torch.Tensor, ...]] = []
        for level, scale in enumerate(_scales(min(height, width), self._smallest, shrunk)):
            moves, sure = self._run(0, sums.shrink(int(height * scale + 1), int(width * scale + 1)))
            which, y, x = (sure[:, 1] >= SURE[0]).nonzero(as_tuple=True)
            corner = torch.stack([x, y], dim=1).float() * STRIDE
            boxes = torch.cat([((corner + reach) / scale).floor() for reach in (1, SMALLEST)], dim=1)
            answers.append((boxes, sure[which, 1, y, x], moves[which, :, y, x], which, which + level * len(sums)))
        if not answers:
            return torch.empty((0, 4), device=self._device), torch.empty(0, dtype=torch.int64, device=self._device)
        boxes, sure, moves, which, level = (torch.cat(parts) for parts in zip(*answers, strict=True))
        kept = batched_nms(boxes, sure, level, 0.5)
        kept = kept[batched_nms(boxes[kept], sure[kept], which[kept], 0.7)]
        boxes, moves = boxes[kept], moves[kept]
        return _square(boxes + moves * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)), which[kept]

    def _judge(self, cut: Cut, boxes: torch.Tensor, which: torch.Tensor) -> Found:
        """Run R-net and O-net on squares (N, 4) of the images `which`.

        Args:
            cut: `Sums.cut`, or the same of images.

        Returns:
            Boxes (M, 4), landmarks (M, 5, 2), and the image of each.
        """
        boxes, which, cuts = cut(boxes, which, 24)
        if not len(cuts):
            return _nothing(boxes, which)
        moves, chances = self._run(1, cuts)
        sure = chances[:, 1]
        kept = (sure > SURE[1]).nonzero()[:, 0]
        kept = kept[batched_nms(boxes[kept], sure[kept], which[kept], 0.7)]
        return self._refine(cut, _square(_move(boxes[kept], moves[kept])), which[kept])

    def _refine(self, cut: Cut, boxes: torch.Tensor, which: torch.Tensor) -> Found:
        """Run O-net on squares (N, 4) of the images `which`; as `_judge`."""
        boxes, which, cuts = cut(boxes, which, 48)
        if not len(cuts):
            return _nothing(boxes, which)
        moves, points, chances = self._run(2, cuts)
        sure = chances[:, 1]
        kept = (sure > SURE[2]).nonzero()[:, 0]
        boxes, which, points = boxes[kept], which[kept], points[kept].unflatten(1, (2, 5)).transpose(1, 2)
        points = boxes[:, None, :2] + points * (boxes[:, 2:] - boxes[:, :2] + 1)[:, None] - 1
        boxes = _move(boxes, moves[kept])
        single = _single(boxes, sure[kept], which)
        return boxes[single], points[single], which[single]


def _nothing(boxes: torch.Tensor, which: torch.Tensor) -> Found:
    return boxes[:0], boxes.new_empty((0, 5, 2)), which[:0]


def _scales(side: int, smallest: float, scale: float) -> Iterator[float]:
    """Yield the sizes of the pyramid in units of an image that was shrunk to 1 / `scale`.

    They are those of `facenet_pytorch.MTCNN()` for the whole frame, from the one on whose smallest faces are nearest
    to `smallest`, a share of the shorter side, down to where P-net sees all of that side at once. Boxes depend on these
    sizes by some pixels, and so neither on `smallest` nor on how much a frame is shrunk.
    """
    wanted = max(smallest * side, SMALLEST) * scale
    level = max(round(math.log(PYRAMID / wanted, FACTOR)), 0)
    size = SMALLEST / PYRAMID * scale * FACTOR**level
    while side * size >= SMALLEST:
        yield size
        size *= FACTOR


def _square(boxes: torch.Tensor) -> torch.Tensor:
    """Make boxes (N, 4) squares of the longer side around the same middle."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(dim=1, keepdim=True).values
    corner = boxes[:, :2] + sides * 0.5 - longer * 0.5
    return torch.cat([corner, corner + longer], dim=1)


def _move(boxes: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Move the sides of boxes (N, 4) by shares of width and height, of which facenet-pytorch counts both ends."""
    return boxes + moves * (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)


class Sums:
    """Sums of the colours above and left of every corner of a pixel; means of rectangles take four of them.

    Args:
        images: uint8 (B, height, width, 3).
    """

    def __init__(self, images: torch.Tensor) -> None:
        count, height, width, _ = images.shape
        self.size = height, width
        # Larger sums wrap around, but the difference of two of them is right.
        self._sums = torch.zeros((count, height + 1, width + 1, 3), dtype=torch.int32, device=images.device)
        self._sums[:, 1:, 1:] = images.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32)

    def __len__(self) -> int:
        return len(self._sums)

    def shrink(self, height: int, width: int) -> torch.Tensor:
        """Resize whole images by the means of areas, (B, height, width, 3)."""
        whole = torch.tensor([[0, 0, *self.size[::-1]]], device=self._sums.device)
        (top, bottom), (left, right) = _bins(whole, 1, height), _bins(whole, 0, width)
        bands = self._sums.index_select(1, bottom[0]) - self._sums.index_select(1, top[0])
        cells = bands.index_select(2, right[0]) - bands.index_select(2, left[0])
        return cells / ((bottom - top)[0, :, None] * (right - left))[..., None]

    def cut(self, boxes: torch.Tensor, which: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
        """Cut boxes (N, 4) of the images `which` out and resize them; those outside of their image are left out.

        Returns:
            The boxes and images that are left, and (N, size, size, 3).
        """
        edges, inside = _edges(boxes, self.size)
        boxes, which = boxes[inside], which[inside]
        (top, bottom), (left, right) = _bins(edges, 1, size), _bins(edges, 0, size)
        flat, (height, width) = self._sums.view(-1, 3), self.size

        def corners(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
            places = ((which[:, None] * (height + 1) + rows) * (width + 1))[:, :, None] + columns[:, None]
            return flat.index_select(0, places.flatten()).view(*places.shape, 3)

        cells = corners(bottom, right) - corners(top, right) - corners(bottom, left) + corners(top, left)
        return boxes, which, cells / ((bottom - top)[:, :, None] * (right - left)[:, None])[..., None]


def _cut(images: torch.Tensor, boxes: torch.Tensor, which: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
    """Do as `Sums.cut`, faster where there are few boxes in an image."""
    edges, inside = _edges(boxes, images.shape[1:3])
    boxes, which = boxes[inside], which[inside]
    cuts = [
        adaptive_avg_pool2d(images[number, top:bottom, left:right].permute(2, 0, 1).float(), size).permute(1, 2, 0)
        for number, (left, top, right, bottom) in zip(which.tolist(), edges.tolist(), strict=True)
    ]
    return boxes, which, torch.stack(cuts) if cuts else torch.empty((0, size, size, 3), device=boxes.device)


def _edges(boxes: torch.Tensor, size: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which pixels boxes (N, 4) cover, and which of the boxes cover any; boxes count pixels from 1."""
    whole = boxes.trunc().long()
    edges = torch.cat(
        [(whole[:, :2] - 1).clamp(min=0), torch.minimum(whole[:, 2:], whole.new_tensor(size[::-1]))], dim=1
    )
    inside = (edges[:, 2:] > edges[:, :2]).all(dim=1)
    return edges[inside], inside


def _bins(edges: torch.Tensor, axis: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Divide the sides of boxes (N, 4) as area interpolation does: where each of `count` bins begins and ends."""
    start, length = edges[:, axis, None], (edges[:, axis + 2] - edges[:, axis])[:, None]
    steps = torch.arange(count, device=edges.device)
    return start + steps * length // count, start + ((steps + 1) * length + count - 1) // count


def _single(boxes: torch.Tensor, sure: torch.Tensor, which: torch.Tensor) -> list[int]:
    """Choose the surest of boxes in an image of which one hides more than .7 of the other; image by image."""
    sides, numbers, order = boxes.cpu().numpy(), which.tolist(), sure.argsort(stable=True).flip(0).tolist()
    areas = (sides[:, 2:] - sides[:, :2] + 1).prod(axis=1)
    kept: dict[int, list[int]] = {}
    for one in order:
        others = kept.setdefault(numbers[one], [])
        common = np.minimum(sides[one, 2:], sides[others, 2:]) - np.maximum(sides[one, :2], sides[others, :2]) + 1
        hidden = common.clip(0).prod(axis=1) / np.minimum(areas[one], areas[others])
        if (hidden <= 0.7).all():
            others.append(one)
    return [one for number in sorted(kept) for one in kept[number]]


def _read(
    boxes: torch.Tensor, points: torch.Tensor, which: torch.Tensor, count: int, scale: float
) -> list[Detections | None]:
    """Sort faces into `count` images, the largest first."""
    sides, eyes = boxes.double().cpu().numpy() * scale, points[:, :2].double().cpu().numpy() * scale
    areas, numbers = (sides[:, 2:] - sides[:, :2]).prod(axis=1), which.cpu().numpy()
    found: list[Detections | None] = []
    for number in range(count):
        own = np.flatnonzero(numbers == number)
        own = own[np.argsort(-areas[own], kind="stable")]
        found.append(Detections(sides[own], eyes[own]) if len(own) else None)
    return found
