"""Torchvision's Video Swin transformers, of any size, from files in torchvision's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models.video import SwinTransformer3d

from blemore_harness.networks import seeded
from blemore_plugins.vision.loading import count_blocks, load_exactly, read_weights
from blemore_plugins.vision.running import Network

LENGTH, STEP, SIDE = 32, 16, 224
"""Frames of a window and from one start to the next, as the organisers' features have them; pixels."""

PATCH, WINDOW = (2, 4, 4), (8, 7, 7)
"""Of all of torchvision's Video Swin networks."""

SMALL: dict[str, Any] = {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "num_classes": 6}
SMALL_SIDE = 32


def build_videoswin(path: Path | None) -> Network:
    """Load a network of any size, with any number of classes, from a file; without one, make the small random one.

    Raises:
        DataError: a file that is damaged, or not of this layout.
    """
    if path is None:
        with seeded(0):
            network = _make(SMALL).eval()
        return _wrap(network, SMALL_SIDE)
    markers = {"patch_embed.proj.weight": 5, "features.0.0.attn.relative_position_bias_table": 2, "head.weight": 2}
    tensors = read_weights(path, markers, "a Video Swin transformer of torchvision")
    # Stages of blocks have even numbers, the layers that halve the resolution odd ones.
    stages = (count_blocks(tensors, "features.#.0.norm1.weight") + 1) // 2
    depths = [count_blocks(tensors, f"features.{2 * stage}.#.norm1.weight") for stage in range(stages)]
    tables = [tensors.get(f"features.{2 * stage}.0.attn.relative_position_bias_table") for stage in range(stages)]
    sizes = {
        "embed_dim": tensors["patch_embed.proj.weight"].shape[0],
        "depths": depths,
        "num_heads": [1 if table is None else table.shape[1] for table in tables],
        "num_classes": tensors["head.weight"].shape[0],
    }
    network = _make(sizes)
    return _wrap(load_exactly(network, tensors, str(path)), SIDE)


def _make(sizes: dict[str, Any]) -> Any:
    return SwinTransformer3d(patch_size=list(PATCH), window_size=list(WINDOW), stochastic_depth_prob=0.0, **sizes)


def _wrap(network: Any, side: int) -> Network:
    network.head = nn.Identity()

    def run(windows: Tensor) -> Tensor:
        return network(windows.transpose(1, 2))[:, None]

    return Network(network, run, side, LENGTH, STEP, LENGTH)
