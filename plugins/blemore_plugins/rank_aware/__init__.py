"""Rank-aware selective fusion of base models' embeddings, after the system with the second place in the challenge.

From the paper (arXiv 2605.21417; only its abstract is public): each base model's embedding is projected to one latent
space; an attention-based gate weights the base models for every clip; only the top n are fused; separate presence and
salience heads are combined as probabilities; feature-level domain adaptation is used, without pseudo-labels.

Not specified by the abstract and chosen here: all constants (see `options.py`); projections of one layer with layer
normalisation and GELU; a gate of scaled dot products between the base models' mean and each base model, with a higher
learning rate; weights as a softmax over the selected base models; straight-through gradients; six sigmoids for
presence, a softmax for salience, and their normalised product as the probabilities; the four losses, among them a
ranking loss (after the title, "Ordering Matters"); CORAL and MMD on the fused latent embeddings. The number of epochs
is chosen on held-out training actors, and the network is then trained on all training clips for as many. Training can
leave out whole base models (`modality_dropout`); where one is missing at prediction, the gate chooses among the others.

Domain adaptation is transductive and off by default. Without it, embeddings of held-out clips are not used in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from blemore_harness.clips import Fold
from blemore_harness.context import Context
from blemore_harness.errors import ExtraMissing
from blemore_harness.hookspecs import Card, Fusion, FusionModel, hookimpl
from blemore_harness.predictions import Embeddings
from blemore_plugins.cards import fusion_card
from blemore_plugins.rank_aware.options import RankAwareOptions

__all__ = ["RankAwareFusion", "RankAwareOptions", "blemore_fusions"]

TRANSDUCTIVE = "transductive: adapted on unlabelled held-out clips"
"""Caveat of results with training on held-out clips, without their labels."""


class RankAwareFusion(Fusion):
    """Projects base models' embeddings to one latent space and fuses the top n per clip; separate presence and
    salience heads."""

    name: ClassVar[str] = "rank-aware"
    summary: ClassVar[str] = (
        "embeddings of the top base models of each clip in one latent space; presence and salience heads"
    )
    Options: ClassVar[type[Any]] = RankAwareOptions
    demo_options: ClassVar[Mapping[str, object]] = {"width": 64, "epochs": 60, "patience": 15}
    takes: ClassVar[Literal["probabilities", "embeddings"]] = "embeddings"

    def caveat(self, options: RankAwareOptions) -> str | None:
        """Return the caveat if held-out clips are used in training."""
        return TRANSDUCTIVE if options.adapts else None

    def card(self, options: RankAwareOptions) -> Card:
        """Return the card of a fusion."""
        return fusion_card("arXiv 2605.21417")

    def fit(
        self, fold: Fold, base_models: Mapping[str, Embeddings], options: RankAwareOptions, context: Context
    ) -> FusionModel:
        """Train on the base models' embeddings of the training clips, and with `adapt` of the held-out clips.

        Notes `epochs`, each base model's mean weight (`weights`) and the share of training clips for which it is
        selected (`kept`).

        Raises:
            DataError: no base model, a clip without a vector, too few actors for an inner split, or one clip to adapt
            to. ExtraMissing: torch is not installed.
        """
        try:
            from blemore_plugins.rank_aware.training import fit_model
        except ImportError as error:
            raise ExtraMissing(
                f"rank-aware fusion requires torch ({error}): pip install 'blemore-harness[encoders]'"
            ) from error
        return fit_model(fold, base_models, options, context)

    def load(self, folder: Path, options: RankAwareOptions, context: Context) -> FusionModel:
        """Read a trained network."""
        from blemore_plugins.rank_aware.network import load

        return load(folder, context)


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Return the rank-aware fusion."""
    return [RankAwareFusion()]
