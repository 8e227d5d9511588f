"""From detections on some frames of a clip to one steady square per frame, cut out of it; no torch.

Here is the one place where the pixels of this encoder are resampled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FAR = 2.0
"""A face this many widths from where the clip's face usually is, difference in size included, is another's."""


@dataclass(frozen=True)
class Detections:
    """Faces found in one frame.

    Attributes:
        boxes: float64 (N, 4): left, top, right, bottom in pixels of the full frame.
        eyes: float64 (N, 2, 2): x, y of the eye on the left and on the right of the frame.
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

    The face is the one that stays: the detection that lies nearest to some face in all other frames, the largest of
    equals, says where it usually is, and in each frame the face nearest to that is taken. Between detections its square
    is interpolated, before the first and after the last one it stands still; a running median over three detections
    and a mean over `smooth` frames take the shaking out. A clip without any face gets the largest square in the middle
    of the frame.

    Args:
        frames: number of frames T.
        looked: ascending indices of the frames that the detector was run on.
        faces: what it found in each of these, None for nothing.
        size: width and height of a frame.
        smooth: length of the mean in frames, odd; 1 for none.
    """
    chosen = choose_faces(looked, faces)
    if not chosen:
        width, height = size
        middle = np.array([width / 2, height / 2, min(size), 0.0])
        return Track(np.tile(middle, (frames, 1)), len(looked), 0)
    steady = dict(zip(chosen, _running_median(np.array(list(chosen.values()))), strict=True))
    return Track(_running_mean(interpolate(range(frames), steady), smooth), len(looked), len(chosen))


def choose_faces(looked: Sequence[int], faces: Sequence[Detections | None]) -> dict[int, NDArray[np.float64]]:
    """Return the square (4,) of the face that stays, by the index of each frame that shows it; see `build_track`."""
    squares = [np.empty((0, 4)) if face is None else _squares(face) for face in faces]
    every = np.concatenate([np.empty((0, 4)), *squares])
    if not len(every):
        return {}
    seen = [rows for rows in squares if len(rows)]
    cost = sum(_distance(every, rows).min(axis=1) for rows in seen)
    steadiest = np.flatnonzero(cost == np.min(cost))
    usual = every[steadiest[every[steadiest, 2].argmax()]]
    chosen = {}
    for index, rows in zip(looked, squares, strict=True):
        distance = _distance(usual[None], rows)[0]
        if len(rows) and distance.min() < FAR:
            chosen[index] = rows[distance.argmin()]
    return chosen


def correct(
    followed: Mapping[int, Detections | None], searched: Mapping[int, NDArray[np.float64]]
) -> dict[int, Detections | None]:
    """Move faces that were followed by what following is off, in the median, where the face was also searched.

    How a detector comes to a face changes its box by some hundredths of it, in a clip nearly always to the same side.

    Args:
        followed: at most one face per frame, by index of the frame.
        searched: the square (4,) of the face in the frames that were searched.

    Returns:
        The faces of the frames that were not searched; their boxes are squares.
    """
    squares = {index: _squares(face)[0, :3] for index, face in followed.items() if face is not None}
    off = [
        [*(square[:2] - squares[index][:2]) / squares[index][2], math.log(square[2] / squares[index][2])]
        for index, square in searched.items()
        if index in squares
    ]
    x, y, size = np.median(off, axis=0) if off else np.zeros(3)
    faces: dict[int, Detections | None] = {}
    for index, face in followed.items():
        if index not in searched:
            faces[index] = face
            if face is not None:
                middle, side = squares[index][:2], squares[index][2]
                middle, half = middle + side * np.array([x, y]), side * math.exp(size) / 2
                faces[index] = Detections(np.concatenate([middle - half, middle + half])[None], face.eyes)
    return faces


def interpolate(frames: Sequence[int], squares: Mapping[int, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the squares (N, 4) of frames between those whose squares are known, which are in ascending order."""
    return np.stack(
        [np.interp(frames, list(squares), column) for column in zip(*squares.values(), strict=True)], axis=1
    )


def _distance(ones: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Report how far squares (N, 4) are from squares (M, 4) in place and size, (N, M): face widths, at most `FAR`."""
    apart = np.hypot(*(ones[:, None, :2] - others[None, :, :2]).transpose(2, 0, 1)) / ones[:, None, 2]
    return np.minimum(apart + np.abs(np.log(others[None, :, 2] / ones[:, None, 2])), FAR)


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


def crop_square(
    frame: NDArray[np.uint8], centre: tuple[float, float], side: float, size: int, angle: float = 0.0
) -> NDArray[np.uint8]:
    """Cut a square and resize it, bilinear with anti-aliasing.

    What lies outside the frame repeats the frame's edge.

    Args:
        frame: uint8 (height, width, 3).
        centre: x, y of the square's middle in pixels.
        side: length in pixels.
        size: height and width of the result.
        angle: degrees by which the square is tilted clockwise; the result shows it upright.

    Returns:
        uint8 (size, size, 3).
    """
    from PIL import Image

    # A tilted square needs the corners of a larger upright one.
    reach = side / 2 * (abs(math.cos(math.radians(angle))) + abs(math.sin(math.radians(angle)))) + 1
    left, top = math.floor(centre[0] - reach), math.floor(centre[1] - reach)
    right, bottom = math.ceil(centre[0] + reach), math.ceil(centre[1] + reach)
    piece = _cut(frame, left, top, right, bottom)
    x, y = centre[0] - left, centre[1] - top
    image = Image.fromarray(piece)
    if angle:
        image = image.rotate(angle, resample=Image.Resampling.BILINEAR, center=(x, y))
    half = side / 2
    box = (max(x - half, 0.0), max(y - half, 0.0), min(x + half, piece.shape[1]), min(y + half, piece.shape[0]))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def shrink(frame: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Make the longer side of a frame (height, width, 3) at most `longest` pixels, keeping proportions."""
    from PIL import Image

    height, width = frame.shape[:2]
    ratio = longest / max(height, width)
    if ratio >= 1:
        return frame
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))


def _cut(frame: NDArray[np.uint8], left: int, top: int, right: int, bottom: int) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return np.ascontiguousarray(frame[top:bottom, left:right])
    rows = np.clip(np.arange(top, bottom), 0, height - 1)
    columns = np.clip(np.arange(left, right), 0, width - 1)
    return frame[rows[:, None], columns]
