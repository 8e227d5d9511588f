"""Which options are searched, and which values of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from blemore_harness.errors import ConfigError, UnknownName
from blemore_harness.options import Space, describe_options, list_spaces, read_space
from blemore_harness.running.run import Run


@dataclass(frozen=True)
class Searched:
    """An option and the values that are tried.

    Attributes:
        system: its name in the submission.
        option: name of the field.
        space: the values.
    """

    system: str
    option: str
    space: Space

    @property
    def name(self) -> str:
        """What it is called in a study."""
        return f"{self.system}.{self.option}"

    def suggest(self, trial: Any) -> object:
        """Return the value that an Optuna trial gives it."""
        low, high = self.space.low, self.space.high
        if self.space.choices:
            return trial.suggest_categorical(self.name, self.space.choices)
        if isinstance(low, int) and isinstance(high, int):
            return trial.suggest_int(self.name, low, high, log=self.space.log)
        return trial.suggest_float(self.name, low, high, log=self.space.log)

    def place(self, value: object) -> object | None:
        """Return a value of the option as a study has it; None for one outside of the space."""
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if self.space.choices:
            return text if text in self.space.choices else None
        inside = isinstance(value, int | float) and self.space.low <= value <= self.space.high  # type: ignore[operator]
        return value if inside else None


def find_spaces(run: Run, texts: Iterable[str], only: Collection[str] = ()) -> tuple[Searched, ...]:
    """Return what is searched: the spaces that plugins declare, but for options that are set, and those of the user.

    Args:
        run: whose systems.
        texts: `NAME.OPTION=SPACE` each; see `options.read_space`.
        only: names of the systems whose declared spaces are searched; empty for all.

    Raises:
        ConfigError: an unknown system or option, a space that is none, or nothing to search.
    """
    kinds = {each.name: each.system.Options for each in run.systems}
    found: dict[str, Searched] = {}
    for name in only:
        if name not in kinds:
            raise ConfigError(f"--only: {UnknownName.among('system of this run', name, kinds)}")
    for name, kind in kinds.items():
        given = run.submission.options.get(name, {})
        for option, space in list_spaces(kind).items():
            if option not in given and (not only or name in only):
                found[f"{name}.{option}"] = Searched(name, option, space)
    for text in texts:
        left, equals, values = text.partition("=")
        system, dot, option = left.strip().rpartition(".")
        if not (equals and dot and system and option and values.strip()):
            raise ConfigError(f"--space expects NAME.OPTION=LOW:HIGH[:log] or NAME.OPTION=A,B,C; found '{text}'")
        if system not in kinds:
            raise ConfigError(f"--space: {UnknownName.among('system of this run', system, kinds)}")
        found[f"{system}.{option}"] = Searched(
            system, option, read_space(system, kinds[system], option, values.strip())
        )
    if not found:
        raise ConfigError(
            f"nothing to search: {', '.join(only or kinds)} declare no values to try, or all of these options are set; "
            "name some with --space NAME.OPTION=LOW:HIGH[:log] or A,B,C"
        )
    return tuple(found.values())


def find_defaults(run: Run, searched: Iterable[Searched]) -> dict[str, object] | None:
    """Return the values that the systems have by themselves, by name; None where one is outside of its space."""
    options = {each.name: describe_options(each.options) for each in run.systems if each.trouble is None}
    places = {each.name: each.place(options.get(each.system, {}).get(each.option)) for each in searched}
    return None if None in places.values() else places


def as_settings(values: Mapping[str, object], searched: Iterable[Searched]) -> dict[str, dict[str, object]]:
    """Return values by system and option."""
    found: dict[str, dict[str, object]] = {}
    for each in searched:
        found.setdefault(each.system, {})[each.option] = values[each.name]
    return found
