"""Cutting a square around a face out of a frame: the one place where the pixels of this encoder are resampled."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


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
