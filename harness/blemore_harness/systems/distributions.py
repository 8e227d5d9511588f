"""Says which installed distribution, in which state, a plugin comes from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlparse


@dataclass(frozen=True)
class Distribution:
    """Where a plugin comes from.

    Attributes:
        name, version: of the installed distribution.
        commit: git commit of an editable installation, `-dirty` behind it where files differ; None otherwise.
        source: digest of the plugin package's Python files where the installation is editable, so that an edit is
            another identity; None otherwise, where the version says it all.
    """

    name: str
    version: str
    commit: str | None = None
    source: str | None = None

    def facts(self) -> dict[str, str | None]:
        """Give what an identity is made from."""
        return {"distribution": self.name, "version": self.version, "source": self.source}

    def describe(self) -> dict[str, str | None]:
        """Give what a record shows."""
        return {"distribution": self.name, "version": self.version, "commit": self.commit}


def find_distribution(dist: importlib.metadata.Distribution | None, module: object) -> Distribution:
    """Describe the distribution that an entry point came from; `module` is what it loaded, None where it failed."""
    if dist is None:
        return Distribution("unknown", "0")
    # Half of an installation can be left behind, without its metadata.
    name, version = _stated(dist, "name", "unknown"), _stated(dist, "version", "0")
    folder = _editable_folder(dist)
    if folder is None:
        return Distribution(name, version)
    return Distribution(name, version, _commit(folder), _source_digest(module))


def _stated(dist: importlib.metadata.Distribution, field: str, lacking: str) -> str:
    return str(dist.metadata.json.get(field, lacking))


def _editable_folder(dist: importlib.metadata.Distribution) -> Path | None:
    try:
        origin = json.loads(dist.read_text("direct_url.json") or "{}")
        return Path(unquote(urlparse(origin["url"]).path)) if origin["dir_info"]["editable"] else None
    except (ValueError, KeyError, TypeError):
        return None  # not from a folder, or not as installers write it


def _commit(folder: Path) -> str | None:
    command = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None  # not a git checkout: the digest of the sources says enough
    commits = [line.split()[-1][:12] for line in lines if line.startswith("# branch.oid ")]
    changed = any(not line.startswith("#") for line in lines)
    return commits[0] + ("-dirty" if changed else "") if commits else None


def _source_digest(module: object) -> str | None:
    """Digest the Python files of the top-level package that `module` (or the class of an object) belongs to."""
    name = module.__name__ if isinstance(module, ModuleType) else getattr(module, "__module__", "")
    # A namespace package has no file of its own: then it is the first package below it that has.
    parts = name.split(".")
    packages = (sys.modules.get(".".join(parts[: depth + 1])) for depth in range(len(parts)))
    file = next((found for package in packages if (found := getattr(package, "__file__", None))), None)
    if not file:
        return None
    path = Path(file)
    inside = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    files = [source for source in inside if source.is_file()]  # the locks of some editors are dangling links
    digest = hashlib.sha256()
    for source in files:
        digest.update(source.relative_to(path.parent).as_posix().encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]
