"""Extraction of features into the cache: decode ahead, batch by exact length, run the network, store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Cache
from blemore_harness.clips import Clip
from blemore_harness.context import Context
from blemore_harness.errors import MediaError
from blemore_harness.media.ahead import read_ahead
from blemore_harness.media.audio import read_audio
from blemore_harness.networks import usable_cpus
from blemore_plugins.speech.recipe import Recipe, extra_missing

WINDOW_BYTES = 80 << 20
"""Bytes of inputs in memory at a time, 20 minutes of audio: enough to find clips of the same length."""

AHEAD = 128
"""Clips decoded ahead of the network, so that a GPU never waits for files."""

THREADS = 16
"""Clips decoded side by side, and written side by side, at most."""

BATCH_SECONDS: Mapping[str, float] = {"cpu": 0, "cuda": 120}
"""Audio run at once, or one clip if that is longer. A CPU gains nothing from more than one, and alone a clip's features
are the same to the last bit in any company. The first layer of a large model takes 6.5 MB for each second."""

Keep = Callable[[Clip, NDArray[np.float32], NDArray[np.float32]], None]
"""Keeps a clip's mean hidden states, float32 (T, D), and outputs, float32 (K,), the mean of its parts; K may be 0."""

Item = tuple[Clip, Any]


def extract(clips: Sequence[Clip], recipe: Recipe, keep: Keep, context: Context) -> None:
    """Compute the hidden states of clips and store each as soon as it is computed.

    Raises:
        MediaError: a clip without audio, or with less audio than one frame; previous clips are stored.
        ExtraMissing: torch or transformers is not installed.
        DataError, InvalidOption: see `network.build_network`.
    """
    try:
        import torch

        from blemore_plugins.speech.building import build
        from blemore_plugins.speech.inputs import InputMaker
    except ImportError as error:
        raise extra_missing(recipe.encoder, error) from error
    frozen = build(recipe, context.device)
    make_inputs = InputMaker(recipe, frozen)
    on_gpu = context.device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    limit = 0 if recipe.alone else BATCH_SECONDS["cuda" if on_gpu else "cpu"]
    seconds = 0.0
    with (
        context.progress(f"{recipe.encoder}: audio to features", len(clips)) as bar,
        ThreadPoolExecutor(min(THREADS, usable_cpus())) as writers,
    ):
        writing: list[Future[None]] = []
        for batch in _batches(clips, lambda clip: _read_inputs(clip, make_inputs, recipe, context.cache), limit):
            features = _run(frozen, batch)
            for done in writing:
                done.result()
            writing = [writers.submit(keep, clip, *arrays) for (clip, _), arrays in zip(batch, features, strict=True)]
            seconds += sum(made.seconds for _, made in batch)
            bar.advance(len(batch))
        for done in writing:
            done.result()
    facts: dict[str, object] = {"clips": len(clips), "seconds of audio": round(seconds, 1)}
    if on_gpu:
        facts |= {"gpu": torch.cuda.get_device_name(), "peak GPU MiB": torch.cuda.max_memory_allocated() >> 20}
    context.note("extracted", facts)


def _run(frozen: Any, batch: Sequence[Item]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Run clips with inputs of one shape; yield mean hidden states and outputs of each, without padding."""
    pieces = len(batch[0][1].inputs)
    real = [count for _, made in batch for count in (*[None] * (pieces - 1), made.frames)]
    frames, outputs = frozen.run(np.concatenate([made.inputs for _, made in batch]), real)
    for number, (_, made) in enumerate(batch):
        start = number * pieces
        parts = list(frames[start : start + pieces])
        parts[-1] = parts[-1][: frozen.count(made.frames)]
        yield np.concatenate(parts), outputs[start : start + pieces].mean(axis=0)


def _batches(clips: Sequence[Clip], read: Callable[[Clip], Any], limit: float) -> Iterator[list[Item]]:
    """Yield batches of clips with inputs of exactly one shape, of at most `limit` seconds or with one clip."""
    for window in _windows(clips, read):
        by_shape: dict[tuple[int, ...], list[Item]] = {}
        for clip, made in window:
            by_shape.setdefault(made.inputs.shape, []).append((clip, made))
        for _, alike in sorted(by_shape.items()):
            count = max(1, int(limit / alike[0][1].seconds))
            yield from (alike[start : start + count] for start in range(0, len(alike), count))


def _windows(clips: Sequence[Clip], read: Callable[[Clip], Any]) -> Iterator[list[Item]]:
    """Decode clips in threads, ahead of whoever takes them, and yield them in lists of about `WINDOW_BYTES`.

    A clip that cannot be used is an error only after those before it were yielded.
    """
    held: list[Item] = []
    for clip, made in read_ahead(read, clips, min(THREADS, usable_cpus()), AHEAD):
        try:
            held.append((clip, made.result()))
        except MediaError:
            yield held
            raise
        if sum(inputs.inputs.nbytes for _, inputs in held) >= WINDOW_BYTES:
            yield held
            held = []
    yield held


def _read_inputs(clip: Clip, make_inputs: Any, recipe: Recipe, cache: Cache) -> Any:
    """Decode a clip's audio and return the inputs of the network."""
    rate = recipe.kind.rate
    wave = read_audio(clip, rate, cache)
    if make_inputs.too_short(wave):
        seconds = len(wave) / rate
        raise MediaError(f"clip {clip.id}: expected audio for one frame of 25 ms, found {seconds:.4f} s", clip.id)
    return make_inputs(wave)
