"""Runs requests in worker processes, so that a plugin that hangs or is killed takes no finished work with it.

A worker carries out one request (a preparation, a fold) and ends. It is sent the system's name, its options and the
fold, with the training labels of that fold only; what answers `context.score` stays here. What the worker prints goes
to a log file beside the results.
"""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from blemore_harness.context import Context, Progress, refuse_to_score
from blemore_harness.errors import BlemoreError
from blemore_harness.hookspecs import Encoder
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.running.requests import Answer, Embedding, Preparing, Request
from blemore_harness.running.worker import SentContext, SentSystem, Task
from blemore_harness.running.worker_process import GRACE, WorkerProcess
from blemore_harness.systems.failures import Crash
from blemore_harness.systems.resolved import ResolvedSystem


@dataclass(frozen=True)
class Isolation:
    """How workers are run; changes no number.

    Attributes:
        limit: seconds that a fold may take, and a preparation may pass without a sign of progress; None for no limit.
        locks: descriptors of the folders that are held for the workers.
    """

    limit: float | None = None
    locks: tuple[int, ...] = ()

    def holding(self, lock: int) -> Isolation:
        """Return the same for workers that keep one more folder locked until they are gone."""
        return replace(self, locks=(*self.locks, lock))

    def do(self, resolved: ResolvedSystem, request: Request, context: Context, log: Path) -> Answer:
        """Have a worker carry a request out; returns and raises what `request.do` would.

        Args:
            context: as for a call in this process; it answers the worker's questions.
            log: gets what the worker prints; removed where that is nothing.

        Raises:
            Crash: the plugin raised, the worker was killed or ended by itself, or its time is over.
            RunError: the code was edited since the run began.
        """
        message = _pack(resolved, request, context)
        restarts = isinstance(request, Preparing | Embedding)
        with WorkerProcess.started(log, self.locks) as worker, ExitStack() as stack:
            return _converse(worker, message, _Answering(context, stack), self.limit, restarts)


class _Answering:
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


def _converse(worker: WorkerProcess, task: bytes, answering: _Answering, limit: float | None, restarts: bool) -> Answer:
    """Send the request and answer questions until the worker has answered, is lost, or its time is over."""
    until = None if limit is None else time.monotonic() + limit
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is told below
        worker.pipe.send_bytes(task)
    while True:
        ready = wait([worker.pipe, worker.life], None if until is None else max(0.0, until - time.monotonic()))
        if worker.pipe in ready:
            try:
                message = worker.pipe.recv()
                if message[0] == "ask":
                    worker.pipe.send(answering.answer(*message[1:]))
                elif message[0] in ("open", "advance", "close"):
                    answering.move_bar(*message)
                else:
                    break
            except (EOFError, OSError, pickle.UnpicklingError):  # it ended, perhaps in the middle of a message
                raise worker.lose(worker.fate()) from None
            except Exception as error:  # an object of the plugin's own that cannot be made anew here
                raise worker.lose(f"sent something that cannot be read: {error!r}") from error
            if restarts and limit is not None:
                until = time.monotonic() + limit
        elif worker.life in ready:
            worker.read_life()
            if worker.ended:
                raise worker.lose(worker.fate())
        if until is not None and time.monotonic() >= until:
            worker.ask_where_it_stands()
            since = " without a sign of progress" if restarts else ""
            raise worker.lose(f"was stopped after {(limit or 0) / 60:g} minutes{since} (--time-limit)")
    worker.wait_for_end(GRACE)
    return _understand(message)


def _understand(message: tuple[Any, ...]) -> Answer:
    """Turn a worker's last message into what `request.do` would have given or raised."""
    kind, *rest = message
    if kind == "raised":
        raise rest[0]
    if kind == "disk":
        raise OSError(*rest)
    if kind == "crashed":
        raise Crash(*rest)
    if kind == "embeddings":
        return Embeddings(*rest)
    return Probabilities(*rest) if kind == "probabilities" else None


def _pack(resolved: ResolvedSystem, request: Request, context: Context) -> bytes:
    sent = SentContext(
        context.device, context.seed, context.workspace, context.cache, context.final,
        context.score is not refuse_to_score,
    )  # fmt: skip
    try:
        return pickle.dumps(Task(_describe(resolved), resolved.identity["core"], request, sent))
    except Exception as error:
        raise Crash(f" cannot be sent to a worker process, run it without --isolate: {error}", "") from error


def _describe(resolved: ResolvedSystem) -> SentSystem:
    parts = tuple(_describe(part) for part in resolved.parts)
    is_encoder = isinstance(resolved.system, Encoder)
    code = resolved.distribution.facts()
    return SentSystem(resolved.name, resolved.plugin, is_encoder, resolved.options, code, parts)
