"""One feature vector per clip: statistics of the frame-level descriptors, and rhythm features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from blemore_harness.pooling import pool_statistics
from blemore_plugins.prosody.pitch import Array
from blemore_plugins.prosody.rhythm import FRAME, Mask, describe_rhythm, find_sounding
from blemore_plugins.prosody.spectrum import TRANSFORM, describe_frames
from blemore_plugins.prosody.vocabulary import DESCRIPTIONS, MOVEMENTS, SUMMARIES, Where, feature_names

DIGITS = 4
"""Number of decimals: smaller variation is rounding error, which standardisation would amplify."""
STEP = 5
"""Step in frames for rises and falls: 50 ms."""


def describe_sound(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features of a clip's audio, as `describe_clip`."""
    return describe_clip(wave)[0]


def describe_clip(wave: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the features of a clip's audio, and its contours.

    Args:
        wave: (N,) at 16 kHz, N at least 1; finite, with any loudness.

    Returns:
        float32 (D,), finite, rounded to `DIGITS` decimals, in the order of `vocabulary.feature_names`; and float32
        (T, C), likewise, a frame every 10 ms, in the order of `vocabulary.contour_names`. Where a descriptor has no
        meaning, its contour has its mean over the frames where it has one, so that it says nothing there.
    """
    heard = wave.astype(np.float64)
    heard -= heard.mean()
    short = TRANSFORM - len(heard)
    if short > 0:
        heard = np.pad(heard, (short // 2, short - short // 2))
    frames = describe_frames(heard)
    sounding = find_sounding(frames)
    masks: dict[Where, Mask] = {
        "all": np.full(len(sounding), not frames.silent),
        "sounding": sounding,
        "voiced": frames.pitch.voiced & (not frames.silent),
    }
    told = describe_rhythm(heard, frames, sounding)
    contours = [masks["sounding"].astype(np.float64), masks["voiced"].astype(np.float64)]
    for name, description in DESCRIPTIONS.items():
        values, mask = frames.columns[name], masks[description.where]
        valid = values[mask] if mask.any() else np.array([description.rest])
        told |= dict(_summarise(name, valid))
        contours.append(np.where(mask, values, valid.mean()))
        if description.moves:
            told |= {f"{name}_{key}": value for key, value in _describe_movement(values, mask).items()}
    vector = np.array([told[name] for name in feature_names()])
    return vector.round(DIGITS).astype(np.float32), np.stack(contours, axis=1).round(DIGITS).astype(np.float32)


def _summarise(name: str, values: Array) -> Iterator[tuple[str, float]]:
    """Yield the seven statistics."""
    found = pool_statistics(values[:, None].astype(np.float32))
    for key, value in zip(SUMMARIES, found, strict=True):
        yield f"{name}_{key}", float(value)


def _describe_movement(values: Array, mask: Mask) -> dict[str, float]:
    """Yield the change of a descriptor over a clip, from the frames selected by a mask."""
    told = dict.fromkeys(MOVEMENTS, 0.0)
    places = np.flatnonzero(mask)
    if len(places) < 2:
        return told
    times = (places - places.mean()) * FRAME
    level = values[places].mean()
    told["trend"] = float((times * (values[places] - level)).sum() / (times**2).sum())
    both = mask[STEP:] & mask[:-STEP]
    if both.any():
        steps = (values[STEP:] - values[:-STEP])[both] / (STEP * FRAME)
        told["rise"] = float(np.maximum(steps, 0).mean())
        told["fall"] = float(np.maximum(-steps, 0).mean())
        told["rising"] = float((steps > 0).mean())
    for key, part in zip(("first", "middle", "last"), np.array_split(np.arange(len(mask)), 3), strict=True):
        inside = part[mask[part]]
        told[key] = float(values[inside].mean() - level) if len(inside) else 0.0
    return told
