"""From detections on some frames of a clip to one steady square per frame; numbers only, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FAR = 2.0
"""A detection this many face widths from where the clip's face usually is belongs to something else."""


@dataclass(frozen=True)
class Detections:
    """Faces found in one frame.

    Attributes:
        boxes: float64 (N, 4): left, top, right, bottom in pixels of the full frame.
        eyes: float64 (N, 2, 2): x, y of the eye on the left and on the right of the picture.
    """

    boxes: NDArray[np.float64]
    eyes: NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """A square around the face in every frame.

    Attributes:
        squares: float64 (T, 4): centre x, centre y, side in pixels, angle of the line through the eyes in degrees
            (positive where the eye on the right is lower).
        looked: frames that the detector was run on.
        found: those of them with the face.
    """

    squares: NDArray[np.float64]
    looked: int
    found: int


def build_track(
    frames: int, looked: Sequence[int], faces: Sequence[Detections | None], size: tuple[int, int], smooth: int
) -> Track:
    """Follow the face through a clip.

    The face is the one that stays: of several in a frame, the one nearest to the median of the largest ones in
    position and size. Between detections its square is interpolated, before the first and after the last one it stands
    still; a running median over three detections and a mean over `smooth` frames take the shaking out. A clip without
    any face gets the largest square in the middle of the picture.

    Args:
        frames: number of frames T.
        looked: ascending indices of the frames that the detector was run on.
        faces: what it found in each of these, None for nothing.
        size: width and height of a frame.
        smooth: length of the mean in frames, odd; 1 for none.
    """
    chosen = _choose(faces)
    found = [index for index, face in zip(looked, chosen, strict=True) if face is not None]
    known = np.array([face for face in chosen if face is not None], dtype=np.float64).reshape(-1, 4)
    if not len(known):
        width, height = size
        middle = np.array([width / 2, height / 2, min(size), 0.0])
        return Track(np.tile(middle, (frames, 1)), len(looked), 0)
    known = _running_median(known)
    squares = np.stack([np.interp(np.arange(frames), found, column) for column in known.T], axis=1)
    return Track(_running_mean(squares, smooth), len(looked), len(found))


def _choose(faces: Sequence[Detections | None]) -> list[NDArray[np.float64] | None]:
    """Pick one square (4,) per frame, or None."""
    squares = [None if face is None or not len(face.boxes) else _squares(face) for face in faces]
    largest = [rows[rows[:, 2].argmax()] for rows in squares if rows is not None]
    if not largest:
        return [None] * len(squares)
    usual = np.median(largest, axis=0)
    chosen: list[NDArray[np.float64] | None] = []
    for rows in squares:
        if rows is None:
            chosen.append(None)
            continue
        distance = np.hypot(rows[:, 0] - usual[0], rows[:, 1] - usual[1]) / usual[2]
        best = (distance + np.abs(np.log(rows[:, 2] / usual[2]))).argmin()
        chosen.append(rows[best] if distance[best] < FAR else None)
    return chosen


def _squares(face: Detections) -> NDArray[np.float64]:
    """Turn boxes (N, 4) and eyes into rows of centre x, centre y, longer side, angle."""
    boxes = face.boxes
    between = face.eyes[:, 1] - face.eyes[:, 0]
    angle = np.degrees(np.arctan2(between[:, 1], between[:, 0]))
    side = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 1.0)
    return np.column_stack([(boxes[:, :2] + boxes[:, 2:]) / 2, side, angle])


def _running_median(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the median of every row and its two neighbours; the ends stay, which lets a real movement arrive."""
    if len(rows) < 3:
        return rows
    inner = np.median(np.stack([rows[:-2], rows[1:-1], rows[2:]]), axis=0)
    return np.concatenate([rows[:1], inner, rows[-1:]])


def _running_mean(rows: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Take the mean of every row and its neighbours, `length` rows in all; the ends are repeated outwards."""
    half = length // 2
    padded = np.pad(rows, ((half, half), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
    return np.asarray(windows.mean(axis=-1))
