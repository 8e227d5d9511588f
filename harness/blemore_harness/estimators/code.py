"""Describes functions, classes and objects as JSON types, so that a configuration hash follows what they compute.

What belongs to an installed package is described by its name and the version of the package. What belongs to a script,
a notebook or an editable installation is described by a digest of its source text and of the values that the text
refers to: other functions, constants, default values and the variables of enclosing functions.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import math
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.disk import digest_of

HARNESS = __name__.partition(".")[0]

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of packages that are installed and not edited."""


def describe(thing: object) -> Any:
    """Return what an object computes from, as JSON types, the same in every process.

    >>> describe({"depth": 3, "sizes": (1, 2)})
    {'depth': 3, 'sizes': [1, 2]}
    """
    return _describe(thing, ())


def _describe(thing: Any, above: tuple[int, ...]) -> Any:
    """Describe an object; `above` are the objects that contain it."""
    if thing is None or isinstance(thing, bool | int | str):
        return thing
    if isinstance(thing, float):
        return float(thing) if math.isfinite(thing) else repr(float(thing))
    if isinstance(thing, complex | bytes | range | slice | Path):
        return repr(thing)
    if id(thing) in above:
        return "recursive"
    into = functools.partial(_describe, above=(*above, id(thing)))
    if isinstance(thing, Mapping):
        return {str(key): into(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [into(part) for part in thing]
    if isinstance(thing, set | frozenset):
        return sorted(map(repr, thing))
    if isinstance(thing, np.ndarray | np.generic):
        array = np.ascontiguousarray(thing)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
    if isinstance(thing, types.ModuleType):
        if not _is_own(thing):
            return _name(thing.__name__)
        return f"{thing.__name__} {digest_of(inspect.getsource(thing))}"
    if isinstance(thing, functools.partial):
        return [into(part) for part in (thing.func, thing.args, thing.keywords)]
    if isinstance(thing, types.MethodType):
        return [into(thing.__func__), into(thing.__self__)]
    if isinstance(thing, type | types.FunctionType):
        return _describe_code(thing, into)
    if hasattr(thing, "__wrapped__"):  # a decorated function
        return into([type(thing), thing.__wrapped__])
    if isinstance(getattr(thing, "__name__", None), str):  # a function that is not written in Python
        return _name(f"{getattr(thing, '__module__', None) or _module_of(thing)}.{thing.__name__}")
    return {"object": into(type(thing)), "state": into(_state(thing))}


def _describe_code(thing: Any, into: Callable[[Any], Any]) -> Any:
    if not _is_own(thing):
        return _name(f"{thing.__module__}.{thing.__qualname__}")
    functions = [thing] if isinstance(thing, types.FunctionType) else list(_functions_of(thing))
    try:
        text: Any = inspect.getsource(thing)
    except (OSError, TypeError):  # typed into an interpreter that keeps no text
        text = [list(_digest(function.__code__)) for function in functions]
    uses: dict[str, Any] = {}
    for function in functions:
        uses.update(_references(function))
    bases = [base for base in getattr(thing, "__bases__", ()) if base is not object]
    facts = [text, {name: into(value) for name, value in sorted(uses.items())}, into(bases)]
    return f"{thing.__qualname__} {digest_of(facts)}"


def _state(thing: Any) -> object:
    """Return the settings of an object: parameters of a scikit-learn estimator, else the attributes of an own class."""
    if callable(getattr(thing, "get_params", None)):
        return thing.get_params(deep=False)
    return vars(thing) if _is_own(thing) else None


def _references(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function refers to by name: globals, variables of enclosing functions, default values."""
    for name in sorted(set(_names_in(function.__code__))):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, _content(cell)
    yield f"{function.__name__} defaults", [function.__defaults__, function.__kwdefaults__]


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


def _digest(code: types.CodeType) -> Iterator[str]:
    yield hashlib.sha256(code.co_code).hexdigest()[:16]
    for constant in code.co_consts:
        yield from _digest(constant) if isinstance(constant, types.CodeType) else [repr(constant)]


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _functions_of(kind: type) -> Iterator[types.FunctionType]:
    for value in vars(kind).values():
        inner = getattr(value, "__func__", getattr(value, "fget", value))
        if isinstance(inner, types.FunctionType) and inner.__module__ == kind.__module__:
            yield inner


def _module_of(thing: object) -> str:
    if isinstance(thing, types.ModuleType):
        return thing.__name__
    named = thing if isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType) else type(thing)
    return str(getattr(named, "__module__", None) or "builtins")


def _is_own(thing: object) -> bool:
    """Return whether the source of an object counts, and not the version of its package."""
    module = _module_of(thing)
    if module.partition(".")[0] in (*sys.stdlib_module_names, HARNESS):
        return False
    return not INSTALLED & set(Path(getattr(sys.modules.get(module), "__file__", None) or "").parts)


def _name(name: str) -> str:
    version = _version(name.partition(".")[0])
    return f"{name} {version}" if version else name


def _version(package: str) -> str:
    found = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(found, str):
        return found
    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""
