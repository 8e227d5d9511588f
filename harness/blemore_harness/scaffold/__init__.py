"""Writes the package of a new plugin: one that installs, works and passes its own tests, to be changed from there."""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path

from blemore_harness.cache import write_atomically
from blemore_harness.errors import ConfigError
from blemore_harness.plugins import NAME

KINDS = ("encoder", "frozen", "fusion")

SHARED = {"pyproject.toml": "pyproject.toml.txt", ".gitignore": "gitignore.txt"}
"""Files that all kinds have, with their templates."""


def write_plugin(name: str, kind: str, into: Path, taken: Collection[str] = ()) -> Path:
    """Write a package.

    Args:
        name: what users will type after `--plugin` or `--fusion`.
        kind: one of `KINDS`.
        into: folder that the package's folder is made in.
        taken: names that somebody offers already.

    Returns:
        the package's folder, `blemore-NAME`.

    Raises:
        ConfigError: a name that cannot be or is taken, an unknown kind, or a folder that is there already.
    """
    _check_name(name, taken)
    if kind not in KINDS:
        raise ConfigError(f"expected a kind of {', '.join(KINDS)}, found '{kind}'")
    folder = into / f"blemore-{name}"
    if folder.exists():
        raise ConfigError(
            f"{folder} is there already and is left alone: name another plugin, or another folder with --into"
        )
    module = "blemore_" + name.replace("-", "_")
    written = {
        f"src/{module}/__init__.py": f"{kind}.py.txt",
        f"src/{module}/py.typed": None,
        f"tests/test_{module}.py": f"test_{kind}.py.txt",
        "README.md": "readme_fusion.md.txt" if kind == "fusion" else "readme_encoder.md.txt",
        **SHARED,
    }
    words = {"NAME": name, "MODULE": module, "CLASS": "".join(part.capitalize() for part in name.split("-"))}
    for path, template in written.items():
        write_atomically(folder / path, "" if template is None else _fill(template, words))
    return folder


def _check_name(name: str, taken: Collection[str]) -> None:
    if not NAME.fullmatch(name) or not name[0].isalpha():
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")
        advice = f"; did you mean '{better}'?" if better else ""
        raise ConfigError(
            f"expected a name of lower case letters, digits and dashes, a letter first, found '{name}'{advice}"
        )
    if name in taken:
        raise ConfigError(
            f"'{name}' is offered by an installed plugin already, and two cannot share a name: choose another"
        )


def _fill(template: str, words: dict[str, str]) -> str:
    text = files(__name__).joinpath("templates", template).read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text
