"""Keeps the compiled search in the user's cache: one process compiles it, all later ones load it.

numba's own cache would lie in the installation, which can be read-only, would not notice an edit of a module that the
compiled function only calls, and lets two processes write one file.
"""

from __future__ import annotations

import os
import pickle
import platform
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.disk import digest_of, write_atomically


def keep_compiled(cache: Cache, functions: tuple[Any, ...], sources: tuple[Path, ...]) -> None:
    """Let functions of numba load what was compiled before, and keep what they compile; else they compile in memory.

    Args:
        cache: where it is kept, for each user, for each version of Python, numpy, numba and the sources.
        functions: results of `njit`.
        sources: files of everything that is compiled into them.
    """
    import numba

    code = digest_of([file.read_text(encoding="utf-8") for file in sources])
    versions = {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__}
    try:
        folder = cache.store("compiled", code=code, user=os.getuid(), **versions).folder
        folder.chmod(0o700)
    except OSError:  # a cache that cannot be written to, or that is somebody else's
        return
    for function in functions:
        function._cache = _Kept(folder, function.__name__)


class _Kept:
    """What numba asks of a cache of one function; a file for each signature and processor."""

    def __init__(self, folder: Path, name: str) -> None:
        self.cache_path, self._name = str(folder), name

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the compiled code for a signature, or None to have it compiled."""
        from numba.core.compiler import CompileResult

        target.refresh()
        path = self._path(signature, target.codegen())
        try:
            if path.stat().st_uid != os.getuid():
                return None
            return CompileResult._rebuild(target, *pickle.loads(path.read_bytes()))
        except Exception:  # absent, or damaged: compiled anew, and written again
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep compiled code; a disk that is full or read-only is no reason to fail, since the code is in memory."""
        from numba.core.serialize import dumps

        try:
            write_atomically(self._path(signature, compiled.codegen), dumps(compiled._reduce()))
        except OSError:
            return

    def _path(self, signature: Any, codegen: Any) -> Path:
        facts = [str(signature), *map(str, codegen.magic_tuple())]
        return Path(self.cache_path) / f"{self._name}-{digest_of(facts)}.pickle"
