"""Frame-level descriptors of audio: loudness, pitch, voice quality, and the shape of the spectrum.

All of them except the level itself are relative to the clip's loudest frame and do not depend on the recording level.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_plugins.prosody.pitch import HOP, RATE, Array, PitchTrack, track_pitch
from blemore_plugins.prosody.vocabulary import BANDS, MFCCS

Columns: TypeAlias = dict[str, Array]

SAMPLES = 512
"""Samples per frame, 32 ms: short enough for the attack of a laugh."""
TRANSFORM = 1024
"""Length of the Fourier transform: a resolution of 15.6 Hz."""
LOWEST = 50.0
"""Lower frequencies, in Hz, are ignored as noise of the room."""
MELS = 40
"""Number of bands on the mel scale."""
SILENT = -80.0
"""A clip whose loudest frame is not above this, in dB below full scale, is silent."""
QUIETEST = -60.0
"""Minimum level of a frame in dB relative to the loudest; quieter frames get this level."""
EMPTY = 1e-9
"""Minimum power of a band relative to the loudest frame: -90 dB."""
TILT_RANGE = (100.0, 7000.0)
"""Frequency range of the spectral slope in Hz: below the cut-off of common lossy codecs."""


@dataclass(frozen=True)
class SoundFrames:
    """The frame-level descriptors of an audio signal.

    Attributes:
        columns: (T,) for every name of `vocabulary.DESCRIPTIONS`.
        pitch: the pitch track.
        loudest: level of the loudest frame, dB below full scale, at least `SILENT`.
    """

    columns: Columns
    pitch: PitchTrack
    loudest: float

    @property
    def silent(self) -> bool:
        """Whether the clip is silent."""
        return self.loudest <= SILENT


def describe_frames(wave: Array) -> SoundFrames:
    """Return the frame-level descriptors of an audio signal.

    Args:
        wave: (N,) at `RATE`, N at least `TRANSFORM`.
    """
    from librosa import fft_frequencies, stft
    from librosa.filters import get_window

    spectrum = stft(wave, n_fft=TRANSFORM, win_length=SAMPLES, hop_length=HOP, window="hann")
    window = get_window("hann", SAMPLES)
    # Scaled so that a frame's sum is its mean square (Parseval; both halves of the spectrum).
    power = np.abs(spectrum) ** 2 * (2 / (TRANSFORM * np.sum(window**2)))
    frequencies = fft_frequencies(sr=RATE, n_fft=TRANSFORM)
    power[frequencies < LOWEST] = 0
    loudest = float(power.sum(axis=0).max())
    power /= max(loudest, 10 ** (SILENT / 10))
    pitch = track_pitch(wave)
    level = to_decibel(power.sum(axis=0), 10 ** (QUIETEST / 10))
    columns = {"level": level, "crossings": _count_crossings(wave) / 1000}
    columns |= dict(_describe_voice(pitch, level, power))
    columns |= dict(_describe_shape(power, frequencies))
    columns |= dict(_describe_bands(power, frequencies))
    return SoundFrames(columns, pitch, max(float(to_decibel(np.array(loudest), 1e-12)), SILENT))


def to_decibel(power: Array, least: float) -> Array:
    """Return power in dB, at least `least`."""
    return np.asarray(10 * np.log10(np.maximum(power, least)))


def _describe_voice(pitch: PitchTrack, level: Array, power: Array) -> Iterator[tuple[str, Array]]:
    """Yield the descriptors of voice quality, which are only meaningful for voiced frames, except harmonicity."""
    voiced = pitch.voiced
    semitones = 12 * np.log2(np.where(voiced, pitch.hertz, 100) / 100)
    yield "pitch", semitones
    yield "pitch_own", semitones - (np.median(semitones[voiced]) if voiced.any() else 0)
    yield "jitter", _distance_to_neighbours(semitones, voiced)
    yield "shimmer", _distance_to_neighbours(level, voiced)
    share = pitch.periodicity.clip(0.01, 0.9999)
    yield "harmonicity", 10 * np.log10(share / (1 - share))
    first, second = (_level_at(power, pitch.hertz * number) for number in (1, 2))
    yield "harmonics", first - second


def _distance_to_neighbours(values: Array, voiced: NDArray[np.bool_]) -> Array:
    """Return the distance of each value from the mean of its two neighbours; 0 if one of the three is unvoiced."""
    found = np.zeros(len(values))
    if len(values) > 2:
        inner = voiced[1:-1] & voiced[:-2] & voiced[2:]
        found[1:-1] = np.where(inner, np.abs(values[1:-1] - (values[:-2] + values[2:]) / 2), 0)
    return found


def _level_at(power: Array, hertz: Array) -> Array:
    """Return the level of the spectrum at a frequency per frame, dB.

    The maximum of the bin and its two neighbours.
    """
    place = np.rint(hertz * TRANSFORM / RATE).astype(np.int64)
    near = [power[(place + step).clip(0, len(power) - 1), np.arange(power.shape[1])] for step in (-1, 0, 1)]
    return to_decibel(np.max(near, axis=0), EMPTY)


def _describe_shape(power: Array, frequencies: Array) -> Iterator[tuple[str, Array]]:
    """Yield librosa's descriptors of the shape of a spectrum."""
    from librosa import feature

    heard = frequencies >= LOWEST
    magnitude, places = np.sqrt(power[heard]), frequencies[heard]
    centroid = feature.spectral_centroid(S=magnitude, freq=places)
    yield "centroid", np.log2(np.maximum(centroid[0], LOWEST) / 1000)
    yield "bandwidth", feature.spectral_bandwidth(S=magnitude, freq=places, centroid=centroid)[0] / 1000
    rolloff = feature.spectral_rolloff(S=magnitude, freq=places, roll_percent=0.85)[0]
    yield "rolloff", np.log2(np.maximum(rolloff, LOWEST) / 1000)
    yield "flatness", to_decibel(feature.spectral_flatness(S=magnitude, amin=EMPTY)[0], 1e-6)
    norm = np.sqrt((magnitude**2).sum(axis=0))
    shape = magnitude / np.where(norm > 0, norm, 1)
    yield "flux", np.concatenate([[0.0], np.sqrt((np.diff(shape, axis=1) ** 2).sum(axis=0))])


def _describe_bands(power: Array, frequencies: Array) -> Iterator[tuple[str, Array]]:
    """Yield levels of bands, slopes over them, and cepstra."""
    from librosa import mel_frequencies
    from librosa.feature import delta, mfcc
    from librosa.filters import mel
    from librosa.onset import onset_strength

    total = np.maximum(power.sum(axis=0), EMPTY)
    for low, high in BANDS:
        yield f"band_{low}", to_decibel(_sum_band(power, frequencies, low, high) / total, 1e-6)
    alpha = [to_decibel(_sum_band(power, frequencies, *ends), EMPTY) for ends in ((50, 1000), (1000, 5000))]
    yield "alpha", alpha[0] - alpha[1]
    filters = mel(sr=RATE, n_fft=TRANSFORM, n_mels=MELS, fmin=LOWEST, fmax=RATE / 2, dtype=np.float64)
    # Each filter's weights sum to 1, so that white noise is flat.
    filters /= filters.sum(axis=1, keepdims=True)
    bands = to_decibel(np.einsum("mf,ft->mt", filters, power), EMPTY)
    middles = mel_frequencies(n_mels=MELS + 2, fmin=LOWEST, fmax=RATE / 2)[1:-1]
    low, high = bands[middles < 2000], bands[(middles >= 2000) & (middles < 5000)]
    yield "hammarberg", low.max(axis=0) - high.max(axis=0)
    within = (middles >= TILT_RANGE[0]) & (middles <= TILT_RANGE[1])
    octaves = np.log2(middles[within])
    octaves -= octaves.mean()
    yield "tilt", (octaves[:, None] * bands[within]).sum(axis=0) / (octaves**2).sum()
    yield "onset", onset_strength(S=bands, sr=RATE, hop_length=HOP, center=False)
    cepstra = mfcc(S=bands, n_mfcc=MFCCS.stop)
    changes = delta(cepstra, width=5, mode="nearest")
    for number in MFCCS:
        yield f"mfcc_{number}", cepstra[number]
        yield f"delta_{number}", changes[number]


def _sum_band(power: Array, frequencies: Array, low: float, high: float) -> Array:
    return power[(frequencies >= low) & (frequencies < high)].sum(axis=0)


def _count_crossings(wave: Array) -> Array:
    """Return sign changes per second, of the wave without its mean."""
    positive = wave > wave.mean()
    changed = np.concatenate([[0], np.cumsum(positive[1:] != positive[:-1])])
    middles = np.arange(1 + len(wave) // HOP) * HOP
    ends = [(middles + side * SAMPLES // 2).clip(0, len(wave) - 1) for side in (-1, 1)]
    return np.asarray((changed[ends[1]] - changed[ends[0]]) / np.maximum(ends[1] - ends[0], 1) * RATE)
