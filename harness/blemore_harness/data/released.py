"""Where the organisers' released features lie, and how the folders of one store may be spelled."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from blemore_harness.errors import first_and_count, printable

FEATURE_ENDINGS = (".npy", ".csv")
FEATURE_FOLDERS = {"pre_extracted_train_data": "_train", "pre_extracted_test_data": "_test"}
"""Folders of released features, and how the names of the stores inside end."""

STORES = (
    "CLIP", "DINOv2", "DINOv3", "HiCMAE", "HuBERT_large", "ImageBind", "OpenFace_3", "VideoMAEv2", "VideoSwin",
    "WavLM_large",
)  # fmt: skip
"""The stores as the organisers spell them (docs/reference/protocol.md)."""

ORIGIN_FILE = "extracted.json"
"""Stands in a folder of features that this harness wrote, and says with which system and options."""

Features = dict[str, dict[str, Path]]
"""Feature files by store, then clip id."""


def find_feature_set(folder: Path) -> str | None:
    """Return `WavLM_large` for `pre_extracted_train_data/WavLM_large_train`, None for other folders."""
    ending = FEATURE_FOLDERS.get(folder.parent.name)
    return folder.name.removesuffix(ending) if ending and folder.name.endswith(ending) else None


def join_spellings(found: Mapping[str, Mapping[str, Path]]) -> tuple[Features, list[str]]:
    """Put folders that differ from a released name in case or punctuation under that name: `wavlm-large`.

    Where two spellings hold the same clip, nobody can say which is meant: they stay stores of their own.

    Args:
        found: feature files by store as it is spelled on disk, then clip id.

    Returns:
        The same under the names of `STORES`, and a warning for each name that stays in several spellings.
    """
    released = {_plain(name): name for name in STORES}
    spellings: dict[str, list[str]] = {}
    for spelled in sorted(found):
        spellings.setdefault(released.get(_plain(spelled), spelled), []).append(spelled)
    joined: Features = {}
    warnings = []
    for name, variants in spellings.items():
        clips = Counter(clip for spelled in variants for clip in found[spelled])
        twice = sorted(clip for clip, count in clips.items() if count > 1)
        if twice:
            joined.update({spelled: dict(found[spelled]) for spelled in variants})
            warnings.append(
                f"features {printable(' and '.join(variants))} hold {first_and_count(twice, 'same clip')}: each is "
                f"taken for a store of its own, keep one and call it {name}"
            )
        else:
            joined[name] = {clip: path for spelled in variants for clip, path in found[spelled].items()}
    return joined, warnings


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def find_extracted(features: Mapping[str, Mapping[str, Path]]) -> list[str]:
    """Warn of stores that were not released but extracted by this harness: a line per store."""
    lines = []
    for store, files in sorted(features.items()):
        if any((folder / ORIGIN_FILE).is_file() for folder in {path.parent for path in files.values()}):
            lines.append(printable(f"features '{store}' were extracted by this harness ({ORIGIN_FILE}), not released"))
    return lines
