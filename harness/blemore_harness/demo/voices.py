"""Synthesised vocalisations: a glottal source with noise, filtered by formants that follow the performance's tracks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemore_harness.demo.actors import Voice
from blemore_harness.demo.performance import Performance
from blemore_harness.demo.plan import FRAME_RATE
from blemore_harness.predictions import FloatArray

BLOCK = 1024
"""Samples per half-overlapping block of the time-varying filter: about 45 ms, shorter than a syllable."""
NEUTRAL_VOWEL = (520.0, 1500.0, 2500.0, 3500.0)
"""Resonances in Hz of a 17 cm tube, shifted towards an open central vowel."""
BANDWIDTHS = (90.0, 120.0, 170.0, 250.0)
"""Bandwidths of these resonances in Hz, as commonly used in formant synthesis (Klatt, 1980)."""
MUSIC = 12.0
"""Number of semitones per octave."""


def synthesise(voice: Voice, performance: Performance, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the audio of a clip: float32 (channels, samples) within -1 to 1, at `voice.rate`.

    It is exactly as long as the video. Source and noise are generated at half the rate; the filter doubles it.
    """
    rate = voice.rate // 2
    count = round(performance.frames / FRAME_RATE * rate)
    at = np.arange(count) / rate * FRAME_RATE - 0.5
    frames = np.arange(performance.frames)
    tracks = {name: np.interp(at, frames, track) for name, track in performance.voice.items()}
    loud = np.interp(at, frames, performance.voice["envelope"])
    voiced = _source(voice, tracks, rng) * loud
    noise = rng.normal(0, 1, count)
    breath = noise * (tracks["breath"].clip(0, 1.5) + voice.breath) * (0.25 + 0.75 * loud) * 0.35
    sound = _coloured(voiced, breath, noise * tracks["friction"].clip(0, 1.5) * loud * 0.3, voice, performance)
    sound *= np.repeat(tracks["level"].clip(0.15, 1.6) * rng.uniform(0.85, 1.15), 2)
    # A fixed recording level, with soft clipping of loud voices.
    sound = 0.6 * np.tanh(sound) + voice.hiss * rng.normal(0, 1, 2 * count)
    if voice.channels == 1:
        return sound[None].astype(np.float32)
    delay = int(0.0006 * voice.rate)
    return np.stack([sound, 0.9 * np.roll(sound, delay)]).astype(np.float32)


def _source(voice: Voice, tracks: dict[str, FloatArray], rng: np.random.Generator) -> FloatArray:
    """Pulses of the vocal folds, with slide, tremor, jitter and roughness."""
    count = len(tracks["pitch"])
    rate = voice.rate // 2
    rise = np.cumsum(np.maximum(tracks["rate"], 0.35)) / rate
    slide = tracks["slide"] * ((rise % 1) - 0.5)
    tremor = tracks["tremor"] * np.sin(2 * np.pi * np.cumsum(tracks["tremor_rate"]) / rate)
    rough = tracks["roughness"].clip(0, 1.2)
    steps = count // 100 + 2
    jitter = np.interp(np.arange(count), np.arange(steps) * 100, rng.normal(0, 1, steps)) * (0.12 + 0.8 * rough)
    pitch = voice.pitch * 2 ** ((tracks["pitch"].clip(-9, 15) + slide + tremor + jitter) / MUSIC)
    cycles = np.cumsum(pitch) / rate + rng.uniform()
    phase = cycles % 1
    # A pulse that opens slowly and closes fast; its slope determines the harmonics.
    pulse = np.where(phase < 0.6, np.sin(np.pi * (phase / 0.6) ** 2.2), 0.0)
    halved = 0.5 + 0.5 * np.cos(np.pi * cycles)
    return np.asarray((pulse - 0.3) * (1 - 0.75 * rough * halved))


def _coloured(
    voiced: FloatArray, breath: FloatArray, friction: FloatArray, voice: Voice, performance: Performance
) -> FloatArray:
    """Filter the parts block by block and add them: formants for voice and breath, a high band for friction."""
    count, hop = len(voiced), BLOCK // 2
    blocks = count // hop + 2
    window = np.hanning(BLOCK + 1)[:-1]
    middles = np.arange(blocks) * hop / (voice.rate // 2) * FRAME_RATE
    frames = np.arange(performance.frames)
    now = {name: np.interp(middles, frames, track)[:, None] for name, track in performance.voice.items()}
    frequencies = np.fft.rfftfreq(BLOCK, 2 / voice.rate)[None, 1:].astype(np.float64)
    tube = _tube(frequencies, now, voice)
    octaves = np.log2(np.maximum(frequencies / 500, 1))
    tilt = 10 ** ((now["tilt"].clip(-16, 0) + voice.tilt) * octaves / 20)
    hiss = np.exp(-(((np.log2(frequencies) - np.log2(3800 * voice.tract)) / 0.6) ** 2))
    spectra = [_spectra(part, window, blocks) for part in (voiced, breath, friction)]
    mixed = 3 * spectra[0] * tube * tilt + spectra[1] * tube * 0.5 + spectra[2] * hiss
    # An inverse transform of twice the length doubles the rate; doubling the gain keeps the level.
    back = 2 * np.fft.irfft(np.concatenate([np.zeros((blocks, 1)), mixed], axis=1), 2 * BLOCK, axis=1)
    sound = np.zeros((blocks + 1, BLOCK))
    sound[:-1] += back[:, :BLOCK]
    sound[1:] += back[:, BLOCK:]
    return sound.ravel()[BLOCK : BLOCK + 2 * count]


def _tube(frequencies: FloatArray, now: dict[str, FloatArray], voice: Voice) -> FloatArray:
    """Gain of the vocal tract, (blocks, frequencies)."""
    still = np.ones_like(now["first"])
    moves = (now["first"].clip(0.6, 1.7), now["second"].clip(0.7, 1.4), still, still)
    gain = np.zeros((len(now["first"]), frequencies.shape[1]))
    for centre, width, move in zip(NEUTRAL_VOWEL, BANDWIDTHS, moves, strict=True):
        middle = centre * voice.tract * move
        gain += 1 / np.sqrt(1 + ((frequencies - middle) / width) ** 2)
    return np.asarray(0.08 + gain)


def _spectra(part: FloatArray, window: FloatArray, blocks: int) -> NDArray[np.complex128]:
    """Spectra of half-overlapping blocks, without the constant part: (blocks, BLOCK // 2)."""
    hop = len(window) // 2
    padded = np.zeros((blocks + 1) * hop)
    padded[hop : hop + len(part)] = part
    rows = padded.reshape(-1, hop)
    return np.fft.rfft(np.concatenate([rows[:-1], rows[1:]], axis=1) * window, axis=1)[:, 1:]
