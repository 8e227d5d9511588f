"""Names and folders of the organisers' released features."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from blemore_harness.errors import first_and_count, printable

FEATURE_ENDINGS = (".npy", ".csv")
FEATURE_FOLDERS = {"pre_extracted_train_data": "_train", "pre_extracted_test_data": "_test"}
"""Folders of released features, and the suffix of the names of the feature sets inside."""

STORES = (
    "CLIP", "DINOv2", "DINOv3", "HiCMAE", "HuBERT_large", "ImageBind", "OpenFace_3", "VideoMAEv2", "VideoSwin",
    "WavLM_large",
)  # fmt: skip
"""The feature sets as the organisers spell them (docs/reference/protocol.md)."""

ORIGIN_FILE = "extracted.json"
"""File in a folder of features that this harness extracted, with the system and its options."""

Features = dict[str, dict[str, Path]]
"""Feature files by feature set, then clip id."""


def find_feature_set(folder: Path) -> str | None:
    """Return `WavLM_large` for `pre_extracted_train_data/WavLM_large_train`, None for other folders."""
    ending = FEATURE_FOLDERS.get(folder.parent.name)
    return folder.name.removesuffix(ending) if ending and folder.name.endswith(ending) else None


def join_spellings(found: Mapping[str, Mapping[str, Path]]) -> tuple[Features, list[str]]:
    """Merge folders whose names differ from a released name only in case or punctuation, such as `wavlm-large`.

    If two spellings contain the same clip, they stay separate feature sets, because it is unclear which one is meant.

    Args:
        found: feature files by feature set as spelled on disk, then clip id.

    Returns:
        The files under the names of `STORES`, and a warning for each name that remains in several spellings.
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
                f"features {printable(' and '.join(variants))} share {first_and_count(twice, 'clip')}: they are used "
                f"as separate feature sets; keep one and name it {name}"
            )
        else:
            joined[name] = {clip: path for spelled in variants for clip, path in found[spelled].items()}
    return joined, warnings


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def find_extracted(features: Mapping[str, Mapping[str, Path]]) -> list[str]:
    """Return a warning for each feature set that was extracted by this harness."""
    lines = []
    for store, files in sorted(features.items()):
        if any((folder / ORIGIN_FILE).is_file() for folder in {path.parent for path in files.values()}):
            lines.append(printable(f"features '{store}' were extracted by this harness ({ORIGIN_FILE}), not released"))
    return lines
