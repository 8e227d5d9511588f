"""MTCNN face detection in batches of equal frames; imported only where faces are looked for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from facenet_pytorch import MTCNN
from numpy.typing import NDArray

from blemore_harness.networks import seeded
from blemore_plugins.s4d.tracking import Detections

BATCH = 64
"""Frames per detector call; more bring nothing on a GPU at usual sizes and cost memory on a CPU."""

SMALLEST = 12
"""Pixels of the smallest face that the first network sees: its input is as large."""


class FaceDetector:
    """Finds faces with the networks that ship inside facenet-pytorch.

    Args:
        device: name of a torch device.
        smallest: height of the smallest face to look for as a share of the frame's shorter side.
    """

    def __init__(self, device: str, smallest: float) -> None:
        self._device = torch.device(device)
        self._smallest = smallest
        self._nets: dict[int, MTCNN] = {}

    def detect(self, frames: Sequence[NDArray[np.uint8]], scale: float = 1.0) -> list[Detections | None]:
        """Find faces in frames of one size.

        Args:
            frames: uint8 RGB (height, width, 3) each.
            scale: coordinates of the answer are multiplied by this, to undo shrinking.

        Returns:
            Per frame all faces, or None where there is none.
        """
        found: list[Detections | None] = []
        if frames and min(frames[0].shape[:2]) < SMALLEST:
            return [None] * len(frames)  # facenet-pytorch fails on frames in which no face has room
        for start in range(0, len(frames), BATCH):
            batch = np.stack(frames[start : start + BATCH])
            net = self._net(min(batch.shape[1:3]))
            with torch.inference_mode(), warnings.catch_warnings():
                # Older code under newer numpy: the library's warnings tell a user nothing.
                warnings.simplefilter("ignore")
                boxes, _, points = net.detect(batch, landmarks=True)
            found += [_read(*pair, scale) for pair in zip(boxes, points, strict=True)]
        return found

    def _net(self, side: int) -> MTCNN:
        pixels = max(int(side * self._smallest), SMALLEST)
        if pixels not in self._nets:
            # `forward` of this class crashes on a batch in which one frame has no face; only `detect` is used.
            # It draws random weights before it loads its own.
            with seeded(0):
                self._nets[pixels] = MTCNN(min_face_size=pixels, device=self._device).eval()
        return self._nets[pixels]


def _read(boxes: object, points: object, scale: float) -> Detections | None:
    if boxes is None or points is None:
        return None
    return Detections(np.asarray(boxes, dtype=np.float64) * scale, np.asarray(points, dtype=np.float64)[:, :2] * scale)
