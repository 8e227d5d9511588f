"""Names and descriptions of all features in a clip's vector, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Where = Literal["all", "sounding", "voiced"]
"""The frames over which a descriptor is summarised: all, those in bursts of sound, or voiced ones."""

MFCCS = range(1, 13)
"""Indices of the cepstral coefficients, without the zeroth, which is loudness."""
BANDS = ((50, 500), (500, 1000), (1000, 2000), (2000, 4000), (4000, 8000))
"""Frequency bands in Hz, approximately octaves."""
MODULATIONS = ((0.5, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, 125))
"""Modulation frequencies of loudness in Hz: phrases, syllables and laughs (2 to 8), tremor, roughness (above 30)."""

SUMMARIES: Mapping[str, str] = {
    "mean": "mean",
    "std": "standard deviation",
    "p10": "10th percentile",
    "p25": "25th percentile",
    "p50": "median",
    "p75": "75th percentile",
    "p90": "90th percentile",
}
"""The seven statistics, in the order of `frame_features.pool_statistics`."""

MOVEMENTS: Mapping[str, str] = {
    "trend": "slope of the straight line through the clip, per second",
    "rise": "mean upward change per second, over steps of 50 ms",
    "fall": "mean downward change per second, over steps of 50 ms",
    "rising": "share of the steps of 50 ms that go up",
    "first": "mean over the first third of the clip, less that over the whole",
    "middle": "mean over the second third, less that over the whole",
    "last": "mean over the last third, less that over the whole",
}
"""Measures of the change of a descriptor over a clip; all are 0 for a constant."""


@dataclass(frozen=True)
class Description:
    """A frame-level descriptor.

    Attributes:
        where: frames over which it is summarised.
        meaning: description with unit.
        rest: value for a clip without such frames.
        moves: whether its change over the clip is included.
    """

    where: Where
    meaning: str
    rest: float = 0.0
    moves: bool = False


DESCRIPTIONS: Mapping[str, Description] = {
    "pitch": Description("voiced", "pitch, semitones above 100 Hz", rest=12.0, moves=True),
    "pitch_own": Description("voiced", "pitch, semitones above the clip's own median"),
    "jitter": Description("voiced", "distance of the pitch from that of its neighbours, semitones"),
    "shimmer": Description("voiced", "distance of the loudness from that of its neighbours, dB"),
    "harmonics": Description("voiced", "first harmonic over the second, dB: high in breathy, low in pressed voices"),
    "harmonicity": Description("sounding", "periodic over aperiodic energy, dB from -20 to 40", rest=-20.0, moves=True),
    "level": Description("all", "loudness, dB below the clip's loudest frame, at least -60", rest=-60.0, moves=True),
    "tilt": Description("sounding", "slope of the spectrum, 100 to 7000 Hz, dB per octave", moves=True),
    "alpha": Description("sounding", "energy of 50-1000 Hz over 1000-5000 Hz, dB"),
    "hammarberg": Description("sounding", "highest band of 50-2000 Hz over that of 2000-5000 Hz, dB"),
    "centroid": Description("sounding", "centre of the spectrum, octaves above 1000 Hz", moves=True),
    "bandwidth": Description("sounding", "spread of the spectrum, kHz"),
    "rolloff": Description("sounding", "frequency below which 85 % of the spectrum lies, octaves above 1000 Hz"),
    "flatness": Description("sounding", "spectral flatness, dB: 0 is white noise"),
    "crossings": Description("sounding", "sign changes of the wave, thousands per second"),
    "flux": Description("sounding", "change of the spectrum's shape from the frame before, 0 to 1.5"),
    "onset": Description("sounding", "growth of the spectrum from the frame before, mean dB over bands"),
    **{f"band_{low}": Description("sounding", f"share of {low}-{high} Hz in the audio, dB") for low, high in BANDS},
    **{f"mfcc_{k}": Description("sounding", f"cepstral coefficient {k}: shape of the spectrum") for k in MFCCS},
    **{f"delta_{k}": Description("sounding", f"change of cepstral coefficient {k} per frame") for k in MFCCS},
}
"""The frame-level descriptors (step 10 ms)."""

RHYTHM: Mapping[str, str] = {
    "loudest": "level of the loudest frame, dB below full scale, at least -80",
    "crest": "peak of the wave over its root mean square, dB",
    "range": "loudest frame over the 5th percentile of all, dB, at most 60",
    "sounding": "share of the clip in bursts of sound",
    "voiced": "share of the clip that is voiced",
    "voiced_sounding": "share of the frames in bursts that are voiced",
    "voiced_rate": "voiced segments per second",
    "voiced_mean": "mean length of voiced segments, seconds",
    "voiced_longest": "longest voiced segment, seconds",
    "burst_rate": "bursts of sound per second",
    "burst_mean": "mean length of bursts, seconds",
    "burst_std": "standard deviation of the length of bursts, seconds",
    "burst_longest": "longest burst, seconds",
    "burst_attack": "mean share of a burst that lies before its loudest moment",
    "burst_growth": "mean growth of loudness to the loudest moment of a burst, dB per 100 ms",
    "burst_decay": "mean loss of loudness from there to its end, dB per 100 ms",
    "pause_rate": "pauses between bursts per second",
    "pause_mean": "mean length of pauses between bursts, seconds",
    "pause_std": "standard deviation of the length of pauses, seconds",
    "pause_longest": "longest pause between bursts, seconds",
    "syllable_rate": "peaks of loudness in the bursts per second of clip",
    "syllable_tempo": "peaks of loudness per second from the first to the last, 0 for fewer than two",
    "syllable_irregular": "standard deviation over mean of the times between them, 0 for fewer than three",
    "syllable_prominence": "mean height of those peaks over the valleys beside them, dB",
    "beat": "highest autocorrelation of loudness at 2 to 12 Hz, 0 to 1: how regular the rhythm is",
    "beat_rate": "rate of that, Hz, 0 where there is none",
    "onset_rate": "sudden growths of the spectrum per second",
    "tremor_depth": "standard deviation of the pitch around its smooth course (200 ms), semitones",
    "tremor_rate": "waves of the pitch around its smooth course per second with a pitch",
    "glide": "mean change of the pitch over a stretch of at least 100 ms, semitones per second",
    "leaps": "mean distance of the pitch from the end of a stretch to the beginning of the next, semitones",
    **{
        f"modulation_{low:g}": f"changes of loudness at {low:g}-{high:g} Hz, dB below all its power"
        for low, high in MODULATIONS
    },
    "modulation_centre": "middle of the changes of loudness at 2-16 Hz, octaves above 2 Hz",
}
"""The features of the whole clip."""


def describe_features() -> dict[str, str]:
    """Return the description of each feature by name, in the order of the vector."""
    return dict(_list_features())


def feature_names() -> tuple[str, ...]:
    """Return the names of the features in the order of the vector."""
    return tuple(name for name, _ in _list_features())


def _list_features() -> Iterator[tuple[str, str]]:
    for name, told in DESCRIPTIONS.items():
        for key, what in SUMMARIES.items():
            yield f"{name}_{key}", f"{what} of the {told.meaning} ({told.where} frames)"
        if told.moves:
            for key, what in MOVEMENTS.items():
                yield f"{name}_{key}", f"{what}, of the {told.meaning} ({told.where} frames)"
    yield from RHYTHM.items()


def contour_names() -> tuple[str, ...]:
    """Return the names of a clip's contours: whether a frame is sounding and voiced, then the descriptors."""
    return ("sounding", "voiced", *DESCRIPTIONS)
