"""Weights of networks that are written here: read, checked name by name, taken without copying."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from safetensors import safe_open
from torch import Tensor

from blemore_harness.disk import atomic_file
from blemore_harness.errors import DataError, first_and_count
from blemore_plugins.hub import TIMEOUT
from blemore_plugins.numbers import refuse_numbers
from blemore_plugins.s4d.checkpoint import read_tensors
from blemore_plugins.shards import is_index, read_index

NOTHING = re.compile(r"(?!)")

PREFIXES = ("module.", "model.")
"""Put before names by wrappers for distributed training, and by trainers and hub classes that hold the network (as in
`OpenGVLab/VideoMAEv2-giant`); no network here has names that begin so."""


BLOCK = 1 << 20
"""Bytes of a download that are held at a time."""


def fetch_checked(address: str, target: Path) -> None:
    """Download a file whose name ends in a dash and the beginning of its SHA-256, as torchvision's do: whole or not.

    Raises:
        OSError: no answer within `hub.TIMEOUT`, or a disk that is full.
        ValueError: a file of another digest.
    """
    digest = hashlib.sha256()
    with urlopen(address, timeout=TIMEOUT) as answer, atomic_file(target) as file:
        while block := answer.read(BLOCK):
            digest.update(block)
            file.write(block)
        if not digest.hexdigest().startswith(target.stem.rpartition("-")[2]):
            raise ValueError(f"the downloaded file is different: its SHA-256 begins with {digest.hexdigest()[:8]}")


def read_weights(
    path: Path, markers: Mapping[str, int], kind: str, prefixes: tuple[str, ...] = PREFIXES
) -> dict[str, Tensor]:
    """Read the weights of a file (`torch.save` or safetensors; nothing in it is executed).

    Args:
        path: the file.
        markers: names of tensors that tell this kind of weights, with their number of axes.
        kind: what was expected, for the message.
        prefixes: what is taken off the front of names.

    Raises:
        DataError: a damaged file, or weights of another kind.
    """
    tensors = read_tensors(path, prefixes)
    for name, axes in markers.items():
        if name not in tensors or tensors[name].ndim != axes:
            found = "none" if name not in tensors else f"one with {tensors[name].ndim}"
            raise DataError(
                f"{path} does not hold weights of {kind}: expected '{name}' with {axes} axes, found {found} among "
                f"{first_and_count(sorted(tensors), 'tensor')}"
            )
    return tensors


def list_tensors(path: Path) -> set[str]:
    """Return the names of the tensors of a file, whole or in shards.

    Raises:
        DataError: a damaged file.
    """
    if is_index(path):
        return set(read_index(path))
    if path.suffix != ".safetensors":
        return set(read_tensors(path, ()))
    try:
        with safe_open(path, "pt") as file:
            return set(file.keys())
    except Exception as error:  # safetensors has an exception of its own for damaged files
        raise DataError(f"{path} is damaged: fetch it again") from error


def count_blocks(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Count blocks by a pattern of names, in which `#` stands for the number."""
    numbers = re.compile(re.escape(pattern).replace(r"\#", r"(\d+)"))
    return 1 + max((int(found[1]) for name in tensors if (found := numbers.fullmatch(name))), default=-1)


def load_exactly(network: Any, tensors: Mapping[str, Tensor], source: str, left_out: re.Pattern[str] = NOTHING) -> Any:
    """Put weights into a network, which may have been made on the meta device; returns it in eval mode, float32.

    Args:
        network: a torch module.
        tensors: by name.
        source: where they come from, for the message.
        left_out: names that may be in the file alone; a full match is asked for.

    Raises:
        DataError: names missing, unexpected or of another shape: the first of each and the counts; or weights that are
            no numbers.
    """
    own = network.state_dict()
    problems = {
        "missing": [name for name in own if name not in tensors],
        "unexpected": [name for name in tensors if name not in own and not left_out.fullmatch(name)],
        "mis-shaped": [name for name in own if name in tensors and tensors[name].shape != own[name].shape],
    }
    if any(problems.values()):
        text = ", ".join(f"{what} {first_and_count(names, 'tensor')}" for what, names in problems.items() if names)
        raise DataError(
            f"{source} does not fit {type(network).__name__}: {text}; expected the released layout: fetch it again"
        )
    refuse_numbers(((name, tensors[name]) for name in own), f"the weights of {source}")
    network.load_state_dict({name: tensors[name].to(tensor.dtype) for name, tensor in own.items()}, assign=True)
    return network.eval()
