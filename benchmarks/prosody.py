"""How exact the pitch of `prosody` is, how long it takes, and how librosa's pyin compares on the same voices.

    python benchmarks/prosody.py [--pyin]

Voices are glides and tremors whose pitch is known, through the resonances of a vowel, with noise beside them. Errors
are in semitones over the frames that a tracker calls voiced; `gross` is the share that is off by more than one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from blemore_plugins.prosody.functionals import describe_sound
from blemore_plugins.prosody.pitch import CEILING, FLOOR, HOP, RATE, WINDOW, track_pitch

Array = NDArray[np.float64]
SECONDS = 3


def make_voice(middle: float, octaves: float, wobble: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """A vowel and its pitch in Hz at every sample."""
    times = np.arange(SECONDS * RATE) / RATE
    course = octaves * np.sin(2 * np.pi * 0.7 * times) + wobble / 12 * np.sin(2 * np.pi * 6 * times)
    hertz = middle * 2**course
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    count = max(1, int(7900 / hertz.max()))
    wave = sum(np.sin(k * phase) / k for k in range(1, count + 1))
    for place, width in ((rng.uniform(400, 900), 90), (rng.uniform(1000, 2000), 120), (rng.uniform(2400, 3000), 180)):
        radius = np.exp(-np.pi * width / RATE)
        wave = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * place / RATE), radius**2], wave)
    return wave / np.abs(wave).max(), hertz


def track_with_pyin(wave: Array) -> Array:
    """The pitch by librosa's pyin at a coarse resolution, 0 where unvoiced."""
    import librosa

    limits = {"fmin": FLOOR, "fmax": CEILING, "sr": RATE, "frame_length": WINDOW, "hop_length": HOP}
    hertz, _, _ = librosa.pyin(wave, resolution=0.25, **limits)
    return np.nan_to_num(hertz)


def measure(name: str, track: Callable[[Array], Array], ratio: float) -> None:
    """Print errors and time of a tracker at a ratio of voice to noise in dB."""
    rng = np.random.default_rng(0)
    errors, voiced, spent = [], [], 0.0
    for middle in (80, 120, 200, 300, 450, 700):
        wave, hertz = make_voice(middle, 0.4, 0.4, rng)
        wave = wave + wave.std() * 10 ** (-ratio / 20) * rng.standard_normal(len(wave))
        started = time.perf_counter()
        found = track(wave)
        spent += time.perf_counter() - started
        truth = hertz[np.minimum(np.arange(len(found)) * HOP, len(hertz) - 1)]
        voiced.append(found > 0)
        errors.append(np.abs(12 * np.log2(found[found > 0] / truth[found > 0])))
    off, heard = np.concatenate(errors), np.concatenate(voiced)
    print(
        f"{name:8} {ratio:4.0f} dB  voiced {heard.mean():.3f}  median {np.median(off):.3f}  "
        f"gross {(off > 1).mean():.4f}  {1000 * spent / 6:.0f} ms per {SECONDS} s"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pyin", action="store_true", help="measure librosa's pyin too")
    both = parser.parse_args().pyin
    rng = np.random.default_rng(1)
    if both:
        track_with_pyin(make_voice(200, 0, 0, rng)[0])  # compiles
    for ratio in (40, 20, 10, 5, 0):
        measure("prosody", lambda wave: track_pitch(wave).hertz, ratio)
        if both:
            measure("pyin", track_with_pyin, ratio)
    noise = rng.standard_normal(SECONDS * RATE)
    print(f"voiced in white noise: {track_pitch(noise).voiced.mean():.3f}")
    sound = make_voice(200, 0.3, 0.4, rng)[0].astype(np.float32)
    describe_sound(sound)
    started = time.perf_counter()
    for _ in range(10):
        describe_sound(sound)
    print(f"whole description: {100 * (time.perf_counter() - started):.0f} ms per {SECONDS} s")


if __name__ == "__main__":
    main()
