"""Folders of models of sentence-transformers: found, fetched whole, told by all that they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blemore_harness.cache import Cache
from blemore_harness.disk import digest_of
from blemore_harness.errors import WeightsMissing
from blemore_plugins.hub import TIMEOUT, WEIGHT_ENDINGS, Weights, find_weights
from blemore_plugins.omni.options import RANDOM_SMALL, OmniOptions
from blemore_plugins.omni.presets import PRESETS, id_of

FILES = (("modules.json",), ("config.json",), ("model.safetensors", "pytorch_model.bin"))
"""What a model of sentence-transformers has at least; without `modules.json` its pooling would be a guess."""

ENDINGS = (*WEIGHT_ENDINGS, ".jinja", ".txt", ".model", ".py")
"""Endings of files of a folder that can change embeddings: weights, settings, templates, vocabularies, code."""


@dataclass(frozen=True)
class OmniWeights(Weights):
    """A model of sentence-transformers on this machine."""

    def identity(self, cache: Cache) -> dict[str, object]:
        """Report which weights these are, for cache keys and records: the commit, or a digest of the folder."""
        if self.commit is not None:
            return {"commit": self.commit}
        return {"folder": digest_folder(self.folder, cache.digest_file)}


def find(options: OmniOptions, download: bool = False) -> OmniWeights | None:
    """Find a model; None for the random one.

    Raises:
        WeightsMissing: it is neither here nor reachable, or no model of sentence-transformers.
    """
    if options.model == RANDOM_SMALL:
        return None
    source, preset = id_of(options.model), PRESETS.get(options.model)
    try:
        found = find_weights(source, FILES, "omni.model", revision=options.revision, download=download)
    except WeightsMissing as error:
        hint = f"; {preset.hint}" if preset and preset.hint else ""
        raise WeightsMissing(f"{error}{hint}", error.source, f"{error.todo}{hint}") from error
    return OmniWeights(found.files, found.commit)


def fetch_rest(weights: OmniWeights, options: OmniOptions) -> None:
    """Fetch what else a repository of the hub has besides `FILES`: tokenizer, preprocessing, further modules.

    Raises:
        WeightsMissing: the hub does not answer, and parts are missing.
    """
    if weights.commit is None:
        return
    from huggingface_hub import snapshot_download

    source = id_of(options.model)
    # Of weights in other formats, such as ONNX, none is needed.
    endings = [
        ending for ending in ENDINGS if ending not in (".bin", ".pt", ".pth") and (options.code or ending != ".py")
    ]
    try:
        snapshot_download(
            source, revision=weights.commit, etag_timeout=TIMEOUT, allow_patterns=[f"*{ending}" for ending in endings]
        )
    except Exception as error:  # whatever networks, proxies, disks and the hub can do
        raise WeightsMissing(
            f"parts of '{source}' besides its weights cannot be fetched: fetch the whole repository where there is a "
            "network, and set omni.model to its folder",
            source,
        ) from error


def digest_folder(folder: Path, digest: Callable[[Path], str]) -> str:
    """Return a digest of the names and contents of all files below a folder that can change embeddings."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in ENDINGS)
    return digest_of([[path.relative_to(folder).as_posix(), digest(path)] for path in files])


def identify_folder(folder: Path) -> str:
    """Return the digest of a folder without a cache, for the identity of a system."""

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return f"sha256:{digest_folder(folder, digest)}"
