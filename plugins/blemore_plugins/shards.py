"""Weights that come in several files: the index that says which of them holds which tensor."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from blemore_harness.errors import DataError, first_and_count

TENSOR_ENDINGS = (".safetensors", ".bin", ".pt", ".pth")
"""Endings of files that hold tensors."""

INDEX_ENDING = ".index.json"
"""What follows the name of a file of tensors in that of the index of its shards."""


def is_index(path: Path) -> bool:
    """Return whether a file is the index of shards."""
    return path.name.endswith(INDEX_ENDING)


def read_index(index: Path) -> dict[str, str]:
    """Read which shard holds each tensor: file names by names of tensors.

    Raises:
        DataError: no index as transformers writes it, or one that names files outside its folder.
    """
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
        shards = dict(found["weight_map"])
        sound = isinstance(found["metadata"], dict) and shards and all(isinstance(s, str) for s in shards.values())
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{index} is not an index of shards: expected objects weight_map and metadata") from error
    if not sound:
        raise DataError(f"{index} is not an index of shards: expected objects weight_map and metadata")
    climbing = sorted(
        {
            name
            for name in shards.values()
            if not name.endswith(TENSOR_ENDINGS) or "\\" in name or {"..", "/"} & set(PurePosixPath(name).parts)
        }
    )
    if climbing:
        raise DataError(
            f"{index} names {first_and_count(climbing, 'file')} that cannot be a shard in its folder: expected names "
            f"that end in {', '.join(TENSOR_ENDINGS)}"
        )
    return shards


def list_shards(index: Path) -> tuple[Path, ...]:
    """Return the paths of the shards of an index, sorted; see `read_index` for errors."""
    return tuple(index.parent / name for name in sorted(set(read_index(index).values())))
