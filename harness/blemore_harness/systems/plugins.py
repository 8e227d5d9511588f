"""Loads plugins one at a time; a plugin that cannot be loaded is listed as failed instead of ending the program."""

from __future__ import annotations

import copy
import dataclasses
import importlib.metadata
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any, get_args

import pluggy

from blemore_harness import hookspecs
from blemore_harness.clips import Corpus
from blemore_harness.errors import BlemoreError, ConfigError, UnknownName
from blemore_harness.executors import Executor
from blemore_harness.hookspecs import (
    PROJECT,
    Encoder,
    FoldFinished,
    Fusion,
    Modality,
    RunFinished,
    RunStarted,
    Tracker,
)
from blemore_harness.options import build_options
from blemore_harness.systems.distributions import Distribution, Installed

System = Encoder | Fusion

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""Pattern of system names, which are typed by users and part of folder names."""


@dataclass(frozen=True)
class PluginRow:
    """One line of `blemore-harness plugins`."""

    name: str
    kind: str
    modality: str
    distribution: str
    version: str
    status: str
    summary: str


@dataclass(frozen=True)
class Offer:
    """A system and the plugin that provides it."""

    system: System
    plugin: str
    distribution: Distribution


@dataclass
class Plugins:
    """All loaded systems, trackers, corpora and executors, and the plugins that could not be loaded."""

    manager: pluggy.PluginManager
    offers: dict[str, list[Offer]] = field(default_factory=dict)
    trackers: dict[str, tuple[Tracker, Distribution]] = field(default_factory=dict)
    corpora: dict[str, tuple[Corpus, Distribution]] = field(default_factory=dict)
    executors: dict[str, tuple[type[Executor], Distribution]] = field(default_factory=dict)
    failures: list[PluginRow] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def encoder(self, name: str) -> Offer:
        """Return an encoder by name.

        Raises:
            UnknownName: it does not exist; the message suggests similar names.
            ConfigError: two plugins provide it, or it is a fusion.
        """
        return self._find(name, Encoder, "encoder")

    def fusion(self, name: str) -> Offer:
        """Return a fusion by name; errors as of `encoder`."""
        return self._find(name, Fusion, "fusion")

    def find(self, name: str) -> Offer:
        """Return an encoder or a fusion by name; errors as of `encoder`."""
        return self._find(name, (Encoder, Fusion), "encoder or fusion")

    def _find(self, name: str, kind: type[Any] | tuple[type[Any], ...], word: str) -> Offer:
        offers = self.offers.get(name, [])
        if not offers:
            for what, there, use in (
                ("a corpus", self.corpora, f"--data {name}:FOLDER, or --extra-train {name}:FOLDER"),
                ("a tracker", self.trackers, f"--track {name}"),
                ("an executor", self.executors, f"--executor {name}"),
            ):
                if name in there:
                    raise ConfigError(f"expected an encoder or a fusion; '{name}' is {what}, use it with {use}")
            known = [n for n, found in self.offers.items() if isinstance(found[0].system, kind)]
            message = str(UnknownName.among(word, name, known))
            if self.failures:
                failed = ", ".join(row.name for row in self.failures)
                message += f"; plugins that failed to load: {failed} (see `plugins`)"
            if self.left_out:
                message += f"; excluded by BLEMORE_PLUGINS or BLEMORE_BLOCK: {', '.join(self.left_out)}"
            raise UnknownName(message)
        if len(offers) > 1:
            both = " and ".join(f"{o.plugin} ({o.distribution.name} {o.distribution.version})" for o in offers)
            count = "two" if len(offers) == 2 else str(len(offers))
            raise ConfigError(
                f"{count} plugins provide '{name}': {both}; exclude one with BLEMORE_BLOCK={offers[1].plugin}"
            )
        if not isinstance(offers[0].system, kind):
            if kind is Encoder:
                raise ConfigError(f"'{name}' is a fusion, not an encoder: use it with --fusion")
            raise ConfigError(f"'{name}' is an encoder, not a fusion: use it with --plugin")
        return offers[0]

    def rows(self) -> list[PluginRow]:
        """Return all systems, trackers, corpora and executors sorted by kind and name, failures last."""
        rows = []
        for name, offers in self.offers.items():
            for offer in offers:
                system = offer.system
                status = "ok" if len(offers) == 1 else f"conflict: provided by {len(offers)} plugins"
                kind, modality = ("encoder", system.modality) if isinstance(system, Encoder) else ("fusion", "")
                rows.append(PluginRow(name, kind, modality, *_label(offer.distribution), status, system.summary))
        others: list[tuple[str, Mapping[str, tuple[Any, Distribution]]]] = [
            ("tracker", self.trackers), ("corpus", self.corpora), ("executor", self.executors),
        ]  # fmt: skip
        for kind, offered in others:
            for name, (each, distribution) in offered.items():
                rows.append(PluginRow(name, kind, "", *_label(distribution), "ok", each.summary))
        return sorted(rows, key=lambda row: (row.kind, row.name)) + sorted(self.failures, key=lambda row: row.name)

    def open_executor(self, name: str, options: Mapping[str, str]) -> Executor:
        """Return an executor by name.

        Raises:
            UnknownName: nobody offers it.
            BlemoreError: an option that it does not have, or it cannot be used on this machine.
        """
        if name not in self.executors:
            raise UnknownName.among("executor", name, ["local", *self.executors])
        try:
            return self.executors[name][0](options)
        except BlemoreError:
            raise
        except (Exception, SystemExit) as error:
            raise ConfigError(f"--executor {name}: {_brief(error)}") from error

    def track(self, names: Iterable[str]) -> None:
        """Have trackers told of what is run with these plugins from now on; those that are told already stay so.

        Raises:
            UnknownName: nobody offers a tracker of that name.
            BlemoreError: a tracker that cannot be used on this machine.
        """
        for name in names:
            if name not in self.trackers:
                raise UnknownName.among("tracker", name, self.trackers)
            as_plugin = f"tracker {name}"
            if not self.manager.has_plugin(as_plugin):
                try:
                    self.manager.register(self.trackers[name][0].connect(), as_plugin)
                except BlemoreError:
                    raise
                except (Exception, SystemExit) as error:
                    raise ConfigError(f"--track {name}: {_brief(error)}") from error

    def tell(self, hook: str, event: RunStarted | FoldFinished | RunFinished) -> list[str]:
        """Call a notification hook of every plugin; one that raises becomes a warning, the others are still told.

        Each is given a copy of its own, so that none changes what is recorded or what the others are told.
        """
        warnings = []
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            try:
                implementation.function(*(copy.deepcopy(event) for _ in implementation.argnames))
            except (Exception, SystemExit) as error:
                warnings.append(f"plugin {implementation.plugin_name}: {hook} raised {_brief(error)}")
        return warnings


def load_plugins(environment: Mapping[str, str] = os.environ) -> Plugins:
    """Load all installed plugins.

    `BLEMORE_PLUGINS=a,b` loads only these and `BLEMORE_BLOCK=c` all but these entry points, to isolate a problem.
    """
    only, blocked = (_names(environment.get(v, "")) for v in ("BLEMORE_PLUGINS", "BLEMORE_BLOCK"))
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins, installed = Plugins(manager), Installed()
    points = importlib.metadata.entry_points(group=PROJECT)
    for point in sorted(points, key=lambda point: point.name):
        if (only and point.name not in only) or point.name in blocked:
            plugins.left_out.append(point.name)
            continue
        try:
            module = point.load()
        except (Exception, SystemExit) as error:
            _add_failure(plugins, point.name, installed.find(point.dist, None), f"import failed: {_brief(error)}")
            continue
        register(plugins, module, point.name, installed.find(point.dist, module))
    return plugins


def register(plugins: Plugins, module: object, name: str, distribution: Distribution) -> None:
    """Add one loaded plugin; problems are listed as failures."""
    manager = plugins.manager
    if manager.has_plugin(name):
        _add_failure(plugins, name, distribution, "not loaded: another distribution has an entry point of this name")
        return
    try:
        manager.register(module, name)
        manager.check_pending()
        _refuse_wrappers(manager, module)
    except Exception as error:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        _add_failure(plugins, name, distribution, f"wrong hook: {_brief(error)}")
        return
    for hook, kind in (("blemore_encoders", Encoder), ("blemore_fusions", Fusion)):
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin_name == name:
                _take_offers(plugins, name, distribution, hook, implementation.function, kind)
    for hook, other, known in (
        ("blemore_experiment_trackers", Tracker, plugins.trackers),
        ("blemore_corpora", Corpus, plugins.corpora),
        ("blemore_executors", Executor, plugins.executors),
    ):
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin_name == name:
                _take_others(plugins, name, distribution, hook, implementation.function, other, known)


def _take_offers(
    plugins: Plugins, name: str, distribution: Distribution, hook: str, function: Callable[[], Any], kind: type[Any]
) -> None:
    """Return the valid systems of one hook; each invalid one is listed as a failure."""
    good: list[System] = []
    failed = f"{hook} failed: "
    try:
        for system in function():
            try:
                if not isinstance(system, kind):
                    raise TypeError(f"expected {kind.__name__} objects, found {type(system).__name__}")
                check_system(system)
            except (Exception, SystemExit) as error:
                _add_failure(plugins, name, distribution, f"{failed}{_brief(error)}")
            else:
                good.append(system)
    except (Exception, SystemExit) as error:
        _add_failure(plugins, name, distribution, f"{failed}{_brief(error)}")
    names = [system.name for system in good]
    for twice in sorted({each for each in names if names.count(each) > 1}):
        _add_failure(plugins, name, distribution, f"{failed}'{twice}' is provided twice: use different names")
    for system in good:
        if names.count(system.name) == 1:
            plugins.offers.setdefault(system.name, []).append(Offer(system, name, distribution))


def _take_others(
    plugins: Plugins, name: str, distribution: Distribution, hook: str, function: Callable[[], Any], kind: type[Any],
    known: dict[str, Any],
) -> None:  # fmt: skip
    """Keep what one hook offers besides systems, up to the first invalid one, which is listed as a failure.

    Trackers and corpora are objects, executors are classes: a run makes its own with the options of the command line.
    """
    try:
        for offered in function():
            if kind is Executor and not (isinstance(offered, type) and issubclass(offered, kind)):
                raise TypeError(f"expected subclasses of {kind.__name__}, found {offered!r}")
            if kind is not Executor and not isinstance(offered, kind):
                raise TypeError(f"expected {kind.__name__} objects, found {type(offered).__name__}")
            _check_names(offered, "name", "summary")
            if offered.name in known or (kind is Executor and offered.name == "local"):
                raise ValueError(f"another {kind.__name__.lower()} is named '{offered.name}' already")
            known[offered.name] = offered, distribution
    except (Exception, SystemExit) as error:
        _add_failure(plugins, name, distribution, f"{hook} failed: {_brief(error)}")


def _refuse_wrappers(manager: pluggy.PluginManager, module: object) -> None:
    """Raise for hook wrappers, because hooks are called one by one."""
    for caller in manager.get_hookcallers(module) or ():
        for implementation in caller.get_hookimpls():
            if implementation.plugin is module and (implementation.wrapper or implementation.hookwrapper):
                raise TypeError(f"{caller.name} is a hook wrapper, expected a plain function")


def _check_names(offered: Any, *attributes: str) -> None:
    for attribute in attributes:
        if not isinstance(getattr(offered, attribute, None), str):
            kind = offered if isinstance(offered, type) else type(offered)
            raise TypeError(f"{kind.__name__} lacks the text attribute `{attribute}`")
    if not NAME.fullmatch(offered.name):
        raise ValueError(f"expected a name of lower case letters, digits and dashes, found '{offered.name}'")


def check_system(system: System) -> None:
    """Check what a system declares about itself.

    Raises:
        TypeError, ValueError: an attribute that is missing or wrong.
    """
    found = type(system).__name__
    _check_names(system, "name", "summary", *(["modality"] if isinstance(system, Encoder) else []))
    if isinstance(system, Encoder) and system.modality not in get_args(Modality):
        raise ValueError(f"expected a modality of {', '.join(get_args(Modality))}, found '{system.modality}'")
    parameters = getattr(system.Options, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise TypeError(f"{found}.Options: expected a frozen dataclass")
    required = [
        each.name
        for each in dataclasses.fields(system.Options)
        if each.init and each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]
    if required:
        raise TypeError(f"{found}.Options: the field '{required[0]}' has no default: every field needs one")
    system.Options()  # raises unless the defaults are valid
    try:
        build_options(system.name, system.Options, system.demo_options)
    except ConfigError as error:
        raise ValueError(f"{found}.demo_options: {error}") from error


def _add_failure(plugins: Plugins, name: str, distribution: Distribution, status: str) -> None:
    plugins.failures.append(PluginRow(name, "plugin", "", *_label(distribution), "failed", status))


def _label(distribution: Distribution) -> tuple[str, str]:
    return distribution.name, distribution.version


def _brief(error: BaseException) -> str:
    message = shorten(str(error), 300)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",") if name.strip()}
