"""From a wave to what HiCMAE hears: the log mel spectrum of Kaldi; the one place that uses torchaudio."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.errors import ExtraMissing
from blemore_plugins.hicmae.shape import MEL_BANDS, SOUND_FRAMES

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
    kaldi = import_kaldi()
    import torch

    wave = np.pad(wave, (0, max(0, SHORTEST - len(wave))))
    spectrum = kaldi.fbank(
        torch.from_numpy(wave - wave.mean())[None],
        htk_compat=True,
        sample_frequency=RATE,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=MEL_BANDS,
        dither=0.0,
        frame_shift=10,
    ).numpy()[:SOUND_FRAMES]
    spectrum = np.pad(spectrum, ((0, SOUND_FRAMES - len(spectrum)), (0, 0)))
    return np.asarray((spectrum - np.float32(MEAN)) / np.float32(SPREAD), dtype=np.float32)


def import_kaldi() -> Any:
    """Import torchaudio's functions after Kaldi.

    Raises:
        ExtraMissing: it is not installed, or was built for another torch.
    """
    try:
        from torchaudio.compliance import kaldi
    except (ImportError, OSError) as error:  # beside a torch that it does not fit, its library cannot be opened
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExtraMissing(
            f"hicmae needs torchaudio for its spectra, which cannot be imported ({reason}): "
            'pip install "blemore-harness[encoders]"'
        ) from error
    return kaldi
