"""From sound tracks to vectors in the cache: decode, normalise, batch by exact length, run, describe, keep."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Store
from blemore_harness.context import Context
from blemore_harness.dataset import Clip
from blemore_harness.errors import ExtraMissing, MediaError
from blemore_harness.media import read_sound
from blemore_harness.sequences import describe_sequence
from blemore_plugins.hub import Weights
from blemore_plugins.wav2vec2.options import SMALL, SMALL_SEED, Wav2Vec2Options

RATE = 16_000
"""Samples per second of all wav2vec2 models."""

VARIANCE_FLOOR = 1e-7
"""Added to the variance of a wave, as the models' released feature extractors do; a silent clip stays silent."""

WINDOW_SECONDS = 1200
"""Sound held at a time, about 80 MB: enough to find clips of the same length."""

BATCH_SECONDS: Mapping[str, int] = {"cpu": 8, "cuda": 120}
"""Sound run at once; a CPU gains nothing from more. The first layer of a large model takes 6.5 MB for each second."""

GROUP = 16
"""Clips decoded side by side."""

RULE = 1
"""Version of what this module computes; part of the cache key."""

Wave = tuple[Clip, NDArray[np.float32]]


def open_store(options: Wav2Vec2Options, weights: Weights | None, context: Context) -> Store:
    """Open the store of the vectors that these options and weights give."""
    return context.cache.store(
        "wav2vec2",
        rule=RULE,
        model={"seed": SMALL_SEED, **SMALL} if weights is None else weights.identity(context.cache),
        layers=list(options.layer_indices),
        parts=options.parts,
        versions={name: _version(name) for name in ("av", "torch", "transformers")},
    )


def extract(
    clips: Sequence[Clip], store: Store, options: Wav2Vec2Options, weights: Weights | None, context: Context
) -> None:
    """Compute the vectors of clips and keep each as soon as it is there.

    Raises:
        MediaError: a clip without sound, or with less of it than one frame.
        ExtraMissing: torch or transformers is not installed.
    """
    try:
        import torch

        from blemore_plugins.wav2vec2.network import average_layers, build_network, count_frames
    except ImportError as error:
        raise _extra_missing(error) from error
    network = build_network(options, weights.folder if weights else None, context.device)
    on_gpu = context.device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    heard = 0.0
    with context.progress("wav2vec2: sound to vectors", len(clips)) as bar:
        for batch in _batches(clips, BATCH_SECONDS["cuda" if on_gpu else "cpu"]):
            waves = np.stack([wave for _, wave in batch])
            if not count_frames(network, waves.shape[1]):
                name, seconds = batch[0][0].id, waves.shape[1] / RATE
                raise MediaError(f"clip {name}: expected sound for one frame of 25 ms, found {seconds:.4f} s", name)
            for (clip, _), frames in zip(batch, average_layers(network, waves, options.layer_indices), strict=True):
                store.save(clip, describe_sequence(frames, options.parts))
            heard += waves.size / RATE
            bar.advance(len(batch))
    facts: dict[str, object] = {"clips": len(clips), "seconds of sound": round(heard, 1)}
    if on_gpu:
        facts |= {"gpu": torch.cuda.get_device_name(), "peak GPU MiB": torch.cuda.max_memory_allocated() >> 20}
    context.note("extracted", facts)


def normalise(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give a whole clip's wave zero mean and unit variance.

    Layer-norm models were trained on that; for group-norm models, whose first layer does it, it makes no difference.
    """
    exact = wave.astype(np.float64)
    return ((exact - exact.mean()) / np.sqrt(exact.var() + VARIANCE_FLOOR)).astype(np.float32)


def _batches(clips: Sequence[Clip], seconds: int) -> Iterator[list[Wave]]:
    """Yield batches of waves of exactly one length, of at most `seconds` of sound or of one clip."""
    for window in _windows(clips):
        by_length: dict[int, list[Wave]] = {}
        for clip, wave in window:
            by_length.setdefault(wave.size, []).append((clip, wave))
        for length, alike in sorted(by_length.items()):
            count = max(1, seconds * RATE // length)
            yield from (alike[start : start + count] for start in range(0, len(alike), count))


def _windows(clips: Sequence[Clip]) -> Iterator[list[Wave]]:
    """Decode clips in threads and yield them in lists of about `WINDOW_SECONDS` of sound."""
    held: list[Wave] = []
    with ThreadPoolExecutor(min(GROUP, os.cpu_count() or 1)) as pool:
        for start in range(0, len(clips), GROUP):
            group = clips[start : start + GROUP]
            waves: Iterable[Any] = pool.map(lambda clip: normalise(read_sound(clip, RATE)), group)
            held += zip(group, waves, strict=True)
            if sum(wave.size for _, wave in held) >= WINDOW_SECONDS * RATE:
                yield held
                held = []
    if held:
        yield held


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise _extra_missing(error) from error


def _extra_missing(error: ImportError) -> ExtraMissing:
    return ExtraMissing(f'wav2vec2 needs torch, transformers and av ({error}): pip install "blemore-harness[encoders]"')
