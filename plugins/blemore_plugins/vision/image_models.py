"""Any image model of transformers or timm: its own pooled embedding of every frame, with its own preprocessing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blemore_harness.errors import DataError, InvalidOption
from blemore_harness.networks import seeded
from blemore_plugins.hub import Weights, load_strictly, quiet_transformers
from blemore_plugins.numbers import refuse_numbers
from blemore_plugins.shards import is_index
from blemore_plugins.vision.loading import list_tensors
from blemore_plugins.vision.preprocessing import read_rule, rule_of_timm
from blemore_plugins.vision.running import Network

POOLER = re.compile(r"(?:.*\.)?pooler\..*")
"""Parameters that turn all tokens into one embedding; checkpoints of classifiers often come without."""

IMAGES = "pixel_values"
"""Name of the input of an image model of transformers."""


def build_image_model(weights: Weights) -> Network:
    """Load an image model.

    Returns:
        Of transformers: the projected embedding where images and texts share a space (CLIP, SigLIP), else the pooled
        output where its weights are in the file, else the mean of the last hidden states. Of timm: the features before
        the classifier, pooled as the model's configuration says.

    Raises:
        DataError: weights that are damaged or do not fit.
        InvalidOption: not an image model, or preprocessing that is refused (see `preprocessing`).
    """
    network = _load_timm(weights) if is_timm(weights.folder) else _load_transformers(weights)
    _check(network, weights.folder)
    return network


def is_timm(folder: Path) -> bool:
    """Return whether a folder is in timm's layout, whose configuration names an architecture.

    Raises:
        DataError: a configuration that cannot be read.
    """
    path = folder / "config.json"
    try:
        return "architecture" in dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} is not a model's configuration: fetch it again") from error


def _load_timm(weights: Weights) -> Network:
    import timm

    if is_index(weights.files[1]):
        raise DataError(
            f"{weights.files[1]} lists shards, which timm does not load: put the whole model.safetensors beside it"
        )
    try:
        with seeded(0):
            model = timm.create_model(f"local-dir:{weights.folder}", pretrained=True, num_classes=0)
    except Exception as error:  # whatever timm and safetensors make of a damaged file
        raise DataError(
            f"timm {timm.__version__} cannot load the model in {weights.folder}: expected config.json with the name of "
            'an architecture that it has, and weights that fit; fetch them again, or pip install -U "timm>=1.0.20"'
        ) from error
    refuse_numbers(model.named_parameters(), f"the weights in {weights.folder}")
    rule, side = rule_of_timm(timm.data.resolve_model_data_config(model), weights.folder)
    return Network(model.eval(), _of_frames(model), side, rule=rule)


def _load_transformers(weights: Weights) -> Network:
    import transformers

    folder = weights.folder
    try:
        with quiet_transformers():
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        kind = transformers.MODEL_MAPPING[type(config)]
        kind = kind[0] if isinstance(kind, (tuple, list)) else kind
    except (OSError, ValueError, KeyError) as error:
        raise InvalidOption(
            f"model: transformers {transformers.__version__} has no class for the model in {folder}: expected an image "
            "model without code of its own; choose another, or a newer transformers"
        ) from error
    rule, side = read_rule(folder, "AutoImageProcessor")
    model = load_strictly(kind, folder, POOLER, surplus=True, dtype=torch.float32)
    return Network(model, _of_frames(_pooling(model, weights.files[1])), side, rule=rule)


def _pooling(model: Any, file: Path) -> Callable[[Tensor], Tensor]:
    """Return the function from pixels to embeddings that suits a model of transformers."""
    if hasattr(model, "get_image_features"):
        return lambda frames: model.get_image_features(pixel_values=frames).pooler_output
    wanted = [name for name in model.state_dict() if POOLER.fullmatch(name)]
    there = list_tensors(file) if wanted else set()
    pooled = all(any(name.endswith(own) for name in there) for own in wanted)

    def run(frames: Tensor) -> Tensor:
        found = model(pixel_values=frames)
        embedding = getattr(found, "pooler_output", None) if pooled else None
        if embedding is not None:
            return embedding.flatten(1)
        states = found.last_hidden_state
        return states.mean(dim=1) if states.ndim == 3 else states.mean(dim=(2, 3))

    return run


def _of_frames(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Convert a function of images into one of windows of one frame."""
    return lambda windows: run(windows[:, 0])[:, None]


def _check(network: Network, folder: Path) -> None:
    """Check on one image that the network gives an embedding, and the same each time (some hide parts at random)."""
    with seeded(0), torch.inference_mode():
        image = torch.rand(1, 1, 3, network.side, network.side)
        try:
            first, second = network.run(image), network.run(image)
        except Exception as error:  # whatever a network of another kind makes of an image
            raise InvalidOption(
                f"model: {type(network.module).__name__} in {folder} does not turn single images into embeddings: "
                "choose an image model"
            ) from error
    if first.ndim != 3 or not torch.equal(first, second):
        raise InvalidOption(
            f"model: {type(network.module).__name__} in {folder} gives other embeddings each time, or none: choose an "
            "image model without random parts"
        )
