"""Reading HiCMAE checkpoints, pre-trained or fine-tuned, by name; a difference is either documented or an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from blemore_harness.errors import DataError, first_and_count
from blemore_harness.networks import seeded
from blemore_plugins.hicmae.network import HiCMAE
from blemore_plugins.hicmae.shape import HEAD_WIDTH, Shape
from blemore_plugins.numbers import refuse_numbers
from blemore_plugins.s4d.checkpoint import read_tensors

PREFIXES = ("module.",)
"""Put before names by wrappers for distributed training; `encoder.` is a part of the network here."""

FRESH_AFTER_PRETRAINING = re.compile(r"(video|audio)_layer_weights|fc_norm\.(weight|bias)|head\.(weight|bias)")
"""What the pre-trained file does not have: layers are then averaged evenly, and the last norm has no weights."""

LEFT_IN_PRETRAINING = re.compile(r"mask_token(_audio)?|encoder_to_decoder(_audio)?\.weight|decoder(_audio)?\..+")
"""What only pre-training needs."""

TELLING = (
    "encoder.patch_embed.proj.weight",
    "encoder_audio.patch_embed.proj.weight",
    "encoder.blocks.0.mlp.fc1.weight",
)
"""Tensors whose shapes say how large the network is."""

BLOCK = re.compile(r"encoder\.blocks\.(\d+)\.norm1\.weight")
FUSION = re.compile(r"encoder_fusion\.blocks\.(\d+)\.norm1\.weight")


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint was; all JSON types, for the record.

    Attributes:
        kind: `pre-trained` or `fine-tuned`.
        tensors: how many were taken.
        ignored: how many only pre-training needs.
    """

    kind: str
    tensors: int
    ignored: int


def load_network(path: Path, image: int) -> tuple[HiCMAE, Loaded]:
    """Build the network of a checkpoint's size with its weights, in eval mode on the CPU.

    A file without any of `FRESH_AFTER_PRETRAINING` is a pre-trained one; it must have all three encoders and may have
    what only pre-training needs. Any other file must have exactly the network's names.

    Args:
        path: see `s4d.checkpoint.read_tensors`; nothing in the file is executed.
        image: height and width of a frame in pixels, which no weight tells.

    Raises:
        DataError: not a checkpoint; not of this network; or tensors that are missing, unexpected or of another shape,
            of which it names the first of each and the counts.
    """
    tensors = read_tensors(path, PREFIXES)
    shape = shape_of(tensors, image, path.name)
    # What a pre-trained file lacks starts with fixed values, none of them drawn; other draws are not disturbed.
    with seeded(0):
        network = HiCMAE(shape)
    own = network.state_dict()
    pretrained = not any(FRESH_AFTER_PRETRAINING.fullmatch(name) for name in tensors)
    ignored = [name for name in tensors if pretrained and LEFT_IN_PRETRAINING.fullmatch(name)]
    problems = {
        "missing": [n for n in own if n not in tensors and not (pretrained and FRESH_AFTER_PRETRAINING.fullmatch(n))],
        "unexpected": [name for name in tensors if name not in own and name not in set(ignored)],
        "mis-shaped": [
            f"{name}: {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in tensors and tensors[name].shape != own[name].shape
        ],
    }
    if any(problems.values()):
        found = ", ".join(f"{kind} {first_and_count(names, 'tensor')}" for kind, names in problems.items())
        raise DataError(f"{path.name} does not fit HiCMAE: {found}; fetch the released file again")
    taken = {name: tensor for name, tensor in tensors.items() if name in own}
    refuse_numbers(taken.items(), f"the weights of {path.name}")
    network.load_state_dict({**own, **taken})
    return network.eval(), Loaded("pre-trained" if pretrained else "fine-tuned", len(taken), len(ignored))


def shape_of(tensors: Mapping[str, Tensor], image: int, source: str) -> Shape:
    """Read the network's sizes from the weights.

    Raises:
        DataError: the weights are not this network's at all, or do not go with pictures of that size.
    """
    patch, sound, hidden = (tensors[name] if name in tensors else Tensor() for name in TELLING)
    depth, fusion = (_count(tensors, pattern) for pattern in (BLOCK, FUSION))
    ranks = (patch.ndim, sound.ndim, hidden.ndim)
    if ranks != (5, 4, 2) or not patch.shape[0] or patch.shape[0] % HEAD_WIDTH or not (depth and fusion):
        raise DataError(
            f"{source} holds no weights of HiCMAE: expected '{TELLING[0]}' of shape (64 k, 3, t, p, p), "
            f"'{TELLING[1]}', and blocks of both and of 'encoder_fusion'; found "
            f"{first_and_count(sorted(tensors), 'tensor')}"
        )
    dim, _, tubelet, size, _ = patch.shape
    if image % size:
        raise DataError(f"{source} cuts pictures into patches of {size} pixels: set size to a multiple, found {image}")
    shape = Shape(dim, depth, fusion, hidden.shape[0] // dim, image, size, tubelet, sound.shape[-1])
    return replace(shape, classes=tensors["head.weight"].shape[0]) if "head.weight" in tensors else shape


def _count(tensors: Mapping[str, Tensor], pattern: re.Pattern[str]) -> int:
    return max((int(found[1]) + 1 for name in tensors if (found := pattern.fullmatch(name))), default=0)
