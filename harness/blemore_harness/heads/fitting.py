"""The trained head on embeddings: standardise on the training part, a small MLP, soft-label KL, early stopping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.heads.models import HeadModel, Rows, fit_models, load_model
from blemore_harness.heads.options import HeadOptions
from blemore_harness.predictions import Embeddings, embeddings_of

Embed: TypeAlias = Callable[[Clips], Embeddings]
EmbedWith: TypeAlias = Callable[[Clips, Context], Embeddings]


def fit_head(embed: Embed, fold: Fold, options: HeadOptions, context: Context) -> HeadModel:
    """Train a head on the embeddings of a fold's training clips.

    Args:
        embed: gives the label-free embeddings, float32 (N, D), of any of the fold's clips.
        fold: clips with labels to learn from, and clips without.
        options: how.
        context: seed, device, and whom to ask for scores.

    Raises:
        DataError: no training clips, or too few actors for an inner split.
        ExtraMissing: torch is not installed.
    """
    return fit_models([partial(_one_row_each, embed)], [fold], options, [context])[0]


def fit_heads(
    embed: EmbedWith, folds: Sequence[Fold], options: HeadOptions, contexts: Sequence[Context]
) -> Iterable[HeadModel]:
    """Train the heads of several folds: at once on a GPU, elsewhere one by one, as they are taken.

    On a CPU one fold keeps it busy, and every fold's bits must be the same whichever folds were left to train.

    Args:
        embed: as of `fit_head`, and is given the context of the fold that it is called for.
        folds, contexts: one context for each fold.
        options, and errors: as of `fit_head`.
    """
    if len(folds) < 2 or not contexts[0].device.startswith("cuda"):
        each = zip(folds, contexts, strict=True)
        return (fit_head(partial(_embed_with, embed, context), fold, options, context) for fold, context in each)
    return fit_heads_together(embed, folds, options, contexts)


def fit_heads_together(
    embed: EmbedWith, folds: Sequence[Fold], options: HeadOptions, contexts: Sequence[Context]
) -> list[HeadModel]:
    """Train the heads of several folds at once on any device; arguments and errors as of `fit_heads`.

    The models are those of `fit_head` but for rounding: same initial weights, batches and dropout, an epoch of its own
    for each fold.
    """
    embedding = [partial(_one_row_each, partial(_embed_with, embed, context)) for context in contexts]
    return fit_models(embedding, folds, options, contexts)


def load_head(folder: Path, embed: Embed, context: Context) -> HeadModel:
    """Read a head that `HeadModel.save` wrote; `embed` as of `fit_head`."""
    return load_model(folder, partial(_one_row_each, embed), context.device)


def _embed_with(embed: EmbedWith, context: Context, clips: Clips) -> Embeddings:
    return embed(clips, context)


def _one_row_each(embed: Embed, clips: Clips) -> Rows:
    """Return the embeddings of clips in their order."""
    vectors = embeddings_of(embed(clips), clips.ids).values
    return Rows(vectors.copy(), np.ones(len(clips), dtype=np.int64))
