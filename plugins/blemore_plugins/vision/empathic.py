"""Empathic-Insight-Face: 40 small regressors on SigLIP 2 embeddings of face crops, one emotion intensity each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from blemore_harness.cache import Cache
from blemore_harness.errors import DataError
from blemore_plugins.hub import Weights, find_weights, identify_source
from blemore_plugins.vision.families import FramesExtractor
from blemore_plugins.vision.options import RANDOM_SMALL

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from blemore_plugins.vision.running import Network

EMOTIONS = (
    "affection", "amusement", "anger", "astonishment_surprise", "awe", "bitterness", "concentration", "confusion",
    "contemplation", "contempt", "contentment", "disappointment", "disgust", "distress", "doubt", "elation",
    "embarrassment", "emotional_numbness", "fatigue_exhaustion", "fear", "helplessness", "hope_enthusiasm_optimism",
    "impatience_and_irritability", "infatuation", "interest", "intoxication_altered_states_of_consciousness",
    "jealousy_&_envy", "longing", "malevolence_malice", "pain", "pleasure_ecstasy", "pride", "relief", "sadness",
    "sexual_lust", "shame", "sourness", "teasing", "thankfulness_gratitude", "triumph",
)  # fmt: skip
"""The 40 emotions of EmoNet-Face, as the released files spell them: the columns of the features."""

FILES = tuple((f"model_{name}_best.pth",) for name in EMOTIONS)
LAYER = re.compile(r"layers\.(\d+)\.(weight|bias)")
SMALL_HIDDEN = (8, 4)


@dataclass(frozen=True)
class EmpathicWeights(Weights):
    """The files of SigLIP 2, and beside them those of the regressors."""

    regressors: Weights

    def identity(self, cache: Cache) -> dict[str, object]:
        """Report which weights these are, for cache keys and records."""
        return {**super().identity(cache), "regressors": self.regressors.identity(cache)}


class EmpathicFaceExtractor(FramesExtractor):
    """40 intensities per face crop."""

    name: ClassVar[str] = "empathic-face"

    def identify(self, options: Any) -> Mapping[str, object]:
        """Identify local models by their contents."""
        if options.model == RANDOM_SMALL:
            return {}
        return {**super().identify(options), "regressors": identify_source(options.regressors, FILES)}

    def find(self, options: Any, download: bool) -> Weights:
        """Find SigLIP 2 and the 40 regressors."""
        network = super().find(options, download)
        regressors = find_weights(
            options.regressors, FILES, f"{self.name}.regressors", revision=options.regressors_revision,
            download=download,
        )  # fmt: skip
        return EmpathicWeights(network.files, network.commit, regressors)

    def key(self, options: Any) -> dict[str, object]:
        """Return whether embeddings are scaled."""
        return {"unit_length": options.unit_length}

    def build(self, options: Any, weights: Weights | None) -> Network:
        """Load both, one behind the other."""
        from torch import nn

        embedder = super().build(options, weights)
        if isinstance(weights, EmpathicWeights):
            regressors = nn.ModuleList([load_regressor(path) for path in weights.regressors.files])
        else:
            regressors = _make_small(embedder)
        module = nn.ModuleList([embedder.module, regressors])

        def run(windows: Tensor) -> Tensor:
            return predict(regressors, embedder.run(windows), options.unit_length)

        width = regressors[0][0].in_features
        found = _width(embedder)
        if found != width:
            raise DataError(
                f"the regressors take embeddings of {width} numbers, {options.model} gives {found}: expected the "
                "SigLIP 2 that they were trained on, google/siglip2-so400m-patch16-384; set empathic-face.model"
            )
        return dataclasses.replace(embedder, module=module.eval(), run=run)


def predict(regressors: Any, embeddings: Tensor, unit_length: bool) -> Tensor:
    """Return the intensities, (..., 40), of embeddings (..., D)."""
    import torch
    from torch.nn import functional

    given = functional.normalize(embeddings, dim=-1) if unit_length else embeddings
    return torch.cat([regressor(given) for regressor in regressors], dim=-1)


def load_regressor(path: Path) -> Any:
    """Load a regressor of the released layout: linear layers `layers.N`, ReLU between them, one output.

    Raises:
        DataError: another layout, or a damaged file.
    """
    from torch import nn

    from blemore_plugins.vision.loading import load_exactly, read_weights

    tensors = read_weights(path, {"layers.0.weight": 2}, "an Empathic-Insight regressor")
    places = sorted({int(found[1]) for name in tensors if (found := LAYER.fullmatch(name))})
    shapes = [tensors[f"layers.{place}.weight"].shape for place in places if f"layers.{place}.weight" in tensors]
    chained = all(len(shape) == 2 for shape in shapes) and all(
        before[0] == after[1] for before, after in pairwise(shapes)
    )
    if len(shapes) != len(places) or not chained or shapes[-1][0] != 1:
        raise DataError(
            f"{path} is not an Empathic-Insight regressor: expected linear layers in a chain with one output, "
            f"found {[tuple(shape) for shape in shapes]}; fetch it again"
        )
    # Between the linear layers stood an activation and dropout, which have no weights: numbers go on from 0.
    layers: list[Any] = []
    for shape in shapes:
        layers += [nn.Linear(shape[1], shape[0]), nn.ReLU()]
    regressor = nn.Sequential(*layers[:-1])
    renamed = {
        f"{2 * places.index(int(found[1]))}.{found[2]}" if (found := LAYER.fullmatch(name)) else name: tensor
        for name, tensor in tensors.items()
    }
    return load_exactly(regressor, renamed, str(path))


def _make_small(embedder: Network) -> Any:
    from torch import nn

    from blemore_harness.networks import seeded

    first, second = SMALL_HIDDEN
    width = _width(embedder)
    with seeded(0):
        return nn.ModuleList(
            [
                nn.Sequential(
                    nn.Linear(width, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 1)
                )
                for _ in EMOTIONS
            ]
        )


def _width(embedder: Network) -> int:
    import torch

    with torch.inference_mode():
        return int(embedder.run(torch.zeros(1, 1, 3, embedder.side, embedder.side)).shape[-1])
