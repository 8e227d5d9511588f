"""Inputs of a network from audio: a normalised waveform, or a spectrogram by the model's own feature extractor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray

from blemore_harness.errors import DataError
from blemore_plugins.speech.imagebind import WINDOW_SECONDS, make_windows
from blemore_plugins.speech.network import Frozen, count_frames
from blemore_plugins.speech.recipe import Recipe

RATE = 16_000
"""Sampling rate of all of these networks but CLAP, in Hz."""

SHORTEST = 400
"""Samples in the receptive field of one frame, 25 ms in all of these networks; CLAP takes no fewer."""

HOP = 160
"""Hop length of spectrograms in samples."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class NetworkInputs:
    """The inputs of a network for one clip.

    Attributes:
        inputs: float32 (P, ...): one part, or several for a network of fixed input length.
        frames: number of frames in the last part that are not padding; None for all.
        seconds: length of the inputs, including padding.
    """

    inputs: Array
    frames: int | None
    seconds: float


class InputMaker:
    """Converts waveforms into inputs of one network; may be called from several threads."""

    def __init__(self, recipe: Recipe, frozen: Frozen) -> None:
        self._floor = recipe.floor
        self._config = frozen.trunk.config
        kind = recipe.kind.input
        makers: dict[str, Callable[[Array], NetworkInputs]] = {
            "wave": self._wave, "fbank": self._fbank, "log-mel": self._log_mel, "patches": self._patches,
            "repeated": self._repeated, "windows": self._windows,
        }  # fmt: skip
        self._make = makers[kind]
        self._extractor: Any = None if kind in ("wave", "windows") else _extractor(recipe)

    def too_short(self, wave: Array) -> bool:
        """Return whether a wave is too short for a single frame."""
        if self._make == self._wave:
            return not count_frames(self._config, len(wave))
        # Features of audio of their own length come in pairs, and have a variance over at least two.
        return len(wave) < SHORTEST + (HOP if self._make == self._fbank else 0)

    def __call__(self, wave: Array) -> NetworkInputs:
        """Return the inputs for a clip's wave, float32 (N,), which is not too short."""
        return self._make(wave)

    def _wave(self, wave: Array) -> NetworkInputs:
        values = wave if self._floor is None else normalise(wave, self._floor)
        return NetworkInputs(values[None], None, len(wave) / RATE)

    def _fbank(self, wave: Array) -> NetworkInputs:
        # Without padding to an even number, because the network's mask would drop an odd last column.
        given = self._extractor(wave, sampling_rate=RATE, pad_to_multiple_of=None, return_tensors="np")
        return NetworkInputs(_exact(given["input_features"]), None, len(wave) / RATE)

    def _log_mel(self, wave: Array) -> NetworkInputs:
        pieces = _cut(wave, self._extractor.n_samples)
        given = [self._extractor(piece, sampling_rate=RATE, return_tensors="np") for piece in pieces]
        inputs = np.concatenate([_exact(part["input_features"]) for part in given])
        # Two columns make a frame.
        return NetworkInputs(inputs, -(-len(pieces[-1]) // (2 * HOP)), len(pieces) * self._extractor.n_samples / RATE)

    def _patches(self, wave: Array) -> NetworkInputs:
        extractor, config = self._extractor, self._config
        pieces = _cut(wave, (extractor.max_length - 1) * HOP + SHORTEST)
        given = [extractor(piece, sampling_rate=RATE, return_tensors="np")["input_values"] for piece in pieces]
        columns = (len(pieces[-1]) - SHORTEST) // HOP + 1
        most = (config.max_length - config.patch_size) // config.time_stride + 1
        frames = min(most, -(-columns // config.time_stride))
        return NetworkInputs(_exact(np.concatenate(given)), frames, len(pieces) * extractor.max_length * HOP / RATE)

    def _repeated(self, wave: Array) -> NetworkInputs:
        extractor, config = self._extractor, self._config
        most, rate = extractor.nb_max_samples, extractor.sampling_rate
        pieces = _cut(wave, most)
        given = [extractor(piece, sampling_rate=rate, return_tensors="np")["input_features"] for piece in pieces]
        # The spectrogram is folded into a square image, whose parts follow one another in time.
        folds, stride = config.spec_size // config.num_mel_bins, config.patch_stride[1] * 2 ** (len(config.depths) - 1)
        frames = -(-len(pieces[-1]) * folds * (config.spec_size // stride) // most)
        return NetworkInputs(_exact(np.concatenate(given)), frames, len(pieces) * most / rate)

    def _windows(self, wave: Array) -> NetworkInputs:
        made = make_windows(wave)
        return NetworkInputs(made, None, len(made) * WINDOW_SECONDS)


def normalise(wave: Array, floor: float) -> Array:
    """Return a whole clip's wave zero mean and unit variance, `floor` being added to the variance.

    Layer-norm models were trained on that; for group-norm models, whose first layer does it, it makes no difference.
    """
    exact = wave.astype(np.float64)
    return np.asarray(((exact - exact.mean()) / np.sqrt(exact.var() + floor)).astype(np.float32))


def _cut(wave: Array, samples: int) -> list[Array]:
    """Split a waveform into parts of at most this many samples; a last part below the minimum length is dropped."""
    pieces = [wave[start : start + samples] for start in range(0, len(wave), samples)]
    return pieces if len(pieces) == 1 or len(pieces[-1]) >= SHORTEST else pieces[:-1]


def _extractor(recipe: Recipe) -> Any:
    """Return the model's own feature extractor, from its settings file or those of the small random network.

    Raises:
        DataError: invalid settings.
    """
    kind = {
        "fbank": transformers.SeamlessM4TFeatureExtractor, "log-mel": transformers.WhisperFeatureExtractor,
        "patches": transformers.ASTFeatureExtractor, "repeated": transformers.ClapFeatureExtractor,
    }[recipe.kind.input]  # fmt: skip
    if recipe.folder is None:
        return kind(truncation="rand_trunc") if recipe.kind.input == "repeated" else kind()
    try:
        return kind.from_pretrained(recipe.folder, local_files_only=True)
    except Exception as error:  # transformers raises many kinds of errors for settings of another model type
        raise DataError(
            f"invalid settings of the feature extractor in {recipe.folder}: download the model again"
        ) from error


def _exact(array: Any) -> Array:
    return np.ascontiguousarray(array, dtype=np.float32)
