"""Reads a submission (`submissions/NAME.toml`) or a `--plugin` list as a frozen configuration."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blemore_harness.disk import split_seed
from blemore_harness.errors import ConfigError, UnknownName, suggest

DEFAULT_FUSION = "best-of"
"""`logit-mean`, unless training actors show that another fusion is better: see docs/explanation/simulation.md."""

SEED_AVERAGE = "seed-average"
"""Fusion of one encoder's probabilities over base seeds."""

KEYS = ("summary", "plugins", "fusion", "thresholds", "seed", "set", "expect", "tuned")

VARIANT = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""Pattern of the part behind the @ of a variant's name, which is part of a folder's name."""


@dataclass(frozen=True)
class Submission:
    """A complete system: encoders, fusion and options.

    Attributes:
        name: file name without suffix, or for a `--plugin` list the plugins separated by commas.
        summary: one sentence.
        encoders: names of the base models, in order, each once. `wavlm@quick` is a variant of `wavlm` with options and
            seeds of its own; `wavlm@seed1` is `wavlm` with base seed 1 and the options of `wavlm`, on top of which it
            may have its own; `imagebind+wavlm` is early fusion, one head on the concatenated embeddings of both.
        fusion: name of the fusion, None for a single encoder.
        options: options by plugin that differ from the defaults.
        seed: base seed of the run.
        expect: published numbers and their source, for comparison only.
        source: the file it was read from, None for a `--plugin` list.
        thresholds: threshold strategy for test clips; None chooses one by the cross-fitted Scores.
        tuned: how many settings were tried before this one was chosen; None for none.
    """

    name: str
    encoders: tuple[str, ...]
    fusion: str | None = DEFAULT_FUSION
    summary: str = ""
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    seed: int = 0
    expect: Mapping[str, object] = field(default_factory=dict)
    source: Path | None = None
    thresholds: str | None = None
    tuned: int | None = None

    def __post_init__(self) -> None:
        if not self.encoders:
            raise ConfigError("expected at least one encoder, as in --plugin s4d,wav2vec2")
        repeated = [name for name in self.encoders if self.encoders.count(name) > 1]
        if repeated:
            raise ConfigError(f"expected each encoder once, found '{repeated[0]}' twice in {', '.join(self.encoders)}")
        if len(self.encoders) == 1:
            object.__setattr__(self, "fusion", None)
        parts = [part for name in self.encoders for part in name.split("+")]
        for part in parts:
            plain, at, variant = part.partition("@")
            if not plain or (at and not VARIANT.fullmatch(variant)):
                raise ConfigError(
                    "expected an encoder such as wavlm, a variant such as wavlm@quick, or early fusion such as "
                    f"imagebind+wavlm; found '{part}' in {', '.join(self.encoders)}"
                )
        seedless = [split_seed(name)[0] for name in (*self.encoders, *parts)]
        known = [name for name in dict.fromkeys((*self.encoders, *parts, *seedless, self.fusion)) if name]
        strangers = sorted(set(self.options) - set(known))
        if strangers:
            error = UnknownName.among("plugin of this run", strangers[0], known)
            raise ConfigError(f"options for '{strangers[0]}', which is not part of this run: {error}")

    def with_options(
        self, settings: Mapping[str, Mapping[str, object]], seed: int | None, thresholds: str | None = None
    ) -> Submission:
        """Return the submission with the command line's `--set`, `--seed` and `--thresholds` applied."""
        merged = {name: dict(values) for name, values in self.options.items()}
        for name, values in settings.items():
            merged.setdefault(name, {}).update(values)
        return replace(
            self,
            options=merged,
            seed=self.seed if seed is None else seed,
            thresholds=self.thresholds if thresholds is None else thresholds,
        )

    def averaging(self, seeds: Sequence[int]) -> Submission:
        """Return the submission that averages the probabilities of its encoder over base seeds.

        Raises:
            ConfigError: several encoders, whose mean would be another fusion.
        """
        if len(self.encoders) > 1 or "@" in self.encoders[0]:
            raise ConfigError(
                f"expected one encoder, and no variant, to average over seeds, found {', '.join(self.encoders)}: "
                "average each of them by itself"
            )
        variants = ("+".join(f"{part}@seed{seed}" for part in self.encoders[0].split("+")) for seed in seeds)
        return replace(self, name=f"{self.name}-{SEED_AVERAGE}", encoders=tuple(variants), fusion=SEED_AVERAGE)


def plain_name(name: str) -> str:
    """Return the name of the plugin of a variant.

    >>> plain_name("wavlm@quick")
    'wavlm'
    """
    return name.partition("@")[0]


def from_plugins(names: Sequence[str], fusion: str | None = DEFAULT_FUSION) -> Submission:
    """Return a submission from a `--plugin` list; items may hold several names separated by commas."""
    encoders = tuple(name.strip() for text in names for name in text.split(",") if name.strip())
    return Submission(",".join(encoders), encoders, fusion)


def find_submission(name: str, local: Path) -> tuple[Submission, str | None]:
    """Find a submission: `submissions/NAME.toml` or `NAME.toml` in `local`, else a shipped one.

    Returns:
        The submission, and a remark if a local file hides a shipped one of the same name and other contents.

    Raises:
        UnknownName: it does not exist; the message suggests similar names.
        ConfigError: the file has unknown keys or wrong values.
    """
    shipped = {path.stem: path for path in sorted(shipped_folder().glob("*.toml"))}
    for folder in (local, local / "submissions"):
        path = folder / f"{name}.toml"
        if os.path.isfile(path):  # noqa: PTH113 - a name that is too long is no file
            found = read_submission(path)
            clash = name in shipped and path.read_bytes() != shipped[name].read_bytes()
            return found, f"using {path} instead of the shipped '{name}'" if clash else None
    if name not in shipped:
        nearby = [path.stem for path in (local / "submissions").glob("*.toml")]
        plain = Path(name).name.removesuffix(".toml")
        if plain != name:
            raise UnknownName(
                f"expected the name of a submission without folder and suffix, found '{name}'"
                f"{suggest(plain, sorted({*shipped, *nearby}))} Submissions are read from {local} and its folder "
                "submissions"
            )
        raise UnknownName.among("submission", name, {*shipped, *nearby})
    return read_submission(shipped[name]), None


def list_submissions() -> list[Submission]:
    """Return all shipped submissions by name."""
    return [read_submission(path) for path in sorted(shipped_folder().glob("*.toml"), key=lambda path: path.stem)]


def shipped_folder() -> Path:
    """Return the folder of the shipped submissions, in a wheel or in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "submissions"
    return inside if inside.is_dir() else package.parent.parent / "submissions"


def read_submission(path: Path) -> Submission:
    """Read one TOML file.

    Raises:
        ConfigError: not TOML, an unknown key, or a value of the wrong kind.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors write a byte order mark
    except (OSError, ValueError) as error:  # not TOML, not UTF-8
        raise ConfigError(f"cannot read {path}: {error}") from error
    for key in content:
        if key not in KEYS:
            raise ConfigError(f"{path.name}: {UnknownName.among('key', key, KEYS)}")
    return Submission(
        name=path.stem,
        encoders=tuple(_list_of_text(content, path)),
        fusion=_typed(content, "fusion", str, DEFAULT_FUSION, path),
        summary=_typed(content, "summary", str, "", path),
        options=_tables(content, path),
        seed=_typed(content, "seed", int, 0, path),
        expect=_expected(content, path),
        source=path,
        thresholds=_typed(content, "thresholds", str, None, path) if "thresholds" in content else None,
        tuned=_typed(content, "tuned", int, None, path) if "tuned" in content else None,
    )


def _typed(content: Mapping[str, Any], key: str, kind: type[Any], default: Any, path: Path) -> Any:
    value = content.get(key, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        expected = {str: "text", int: "a whole number", dict: "a table"}[kind]
        raise ConfigError(f"{path.name}: '{key}' must be {expected}, found {value!r}")
    return value


def _expected(content: Mapping[str, Any], path: Path) -> dict[str, object]:
    expected: dict[str, object] = _typed(content, "expect", dict, {}, path)
    for key, value in expected.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number and not isinstance(value, str):
            raise ConfigError(f"{path.name}: 'expect.{key}' must be a number or text, found {value!r}")
    return expected


def _list_of_text(content: Mapping[str, Any], path: Path) -> list[str]:
    names = content.get("plugins")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f'{path.name}: \'plugins\' must be a list of names, such as ["s4d", "wav2vec2"]')
    return names


def _tables(content: Mapping[str, Any], path: Path) -> dict[str, dict[str, object]]:
    tables = _typed(content, "set", dict, {}, path)
    for name, values in tables.items():
        if not isinstance(values, dict):
            raise ConfigError(f"{path.name}: expected options as a table, [set.{name}] with lines KEY = VALUE")
    return dict(tables)
