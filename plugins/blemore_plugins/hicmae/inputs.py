"""Which frames and which audio make one row of a clip's features, and the audio's log mel spectrum (Kaldi's).

Frames are counted in the video, all of them. This is the one place that uses torchaudio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.errors import ExtraMissing
from blemore_plugins.hicmae.shape import CHUNK, MEL_BANDS, SOUND_FRAMES

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


RATE = 16_000
"""Samples per second."""

SHORTEST = 1025
"""Samples to which a shorter wave is filled up with zeros, as in the organisers' code."""

MEAN, SPREAD = -4.2677393, 2 * 4.5689974
"""Of AudioSet, with which HiCMAE was trained; spectra are divided by twice their standard deviation."""


def log_mel(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the normalised log mel spectrum of a chunk's audio.

    Frames of 25 ms every 10 ms, each without its mean and with pre-emphasis 0.97 under a Hann window; power of 512
    frequencies in 128 triangles from 20 Hz to 8 kHz. The level is kept: the random gain of the released code, which
    it also draws in tests, is left out.

    Args:
        wave: float32 (N,) at `RATE`; anything below `SHORTEST`, nothing included, is filled up with zeros.

    Returns:
        float32 (SOUND_FRAMES, MEL_BANDS); what is missing at the end is 0 before it is normalised, about 0.467 after.

    Raises:
        ExtraMissing: torchaudio is not installed or does not fit torch.
    """
    wave = np.pad(wave, (0, max(0, SHORTEST - len(wave))))
    spectrum = kaldi_spectrum(wave, MEL_BANDS)[:SOUND_FRAMES]
    spectrum = np.pad(spectrum, ((0, SOUND_FRAMES - len(spectrum)), (0, 0)))
    return np.asarray((spectrum - np.float32(MEAN)) / np.float32(SPREAD), dtype=np.float32)


def kaldi_spectrum(wave: NDArray[np.float32], bands: int, encoder: str = "hicmae") -> NDArray[np.float32]:
    """Return the log-mel spectrogram of Kaldi for audio of 16 kHz, 25 ms every 10 ms, after its mean was subtracted.

    Args:
        wave: float32 (N,), N at least 400.
        bands: number of mel bands.
        encoder: name of the encoder, for messages.

    Returns:
        float32 (T, bands).

    Raises:
        ExtraMissing: torchaudio is not installed or does not fit torch.
    """
    kaldi = import_kaldi(encoder)
    import torch

    spectrum = kaldi.fbank(
        torch.from_numpy(wave - wave.mean())[None],
        htk_compat=True,
        sample_frequency=RATE,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=bands,
        dither=0.0,
        frame_shift=10,
    )
    return np.asarray(spectrum.numpy(), dtype=np.float32)


def import_kaldi(encoder: str = "hicmae") -> Any:
    """Import torchaudio's functions after Kaldi.

    Raises:
        ExtraMissing: it is not installed, or was built for another torch.
    """
    try:
        from torchaudio.compliance import kaldi
    except (ImportError, OSError) as error:  # beside a torch that it does not fit, its library cannot be opened
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExtraMissing(
            f"{encoder} needs torchaudio for its spectra, which cannot be imported ({reason}): "
            'pip install "blemore-harness[encoders]"'
        ) from error
    return kaldi
