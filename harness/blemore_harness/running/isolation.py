"""Runs requests in worker processes, so that a plugin that hangs or is killed takes no finished work with it.

A worker carries out one request (a preparation, a fold) and ends. It is sent the system's name, its options and the
fold, with the training labels of that fold only; what answers `context.score` stays here. What the worker prints goes
to a log file beside the results.
"""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar, Protocol

from blemore_harness.context import Context, Progress, refuse_to_score
from blemore_harness.errors import BlemoreError
from blemore_harness.executors import Executor
from blemore_harness.hookspecs import Encoder
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.running.requests import Answer, Embedding, Preparing, Request
from blemore_harness.running.worker import SentContext, SentSystem, Task
from blemore_harness.running.worker_process import WorkerProcess
from blemore_harness.systems.failures import Crash, Lost
from blemore_harness.systems.resolved import ResolvedSystem


class Worker(Protocol):
    """A worker as a conversation needs it."""

    pipe: Connection

    def wait(self, seconds: float | None) -> bool:
        """Wait for a message; returns whether there is one, and raises `Lost` where it has ended."""

    def lose(self, what: str, again: bool = False) -> Lost:
        """Put its end into words."""

    def describe_end(self) -> str:
        """Report how it ended without an answer."""

    def ask_where_it_stands(self) -> None:
        """Have it write into its log where it hangs, if that can be."""


@dataclass(frozen=True)
class Done:
    """What came of a request, and where.

    Attributes:
        message: the worker's last.
        where: facts of the worker: device, gpu and, where a run has several workers, host and worker.
    """

    message: tuple[Any, ...]
    where: Mapping[str, Any]

    def answer(self) -> Answer:
        """Return or raise what `Request.do` would have.

        Raises:
            Crash, OSError, RunError: what the request raised there.
        """
        kind, *rest = self.message
        if kind == "raised":
            raise rest[0]
        if kind == "disk":
            raise OSError(*rest)
        if kind == "crashed":
            raise Crash(*rest)
        if kind == "embeddings":
            return Embeddings(*rest)
        return Probabilities(*rest) if kind == "probabilities" else None


class Workers(Protocol):
    """Whoever carries out requests in workers.

    Attributes:
        many: whether there are several at a time, so that what one says must name its system.
    """

    many: ClassVar[bool]

    def do(self, resolved: ResolvedSystem, request: Request, context: Context, log: Path) -> Done:
        """As `Isolation.do`."""

    def holding(self, lock: int) -> Workers:
        """As `Isolation.holding`."""


@dataclass(frozen=True)
class Isolation:
    """How workers are run, here each for one request; changes no number.

    Attributes:
        limit: seconds that a fold may take, and a preparation may pass without a sign of progress; None for no limit.
        locks: descriptors of the folders that are held for the workers.
        jobs: how many workers there may be at a time, for the requests of a plan.
        fresh: whether each request of a plan gets a worker of its own.
        executor: what starts the workers of a plan; None starts processes of this machine.
    """

    limit: float | None = None
    locks: tuple[int, ...] = ()
    jobs: int = 1
    fresh: bool = True
    executor: Executor | None = None

    many: ClassVar[bool] = False

    def holding(self, lock: int) -> Isolation:
        """Return the same for workers that keep one more folder locked until they are gone."""
        return replace(self, locks=(*self.locks, lock))

    def do(self, resolved: ResolvedSystem, request: Request, context: Context, log: Path) -> Done:
        """Have a worker carry a request out.

        Args:
            context: as for a call in this process; it answers the worker's questions.
            log: gets what the worker prints; removed where that is nothing.

        Raises:
            Lost: the worker was killed or ended by itself, or its time is over.
            Crash: the request cannot be sent.
        """
        message = pack(resolved, request, context)
        restarts = isinstance(request, Preparing | Embedding)
        with WorkerProcess.started(log, self.locks) as worker, ExitStack() as stack:
            done = converse(worker, message, Answering(context, stack), self.limit, restarts)
            worker.dismiss()
        return done


class Answering:
    """Answers a worker from its context."""

    def __init__(self, context: Context, stack: ExitStack) -> None:
        self._context, self._stack = context, stack
        self._bars: dict[int, tuple[Progress, ExitStack]] = {}

    def answer(self, service: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Do what is asked for; an error is an answer too."""
        context = self._context
        services: dict[str, Callable[..., Any]] = {
            "log": context.log, "warn": context.warn, "note": context.note, "score": context.score,
        }  # fmt: skip
        try:
            return True, services[service](*arguments)
        except BlemoreError as error:
            return False, error
        except Exception as error:  # called with something that it does not take
            return False, BlemoreError(f"{service} failed: {error!r}")

    def move_bar(self, kind: str, *rest: Any) -> None:
        """Open, advance or close a progress bar."""
        if kind == "open":
            bar, label, total = rest
            own = self._stack.enter_context(ExitStack())
            self._bars[bar] = own.enter_context(self._context.progress(label, total)), own
        elif kind == "advance":
            self._bars[rest[0]][0].advance(rest[1])
        else:
            self._bars.pop(rest[0])[1].close()


def converse(worker: Worker, task: bytes, answering: Answering, limit: float | None, restarts: bool) -> Done:
    """Send the request and answer questions until the worker has answered, is lost, or its time is over.

    Raises:
        Lost: no answer came.
    """
    until = None if limit is None else time.monotonic() + limit
    where: dict[str, Any] = {}
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is told below
        worker.pipe.send_bytes(task)
    while True:
        if worker.wait(None if until is None else max(0.0, until - time.monotonic())):
            try:
                message = worker.pipe.recv()
                if message[0] == "ask":
                    worker.pipe.send(answering.answer(*message[1:]))
                elif message[0] in ("open", "advance", "close"):
                    answering.move_bar(*message)
                elif message[0] == "where":
                    where = message[1]
                else:
                    return Done(message, where)
            except (EOFError, OSError, pickle.UnpicklingError):  # it ended, perhaps in the middle of a message
                raise worker.lose(worker.describe_end(), again=True) from None
            except Exception as error:  # an object of the plugin's own that cannot be made anew here
                raise worker.lose(f"sent something that cannot be read: {error!r}") from error
            if restarts and limit is not None:
                until = time.monotonic() + limit
        if until is not None and time.monotonic() >= until:
            worker.ask_where_it_stands()
            since = " without a sign of progress" if restarts else ""
            raise worker.lose(f"was stopped after {(limit or 0) / 60:g} minutes{since} (--time-limit)")


def pack(resolved: ResolvedSystem, request: Request, context: Context, log: Path | None = None) -> bytes:
    """Pickle what a worker is sent; arguments as of `Isolation.do` and `Task`.

    Raises:
        Crash: an option, say, that cannot be pickled.
    """
    sent = SentContext(
        context.device, context.seed, context.workspace, context.cache, context.final,
        context.score is not refuse_to_score,
    )  # fmt: skip
    try:
        return pickle.dumps(Task(_describe(resolved), resolved.identity["core"], request, sent, log))
    except Exception as error:
        raise Crash(
            f" cannot be sent to a worker process, run it without --isolate and with --jobs 1: {error}", ""
        ) from error


def _describe(resolved: ResolvedSystem) -> SentSystem:
    parts = tuple(_describe(part) for part in resolved.parts)
    is_encoder = isinstance(resolved.system, Encoder)
    code = resolved.distribution.facts()
    return SentSystem(resolved.name, resolved.plugin, is_encoder, resolved.options, code, parts)
