"""Trains the network: losses, choice of the epoch on held-out training actors, then training on all clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import DataError
from blemore_harness.heads.judging import InnerJudge
from blemore_harness.networks import batches, one_thread, seeded
from blemore_plugins.rank_aware.inputs import BaseModels, Inputs, fit_inputs, require_vectors
from blemore_plugins.rank_aware.network import RankAwareModel, RankAwareNetwork, read_rows, reconcile_logs
from blemore_plugins.rank_aware.options import RankAwareOptions

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Widths of the Gaussian kernels of `mmd`, in units of the mean squared distance: the five of deep adaptation networks
(Long et al. 2015)."""


def supervised(presence: Tensor, salience: Tensor, targets: Tensor, options: RankAwareOptions) -> Tensor:
    """Return the loss of a batch from the logits of both heads; the parts and their weights are ours.

    The KL of the reconciled row from the target, the binary cross-entropy of the presence head (an emotion of any
    salience is there), the KL of the salience head from the target, and the ranking loss.

    Args:
        presence, salience: logits (N, 6).
        targets: soft targets (N, 6), rows that sum to 1.
        options: the weights.
    """
    aligned = functional.kl_div(reconcile_logs(presence, salience), targets, reduction="batchmean")
    there = functional.binary_cross_entropy_with_logits(presence, (targets > 0).to(presence.dtype))
    shares = functional.kl_div(salience.log_softmax(dim=1), targets, reduction="batchmean")
    order = ranking(salience, targets)
    return aligned + options.presence_loss * there + options.salience_loss * shares + options.rank_loss * order


def ranking(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the logistic loss of every pair of emotions whose true saliences differ: mean over pairs, then over clips.

    log(1 + exp(lesser - greater)), as RankNet (Burges et al. 2005).

    Args:
        logits, targets: (N, 6).
    """
    greater = (targets[:, :, None] > targets[:, None, :]).to(logits.dtype)
    pairs = functional.softplus(logits[:, None, :] - logits[:, :, None]) * greater
    return (pairs.sum(dim=(1, 2)) / greater.sum(dim=(1, 2))).mean()


def coral(source: Tensor, target: Tensor) -> Tensor:
    """Return the squared Frobenius distance of the covariances over 4 width^2 (deep CORAL, Sun and Saenko 2016).

    Args:
        source, target: latent embeddings (N, width) and (K, width), at least 2 each.
    """
    difference = _covariance(source) - _covariance(target)
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def _covariance(vectors: Tensor) -> Tensor:
    centred = vectors - vectors.mean(dim=0)
    return centred.T @ centred / (len(vectors) - 1)


def mmd(source: Tensor, target: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy under the mean of Gaussian kernels of several widths (biased
    estimate).

    The kernel is exp(-d^2 / (scale x m)), m the mean squared distance of two different embeddings of both sets, which
    is not differentiated.

    Args:
        source, target: latent embeddings (N, width) and (K, width).
    """
    both = torch.cat([source, target])
    products = both @ both.T
    lengths = both.square().sum(dim=1)
    distances = (lengths[:, None] + lengths[None, :] - 2 * products).clamp(min=0)
    spread = distances.detach().sum() / max(len(both) * (len(both) - 1), 1)
    # Embeddings that are all alike have no spread, and are no distance apart in any unit.
    unit = torch.where(spread > 0, spread, torch.ones_like(spread))
    kernel = torch.stack([torch.exp(-distances / (scale * unit)) for scale in SCALES]).mean(dim=0)
    count = len(source)
    return kernel[:count, :count].mean() + kernel[count:, count:].mean() - 2 * kernel[:count, count:].mean()


@dataclass(frozen=True)
class Part:
    """What one training is given.

    Attributes:
        learn: clips with labels.
        unlabelled: clips that it adapts to; empty for none.
        check: clips with labels that decide how long it goes on; None goes on for `epochs`.
        epochs: passes over `learn` at most.
    """

    learn: Clips
    unlabelled: Clips
    check: Clips | None
    epochs: int


def fit_model(fold: Fold, base_models: BaseModels, options: RankAwareOptions, context: Context) -> RankAwareModel:
    """Choose the epoch on an actor-disjoint part of the training clips, then train on all of them for as long.

    Raises:
        DataError: no base model, a clip without a vector, too few actors for an inner split, or one clip alone to
        adapt to.
    """
    adapted = fold.held_out if options.adapts else Clips(())
    if options.adapts:
        context.note("adapted on clips", len(adapted))
        if not len(adapted):
            context.warn("rank-aware: there are no held-out clips here, so domain adaptation is not used")
    require_vectors(base_models, (*fold.train.ids, *adapted.ids))
    learn, check = fold.train.inner_split(context.seed)
    _, _, epochs = _train(Part(learn, adapted, check, options.epochs), base_models, options, context)
    context.note("epochs", epochs)
    inputs, network, _ = _train(Part(fold.train, adapted, None, epochs), base_models, options, context)
    model = RankAwareModel(inputs, network)
    _tell_weights(model, base_models, fold.train, context)
    return model


def _train(
    part: Part, base_models: BaseModels, options: RankAwareOptions, context: Context
) -> tuple[Inputs, RankAwareNetwork, int]:
    """Return what standardises, the network after the last epoch, in eval mode, and the best epoch."""
    inputs = fit_inputs(base_models, part.learn.ids)
    rows, others = (inputs.join(base_models, ids).to(context.device) for ids in (part.learn.ids, part.unlabelled.ids))
    targets = torch.from_numpy(part.learn.targets).to(context.device)
    judge = (
        None if part.check is None else _Judge(inputs.join(base_models, part.check.ids).to(context.device), part.check)
    )
    with seeded(context.seed):
        network = RankAwareNetwork(inputs.sizes, options.width, options.top_n, options.dropout).to(context.device)
        optimiser = _make_optimiser(network, options)
        domains = _Domains(others, options, context.seed)
        order = torch.Generator().manual_seed(context.seed)
        # A separate random stream, so that the order of the clips does not depend on the probability.
        chance = torch.Generator().manual_seed(context.seed + 2)
        best, epoch = 0, 0
        with context.progress("rank-aware: epochs", part.epochs) as bar, one_thread():
            while epoch < part.epochs and (judge is None or epoch - best < options.patience):
                network.train()
                for places in batches(len(rows), options.batch_size, order, options.adapts, context.device):
                    there = _draw_base_models(len(places), inputs, options.modality_dropout, chance)
                    fused, _ = network.fuse(rows[places], there if there is None else there.to(rows.device))
                    presence, salience = network.heads(fused)
                    loss = supervised(presence, salience, targets[places], options) + domains.distance(network, fused)
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()
                    optimiser.step()
                epoch += 1
                bar.advance()
                network.eval()
                if judge is None or judge.improves(network):
                    best = epoch
    return inputs, network, best


def _draw_base_models(clips: int, inputs: Inputs, share: float, chance: torch.Generator) -> Tensor | None:
    """Draw which base models each clip of a batch has, bool (B, M); where none would be left it has all of them."""
    if not share or len(inputs.names) < 2:
        return None
    there = torch.rand(clips, len(inputs.names), generator=chance) >= share
    return there | ~there.any(dim=1, keepdim=True)


def _make_optimiser(network: RankAwareNetwork, options: RankAwareOptions) -> torch.optim.Optimizer:
    gate = network.gate_parameters()
    known = {id(parameter) for parameter in gate}
    groups = [
        {"params": [parameter for parameter in network.parameters() if id(parameter) not in known]},
        {"params": gate, "lr": options.gate_rate * options.learning_rate},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate, weight_decay=options.weight_decay, fused=True)


class _Domains:
    """Draws unlabelled clips and says how far their latent embeddings are from those of a batch."""

    def __init__(self, others: Tensor, options: RankAwareOptions, seed: int) -> None:
        if len(others) == 1:
            raise DataError("domain adaptation requires at least 2 held-out clips, found 1: set rank-aware.adapt=none")
        self._others, self._options = others, options
        # A separate random stream, so that the drawn clips are independent of the order of the training clips.
        self._order = torch.Generator().manual_seed(seed + 1)

    def distance(self, network: RankAwareNetwork, fused: Tensor) -> Tensor | float:
        """Return the weighted loss of a batch of fused latent embeddings; 0 for a single clip."""
        if not len(self._others) or len(fused) < 2:
            return 0.0
        places = torch.randperm(len(self._others), generator=self._order)[: self._options.batch_size]
        drawn, _ = network.fuse(self._others[places.to(self._others.device)])
        return self._options.adapt_weight * {"coral": coral, "mmd": mmd}[self._options.adapt](fused, drawn)


class _Judge:
    """Remembers the best epoch so far."""

    def __init__(self, rows: Tensor, check: Clips) -> None:
        self._rows, self._inner = rows, InnerJudge(check)
        self._best: tuple[float, float] | None = None

    def improves(self, network: RankAwareNetwork) -> bool:
        """Return whether a network in eval mode is better than all that were seen before."""
        quality = self._inner.grade(read_rows(network, self._rows)[0])
        if self._best is not None and quality <= self._best:
            return False
        self._best = quality
        return True


def _tell_weights(model: RankAwareModel, base_models: BaseModels, clips: Clips, context: Context) -> None:
    """Note each base model's mean weight over training clips, and for which share of them it is kept."""
    weights = model.weigh(clips, base_models)
    context.note("weights", _by_name(model.inputs.names, weights.mean(axis=0)))
    context.note("kept", _by_name(model.inputs.names, (weights > 0).mean(axis=0)))


def _by_name(names: Sequence[str], values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in zip(names, values, strict=True)}
