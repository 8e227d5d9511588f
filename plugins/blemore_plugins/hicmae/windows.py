"""Which frames and which audio make one row of a clip's features; numbers only.

Frames are counted in the video, all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from blemore_plugins.hicmae.shape import CHUNK

TAIL = 4
"""Video frames by which the audio of a chunk goes on after its last picture."""


@dataclass(frozen=True)
class Window:
    """A chunk of a clip.

    Attributes:
        frames: indices of its pictures; fewer than `CHUNK` only in a last chunk that is filled up.
        start, stop: where its audio begins and ends, as shares of the clip, from 0 to 1.
    """

    frames: tuple[int, ...]
    start: float
    stop: float

    def samples(self, count: int) -> slice:
        """Report which of the `count` samples of the clip's audio belong to it."""
        return slice(int(self.start * count), int(self.stop * count))


def cut_windows(count: int, stride: int, compat: bool) -> list[Window]:
    """Cut a clip into chunks that follow each other, as the organisers' extraction does.

    Every `stride`-th frame is taken and the last of them repeated up to `CHUNK`. A chunk's audio lasts from its first
    picture to `TAIL` frames after its last one, or to the clip's last frame.

    Args:
        count: frames of the video, at least 1.
        stride: distance of the frames that are taken.
        compat: let the last chunk hold what is left over; else it begins earlier and is full.

    >>> [(window.frames[0], len(window.frames)) for window in cut_windows(72, 4, compat=True)]
    [(0, 16), (64, 2)]
    >>> [(window.frames[0], len(window.frames)) for window in cut_windows(72, 4, compat=False)]
    [(0, 16), (8, 16)]
    """
    taken = list(range(0, count, stride))
    taken += [taken[-1]] * (CHUNK - len(taken))
    starts = [start if compat else min(start, len(taken) - CHUNK) for start in range(0, len(taken), CHUNK)]
    chunks = [tuple(taken[start : start + CHUNK]) for start in starts]
    # A clip of one frame has no length: all its shares are 0.
    last = max(count - 1, 1)
    return [Window(chunk, chunk[0] / last, min(chunk[-1] + TAIL, count - 1) / last) for chunk in chunks]
