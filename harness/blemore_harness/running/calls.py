"""What stands between the harness and a plugin during a call: what it says is kept, what it raises is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from blemore_harness.context import Context, Progress, Reporter, ScoringService, Silent, refuse_to_score
from blemore_harness.errors import InvalidProbabilities, MediaError, PluginFailed, RunError, advise, is_disk_trouble
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.rules import Scores
from blemore_harness.protocol.thresholds import search_official
from blemore_harness.running.requests import Answer, Preparing, Request
from blemore_harness.running.run import Run
from blemore_harness.systems.failures import Crash, Lost, blaming
from blemore_harness.systems.resolved import RESOLVING, ResolvedSystem

TRIES = 2
"""How often a request whose worker is lost is tried again."""


@dataclass
class CallLog:
    """Keeps what a plugin says for the record, and passes it on to the user, with real clip names."""

    reporter: Reporter
    translate: Callable[[str], str]
    notes: dict[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    asked: int = 0
    where: dict[str, object] | None = None
    """Facts of the worker that carried the call out; None in this process."""

    def log(self, message: str) -> None:
        """Report one line."""
        self.reporter.log(self.translate(message))

    def warn(self, message: str) -> None:
        """Report and keep one line."""
        self.warnings.append(self.translate(message))
        self.reporter.warn(self.warnings[-1])

    def note(self, name: str, value: object) -> None:
        """Keep a fact."""
        self.notes[name] = json.loads(self.translate(json.dumps(value)))


class PluginReporter:
    """The reporting side as a plugin holds it: it leads to the scoring service, not to labels or real names."""

    def __init__(self, ask: Callable[..., Any], reporter: Reporter, part: str) -> None:
        self._open_bar, self._part = reporter.progress, part
        self.log = partial(ask, "log")
        self.warn = partial(ask, "warn")
        self.note = partial(ask, "note")

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Open a bar that says which fold it is for."""
        return self._open_bar(f"{label} ({self._part})", total)


@contextmanager
def open_call(
    run: Run, resolved: ResolvedSystem, part: str, index: int | None = None, quiet: bool = False
) -> Iterator[tuple[Context, CallLog]]:
    """Make the context of a call, and the log of what the plugin says meanwhile.

    Args:
        part: what is done: a fold, or a step such as `prepare`.
        index: the fold whose held-out clips `context.score` scores; None where nothing is held out.
        quiet: show no line and no warning of the plugin.
    """
    log = CallLog(Silent() if quiet else run.reporter, run.blinded.translate)
    services: dict[str, Callable[..., Any]] = {
        "log": log.log,
        "warn": log.warn,
        "note": log.note,
        "score": _make_scorer(run, index, log),
    }
    told = f"{resolved.name} {part}" if run.isolation is not None and run.isolation.many else part
    with ScoringService(services).open() as ask:
        yield (
            Context(
                device=run.device.resolve(),
                seed=resolved.fold_seed(index),
                workspace=run.folder_of(resolved).workspace(part),
                cache=run.cache,
                reporter=PluginReporter(ask, run.reporter, told),
                score=refuse_to_score if index is None else partial(ask, "score"),
                final=part == "final",
            ),
            log,
        )


def _make_scorer(run: Run, index: int | None, log: CallLog) -> Callable[[Probabilities], Scores]:
    """Make the function that answers `context.score` for a fold; only the scoring service's thread holds it."""
    if index is None:
        return refuse_to_score
    held_out = run.blinded.train.take(run.blinded.folds == index)

    def answer(probabilities: Probabilities) -> Scores:
        log.asked += 1
        if not isinstance(probabilities, Probabilities):
            raise InvalidProbabilities(f"expected Probabilities to score, found {type(probabilities).__name__}")
        return search_official(probabilities.aligned(held_out.ids).values, held_out.labels).scores

    return answer


def call(
    run: Run, resolved: ResolvedSystem, request: Request, part: str, index: int | None = None, quiet: bool = False
) -> tuple[Answer, CallLog]:
    """Have a system do what is requested, in this process or in a worker; a worker that is lost is tried again twice.

    Args:
        part, index, quiet: as of `open_call`.

    Raises:
        PluginFailed, MediaError, RunError: as of `guard`.
    """
    losses = 0
    with guard(run, resolved, part):
        while True:
            try:
                with open_call(run, resolved, part, index, quiet) as (context, log):
                    return _carry_out(run, resolved, request, part, context, log), log
            except Lost as lost:
                losses += lost.counts
                if not lost.again or losses > TRIES:
                    raise
                run.reporter.log(run.blinded.translate(f"{resolved.name} ({part}){lost.what}; it is tried again"))


def _carry_out(
    run: Run, resolved: ResolvedSystem, request: Request, part: str, context: Context, log: CallLog
) -> Answer:
    if run.isolation is not None:
        done = run.isolation.do(resolved, request, context, run.folder_of(resolved).log(part))
        log.where = dict(done.where)
        return done.answer()
    with blaming(resolved.system, offline=not isinstance(request, Preparing)):
        return request.do(resolved.system, resolved.options, context)


@contextmanager
def guard(run: Run, resolved: ResolvedSystem, part: str) -> Iterator[None]:
    """Turn the `Crash` of a plugin into an error that names it, with real clip names; write its traceback down.

    What the harness itself raises in the block passes: it is nobody else's failure.

    Args:
        part: what is done: a fold, or a step such as `prepare`.

    Raises:
        PluginFailed: the plugin raised, broke its contract or was lost.
        MediaError: a clip that the plugin cannot use, where the run stops at such.
        RunError: a disk is full.
    """
    run.folder_of(resolved).traceback(part).unlink(missing_ok=True)
    translate = run.blinded.translate
    try:
        yield
    except Crash as crash:
        if run.stop_at_bad_clips and crash.clip in run.blinded.real:
            raise MediaError(translate(f"{resolved.name}{crash.what}"), crash.clip) from crash
        raise name_failure(run, resolved, crash, part) from crash
    except OSError as error:
        if is_disk_trouble(error):
            raise RunError(f"{resolved.name} ({part}): {translate(advise(error))}") from error
        raise


def name_failure(run: Run, resolved: ResolvedSystem, crash: Crash, part: str) -> PluginFailed:
    """Name who failed, where and why, with real clip names, and write the traceback into the system's folder."""
    translate = run.blinded.translate
    what, trace = translate(f"{resolved.name} ({part}){crash.what}"), translate(crash.trace)
    if crash.clip in run.blinded.real:
        what += "; run --skip-bad-clips leaves it out for every system"
    if not isinstance(crash, Lost) and crash.trace:
        at = f"at {crash.place}; " if crash.place else ""
        what += f" ({at}traceback: {run.folder_of(resolved).keep_traceback(part, trace)})"
    return PluginFailed(what, resolved.name, trace)


def name_trouble(run: Run, resolved: ResolvedSystem) -> PluginFailed:
    """Name what kept a system from being resolved."""
    assert resolved.trouble is not None
    return name_failure(run, resolved, resolved.trouble, RESOLVING)
