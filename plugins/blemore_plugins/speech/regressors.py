"""Empathic-Insight-Voice: regressors of 40 emotion intensities on the hidden states of a Whisper encoder.

The files are `model_<emotion>_best.pth`, one per emotion, each with a linear layer over all hidden states of a window
of 30 s (`proj`) and a small MLP (`mlp`), whose linear layers are numbered with activation and dropout between them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blemore_harness.errors import DataError
from blemore_harness.networks import seeded
from blemore_plugins.speech.kinds import SMALL_SEED
from blemore_plugins.speech.network import Frozen
from blemore_plugins.speech.options import EMOTIONS
from blemore_plugins.speech.recipe import Recipe
from blemore_plugins.vision.loading import load_exactly, read_weights

PROJECTION = "proj.weight"

LAYER = re.compile(r"mlp\.(\d+)\.weight")

SMALL_WIDTHS = (4, 4)
"""Widths of the small random regressors."""


class Regressor(nn.Module):
    """The regressor of one emotion.

    Args:
        inputs: number of hidden states times their width.
        widths: of the projection and of the hidden layers.
    """

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, widths[0])
        layers: list[nn.Module] = [nn.ReLU(), nn.Dropout()]
        for before, width in pairwise(widths):
            layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout()]
        self.mlp = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, states: Tensor) -> Tensor:
        """Map hidden states (B, T, D) to intensities (B, 1)."""
        return self.mlp(self.proj(states.flatten(1)))


@dataclass(frozen=True)
class EmpathicVoice(Frozen):
    """A Whisper encoder whose `head` is a list of regressors."""

    def describe(self, found: Any, real: Sequence[int | None]) -> Tensor:
        """Return the intensities, (B, 40), from all hidden states, those of padding included."""
        return torch.cat([regressor(found.last_hidden_state) for regressor in self.head], dim=1)


def add_regressors(frozen: Frozen, recipe: Recipe) -> EmpathicVoice:
    """Load the regressors, or initialise small random ones.

    Raises:
        DataError: files that are damaged, or not of this layout.
    """
    config = frozen.trunk.config
    inputs = config.max_source_positions * config.d_model
    if recipe.regressors is None:
        with seeded(SMALL_SEED):
            regressors = [Regressor(inputs, SMALL_WIDTHS) for _ in EMOTIONS]
    else:
        regressors = [_load_regressor(path, inputs) for path in recipe.regressors.files]
    head = nn.ModuleList(regressors).eval().requires_grad_(False).to(frozen.trunk.device)
    return EmpathicVoice(frozen.trunk, head, frozen.kind, frozen.layers)


def _load_regressor(path: Path, inputs: int) -> Regressor:
    tensors = read_weights(path, {PROJECTION: 2}, "a regressor of Empathic-Insight-Voice", ("_orig_mod.",))
    first, found = tensors[PROJECTION].shape
    if found != inputs:
        raise DataError(
            f"{path}: expected a regressor on {inputs} numbers, as the Whisper encoder gives, found {found}: name the "
            "Whisper model that these regressors were trained on"
        )
    numbers = sorted(int(layer[1]) for name in tensors if (layer := LAYER.fullmatch(name)))
    widths = [tensors[f"mlp.{number}.weight"].shape[0] for number in numbers[:-1]]
    with torch.device("meta"):
        empty = Regressor(inputs, (first, *widths))
    return load_exactly(empty, tensors, str(path))
