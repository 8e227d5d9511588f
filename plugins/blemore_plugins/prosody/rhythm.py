"""Rhythm features: bursts and pauses, peaks of loudness, regularity, tremor, and modulation of loudness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_plugins.prosody.pitch import HOP, RATE, Array
from blemore_plugins.prosody.spectrum import QUIETEST, SoundFrames
from blemore_plugins.prosody.vocabulary import MODULATIONS

Mask: TypeAlias = NDArray[np.bool_]
Run: TypeAlias = tuple[int, int]
"""A range of frames: the first, and the one after the last."""

FRAME = HOP / RATE
"""Step between frames in seconds."""
DEPTH, ABOVE, RESERVE = 30.0, 6.0, 10.0
"""A frame belongs to a burst if it is within 30 dB of the loudest and 6 dB above the background, or within 10 dB of
the loudest."""
GAP, BRIEF = 5, 3
"""Pauses with fewer frames are part of the burst; bursts with fewer frames are ignored as clicks."""
SMOOTH = 2.0
"""Standard deviation in frames of the window that smooths loudness before its peaks are counted."""
PROMINENCE, ONSET = 2.0, 3.0
"""Minimum prominence of a peak of loudness, and minimum growth of the spectrum at an onset, in dB."""
BEATS = (2.0, 12.0)
"""Range of rates of regular rhythms in Hz: slow sobs to fast laughs."""
COURSE = 10.0
"""Standard deviation in frames of the window that smooths the pitch contour: about 200 ms wide."""
ENVELOPE = 250
"""Sampling rate of loudness in Hz for its modulation spectrum."""


def find_sounding(frames: SoundFrames) -> Mask:
    """Return a mask of the frames in bursts of sound; empty for a silent clip."""
    level = frames.columns["level"]
    if frames.silent:
        return np.zeros(len(level), dtype=bool)
    top, background = level.max(), np.percentile(level, 5)
    mask = level > max(top - DEPTH, min(background + ABOVE, top - RESERVE))
    for start, end in list_runs(~mask):
        if end - start < GAP and start > 0 and end < len(mask):
            mask[start:end] = True
    for start, end in list_runs(mask):
        if end - start < BRIEF and mask.sum() > end - start:
            mask[start:end] = False
    return mask


def list_runs(mask: Mask) -> list[Run]:
    """Return the ranges where a mask is true.

    >>> list_runs(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def describe_rhythm(wave: Array, frames: SoundFrames, sounding: Mask) -> dict[str, float]:
    """Return the features of `vocabulary.RHYTHM` by name.

    Args:
        wave: (N,), the audio.
        frames: the frame-level descriptors.
        sounding: mask of the frames in bursts.
    """
    level = frames.columns["level"]
    peak, mean = np.abs(wave).max(), np.sqrt((wave**2).mean())
    told = {
        "loudest": frames.loudest,
        "crest": 0.0 if frames.silent else float(20 * np.log10(peak / mean)),
        "range": float(level.max() - np.percentile(level, 5)),
    }
    told |= dict(_describe_runs(frames, sounding))
    told |= dict(_describe_bursts(level, list_runs(sounding)))
    told |= dict(_describe_peaks(frames, sounding))
    told |= dict(_describe_pitch_course(frames))
    told |= dict(_describe_modulation(wave, frames.silent))
    return told


def _describe_runs(frames: SoundFrames, sounding: Mask) -> Iterator[tuple[str, float]]:
    """Yield shares, rates and lengths of bursts, pauses and voiced segments."""
    voiced, seconds = frames.pitch.voiced, len(sounding) * FRAME
    yield "sounding", float(sounding.mean())
    yield "voiced", float(voiced.mean())
    yield "voiced_sounding", float(voiced[sounding].mean()) if sounding.any() else 0.0
    bursts = list_runs(sounding)
    pauses = [(end, start) for (_, end), (start, _) in pairwise(bursts)]
    for name, runs in (("voiced", list_runs(voiced)), ("burst", bursts), ("pause", pauses)):
        lengths = np.array([end - start for start, end in runs] or [0]) * FRAME
        yield f"{name}_rate", len(runs) / seconds
        yield f"{name}_mean", float(lengths.mean())
        yield f"{name}_longest", float(lengths.max())
        if name != "voiced":
            yield f"{name}_std", float(lengths.std())


def _describe_bursts(level: Array, bursts: Sequence[Run]) -> Iterator[tuple[str, float]]:
    """Yield growth and decay of bursts."""
    attacks, growths, decays = [0.5] * (not bursts), [0.0] * (not bursts), [0.0] * (not bursts)
    for start, end in bursts:
        inside = level[start:end]
        top = int(inside.argmax())
        attacks.append((top + 0.5) / len(inside))
        growths.append(float(inside[top] - inside[0]) / (top + 1))
        decays.append(float(inside[top] - inside[-1]) / (len(inside) - top))
    yield "burst_attack", float(np.mean(attacks))
    yield "burst_growth", float(np.mean(growths)) * 0.1 / FRAME
    yield "burst_decay", float(np.mean(decays)) * 0.1 / FRAME


def _describe_peaks(frames: SoundFrames, sounding: Mask) -> Iterator[tuple[str, float]]:
    """Yield number and regularity of the peaks of loudness, and the number of sudden onsets."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    level, seconds = frames.columns["level"], len(sounding) * FRAME
    smooth = gaussian_filter1d(np.maximum(level, -DEPTH), SMOOTH, mode="nearest")
    # Padding with quiet frames turns loud ends of a clip into peaks.
    padded = np.concatenate([[-DEPTH], smooth, [-DEPTH]])
    places, found = find_peaks(padded, prominence=PROMINENCE, distance=5)
    inside = sounding[places - 1] if sounding.any() else np.zeros(len(places), dtype=bool)
    places, heights = places[inside], found["prominences"][inside]
    times = np.diff(places) * FRAME
    yield "syllable_rate", len(places) / seconds
    yield "syllable_tempo", float(1 / times.mean()) if len(times) else 0.0
    yield "syllable_irregular", float(times.std() / times.mean()) if len(times) > 1 else 0.0
    yield "syllable_prominence", float(heights.mean()) if len(heights) else 0.0
    onsets, _ = find_peaks(np.where(sounding, frames.columns["onset"], 0), height=ONSET, distance=5)
    yield "onset_rate", len(onsets) / seconds
    centred = smooth - smooth.mean()
    first, last = round(1 / BEATS[1] / FRAME), min(round(1 / BEATS[0] / FRAME), len(centred) // 2)
    power = (centred**2).sum()
    # A level that varies by less than half a dB has no rhythm.
    if last <= first or power < 0.25 * len(centred):
        curve = np.zeros(3)
    else:
        curve = np.array([(centred[lag:] * centred[:-lag]).sum() for lag in range(first - 1, last + 2)]) / power
    beats, _ = find_peaks(curve, height=1e-6)
    best = max(beats, key=lambda place: curve[place], default=None)
    yield "beat", 0.0 if best is None else float(curve[best])
    yield "beat_rate", 0.0 if best is None else 1 / ((first - 1 + int(best)) * FRAME)


def _describe_pitch_course(frames: SoundFrames) -> Iterator[tuple[str, float]]:
    """Yield tremor, glides and leaps of the pitch."""
    from scipy.ndimage import gaussian_filter1d

    semitones = frames.columns["pitch"]
    runs = [run for run in list_runs(frames.pitch.voiced) if run[1] - run[0] >= 10]
    around = [semitones[a:b] - gaussian_filter1d(semitones[a:b], COURSE, mode="nearest") for a, b in runs]
    whole = np.concatenate([*around, np.zeros(0)])
    turns = sum(int((np.diff(part > 0)).sum()) for part in around)
    yield "tremor_depth", float(whole.std()) if len(whole) else 0.0
    yield "tremor_rate", turns / 2 / (len(whole) * FRAME) if len(whole) else 0.0
    glides = [float(semitones[b - 1] - semitones[a]) / ((b - a) * FRAME) for a, b in runs]
    yield "glide", float(np.mean(glides)) if glides else 0.0
    leaps = [float(semitones[b[0]] - semitones[a[1] - 1]) for a, b in pairwise(runs)]
    yield "leaps", float(np.mean(np.abs(leaps))) if leaps else 0.0


def _describe_modulation(wave: Array, silent: bool) -> Iterator[tuple[str, float]]:
    """Yield the power of loudness modulation by octave, in dB relative to the total, at least `QUIETEST`."""
    block = RATE // ENVELOPE
    whole = np.abs(wave[: len(wave) // block * block]).reshape(-1, block).mean(axis=1)
    centred = whole - whole.mean()
    # Padded to at least 8 s for sufficient resolution in the lowest octave.
    length = max(8 * ENVELOPE, len(centred))
    power = np.abs(np.fft.rfft(centred * np.hanning(len(centred)), length)) ** 2
    rates = np.fft.rfftfreq(length, 1 / ENVELOPE)
    share = power / power.sum() if not silent and power.sum() > 0 else np.zeros(len(power))
    least = 10 ** (QUIETEST / 10)
    for low, high in MODULATIONS:
        band = share[(rates >= low) & (rates < high)].sum()
        yield f"modulation_{low:g}", float(10 * np.log10(max(band, least)))
    slow = (rates >= MODULATIONS[1][0]) & (rates < MODULATIONS[3][1])
    total = share[slow].sum()
    yield "modulation_centre", float((share[slow] * np.log2(rates[slow] / 2)).sum() / total) if total > least else 0.0
