"""Frames as they are encoded again: upright, of even sides, in limited range, with the colours of the original."""

from __future__ import annotations

from typing import Any

import numpy as np

FULL_RANGE = 2
"""FFmpeg's number of JPEG's levels, 0 to 255: of phones, and of RGB."""

PLAIN_COLOURS = (0, 2, 5, 6)
"""FFmpeg's numbers of RGB, of no word, and of ITU-R BT.601 (twice), which decoders take for granted without a word."""


def upright(frame: Any) -> Any:
    """Turn a frame as its display matrix says, with even sides as H.264 wants them."""
    import av

    width, height = frame.width - frame.width % 2, frame.height - frame.height % 2
    if not through_rgb(frame):
        # Of limited range already, or of none that is known: its levels stay.
        ranges = {"src_color_range": "JPEG", "dst_color_range": "MPEG"} if full_range(frame) else {}
        return frame.reformat(format="yuv420p", **ranges)
    pixels = np.rot90(frame.to_ndarray(format="rgb24")[:height, :width], round(frame.rotation / 90))
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format="yuv420p")


def through_rgb(frame: Any) -> bool:
    """Whether a frame has to be turned, or has an odd side."""
    return bool(frame.rotation or frame.width % 2 or frame.height % 2)


def full_range(frame: Any) -> bool:
    """Whether a frame has JPEG's levels, 0 to 255."""
    return bool(frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj"))
