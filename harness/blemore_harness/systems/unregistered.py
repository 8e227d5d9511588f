"""Encoders and fusions that are given as objects, from a notebook or a script, without a package that offers them."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from blemore_harness.errors import ConfigError
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.systems.distributions import Distribution, digest_sources, package_file
from blemore_harness.systems.plugins import Offer, Plugins, check_system

SESSION = "this session"
"""In the place of a plugin's and a distribution's name."""

NOT_OF_THE_CODE = {
    "__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__", "__static_attributes__",
}  # fmt: skip
"""Attributes of a class that tell nothing about what it computes."""


def add_unregistered(plugins: Plugins, systems: Iterable[Encoder | Fusion]) -> None:
    """Add encoders and fusions to those of installed plugins.

    Raises:
        ConfigError: something else, an invalid declaration, or a name that is taken.
    """
    for system in systems:
        if not isinstance(system, Encoder | Fusion):
            raise ConfigError(
                f"expected a name, or an object of a class that extends Encoder or Fusion, found {system!r}"
                + ("; write it with brackets to make an object" if isinstance(system, type) else "")
            )
        try:
            check_system(system)
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error)) from error
        if system.name in plugins.offers:
            raise ConfigError(f"'{system.name}' is the name of an installed system: give yours another one")
        offer = Offer(system, SESSION, Distribution(SESSION, "0", source=digest_code(system)))
        plugins.offers[system.name] = [offer]


def digest_code(system: object) -> str:
    """Digest what an object computes with, so that its results are never taken for those of other code.

    Covered are the code of its classes and of the functions and classes that they name, whether they stand in a
    notebook, a script or a module that is not installed; the values of variables and attributes that they use, as far
    as they are numbers, texts, arrays or containers of such; and the names of installed modules. Of any other object
    only its class counts: what it holds must be an option, or be named by `identify`.
    """
    digest = _Digest()
    digest.add(system)
    return digest.hex()


class _Digest:
    """Walks through values; each object once."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, object] = {}  # kept alive, so that no id is used twice

    def hex(self) -> str:
        return self._hash.hexdigest()[:16]

    def _say(self, *parts: object) -> None:
        self._hash.update("\0".join(map(str, parts)).encode() + b"\0\0")

    def add(self, value: Any) -> None:
        """Digest a value of any kind."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            self._say(type(value).__name__, repr(value))
        elif isinstance(value, tuple):  # equal ones may or may not be one object
            self._add_parts("tuple", value)
        elif isinstance(value, set | frozenset):
            self._say("set", *sorted(map(repr, value)))
        elif id(value) in self._seen:
            self._say("again")
        else:
            self._seen[id(value)] = value
            self._add_object(value)

    def _add_parts(self, kind: str, parts: Sequence[Any]) -> None:
        self._say(kind, len(parts))
        for part in parts:
            self.add(part)

    def _add_object(self, value: Any) -> None:
        if isinstance(value, Mapping):
            self._add_parts("mapping", [(key, value[key]) for key in sorted(value, key=repr)])
        elif isinstance(value, list):
            self._add_parts("list", value)
        elif isinstance(value, MethodType):
            self._add_parts("method", [value.__func__, value.__self__])
        elif isinstance(value, property):
            self._add_parts("property", [value.fget, value.fset, value.fdel])
        elif isinstance(value, partial):
            self._add_parts("partial", [value.func, value.args, value.keywords])
        elif isinstance(value, ModuleType):
            self._say("module", value.__name__, _state_of(value.__name__))
        elif isinstance(value, type):
            self._add_class(value)
        elif isinstance(value, FunctionType):
            self._add_function(value)
        elif hasattr(value, "__wrapped__"):  # of a decorator
            self.add(value.__wrapped__)
        elif type(value).__module__ == "numpy" and hasattr(value, "tobytes"):
            self._say(value.dtype, value.shape, hashlib.sha256(value.tobytes()).hexdigest())
        else:
            self.add(type(value))
            if callable(getattr(value, "get_params", None)):  # as of scikit-learn
                self.add(value.get_params(deep=False))
            elif isinstance(value, Encoder | Fusion) or _is_own(type(value)):
                self.add(getattr(value, "__dict__", {}))

    def _add_class(self, kind: type) -> None:
        self._say("class", kind.__qualname__)
        if _stands_in_a_file(kind):
            self._say(kind.__module__, _state_of(kind.__module__))
            return
        self._add_parts("bases", kind.__bases__)
        for name, value in sorted(vars(kind).items()):
            if not name.startswith("__annotate") and name not in NOT_OF_THE_CODE:
                self._say(name)
                self.add(value)

    def _add_function(self, function: FunctionType) -> None:
        self._say("function", function.__qualname__)
        if _stands_in_a_file(function):
            self._say(function.__module__, _state_of(function.__module__))
            return
        self._add_code(function.__code__, function.__globals__)
        self._add_parts("defaults", [function.__defaults__, function.__kwdefaults__])
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name != "__class__":
                self._say(name)
                with contextlib.suppress(ValueError):  # not filled yet
                    self.add(cell.cell_contents)

    def _add_code(self, code: CodeType, space: Mapping[str, Any]) -> None:
        """Digest what a function does: its instructions and constants, and the values of the names that it uses."""
        self._say(code.co_code.hex(), *code.co_names, "", *code.co_varnames)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._add_code(constant, space)
            else:
                self.add(constant)
        for name in code.co_names:
            if name in space:
                self._say(name)
                self.add(space[name])


def _stands_in_a_file(thing: Any) -> bool:
    """Return whether a class or a function is of a module with a file of its own, and not of a notebook or script."""
    module = str(getattr(thing, "__module__", None) or "builtins")
    return module != "__main__" and (module in sys.builtin_module_names or _file_of(module) is not None)


def _is_own(kind: type) -> bool:
    """Return whether a class is neither Python's, nor the harness's, nor of an installed package."""
    if not _stands_in_a_file(kind):
        return True
    file = _file_of(kind.__module__)
    return file is not None and not _is_core(kind.__module__) and not _is_installed(file)


def _state_of(module: str) -> str:
    """Return what tells a state of a module from others: a digest of its package, or the version of an installed one.

    Empty for the core, which is part of every identity.
    """
    file = _file_of(module)
    if file is not None and not _is_core(module) and not _is_installed(file):
        return digest_sources(file)
    return "" if _is_core(module) else str(getattr(sys.modules.get(module.partition(".")[0]), "__version__", ""))


def _is_core(module: str) -> bool:
    return module.partition(".")[0] == "blemore_harness"


def _file_of(module: str) -> Path | None:
    found = sys.modules.get(module)
    return None if found is None else package_file(found)


def _is_installed(file: Path) -> bool:
    """Return whether a file is Python's own, or of an installed package."""
    paths = sysconfig.get_paths()
    return any(Path(paths[key]) in file.parents for key in ("stdlib", "platstdlib", "purelib", "platlib"))
