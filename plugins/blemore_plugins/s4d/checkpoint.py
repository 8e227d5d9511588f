"""Reading S4D checkpoints in every layout they come in, by name; a difference is either documented or an error."""

from __future__ import annotations

import argparse
import dataclasses
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blemore_harness.errors import DataError, first_and_count
from blemore_plugins.numbers import refuse_numbers
from blemore_plugins.s4d.network import S4DViTMoE
from blemore_plugins.s4d.shape import ADAPTER_RATIO, HEAD_WIDTH, Shape
from blemore_plugins.shards import is_index, read_index

CONTAINERS = ("model", "module", "state_dict", "network")
"""Under which key the weights lie in a checkpoint, in order of preference; none of them: the file is the weights."""

PREFIXES = ("module.", "encoder.", "backbone.")
"""Put before names by wrappers for distributed training, by the masked autoencoder and by other trainers."""

FRESH_AFTER_PRETRAINING = re.compile(r"blocks\.\d+\.moe_layer\.|fc_norm\.|head\.")
"""What the pretrained file does not have: experts, the norm after pooling and the heads start from scratch."""

LEFT_IN_PRETRAINING = re.compile(r"mask_token$|encoder_to_decoder\.|decoder\.|norm\.")
"""What only pre-training needs; the encoder's last norm is not the norm after pooling, and upstream drops it too."""

VIDEO_HEAD = re.compile(r"head\.video\.")
EXPERT = re.compile(r"blocks\.(\d+)\.moe_layer\.experts\.(\d+)\.fc1\.weight")
BLOCK = re.compile(r"blocks\.(\d+)\.norm1\.weight")


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint was and what became of it; all JSON types, for the record.

    Attributes:
        kind: `pretrained` (no experts) or `fine-tuned`.
        tensors: how many were taken.
        fresh: names that keep their fresh values, without the trailing numbers of single tensors.
        ignored: how many tensors of the file only pre-training needs.
        old_classes: outputs of a video head that was left out because it names other classes; else None.
    """

    kind: str
    tensors: int
    fresh: tuple[str, ...]
    ignored: int
    old_classes: int | None

    def describe(self) -> str:
        """Report it in one line."""
        text = f"{self.kind} weights: {self.tensors} tensors loaded"
        if self.fresh:
            text += f", starting fresh: {', '.join(self.fresh)}"
        if self.old_classes is not None:
            text += f"; the video head for {self.old_classes} other classes was replaced"
        return text


def read_tensors(path: Path, prefixes: tuple[str, ...] = PREFIXES) -> dict[str, Tensor]:
    """Read the weights of a checkpoint by plain names, on the CPU; nothing in the file is executed.

    Args:
        path: `.safetensors`, or what `torch.save` wrote: a dict with the weights under one of `CONTAINERS`, beside
            optimizer, epoch, `argparse.Namespace` and the like, or the weights themselves; or the index of shards.
        prefixes: what is taken off the front of names.

    Raises:
        DataError: not such a file, or two names that are one without their prefixes.
    """
    held = _open_shards(path) if is_index(path) else _open(path)
    for key in CONTAINERS:
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
            break
    if not isinstance(held, Mapping) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise DataError(f"expected weights (names with tensors) in {path}, found {_summarise(held)}")
    tensors: dict[str, Tensor] = {}
    for name, tensor in held.items():
        plain = _strip(name, prefixes)
        if plain in tensors:
            raise DataError(f"{path} has '{plain}' twice, under different prefixes: keep one set of weights in it")
        tensors[plain] = tensor
    return tensors


def shape_of(tensors: Mapping[str, Tensor], base: Shape) -> Shape:
    """Read the network's sizes from the weights; what no weight tells comes from `base`.

    That is the size of images and clips, the experts per token, and, for pretrained weights, all about experts and
    heads. The video head keeps the classes of `base`.

    Raises:
        DataError: the weights are not this network's at all.
    """
    patch = tensors.get("patch_embed.proj.weight")
    blocks = [int(found[1]) for name in tensors if (found := BLOCK.fullmatch(name))]
    if patch is None or patch.ndim != 5 or not blocks or patch.shape[0] % HEAD_WIDTH:
        raise DataError(
            "these are not weights of an S4D network: expected 'patch_embed.proj.weight' of shape (64 k, 3, t, p, p) "
            f"and 'blocks.0.norm1.weight', found {first_and_count(sorted(tensors), 'tensor')}"
        )
    dim, _, tubelet, size, _ = patch.shape
    shape = dataclasses.replace(
        base, dim=dim, tubelet=tubelet, patch=size, depth=max(blocks) + 1, adapter=dim // ADAPTER_RATIO
    )
    hidden = tensors.get("blocks.0.mlp.fc1.weight")
    if hidden is not None:
        shape = dataclasses.replace(shape, mlp=hidden.shape[0] // shape.dim)
    experts = [(int(found[1]), int(found[2]), name) for name in tensors if (found := EXPERT.fullmatch(name))]
    if experts:
        routing = dataclasses.replace(base.routing, experts=max(number for _, number, _ in experts) + 1)
        first, _, name = min(experts)
        shape = dataclasses.replace(shape, routing=routing, first_expert=first, adapter=tensors[name].shape[0])
    if "head.image.weight" in tensors:
        shape = dataclasses.replace(shape, image_classes=tensors["head.image.weight"].shape[0])
    return shape


def load_into(network: S4DViTMoE, tensors: Mapping[str, Tensor], source: str) -> Loaded:
    """Copy weights into a network of their shape (see `shape_of`), name by name.

    A file without experts is a pretrained one: it must have the whole plain trunk and may have what only pre-training
    needs. Any other file must have exactly the network's names. A video head for another number of classes is left
    out, and said so.

    Raises:
        DataError: every other missing, unexpected or mis-shaped tensor; names the first of each and the counts.
    """
    tensors = dict(tensors)
    own = network.state_dict()
    pretrained = not any(EXPERT.fullmatch(name) for name in tensors)
    old_classes = None
    head = tensors.get("head.video.weight")
    if head is not None and head.shape[0] != network.shape.video_classes:
        old_classes = int(head.shape[0])
        tensors = {name: tensor for name, tensor in tensors.items() if not VIDEO_HEAD.match(name)}
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    ignored = [name for name in unexpected if pretrained and LEFT_IN_PRETRAINING.match(name)]
    fresh = [
        name
        for name in missing
        if (pretrained and FRESH_AFTER_PRETRAINING.match(name)) or (old_classes and VIDEO_HEAD.match(name))
    ]
    _refuse(
        source,
        missing=[name for name in missing if name not in set(fresh)],
        unexpected=[name for name in unexpected if name not in set(ignored)],
        wrong=[
            f"{name}: {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in tensors and tensors[name].shape != own[name].shape
        ],
    )
    taken = {name: tensor for name, tensor in tensors.items() if name in own}
    refuse_numbers(taken.items(), f"the weights of {source}")
    network.load_state_dict({**own, **taken})
    return Loaded("pretrained" if pretrained else "fine-tuned", len(taken), _parts(fresh), len(ignored), old_classes)


def _open(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # Fine-tuning checkpoints hold the command line beside the weights; nothing else but plain types is let in.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} holds more than tensors and plain types, or is damaged; it was not opened, because such a file "
            f"can run code. Save its weights with safetensors. ({str(error).splitlines()[0]})"
        ) from error
    except FileNotFoundError as error:
        raise DataError(f"no file {path}") from error
    except Exception as error:
        # Damaged files end in RuntimeError, EOFError, KeyError, SafetensorError ... depending on where they are cut.
        raise DataError(f"cannot read {path} as a checkpoint ({error!r}): fetch it again") from error


def _open_shards(index: Path) -> dict[str, Tensor]:
    """Join the shards of an index, as `from_pretrained` does: every tensor in them, and all that the index names."""
    homes = read_index(index)
    shards = {name: read_tensors(index.parent / name, ()) for name in sorted(set(homes.values()))}
    lacking = [name for name, home in homes.items() if name not in shards[home]]
    if lacking:
        raise DataError(f"{first_and_count(lacking, 'tensor')} of {index} not in its shard: fetch the shards again")
    return {name: tensor for shard in shards.values() for name, tensor in shard.items()} | {
        name: shards[home][name] for name, home in homes.items()
    }


def _strip(name: str, prefixes: tuple[str, ...]) -> str:
    while prefix := next((prefix for prefix in prefixes if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return name


def _summarise(held: Any) -> str:
    if isinstance(held, Mapping):
        return f"a dict with {first_and_count(map(str, held), 'key')}"
    return f"a {type(held).__name__}"


def _refuse(source: str, **problems: list[str]) -> None:
    if any(problems.values()):
        text = ", ".join(f"{kind} {first_and_count(names, 'tensor')}" for kind, names in problems.items())
        raise DataError(f"{source} does not fit S4D-ViTMoE: {text}")


def _parts(names: Iterable[str]) -> tuple[str, ...]:
    """Shorten names of tensors to the parts that they belong to."""
    found: dict[str, None] = {}
    for name in names:
        part = re.sub(r"blocks\.\d+\.moe_layer\..*", "experts", name)
        found[re.sub(r"\.(weight|bias)$", "", part)] = None
    return tuple(found)
