"""Says which installed distribution, in which state, a plugin comes from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
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
    folder = _editable_folder(dist)
    if folder is None:
        return Distribution(dist.name, dist.version)
    return Distribution(dist.name, dist.version, _commit(folder), _source_digest(module))


def _editable_folder(dist: importlib.metadata.Distribution) -> Path | None:
    text = dist.read_text("direct_url.json")
    origin = json.loads(text) if text else {}
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlparse(origin["url"]).path))


def _commit(folder: Path) -> str | None:
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None  # not a git checkout: the digest of the sources says enough


def _source_digest(module: object) -> str | None:
    """Digest the Python files of the top-level package that `module` belongs to."""
    top = getattr(module, "__name__", "").partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None)
    if not file:
        return None
    path = Path(file)
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    digest = hashlib.sha256()
    for source in files:
        digest.update(source.relative_to(path.parent).as_posix().encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]
