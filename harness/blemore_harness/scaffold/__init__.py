"""Writes the package of a new plugin, which installs, works and passes its own tests."""

from __future__ import annotations

import importlib.util
import keyword
import re
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path

from blemore_harness.disk import write_atomically
from blemore_harness.errors import ConfigError
from blemore_harness.systems.plugins import NAME

KINDS = ("encoder", "frozen", "fusion")

LONGEST = 60
"""Letters of a name: it is typed, and is part of names of folders."""

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
    if importlib.util.find_spec(module) is not None:
        raise ConfigError(f"the package '{module}' is installed already, and would be hidden: choose another name")
    written = {
        f"src/{module}/__init__.py": f"{kind}.py.txt",
        f"src/{module}/py.typed": None,
        f"tests/test_{module}.py": f"test_{kind}.py.txt",
        "README.md": "readme_fusion.md.txt" if kind == "fusion" else "readme_encoder.md.txt",
        **SHARED,
    }
    words = {"NAME": name, "MODULE": module, "CLASS": _class_name(name, kind)}
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
    if len(name) > LONGEST:
        raise ConfigError(f"expected a name of at most {LONGEST} letters, found {len(name)}")
    if name in taken:
        raise ConfigError(
            f"'{name}' is offered by an installed plugin already, and two cannot share a name: choose another"
        )


def _class_name(name: str, kind: str) -> str:
    """Return the name of the class: one that is a word of Python or of the template gets another word behind it."""
    words = "".join(part.capitalize() for part in name.split("-"))
    used = re.findall(r"\w+", _fill(f"{kind}.py.txt", {"CLASS": ""}))
    taken = any(f"{words}{ending}" in used for ending in ("", "Options", "Model"))
    return f"{words}Plugin" if taken or keyword.iskeyword(words) else words


def _fill(template: str, words: dict[str, str]) -> str:
    text = files(__name__).joinpath("templates", template).read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text
