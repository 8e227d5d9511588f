"""Dataclasses to JSON types and back, with the offending key named."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from blemore_harness.errors import RunError

OPTIONAL = MappingProxyType({"optional": True})
"""Metadata of a field that a record may lack, since it was added to a schema: its default then holds."""


def to_json(value: object) -> Any:
    """Return a record, or a part of one, as JSON types."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_json(inner) for key, inner in value.items()}
    return [to_json(inner) for inner in value] if isinstance(value, tuple | list) else value


def decode(kind: Any, value: Any, key: str) -> Any:
    """Read a value of an annotated type from JSON types.

    Args:
        kind: a dataclass, or an annotation of one of its fields.
        key: where the value stands, for messages, as in `systems[1].official`.

    Raises:
        RunError: a missing or unknown key, or a value of another type.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (UnionType, Union):
        if value is None and NoneType in parts:
            return None
        return decode(_pick(parts, value), value, key)
    if origin is Literal:
        _expect(value in parts and type(value) is type(parts[0]), key, f"one of {', '.join(map(repr, parts))}", value)
        return value
    if origin is tuple:
        _expect(isinstance(value, list), key, "a list", value)
        many = parts[-1] is Ellipsis
        _expect(many or len(value) == len(parts), key, f"{len(parts)} entries", value)
        return tuple(decode(parts[0 if many else k], inner, f"{key}[{k}]") for k, inner in enumerate(value))
    if origin is not None or dataclasses.is_dataclass(kind):
        _expect(isinstance(value, dict), key, "an object", value)
        if dataclasses.is_dataclass(kind):
            return _decode_object(kind, value, key)
        return {name: decode(parts[1], inner, f"{key}.{name}") for name, inner in value.items()}
    names = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
    right = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
    _expect(right, key, names[kind], value)
    return value


def _decode_object(kind: Any, value: Mapping[str, Any], key: str) -> Any:
    types = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    for missing in (name for name in required_keys(kind) if name not in value):
        raise RunError(f"the key '{missing}' is missing{f' in {key}' if key else ''}")
    for unknown in (name for name in value if name not in names):
        raise RunError(f"the key '{f'{key}.{unknown}'.strip('.')}' is unknown")
    given = (name for name in names if name in value)
    return kind(**{name: decode(types[name], value[name], f"{key}.{name}".strip(".")) for name in given})


def required_keys(kind: Any) -> list[str]:
    """Return the keys that an object of a record must have."""
    return [field.name for field in dataclasses.fields(kind) if not field.metadata.get("optional", False)]


def _pick(parts: tuple[Any, ...], value: Any) -> Any:
    """Return the type of an alternative: of several systems the one with this status, else the first."""
    kinds = [part for part in parts if part is not NoneType]
    status = value.get("status") if isinstance(value, dict) else None
    return next((kind for kind in kinds if getattr(kind, "status", None) == status), kinds[0])


def _expect(right: bool, key: str, expected: str, value: Any) -> None:
    if not right:
        raise RunError(f"{key}: expected {expected}, found {str(value)[:60]!r}")
