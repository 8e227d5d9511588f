"""Defaults of options from configuration files: the user's, and the project's in the working folder."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from blemore_harness.errors import ConfigError, UnknownName

DEVICES = ("auto", "cpu", "cuda")
"""What `--device` takes."""

KEYS = {
    "data": "the path of a folder", "runs": "the path of a folder", "device": f"one of {', '.join(DEVICES)}",
    "track": "names of trackers, separated by commas",
}  # fmt: skip
"""Options whose default may stand in a file, with what they expect: what depends on the machine and changes no
number."""


def config_files(environment: Mapping[str, str] = os.environ) -> tuple[Path, Path]:
    """Return where the configuration files are looked for, the weaker one first."""
    base = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 - never raises
    return Path(base) / "blemore-harness" / "config.toml", Path("blemore.toml")


def read_defaults(files: Sequence[Path]) -> dict[str, str]:
    """Return option names with their defaults, as text; later files win.

    Paths are relative to the file that they stand in, and may begin with `~`.

    Raises:
        ConfigError: a file that is not TOML, an unknown key or a wrong value.
    """
    found: dict[str, str] = {}
    for file in files:
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except ValueError as error:  # not TOML, not UTF-8
            raise ConfigError(f"cannot read the configuration file {file}: {error}") from error
        for key, value in content.items():
            if key not in KEYS:
                raise ConfigError(f"{file}: {UnknownName.among('key', key, KEYS)}")
            if not isinstance(value, str) or not value or (key == "device" and value not in DEVICES):
                raise ConfigError(f"{file}: '{key}' must be {KEYS[key]} in quotes, found {value!r}")
            is_path = key in ("data", "runs")
            found[key] = str(file.absolute().parent / os.path.expanduser(value)) if is_path else value  # noqa: PTH111
    return found
