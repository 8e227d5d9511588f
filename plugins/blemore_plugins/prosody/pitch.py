"""Pitch and periodicity of a voice over time: autocorrelation, and an optimal path through its peaks.

The method and its constants are those of Boersma, "Accurate short-term analysis of the fundamental frequency and the
harmonics-to-noise ratio of a sampled sound" (1993): the autocorrelation of a windowed frame, divided by that of the
window, has peaks at the periods, whose height is the periodicity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

RATE = 16_000
"""Sampling rate in Hz."""
HOP = 160
"""Samples from frame to frame: 10 ms."""
FLOOR, CEILING = 60.0, 1200.0
"""Lowest and highest pitch in Hz: from a low male voice to a scream."""
WINDOW = 1024
"""Window length in samples, 64 ms: nearly four periods of the lowest pitch."""
RUMBLE = 40.0
"""Lower frequencies, in Hz, are removed as noise of the camera and the room."""
CANDIDATES = 7
"""Number of candidate periods per frame."""
BLOCK = 400
"""Frames at a time: 4 s, so that a long clip needs no more memory than a short one."""

VOICING = 0.45
"""Frames with a lower periodicity are unvoiced."""
SILENCE = 0.03
"""Frames whose peak amplitude is lower than this share of the clip's tend to be unvoiced."""
OCTAVE_COST, JUMP_COST, VOICING_COST = 0.01, 0.35, 0.14
"""Costs of a period twice as long, of a jump by an octave between frames, and of a change of voicing."""


@dataclass(frozen=True)
class PitchTrack:
    """The pitch of a clip, one entry per frame of 10 ms, starting at the beginning.

    Attributes:
        hertz: the pitch, 0 for unvoiced frames.
        periodicity: from 0 (noise) to 1 (exactly periodic): height of the chosen peak of the autocorrelation, or of
            the highest peak for unvoiced frames.
    """

    hertz: Array
    periodicity: Array

    @property
    def voiced(self) -> NDArray[np.bool_]:
        """Where there is a pitch."""
        return self.hertz > 0


def track_pitch(wave: Array) -> PitchTrack:
    """Return the pitch track of an audio signal.

    Args:
        wave: (N,) at `RATE`, N at least 1, with any loudness.

    Returns:
        1 + N // `HOP` frames.
    """
    padded = np.pad(wave, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    parts = [_find_periods(frames[start : start + BLOCK]) for start in range(0, len(frames), BLOCK)]
    hertz, heights = (np.concatenate(part) for part in zip(*parts, strict=True))
    loudest = np.abs(wave).max()
    share = np.abs(frames).max(axis=1) / loudest if loudest else np.zeros(len(frames))
    path = _choose_path(hertz, heights, share)
    rows, chosen = np.arange(len(path)), np.maximum(path - 1, 0)
    pitched = path > 0
    highest = np.maximum(heights.max(axis=1), 0)
    return PitchTrack(
        np.where(pitched, hertz[rows, chosen], 0.0), np.where(pitched, heights[rows, chosen], highest).clip(0, 1)
    )


def _find_periods(frames: Array) -> tuple[Array, Array]:
    """Return the best candidates of each frame: pitches in Hz and heights, each (T, CANDIDATES).

    Missing candidates have the height minus infinity and the pitch `FLOOR`.
    """
    from scipy.fft import irfft, rfft

    # Zero-padded to twice the frame, so that its end is not correlated with its beginning; upsampled by two for the
    # resolution of high pitches.
    window = np.hanning(WINDOW + 1)[:-1]
    centred = frames - frames.mean(axis=1, keepdims=True)
    power = np.abs(rfft(centred * window, 2 * WINDOW, axis=1)) ** 2
    power[:, : int(RUMBLE * 2 * WINDOW / RATE) + 1] = 0
    shape = irfft(np.abs(rfft(window, 2 * WINDOW)) ** 2, 4 * WINDOW)
    first, last = int(2 * RATE / CEILING), int(2 * RATE / FLOOR) + 1
    whole = irfft(power, 4 * WINDOW, axis=1)[:, : last + 2]
    energy = np.where(whole[:, :1] > 0, whole[:, :1], 1)
    curve = whole / energy * (shape[0] / shape[: last + 2])
    inner = slice(first, last + 1)
    here, before, after = curve[:, inner], curve[:, first - 1 : last], curve[:, first + 1 : last + 2]
    peaks = (here > before) & (here >= after) & (here > 0)
    bend = before - 2 * here + after
    shift = np.where(peaks, 0.5 * (before - after) / np.where(bend < 0, bend, -1), 0).clip(-0.5, 0.5)
    height = here - 0.25 * (before - after) * shift
    height = np.where(height > 1, 1 / np.maximum(height, 1), height)
    hertz = 2 * RATE / (np.arange(first, last + 1) + shift)
    peaks &= (hertz >= FLOOR) & (hertz <= CEILING)
    ranked = np.where(peaks, height - OCTAVE_COST * np.log2(FLOOR / hertz), -np.inf)
    best = np.argsort(-ranked, axis=1, kind="stable")[:, :CANDIDATES]
    filled = np.take_along_axis(peaks, best, axis=1)
    return (
        np.where(filled, np.take_along_axis(hertz, best, axis=1), FLOOR),
        np.where(filled, np.take_along_axis(height, best, axis=1), -np.inf),
    )


def _choose_path(hertz: Array, heights: Array, share: Array) -> NDArray[np.int64]:
    """Choose a candidate per frame, counted from 1, or 0 for no pitch: the path of the highest sum (Viterbi)."""
    quiet = np.maximum(0, 2 - share * (1 + VOICING) / SILENCE)
    gains = np.column_stack([VOICING + quiet, heights - OCTAVE_COST * np.log2(FLOOR / hertz)])
    octaves = np.log2(hertz)
    costs = np.full((len(gains) - 1, gains.shape[1], gains.shape[1]), VOICING_COST)
    costs[:, 0, 0] = 0
    costs[:, 1:, 1:] = JUMP_COST * np.abs(octaves[:-1, :, None] - octaves[1:, None, :])
    came = np.zeros(gains.shape, dtype=np.int64)
    total = gains[0]
    states = np.arange(gains.shape[1])
    for time in range(1, len(gains)):
        sums = total[:, None] - costs[time - 1]
        came[time] = sums.argmax(axis=0)
        total = sums[came[time], states] + gains[time]
    path = np.zeros(len(gains), dtype=np.int64)
    path[-1] = total.argmax()
    for time in range(len(gains) - 1, 0, -1):
        path[time - 1] = came[time, path[time]]
    return path
