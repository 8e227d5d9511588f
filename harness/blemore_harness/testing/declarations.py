"""Checks of what a system declares, before anything is computed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pluggy

from blemore_harness import hookspecs
from blemore_harness.errors import HarnessError, UnknownName
from blemore_harness.hookspecs import PROJECT, Card, Encoder, Requirement, hookimpl
from blemore_harness.options import build_options, describe_options
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.plugins import Plugins, System, register
from blemore_harness.testing.trials import Trials
from blemore_harness.testing.verdicts import Broken, NotApplicable, Verdict

BLOCKED = (
    "torch", "torchvision", "torchaudio", "transformers", "timm", "tensorflow", "keras", "jax", "av", "decord",
    "librosa", "numba", "cv2",
)  # fmt: skip
"""Packages that listing plugins must not load: each takes a second or more, or may not be there."""

NO_SUCH_OPTION = "an_option_that_nobody_has"

SECONDS = 120


def check_imports(bench: Trials) -> None:
    """Import the system's module in an interpreter where heavy packages cannot be imported."""
    module = type(bench.subject.system).__module__
    if module == "__main__" or importlib.util.find_spec(module) is None:
        raise NotApplicable(f"the module '{module}' cannot be imported by name")
    known = bench.session.imports
    if module not in known:
        known[module] = _import_elsewhere(module)
    if known[module].reason:
        raise Broken(known[module].reason)


def check_declares(bench: Trials) -> None:
    """Offer the system to the harness as an installed plugin does."""
    system = bench.subject.system
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    register(
        plugins,
        _Encoders(system) if isinstance(system, Encoder) else _Fusions(system),
        "checked",
        Distribution("checked", "0"),
    )
    if plugins.failures:
        raise Broken(
            plugins.failures[0].status if plugins.failures[0].status != "failed" else plugins.failures[0].summary
        )
    if not system.summary.strip() or "\n" in system.summary:
        raise Broken("`summary`: expected one line for `blemore-harness plugins`")
    hash(system.Options())


def check_options(bench: Trials) -> None:
    """Read options as `--set` gives them: what is unknown is refused, what they print is read back."""
    system = bench.subject.system
    try:
        build_options(system.name, system.Options, {NO_SUCH_OPTION: "1"})
    except UnknownName:
        pass
    else:
        raise Broken("an option that it does not have was taken: misspelt ones would be ignored silently")
    described = describe_options(bench.options)
    try:
        json.dumps(described)
    except TypeError as error:
        raise Broken(f"options must be plain values that a record can hold: {error}") from error
    fields = {field.name for field in dataclasses.fields(system.Options) if field.init}
    texts = {name: _as_text(value) for name, value in described.items() if name in fields}
    try:
        again = describe_options(build_options(system.name, system.Options, texts))
    except (HarnessError, TypeError) as error:
        raise Broken(f"its own options, written as text, are not read back: {error}") from error
    other = sorted(name for name in described if again[name] != described[name])
    if other:
        name = other[0]
        raise Broken(f"option '{name}': '{texts.get(name)}' is read back as {again[name]!r}, not {described[name]!r}")


def check_identity(bench: Trials) -> None:
    """Compare two answers about what goes into the identity and the record."""
    system, options = bench.subject.system, bench.options
    first, second = _facts(system, options), _facts(system, options)
    if first != second:
        raise Broken(
            "`identify`, `feature_sets`, `caveat` and `card` must give the same each time: a run would never find "
            "itself again"
        )
    caveat = system.caveat(options)
    if caveat is not None and not (isinstance(caveat, str) and caveat.strip()):
        raise Broken(f"`caveat`: expected a few words or None, found {caveat!r}")


def _facts(system: Any, options: Any) -> str:
    card = system.card(options)
    if not isinstance(card, Card):
        raise Broken(f"`card`: expected a Card, found {card!r}")
    facts = [system.caveat(options), system.identify(options), dataclasses.asdict(card)]
    if isinstance(system, Encoder):
        feature_sets = system.feature_sets(options)
        if not isinstance(feature_sets, tuple) or not all(isinstance(store, str) for store in feature_sets):
            raise Broken(f"`feature_sets`: expected a tuple of names, found {feature_sets!r}")
        facts.append(feature_sets)
        needs = system.requirements(options)
        if not isinstance(needs, tuple) or not all(isinstance(need, Requirement) for need in needs):
            raise Broken(f"`requirements`: expected a tuple of Requirement, found {needs!r}")
    try:
        return json.dumps(facts, sort_keys=True)
    except TypeError as error:
        raise Broken(f"`identify` must give JSON types: {error}") from error


def _as_text(value: object) -> str:
    """Write a value as people type it after `--set`."""
    if isinstance(value, list):
        return ",".join(map(_as_text, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _import_elsewhere(module: str) -> Verdict:
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in BLOCKED)
    code = f"import sys\n{blocked}import importlib\nimportlib.import_module(sys.argv[1])\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", code, module],
        capture_output=True, text=True, check=False, env=environment, timeout=SECONDS,
    )  # fmt: skip
    if done.returncode == 0:
        return Verdict("imports", "passed")
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return Verdict(
        "imports", "failed",
        f"'{module}' does not import where heavy packages are missing ({last}): import them inside functions, so that "
        "listing plugins neither needs nor loads them",
    )  # fmt: skip


class _Encoders:
    """A plugin that offers one encoder."""

    def __init__(self, system: System) -> None:
        self._system = system

    @hookimpl
    def blemore_encoders(self) -> list[System]:
        return [self._system]


class _Fusions:
    """A plugin that offers one fusion."""

    def __init__(self, system: System) -> None:
        self._system = system

    @hookimpl
    def blemore_fusions(self) -> list[System]:
        return [self._system]
