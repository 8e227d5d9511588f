"""What the network is trained to: both heads, their reconciled row, the order of saliences, and likeness of domains."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from blemore_plugins.rank_aware.network import reconcile_logs
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
