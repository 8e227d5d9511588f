"""The trained head on embeddings: standardise on the training part, a small MLP, soft-label KL, early stopping."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_harness.context import Context
from blemore_harness.dataset import EMOTIONS, Clips, Fold
from blemore_harness.errors import DataError, ExtraMissing, first_and_count
from blemore_harness.grid import GridCounter
from blemore_harness.networks import batches, build_mlp, fitting_threads, forward_rows, seeded, softmax, train_epoch
from blemore_harness.recipes import HeadOptions
from blemore_harness.rows import Embeddings, Probabilities

__all__ = ["HeadModel", "HeadOptions", "fit_head"]

Vectors: TypeAlias = NDArray[np.float32]
Embed: TypeAlias = Callable[[Clips], Embeddings]
Quality: TypeAlias = tuple[float, ...]
"""How good a model is; compared entry by entry, so that later ones only break ties."""

EPSILON = 1e-8
"""Dimensions that vary less than this over the training part are left unscaled."""


@dataclass(frozen=True)
class HeadModel:
    """A trained head and what it was trained on.

    Attributes:
        embed: gives the vectors of clips.
        mean, scale: of the training part, float32 (D,).
        network: a torch module in eval mode, (N, D) to logits (N, 6).
        epochs: how many it was trained for.
    """

    embed: Embed
    mean: Vectors
    scale: Vectors
    network: Any
    epochs: int

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        """Give softmax rows; each depends on its own clip only."""
        vectors = self.embed(clips)
        return Probabilities(vectors.ids, self.rows(vectors.values))

    def rows(self, vectors: Vectors) -> NDArray[np.float64]:
        """Give softmax rows of vectors, float64 (N, 6)."""
        import torch

        if not len(vectors):
            return np.empty((0, len(EMOTIONS)))
        device = next(self.network.parameters()).device
        inputs = torch.from_numpy((vectors - self.mean) / self.scale).to(device)
        with fitting_threads(self.network):
            return softmax(forward_rows(self.network, inputs).double().cpu().numpy())


def fit_head(embed: Embed, fold: Fold, options: HeadOptions, context: Context) -> HeadModel:
    """Train a head on the vectors of a fold's training clips.

    Args:
        embed: gives the label-free vectors, float32 (N, D), of any of the fold's clips.
        fold: clips with labels to learn from, and clips without.
        options: how.
        context: seed, device, and whom to ask for scores.

    Raises:
        DataError: no training clips, or too few actors for an inner split.
        ExtraMissing: torch is not installed.
    """
    _require_torch()
    if not len(fold.train):
        raise DataError("a head needs at least one training clip")
    ask = options.selection == "held-out" and not context.final
    if ask:
        best = _train(embed, fold.train, options, context, _held_out_judge(embed(fold.held_out), context))
    else:
        learn, check = fold.train.inner_split(context.seed)
        best = _train(embed, learn, options, context, _inner_judge(_vectors(embed, check), check))
    context.note("epochs", best.epochs)
    if ask or not options.refit:
        return best
    return _train(embed, fold.train, replace(options, epochs=best.epochs), context, None)


def _train(
    embed: Embed,
    clips: Clips,
    options: HeadOptions,
    context: Context,
    judge: Callable[[HeadModel], Quality] | None,
) -> HeadModel:
    """Train on clips; with a judge, keep the epoch that it likes best and stop when patience runs out."""
    import torch

    vectors = _vectors(embed, clips)
    # In float64: rounded in float32, a dimension that never changes seems to vary, and would be blown up.
    mean, spread = vectors.mean(axis=0, dtype=np.float64).astype(np.float32), vectors.std(axis=0, dtype=np.float64)
    scale = np.where(spread > EPSILON, spread, 1).astype(np.float32)
    device = torch.device(context.device)
    inputs = torch.from_numpy((vectors - mean) / scale).to(device)
    targets = torch.from_numpy(clips.targets).to(device)
    order = torch.Generator().manual_seed(context.seed)
    with seeded(context.seed):
        network = build_mlp(vectors.shape[1], options.widths, options.batch_norm, options.dropout).to(device)
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[options.optimiser]
        optimiser = kind(network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
        best: tuple[Quality, HeadModel] | None = None
        with context.progress("head: epochs", options.epochs) as bar:
            for epoch in range(1, options.epochs + 1):
                with fitting_threads(network):
                    train_epoch(network, optimiser, inputs, targets, batches(len(inputs), options.batch_size, order))
                bar.advance()
                model = HeadModel(embed, mean, scale, network, epoch)
                if judge is None:
                    continue
                quality = judge(model)
                if best is None or quality > best[0]:
                    best = quality, replace(model, network=copy.deepcopy(network))
                elif epoch - best[1].epochs >= options.patience:
                    break
    return model if best is None else best[1]


def _held_out_judge(shown: Embeddings, context: Context) -> Callable[[HeadModel], Quality]:
    """Judge by asking for the Score on the held-out clips, as the papers do."""

    def judge(model: HeadModel) -> Quality:
        return (context.score(Probabilities(shown.ids, model.rows(shown.values))).score,)

    return judge


def _inner_judge(vectors: Vectors, check: Clips) -> Callable[[HeadModel], Quality]:
    """Judge by the official Score on clips of other actors; equal Scores, which few clips often give, by their KL."""
    targets = check.targets.astype(np.float64)
    counter = GridCounter(check.labels)

    def judge(model: HeadModel) -> Quality:
        rows = model.rows(vectors)
        surprise = -(targets * np.log(np.maximum(rows, 1e-12))).sum(axis=1).mean()
        return counter.count(rows).choose().scores.score, -float(surprise)

    return judge


def _vectors(embed: Embed, clips: Clips) -> Vectors:
    """Give the vectors of clips in their order; `embed` sees neither labels nor actors."""
    given = embed(clips.unlabelled())
    position = {name: i for i, name in enumerate(given.ids)}
    missing = [name for name in clips.ids if name not in position]
    if missing:
        raise DataError(f"`embed` left out {first_and_count(missing, 'clip')}: expected a vector for every clip")
    return given.values[[position[name] for name in clips.ids]]


def _require_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ExtraMissing(f"training a head needs torch ({error}): pip install 'blemore-harness[encoders]'") from error
