"""Describes functions, classes and objects as JSON types, so that a configuration hash follows what they compute.

What belongs to an installed package is described by its name and the version of the package. What is defined in a
module that is not installed is described by a digest of the source files that it comes from, and what is typed into a
notebook or stands in the script that runs by a digest of its instructions and of the values that they refer to: other
functions, constants, default values and the variables of enclosing functions.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import math
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.disk import digest_of, digest_sources, package_file
from blemore_harness.hookspecs import Encoder, Fusion

HARNESS = __name__.partition(".")[0]

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of packages that are installed and not edited."""

NOT_OF_THE_CODE = {
    "__annotations__", "__dict__", "__doc__", "__firstlineno__", "__module__", "__static_attributes__", "__weakref__",
}  # fmt: skip
"""Attributes of a class that tell nothing about what it computes."""


def describe(thing: object) -> Any:
    """Return what an object computes from, as JSON types, the same in every process.

    >>> describe({"depth": 3, "sizes": (1, 2)})
    {'depth': 3, 'sizes': [1, 2]}
    """
    return _Walk().describe(thing)


class _Walk:
    """Describes objects that refer to each other, each object once."""

    def __init__(self) -> None:
        self._above: set[int] = set()
        self._known: dict[int, tuple[object, Any]] = {}  # with the objects, so that no id is used twice

    def describe(self, thing: Any) -> Any:
        """Return the description of a value of any kind."""
        if thing is None or isinstance(thing, bool | int | str):
            return thing
        if isinstance(thing, float):
            return float(thing) if math.isfinite(thing) else repr(float(thing))
        if isinstance(thing, complex | bytes | range | slice | Path):
            return repr(thing)
        if id(thing) in self._above:
            return "recursive"
        if id(thing) not in self._known:
            self._above.add(id(thing))
            self._known[id(thing)] = thing, self._describe(thing)
            self._above.remove(id(thing))
        return self._known[id(thing)][1]

    def _describe(self, thing: Any) -> Any:
        if isinstance(thing, Mapping):
            return {str(key): self.describe(value) for key, value in thing.items()}
        if isinstance(thing, list | tuple):
            return [self.describe(part) for part in thing]
        if isinstance(thing, set | frozenset):
            return sorted(map(repr, thing))
        if isinstance(thing, np.ndarray | np.generic):
            array = np.ascontiguousarray(thing)
            return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
        if isinstance(thing, types.ModuleType):
            return f"{thing.__name__} {_sources(thing.__name__)}" if _is_own(thing) else _name(thing.__name__)
        if isinstance(thing, functools.partial):
            return self.describe([thing.func, thing.args, thing.keywords])
        if isinstance(thing, functools.cached_property):
            return self.describe(thing.func)
        if isinstance(thing, property):
            return self.describe([thing.fget, thing.fset, thing.fdel])
        if isinstance(thing, types.MethodType):
            return self.describe([thing.__func__, thing.__self__])
        if isinstance(thing, type | types.FunctionType):
            return self._describe_code(thing)
        if hasattr(thing, "__wrapped__"):  # a decorated function
            return self.describe([type(thing), thing.__wrapped__])
        if isinstance(getattr(thing, "__name__", None), str):  # a function that is not written in Python
            return _name(f"{getattr(thing, '__module__', None) or _module_of(thing)}.{thing.__name__}")
        return {"object": self.describe(type(thing)), "state": self.describe(_state(thing))}

    def _describe_code(self, thing: type | types.FunctionType) -> str:
        if not _is_own(thing):
            return _name(f"{thing.__module__}.{thing.__qualname__}")
        facts: list[object] = [_sources(thing.__module__)] if _has_file(thing.__module__) else []
        if isinstance(thing, types.FunctionType):
            facts += [thing.__defaults__, thing.__kwdefaults__]
            facts += [_content(cell) for cell in thing.__closure__ or ()]
            if not _has_file(thing.__module__):
                facts += [*_instructions(thing.__code__), _globals_of(thing)]
            elif "<" in thing.__qualname__:  # several lambdas of one function have one name
                facts += _instructions(thing.__code__)
        elif not _has_file(thing.__module__):
            facts += [thing.__bases__]
            facts += [(name, value) for name, value in sorted(vars(thing).items()) if _is_code(name)]
        return f"{thing.__qualname__} {digest_of(self.describe(facts))}"


def _is_code(attribute: str) -> bool:
    return attribute not in NOT_OF_THE_CODE and not attribute.startswith("__annotate")


def _state(thing: Any) -> object:
    """Return the settings of an object: parameters of a scikit-learn estimator, else the attributes of an own class."""
    if callable(getattr(thing, "get_params", None)):
        return thing.get_params(deep=False)
    return (
        vars(thing) if hasattr(thing, "__dict__") and (isinstance(thing, Encoder | Fusion) or _is_own(thing)) else None
    )


def _globals_of(function: types.FunctionType) -> dict[str, Any]:
    """Return the global variables that a function refers to, by name."""
    held = function.__globals__
    return {name: held[name] for name in sorted(set(_names_in(function.__code__))) if name in held}


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


def _instructions(code: types.CodeType) -> Iterator[object]:
    yield from (code.co_code, code.co_names, code.co_varnames)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _instructions(constant)
        else:  # the order of a set differs from process to process
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _sources(module: str) -> str:
    """Digest the packages that are not installed which a module's values come from: its own, and theirs in turn."""
    files, reached = set[Path](), [module]
    for name in reached:
        file = package_file(sys.modules[name])
        if file is None:
            continue
        files.add(file)
        found = {_module_of(value) for value in vars(sys.modules[name]).values()}
        reached += sorted(each for each in found - set(reached) if _has_file(each) and _is_own(sys.modules[each]))
    return digest_of(sorted(digest_sources(file) for file in files))


def _has_file(module: str) -> bool:
    """Return whether a module has source files of its own, which a notebook and a script that runs have not."""
    return module != "__main__" and module in sys.modules and package_file(sys.modules[module]) is not None


def _module_of(thing: object) -> str:
    if isinstance(thing, types.ModuleType):
        return thing.__name__
    named = thing if isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType) else type(thing)
    return str(getattr(named, "__module__", None) or "builtins")


def _is_own(thing: object) -> bool:
    """Return whether the source of an object counts, and not the version of its package."""
    module = _module_of(thing)
    if module == "__main__":
        return True
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
