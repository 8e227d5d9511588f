"""Builds the network of a recipe: a transformers encoder that has a time axis, or one that needs more than that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from blemore_harness.errors import InvalidOption
from blemore_plugins.speech.audio_language import build_qwen
from blemore_plugins.speech.imagebind import build_imagebind_audio
from blemore_plugins.speech.kinds import CLAP, IMAGEBIND, QWEN2_AUDIO
from blemore_plugins.speech.network import Frozen, build_network
from blemore_plugins.speech.recipe import Recipe
from blemore_plugins.speech.regressors import add_regressors


@dataclass(frozen=True)
class Clap(Frozen):
    """CLAP's audio encoder; `head` is its projection, which the trunk runs itself."""

    def over_time(self, states: torch.Tensor) -> torch.Tensor:
        """Average the frequency bands of the last map: (B, D, bands, T) to (B, T, D)."""
        return states.mean(dim=2).transpose(1, 2)

    def describe(self, found: Any, real: Sequence[int | None]) -> torch.Tensor:
        """Return the projected embedding of each piece."""
        return found.audio_embeds


@dataclass(frozen=True)
class ImageBind(Frozen):
    """ImageBind's audio encoder: one frame per window."""

    def describe(self, found: Any, real: Sequence[int | None]) -> torch.Tensor:
        """Return the embedding of each window, whose mean is that of the clip."""
        return found.last_hidden_state[:, 0]


def build(recipe: Recipe, device: str) -> Frozen:
    """Load the network of a recipe, or initialise the small random one.

    Raises:
        DataError, InvalidOption: as of `network.build_network`, or a CLAP model with feature fusion.
    """
    if recipe.kind is QWEN2_AUDIO:
        return build_qwen(recipe, device)
    if recipe.kind is IMAGEBIND:
        network = build_imagebind_audio(recipe).requires_grad_(False).to(device)
        return ImageBind(network, recipe.outputs, recipe.kind, None)
    frozen = build_network(recipe, device)
    if recipe.kind is CLAP:
        if frozen.trunk.config.enable_fusion:
            raise InvalidOption(
                f"model: expected a CLAP model without feature fusion, such as laion/clap-htsat-unfused; "
                f"found '{recipe.model}'"
            )
        return Clap(frozen.trunk, recipe.outputs, recipe.kind, None)
    return add_regressors(frozen, recipe) if recipe.outputs and frozen.head is None else frozen
