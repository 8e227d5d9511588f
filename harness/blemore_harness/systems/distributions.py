"""The installed distribution of a plugin and its state."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlparse

from blemore_harness.disk import digest_sources, package_file


@dataclass(frozen=True)
class Distribution:
    """The distribution that a plugin comes from.

    Attributes:
        name, version: of the installed distribution.
        commit: git commit of an editable installation, with `-dirty` if files differ; None otherwise.
        source: digest of the plugin package's Python files for an editable installation, so that an edit changes the
            configuration hash; None otherwise, where the version suffices.
    """

    name: str
    version: str
    commit: str | None = None
    source: str | None = None

    def facts(self) -> dict[str, str | None]:
        """Return the parts of the configuration hash."""
        return {"distribution": self.name, "version": self.version, "source": self.source}

    def describe(self) -> dict[str, str | None]:
        """Return the entries of the record."""
        return {"distribution": self.name, "version": self.version, "commit": self.commit}


class Installed:
    """Describes distributions; metadata, commit and sources of each are read once for all its entry points."""

    def __init__(self) -> None:
        self._stated: dict[importlib.metadata.Distribution, tuple[Distribution, bool]] = {}
        self._digests: dict[Path, str] = {}

    def find(self, dist: importlib.metadata.Distribution | None, module: object) -> Distribution:
        """Describe the distribution of an entry point; `module` is the loaded object, None if loading failed."""
        if dist is None:
            return Distribution("unknown", "0")
        if dist not in self._stated:
            self._stated[dist] = _read(dist)
        stated, editable = self._stated[dist]
        return replace(stated, source=self._source_digest(module)) if editable else stated

    def _source_digest(self, module: object) -> str | None:
        """Digest the Python files of the top-level package that `module` (or the class of an object) belongs to."""
        path = package_file(module)
        if path is None:
            return None
        if path not in self._digests:
            self._digests[path] = digest_sources(path)
        return self._digests[path]


def _read(dist: importlib.metadata.Distribution) -> tuple[Distribution, bool]:
    """Read the metadata of a distribution, and whether its installation is editable."""
    # A partly removed installation can lack its metadata.
    facts = dist.metadata.json
    name, version = str(facts.get("name", "unknown")), str(facts.get("version", "0"))
    folder = _editable_folder(dist)
    return Distribution(name, version, None if folder is None else _commit(folder)), folder is not None


def _editable_folder(dist: importlib.metadata.Distribution) -> Path | None:
    try:
        origin = json.loads(dist.read_text("direct_url.json") or "{}")
        return Path(unquote(urlparse(origin["url"]).path)) if origin["dir_info"]["editable"] else None
    except (ValueError, KeyError, TypeError):
        return None  # not installed from a folder, or not in the standard format


def _commit(folder: Path) -> str | None:
    command = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None  # not a git checkout: the digest of the sources suffices
    commits = [line.split()[-1][:12] for line in lines if line.startswith("# branch.oid ")]
    changed = any(not line.startswith("#") for line in lines)
    return commits[0] + ("-dirty" if changed else "") if commits else None
