"""The trained head on embeddings: standardise on the training part, a small MLP, soft-label KL, early stopping."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import DataError
from blemore_harness.heads.frames import ClipFrames, FrameReader, FrameSource
from blemore_harness.heads.models import HeadModel, Rows, fit_models, load_model
from blemore_harness.heads.options import HeadOptions
from blemore_harness.networks import usable_cpus
from blemore_harness.predictions import Embeddings, embeddings_of

Embed: TypeAlias = Callable[[Clips], Embeddings]
EmbedWith: TypeAlias = Callable[[Clips, Context], Embeddings]
FramesWith: TypeAlias = Callable[[Context], FrameSource | None]


def fit_head(
    embed: Embed, fold: Fold, options: HeadOptions, context: Context, frames: FrameSource | None = None
) -> HeadModel:
    """Train a head on the embeddings of a fold's training clips.

    Args:
        embed: gives the label-free embeddings, float32 (N, D), of any of the fold's clips.
        fold: clips with labels to learn from, and clips without.
        options: how.
        context: seed, device, and whom to ask for scores.
        frames: gives what a head with `queries` or layers pools besides; None for a head on the embeddings alone.

    Raises:
        DataError: no training clips, too few actors for an inner split, or `queries` without frames.
        ExtraMissing: torch is not installed.
    """
    reader = _open_reader(frames, options, context)
    [model] = fit_models([partial(_one_row_each, embed, reader)], [fold], options, [context])
    return _forget(model, reader)


def fit_heads(
    embed: EmbedWith,
    folds: Sequence[Fold],
    options: HeadOptions,
    contexts: Sequence[Context],
    frames: FramesWith | None = None,
) -> Iterable[HeadModel]:
    """Train the heads of several folds: in the same steps on a GPU, on a CPU as many at a time as it has cores.

    On a CPU every fold's bits must be the same whichever folds were left to train, so each takes steps of its own.
    Heads that read frame-level features are trained one by one, since each keeps up to a GiB of them in memory.

    Args:
        embed, frames: as of `fit_head`, and are given the context of the fold that they are called for.
        folds, contexts: one context for each fold.
        options, and errors: as of `fit_head`.
    """
    if len(folds) > 1 and contexts[0].device.startswith("cuda"):
        return fit_heads_together(embed, folds, options, contexts, frames)
    cores = _count_cores()
    if min(cores, len(folds)) < 2 or options.queries or (frames and frames(contexts[0])):
        each = zip(folds, contexts, strict=True)
        return (
            fit_head(partial(_embed_with, embed, context), fold, options, context, frames and frames(context))
            for fold, context in each
        )
    return _fit_on_threads(embed, folds, options, contexts, cores)


def _fit_on_threads(
    embed: EmbedWith, folds: Sequence[Fold], options: HeadOptions, contexts: Sequence[Context], cores: int
) -> Iterator[HeadModel]:
    """Train as many folds at a time as there are cores; those that are left share them, so that none is idle."""
    start = 0
    while rest := len(folds) - start:
        part = slice(start, start + (cores if rest >= 2 * cores else rest))
        embedding = [partial(_one_row_each, partial(_embed_with, embed, context), None) for context in contexts[part]]
        yield from fit_models(embedding, folds[part], options, contexts[part], cores)
        start = part.stop


def _count_cores() -> int:
    """Count the cores that this process may use; torch knows of `OMP_NUM_THREADS`."""
    if importlib.util.find_spec("torch") is None:  # said where a head is trained
        return 1
    import torch

    return min(usable_cpus(), torch.get_num_threads())


def fit_heads_together(
    embed: EmbedWith,
    folds: Sequence[Fold],
    options: HeadOptions,
    contexts: Sequence[Context],
    frames: FramesWith | None = None,
) -> list[HeadModel]:
    """Train the heads of several folds at once on any device; arguments and errors as of `fit_heads`.

    The models are those of `fit_head` but for rounding: same initial weights, batches and dropout, an epoch of its own
    for each fold.
    """
    # Folds share most of their clips: one reader keeps the frames of a clip once.
    reader = _open_reader(frames and frames(contexts[0]), options, contexts[0])
    embedding = [partial(_one_row_each, partial(_embed_with, embed, context), reader) for context in contexts]
    return [_forget(model, reader) for model in fit_models(embedding, folds, options, contexts)]


def load_head(folder: Path, embed: Embed, context: Context, frames: FrameSource | None = None) -> HeadModel:
    """Read a head that `HeadModel.save` wrote; `embed` and `frames` as of `fit_head`."""
    reader = None if frames is None else FrameReader(frames, context.device, room=0)
    return load_model(folder, partial(_one_row_each, embed, reader), context.device)


class EmbeddingEncoder(Protocol):
    """What a head needs of an encoder: see `hookspecs.Encoder`."""

    def embed(self, clips: Clips, options: Any, context: Context) -> Embeddings:
        """Return an embedding per clip."""

    def frame_source(self, options: Any, context: Context) -> FrameSource | None:
        """Return what the head pools besides the embeddings, or None."""


def fit_encoder(encoder: EmbeddingEncoder, fold: Fold, options: Any, context: Context) -> HeadModel:
    """Train a head on what an encoder gives; its settings are those of the encoder's options, or the defaults."""
    frames = encoder.frame_source(options, context)
    return fit_head(lambda clips: encoder.embed(clips, options, context), fold, _head(options), context, frames)


def fit_encoder_folds(
    encoder: EmbeddingEncoder, folds: Sequence[Fold], options: Any, contexts: Sequence[Context]
) -> Iterable[HeadModel]:
    """Train a head for each fold as `fit_encoder`, by `fit_heads`."""

    def embed(clips: Clips, context: Context) -> Embeddings:
        return encoder.embed(clips, options, context)

    return fit_heads(embed, folds, _head(options), contexts, lambda context: encoder.frame_source(options, context))


def load_encoder(encoder: EmbeddingEncoder, folder: Path, options: Any, context: Context) -> HeadModel:
    """Read a head that `fit_encoder` trained and `HeadModel.save` wrote."""
    frames = encoder.frame_source(options, context)
    return load_head(folder, lambda clips: encoder.embed(clips, options, context), context, frames)


def _head(options: Any) -> HeadOptions:
    return options if isinstance(options, HeadOptions) else HeadOptions()


def _open_reader(frames: FrameSource | None, options: HeadOptions, context: Context) -> FrameReader | None:
    if frames is None and options.queries:
        raise DataError(
            f"queries: {options.queries} need frame-level features, which this encoder does not give to its head: "
            "set queries=0 or another head"
        )
    return None if frames is None else FrameReader(frames, context.device)


def _forget(model: HeadModel, reader: FrameReader | None) -> HeadModel:
    """Let go of what was kept for training; prediction reads each clip once."""
    if reader is not None:
        reader.forget()
    return model


def _embed_with(embed: EmbedWith, context: Context, clips: Clips) -> Embeddings:
    return embed(clips, context)


def _one_row_each(embed: Embed, reader: FrameReader | None, clips: Clips) -> Rows:
    """Return the embeddings of clips in their order, and where their frames are read."""
    vectors = embeddings_of(embed(clips), clips.ids).values
    frames = None if reader is None else ClipFrames(reader, clips)
    return Rows(vectors.copy(), np.ones(len(clips), dtype=np.int64), frames)
