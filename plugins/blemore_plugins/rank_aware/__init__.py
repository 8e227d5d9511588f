"""Rank-aware selective fusion of base models' embeddings, after the system that came second in the challenge.

From the paper (arXiv 2605.21417; only its abstract is public): each base model's vector is projected to one latent
space; an attention-based gate weighs the base models for every clip; only the top n are fused; a presence head and a
salience head are apart and are brought together as probabilities; domains are adapted to at the level of features,
without pseudo-labels.

Ours, because the abstract does not say: every constant (see `options.py`); projections of one layer with layer
normalisation and GELU; a gate of scaled dot products between the base models' mean and each base model, which learns
faster than the rest; kept weights as a softmax over the kept base models; straight-through gradients; six sigmoids for
presence, a softmax for salience, and their product over its sum as the row; the four losses, of which the ranking loss
takes the title ("Ordering Matters") at its word; CORAL and MMD on the fused latent embeddings. Epochs are chosen on
actors that were not trained on, and the network is then trained on all training clips for as long.

Adapting is transductive and off by default. Without it, embeddings of held-out clips are not looked at in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from blemore_harness.clips import Fold
from blemore_harness.context import Context
from blemore_harness.errors import ExtraMissing
from blemore_harness.hookspecs import Fusion, FusionModel, hookimpl
from blemore_harness.predictions import Embeddings
from blemore_plugins.rank_aware.options import RankAwareOptions

__all__ = ["RankAwareFusion", "RankAwareOptions", "blemore_fusions"]

TRANSDUCTIVE = "transductive: adapted on unlabelled held-out clips"
"""Mark of results where held-out clips were trained on, without their labels."""


class RankAwareFusion(Fusion):
    """Base models' embeddings in one latent space, the best few of each clip fused, presence and salience apart."""

    name: ClassVar[str] = "rank-aware"
    summary: ClassVar[str] = (
        "embeddings of the top base models of each clip in one latent space; presence and salience heads"
    )
    Options: ClassVar[type[Any]] = RankAwareOptions
    demo_options: ClassVar[Mapping[str, object]] = {"width": 64, "epochs": 60, "patience": 15}
    takes: ClassVar[Literal["probabilities", "embeddings"]] = "embeddings"

    def caveat(self, options: RankAwareOptions) -> str | None:
        """Report where held-out clips were trained on."""
        return TRANSDUCTIVE if options.adapts else None

    def fit(
        self, fold: Fold, base_models: Mapping[str, Embeddings], options: RankAwareOptions, context: Context
    ) -> FusionModel:
        """Learn from the base models' embeddings of the training clips, and with `adapt` of the held-out clips.

        Notes `epochs`, each base model's mean weight (`weights`) and for which share of the training clips it is
        `kept`.

        Raises:
            DataError: no base model, a clip without a vector, too few actors for an inner split, or one clip to adapt
            to. ExtraMissing: torch is not installed.
        """
        try:
            from blemore_plugins.rank_aware.training import fit_model
        except ImportError as error:
            raise ExtraMissing(
                f"rank-aware fusion needs torch ({error}): pip install 'blemore-harness[encoders]'"
            ) from error
        return fit_model(fold, base_models, options, context)


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Offer rank-aware fusion."""
    return [RankAwareFusion()]
