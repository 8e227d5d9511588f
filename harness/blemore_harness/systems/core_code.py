"""Digests the harness's own code, so that a result is never taken for one that other code would give."""

from __future__ import annotations

import hashlib
from pathlib import Path

NO_NUMBERS = (
    "__init__.py", "api", "cli", "doctor", "drawing", "scaffold", "scoring", "testing", "running/new_clips.py",
    "running/kept_models.py", "files/bundles.py",
)  # fmt: skip
"""Parts of the core that no finished fold can depend on: what plugins and the steps of a run import lies elsewhere.

Everything else counts, new modules as well.
"""


def digest_core(folder: Path | None = None) -> str:
    """Digest all Python files of the core (or of a copy in `folder`) that a fold's numbers may come from."""
    root = Path(__file__).parents[1] if folder is None else folder
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        # The locks of some editors are dangling links.
        if not {name, name.partition("/")[0]} & set(NO_NUMBERS) and path.is_file():
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
