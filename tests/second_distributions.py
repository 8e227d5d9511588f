"""The distributions in `examples/example_plugin` and `tests/broken_plugin`, installed or put on the path."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]

FOLDERS = {"example_plugin": ROOT / "examples" / "example_plugin", "broken_plugin": ROOT / "tests" / "broken_plugin"}

MAIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from blemore_harness.cli import main; main()"
)
"""The command line as in a terminal: what a shell starts in the background ignores Ctrl-C, tests of ours included."""


def put_on_path(name: str, folder: Path) -> list[Path]:
    """Return the folders that make a distribution importable and known: none where it is installed.

    Args:
        name: `example_plugin` or `broken_plugin`.
        folder: where its metadata are written, as pip would.
    """
    source = FOLDERS[name]
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if any(found.metadata["Name"] == project["name"] for found in importlib.metadata.distributions()):
        return []
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    points = "".join(f"{key} = {value}\n" for key, value in project["entry-points"]["blemore_harness"].items())
    (info / "entry_points.txt").write_text(f"[blemore_harness]\n{points}", encoding="utf-8")
    return [folder, source]


@contextmanager
def offered(folder: Path, *names: str) -> Iterator[None]:
    """Have distributions on `sys.path` while the block lasts."""
    paths = [str(path) for name in names for path in put_on_path(name, folder / name)]
    sys.path[:0] = paths
    try:
        yield
    finally:
        for path in paths:
            sys.path.remove(path)
            sys.path_importer_cache.pop(path, None)
        for module in [name for name in sys.modules if name.startswith(("blemore_example", "broken_plugin"))]:
            del sys.modules[module]


def environment(folder: Path, *names: str, **changes: str) -> dict[str, str]:
    """Return the environment for a process in which distributions are to be found."""
    paths = [str(path) for name in names for path in put_on_path(name, folder / name)]
    known = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *known]), **changes}
