"""Runs requests in worker processes, so that a plugin that hangs or is killed takes no finished work with it.

A worker does one request (a preparation, a fold) and ends. It is sent the system's name, its options and the fold, with
the training labels of that fold only; the desk stays here. What it prints goes to a log file beside the results.
"""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Callable, Sequence
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
from blemore_harness.running.worker import Packet, Seat, Wanted
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

    def do(self, resolved: ResolvedSystem, request: Request, contexts: Sequence[Context], log: Path) -> Answer:
        """Have a worker do an request; returns and raises what `request.do` would.

        Args:
            contexts: one for each fold, as for a call in this process; they answer the worker's questions.
            log: gets what the worker prints; removed where that is nothing.

        Raises:
            Crash: the plugin raised, the worker was killed or ended by itself, or its time is over.
            RunError: the code was edited since the run began.
        """
        packet = _pack(resolved, request, contexts)
        restarts = isinstance(request, Preparing | Embedding)
        limit = self.limit and self.limit * len(contexts)
        with WorkerProcess.started(log, self.locks) as worker, ExitStack() as stack:
            return _converse(worker, packet, _Desk(contexts, stack), limit, restarts)


class _Desk:
    """Answers a worker from the contexts of its folds."""

    def __init__(self, contexts: Sequence[Context], stack: ExitStack) -> None:
        self._contexts, self._stack = contexts, stack
        self._bars: dict[int, tuple[Progress, ExitStack]] = {}

    def answer(self, seat: int, service: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Do what is asked for; an error is an answer too."""
        context = self._contexts[seat]
        services: dict[str, Callable[..., Any]] = {
            "log": context.log, "warn": context.warn, "note": context.note, "score": context.score,
        }  # fmt: skip
        try:
            return True, services[service](*arguments)
        except BlemoreError as error:
            return False, error
        except Exception as error:  # called with something that it does not take
            return False, BlemoreError(f"{service} failed: {error!r}")

    def hear(self, kind: str, *rest: Any) -> None:
        """Move progress bars."""
        if kind == "open":
            seat, bar, label, total = rest
            own = self._stack.enter_context(ExitStack())
            self._bars[bar] = own.enter_context(self._contexts[seat].progress(label, total)), own
        elif kind == "advance":
            self._bars[rest[0]][0].advance(rest[1])
        else:
            self._bars.pop(rest[0])[1].close()


def _converse(worker: WorkerProcess, packet: bytes, desk: _Desk, limit: float | None, restarts: bool) -> Answer:
    """Send the request and answer questions until the worker has answered, is lost, or its time is over."""
    until = None if limit is None else time.monotonic() + limit
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is told below
        worker.line.send_bytes(packet)
    while True:
        ready = wait([worker.line, worker.life], None if until is None else max(0.0, until - time.monotonic()))
        if worker.line in ready:
            try:
                message = worker.line.recv()
                if message[0] == "ask":
                    worker.line.send(desk.answer(*message[1:]))
                elif message[0] in ("open", "advance", "close"):
                    desk.hear(*message)
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
    if kind == "vectors":
        return Embeddings(*rest)
    return None if kind == "nothing" else tuple(Probabilities(*rows) for rows in rest[0])


def _pack(resolved: ResolvedSystem, request: Request, contexts: Sequence[Context]) -> bytes:
    seats = tuple(
        Seat(c.device, c.seed, c.workspace, c.cache, c.final, c.score is not refuse_to_score) for c in contexts
    )
    try:
        return pickle.dumps(Packet(_describe(resolved), resolved.identity["core"], request, seats))
    except Exception as error:
        raise Crash(f" cannot be sent to a worker process, run it without --isolate: {error}", "") from error


def _describe(resolved: ResolvedSystem) -> Wanted:
    parts = tuple(_describe(part) for part in resolved.parts)
    is_encoder = isinstance(resolved.system, Encoder)
    code = resolved.distribution.facts()
    return Wanted(resolved.name, resolved.plugin, is_encoder, resolved.options, code, parts)
