"""Makes the JSON schema of the record from its types: `python -m blemore_harness.record.schema` writes it anew."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from blemore_harness.options import read_attributes
from blemore_harness.record.encoding import required_keys
from blemore_harness.record.types import Record

SCHEMA_FILE = Path(__file__).with_name("record.schema.json")

NAMES: Mapping[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}
"""JSON's word for a type."""


def make_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of `record.json`, with descriptions from the docstrings."""
    definitions: dict[str, Any] = {}
    root = _define(Record, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Record of a run of blemore-harness",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def write_schema(path: Path = SCHEMA_FILE) -> None:
    """Write the schema beside this module."""
    path.write_text(json.dumps(make_schema(), indent=2) + "\n", encoding="utf-8")


def describe_fields(kind: type) -> dict[str, str]:
    """Return what the docstring of a class says under `Attributes`, by field, those of its bases included."""
    found = read_attributes(kind)
    return {field.name: found[field.name] for field in dataclasses.fields(kind)}


def _define(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a dataclass, no other keys allowed."""
    types, meanings = get_type_hints(kind), describe_fields(kind)
    return {
        "type": "object",
        "description": (kind.__doc__ or "").splitlines()[0],
        "properties": {
            name: {"description": meaning, **_schema_of(types[name], definitions)} for name, meaning in meanings.items()
        },
        "required": required_keys(kind),
        "additionalProperties": False,
    }


def _schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return {}
    if kind is NoneType:
        return {"type": "null"}
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # it may hold others of its kind
            definitions[kind.__name__] = _define(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if origin in (UnionType, Union):
        return {"anyOf": [_schema_of(part, definitions) for part in parts]}
    if origin is Literal:
        return {"enum": list(parts)}
    if origin is tuple and parts[-1] is Ellipsis:
        return {"type": "array", "items": _schema_of(parts[0], definitions)}
    if origin is tuple:
        return {
            "type": "array", "items": _schema_of(parts[0], definitions), "minItems": len(parts), "maxItems": len(parts),
        }  # fmt: skip
    if origin is not None:
        return {"type": "object", "additionalProperties": _schema_of(parts[1], definitions)}
    return {"type": NAMES[kind]}


if __name__ == "__main__":
    write_schema()
