"""Converts what a user wrote (`--set NAME.KEY=VALUE`, TOML values) into a plugin's Options."""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union

from blemore_harness.errors import ConfigError, InvalidOption, UnknownName

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


_INCIDENTAL = types.MappingProxyType({"incidental": True})


def build_options(system: str, kind: type[Any], given: Mapping[str, object]) -> Any:
    """Return the Options of `system` with the given values; text is converted according to the field's annotation.

    Args:
        system: name of the plugin, for messages.
        kind: its frozen Options dataclass, whose fields all have defaults.
        given: field name to typed value, or to text.

    Raises:
        UnknownName: a field that `kind` does not have.
        InvalidOption: a value that the field's annotation or the checks of `kind` reject.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Options:
    ...     rate: float = 1.0
    ...     sizes: tuple[int, ...] = (1,)
    >>> build_options("toy", Options, {"rate": "2", "sizes": "3,4"})
    Options(rate=2.0, sizes=(3, 4))
    """
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.init]
    values = {}
    for name, value in given.items():
        if name not in names:
            raise UnknownName.among(f"option of {system}", name, names)
        try:
            values[name] = _convert(value, hints[name])
        except ValueError as error:
            raise InvalidOption(f"{system}.{name}: {error}, found '{value}'") from None
    try:
        return kind(**values)
    except (InvalidOption, ValueError) as error:
        raise InvalidOption(f"{system}: {error}") from error


def parse_settings(settings: typing.Iterable[str]) -> dict[str, dict[str, object]]:
    """Return `NAME.KEY=VALUE` texts grouped by system; a later value replaces an earlier one.

    >>> parse_settings(["s4d.scale=1.3", "s4d.align=true"])
    {'s4d': {'scale': '1.3', 'align': 'true'}}
    """
    found: dict[str, dict[str, object]] = {}
    for text in settings:
        left, equals, value = text.partition("=")
        system, dot, key = left.strip().partition(".")
        if not (equals and dot and system and key):
            raise ConfigError(f"--set expects PLUGIN.OPTION=VALUE, such as wav2vec2.layers=6-12; found '{text}'")
        found.setdefault(system, {})[key.strip()] = value.strip()
    return found


def incidental(default: Any) -> Any:
    """Declare a field of Options that cannot change a result, such as a number of workers or a time limit.

    The field is part of the record but not of the configuration hash: changing it does not retrain anything.
    """
    return dataclasses.field(default=default, metadata=_INCIDENTAL)


@dataclasses.dataclass(frozen=True)
class Space:
    """The values of an option that a search tries.

    Attributes:
        low, high: the smallest and the largest; whole numbers where the option is one. None where there are choices.
        log: whether their logarithms are spread evenly, and not they.
        choices: the values, as a user would write them; empty for a range.

    Raises:
        InvalidOption: fewer than two values.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.choices and (self.low, self.high) == (None, None):
            demand(len(set(self.choices)) >= 2, "a space", "of at least two choices", ", ".join(self.choices))
            return
        if self.choices or self.low is None or self.high is None:
            raise InvalidOption(f"a space: expected low and high, or choices, found {self}")
        demand(self.low < self.high, "a space", "from a low to a higher number", f"{self.low:g}:{self.high:g}")
        demand(not self.log or self.low > 0, "a space with log", "of numbers above 0", f"{self.low:g}:{self.high:g}")


def searched(
    default: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    log: bool = False,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a field of Options together with the values that `blemore-harness tune` tries unless it is told others.

    Args:
        default: of the field.
        low, high, log, choices: as of `Space`.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Options:
    ...     rate: float = searched(1e-3, 1e-5, 1e-2, log=True)
    ...     hidden: str = searched("512", choices=("256", "512"))
    >>> list_spaces(Options)["hidden"].choices
    ('256', '512')
    """
    return dataclasses.field(default=default, metadata={"space": Space(low, high, log, choices)})


def list_spaces(kind: type[Any]) -> dict[str, Space]:
    """Return the spaces that an Options dataclass declares, by option.

    A field that a subclass gives another default keeps the space of its base.
    """
    found = {}
    for each in reversed(kind.__mro__):
        for field in dataclasses.fields(each) if dataclasses.is_dataclass(each) else ():
            if "space" in field.metadata:
                found[field.name] = field.metadata["space"]
    return found


def read_space(system: str, kind: type[Any], name: str, text: str) -> Space:
    """Read a space as users write it: `LOW:HIGH`, `LOW:HIGH:log`, or choices `A,B,C`.

    Raises:
        UnknownName: an option that `kind` does not have.
        InvalidOption: a space without two values, or with one that the option cannot have.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Options:
    ...     rate: float = 1.0
    >>> read_space("toy", Options, "rate", "0.1:10:log")
    Space(low=0.1, high=10.0, log=True, choices=())
    """
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.init]
    if name not in names:
        raise UnknownName.among(f"option of {system}", name, names)
    hint = hints[name]
    try:
        if ":" not in text:
            choices = tuple(part.strip() for part in text.split(",") if part.strip())
            for part in choices:
                _convert(part, hint)
            return Space(choices=choices)
        low, high, *scale = (part.strip() for part in text.split(":"))
        parts = typing.get_args(hint) or (hint,)
        number = next((part for part in parts if part in (int, float)), None)
        if number is None or typing.get_origin(hint) is tuple or scale not in ([], ["log"]):
            raise ValueError("expected choices A,B,C, or of a number LOW:HIGH or LOW:HIGH:log")
        return Space(_convert_number(low, number), _convert_number(high, number), bool(scale))
    except ValueError as error:
        raise InvalidOption(f"{system}.{name}: {error}, found '{text}'") from None
    except InvalidOption as error:
        raise InvalidOption(f"{system}.{name}: {error}") from None


def demand(fine: bool, name: str, expected: str, found: object) -> None:
    """Refuse a value that an option cannot have, in `__post_init__` of Options.

    Args:
        fine: whether the value is one that the option can have.
        name: of the option.
        expected: completes "NAME must be ...".
        found: the value.

    Raises:
        InvalidOption: it is not fine.

    >>> demand(3 >= 1, "stride", "at least 1", 3)
    """
    if not fine:
        raise InvalidOption(f"{name} must be {expected}, found {found}")


def identify_options(options: Any) -> dict[str, object]:
    """Return the Options that can change a result, as JSON types."""
    kept = {field.name for field in dataclasses.fields(options) if field.metadata.get("incidental") is not True}
    return {name: value for name, value in describe_options(options).items() if name in kept}


def describe_options(options: Any) -> dict[str, object]:
    """Return all Options as JSON types, for records."""
    return {field.name: _plain(getattr(options, field.name)) for field in dataclasses.fields(options)}


@dataclasses.dataclass(frozen=True)
class Option:
    """An option as users see it.

    Attributes:
        name: of the field.
        type: what may be written, such as `whole number` or `text or none`.
        default: as JSON types; for options that depend on others with the defaults of these.
        choices: the values that it can have, as text, where only these are possible; `true` and `false` for a switch.
        meaning: what the docstring of the Options class says about it under `Attributes`; empty where it says nothing.
        incidental: whether it cannot change a result.
    """

    name: str
    type: str
    default: object
    choices: tuple[str, ...]
    meaning: str
    incidental: bool


def list_options(kind: type[Any]) -> tuple[Option, ...]:
    """Return the options of a plugin in the order of their fields.

    Args:
        kind: its Options dataclass.
    """
    hints, meanings, defaults = typing.get_type_hints(kind), read_attributes(kind), describe_options(kind())
    return tuple(
        Option(
            field.name, _name_type(hints[field.name]), defaults[field.name], _list_choices(hints[field.name]),
            meanings.get(field.name, ""), field.metadata.get("incidental") is True,
        )
        for field in dataclasses.fields(kind)
        if field.init
    )  # fmt: skip


def read_attributes(kind: type[Any]) -> dict[str, str]:
    """Return what the docstring of a class says under `Attributes` by name, those of its bases included.

    >>> class Toy:
    ...     '''A toy.
    ...
    ...     Attributes:
    ...         size, shape: of the toy,
    ...             in metres.
    ...     '''
    >>> read_attributes(Toy)
    {'size': 'of the toy, in metres.', 'shape': 'of the toy, in metres.'}
    """
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        names: list[str] = []
        for line in inspect.cleandoc(each.__doc__ or "").partition("Attributes:\n")[2].splitlines():
            if line.startswith("     "):
                found.update((name, f"{found[name]} {line.strip()}") for name in names)
            elif line.startswith("    "):
                left, _, text = line.strip().partition(": ")
                names = left.split(", ")
                found.update((name, text) for name in names)
            elif line.strip():  # another section
                break
    return found


def _name_type(hint: Any) -> str:
    """Say in words what may be written for an annotation."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of the choices"
    if origin in (Union, types.UnionType):
        return " or ".join("none" if part is types.NoneType else _name_type(part) for part in inner)
    if origin is tuple:
        return f"values separated by commas, each a {_name_type(inner[0])}" if inner else "values separated by commas"
    names = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}
    return names.get(hint, str(getattr(hint, "__name__", hint)))


def _list_choices(hint: Any) -> tuple[str, ...]:
    """List the values of an annotation where only these are possible; none of a union."""
    if hint is bool:
        return "true", "false"
    return tuple(map(str, typing.get_args(hint))) if typing.get_origin(hint) is Literal else ()


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def _convert(value: object, hint: Any) -> object:
    """Convert `value` to `hint`; the `ValueError` says what was expected."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, inner)
    if origin is Literal:
        return _convert_choice(value, inner)
    if origin is tuple:
        return _convert_tuple(value, inner)
    if hint is bool:
        return _convert_bool(value)
    if hint in (int, float):
        return _convert_number(value, hint)
    if hint is Path:
        return _convert_path(value)
    if hint is str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError("expected text")
        return str(value)
    raise ValueError(f"expected {getattr(hint, '__name__', hint)}")


def _convert_tuple(value: object, hints: tuple[Any, ...]) -> tuple[object, ...]:
    """Convert to `tuple[X, ...]` of any length or `tuple[X, Y]` of that length; empty text is an empty tuple."""
    parts: object = value
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")] if value.strip() else []
    if not isinstance(parts, list | tuple):
        raise ValueError("expected values separated by commas")
    if hints[-1] is ...:
        hints = hints[:1] * len(parts)
    if len(parts) != len(hints):
        raise ValueError(f"expected {len(hints)} values separated by commas")
    return tuple(_convert(part, hint) for part, hint in zip(parts, hints, strict=True))


def _convert_path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("expected a path")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # the home directory of ~user is unknown
        raise ValueError(f"expected a path ({error})") from None


def _convert_union(value: object, hints: tuple[Any, ...]) -> object:
    if type(None) in hints and (value is None or (isinstance(value, str) and value.lower() in ("none", ""))):
        return None
    problems = []
    for hint in hints:
        if hint is not type(None):
            try:
                return _convert(value, hint)
            except ValueError as error:
                problems.append(str(error))
    raise ValueError(" or ".join(problems))


def _convert_choice(value: object, choices: tuple[Any, ...]) -> object:
    for choice in choices:
        # Compare types as well: 1 == 1.0 == True.
        if (type(value) is type(choice) and value == choice) or (isinstance(value, str) and value == str(choice)):
            return choice
    raise ValueError(f"expected one of {', '.join(map(str, choices))}")


def _convert_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text not in _TRUE + _FALSE:
        raise ValueError("expected true or false")
    return text in _TRUE


def _convert_number(value: object, hint: type[int] | type[float]) -> int | float:
    expected = ValueError("expected a whole number" if hint is int else "expected a number")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise expected
    try:
        number = hint(value)
    except (ValueError, OverflowError):
        raise expected from None
    if (hint is int and isinstance(value, float) and number != value) or not math.isfinite(number):
        raise expected
    return number
