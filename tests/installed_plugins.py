"""Installs small plugins for a test: real distributions on `sys.path`, with entry points and metadata."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

HEAD = """
from blemore_harness.clips import EMOTIONS
from blemore_harness.hookspecs import Encoder, Fusion, hookimpl

class Toy(Encoder):
    name = "toy"
    summary = "a toy"
    modality = "audio"

class Blend(Fusion):
    name = "blend"
    summary = "a fusion"
"""
"""What most plugins of the tests begin with."""


class Site:
    """A folder that stands for site-packages.

    Args:
        folder: an empty folder, already on `sys.path`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        name: str,
        code: str,
        point: str | None = None,
        distribution: str | None = None,
        version: str = "1.0",
        editable: Path | None = None,
        target: str = "",
        head: str = HEAD,
        group: str = "blemore_harness",
    ) -> None:
        """Install a module `plugin_NAME` and its distribution; `point` names the entry point, `target` an object."""
        module = f"plugin_{name}"
        (self.folder / f"{module}.py").write_text(head + dedent(code))
        distribution = distribution or f"blemore-{name}"
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{point or name} = {module}{target}\n")
        if editable is not None:
            origin = {"url": editable.as_uri(), "dir_info": {"editable": True}}
            (info / "direct_url.json").write_text(json.dumps(origin))


@contextmanager
def make_site(folder: Path) -> Iterator[Site]:
    """Put a folder on `sys.path` while the block lasts; forget its modules after."""
    folder.mkdir()
    sys.path.insert(0, str(folder))
    try:
        yield Site(folder)
    finally:
        sys.path.remove(str(folder))
        sys.path_importer_cache.pop(str(folder), None)
        for name in [name for name in sys.modules if name.startswith("plugin_")]:
            del sys.modules[name]
