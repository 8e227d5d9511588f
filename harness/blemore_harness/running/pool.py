"""Several workers of a run, kept warm between requests as long as none of them learns what another request holds out.

A worker that was sent no labels yet may get any request. One that was sent the training labels of a fold gets only
requests of the same fold from then on: those of another fold would hold out clips whose labels it knows, and what it
extracts is shared by all folds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Protocol

from blemore_harness.context import Context
from blemore_harness.executors import Needs
from blemore_harness.running.isolation import Answering, Done, Isolation, Worker, converse, pack
from blemore_harness.running.needs import estimate_needs
from blemore_harness.running.requests import Embedding, Preparing, Request
from blemore_harness.running.worker_process import remove_empty
from blemore_harness.systems.failures import Lost
from blemore_harness.systems.resolved import ResolvedSystem

BRIEF = 60.0
"""Seconds within which a worker that is put back into its queue each time counts as lost: it would go on for ever."""

UNLABELLED = "unlabelled"
"""In place of a fold: requests that hold no label."""


def labels_of(request: Request) -> object:
    """Return the fold whose training labels a request holds, None for the final fit, or `UNLABELLED`."""
    return UNLABELLED if isinstance(request, Preparing | Embedding) else request.fold.index  # type: ignore[attr-defined]


class PoolWorker(Worker, Protocol):
    """A worker that can be kept."""

    def begin(self, log: Path) -> None:
        """Take note of where the next request's log is."""

    def describe(self) -> dict[str, str]:
        """Return its host and its name, for the record."""

    def come_back(self) -> bool:
        """After it was lost, wait until it is there again; returns whether it is."""

    def kill(self) -> None:
        """End it; called from any thread, at any time."""

    def release(self) -> None:
        """Tell it that there is no more to do."""

    def close(self) -> None:
        """Let it end by itself unless it was killed, and forget it; called once, when nobody talks with it."""


class Starter(Protocol):
    """Starts the workers of a pool."""

    def start(self, needs: Needs, log: Path) -> PoolWorker:
        """Return a worker that takes requests."""

    def has_room(self, needs: Needs, others: Sequence[Needs]) -> bool:
        """Return whether there is room for a worker with these needs besides others."""

    def close(self) -> None:
        """End what is left."""


@dataclass(eq=False)
class _Kept:
    """A worker of the pool; None until it has started."""

    needs: Needs
    labels: object
    worker: PoolWorker | None = None
    uses: int = 0

    def close(self) -> None:
        if self.worker is not None:
            self.worker.close()


class Pool:
    """Workers that carry out requests at the same time; changes no number.

    Args:
        starter: starts them, and knows how many there is room for; those without work count, too.
        cpus: that each may use.
        isolation: how workers are run.
    """

    many: ClassVar[bool] = True

    def __init__(self, starter: Starter, cpus: int, isolation: Isolation) -> None:
        self._starter = starter
        self._cpus = cpus
        self._limit, self._fresh = isolation.limit, isolation.fresh
        self._remote = isolation.executor is not None
        self._idle_seconds = isolation.executor.idle_seconds if isolation.executor else None
        self._lock = threading.Lock()
        self._idle: list[_Kept] = []
        self._busy: list[_Kept] = []
        self._closed = False

    def holding(self, lock: int) -> Pool:
        """Return itself: all folders are held before the first worker starts."""
        return self

    def known_labels(self) -> set[object]:
        """Return which labels the workers without work know: those of folds, None, or `UNLABELLED`."""
        with self._lock:
            return {kept.labels for kept in self._idle}

    def do(self, resolved: ResolvedSystem, request: Request, context: Context, log: Path) -> Done:
        """As `Isolation.do`; called from several threads."""
        restarts = isinstance(request, Preparing | Embedding)
        needs = estimate_needs(resolved, restarts, context.device, log.stem, self._cpus, self._limit)
        device = "auto" if needs.gpus and self._remote else context.device if needs.gpus else "cpu"
        message = pack(resolved, request, replace(context, device=device), None if self._remote else log)
        if not self._remote:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.unlink(missing_ok=True)
        kept = self._lease(needs, labels_of(request), log)
        assert kept.worker is not None
        began = time.monotonic()
        try:
            with ExitStack() as stack:
                done = converse(kept.worker, message, Answering(context, stack), self._limit, restarts)
        except Lost as lost:
            brief = time.monotonic() - began < BRIEF
            if lost.again and not self._closed and kept.worker.come_back():
                kept.labels = UNLABELLED
                self._release(kept)
                raise Lost(lost.what, lost.trace, again=True, counts=brief) from lost
            self._drop(kept)
            if self._closed:  # ended with the run: it is not tried again
                raise Lost(lost.what, lost.trace) from lost
            raise
        except BaseException:
            self._drop(kept)
            raise
        where = {**done.where, **kept.worker.describe()}
        self._release(kept)
        if not self._remote:
            remove_empty(log)
        return Done(done.message, where)

    def _lease(self, needs: Needs, labels: object, log: Path) -> _Kept:
        """Take a worker without work, or start one; one that cannot be used makes room for it."""
        with self._lock:
            if self._closed:
                raise Lost(" was lost: the run has ended", "")
            usable = [
                kept for kept in self._idle if kept.labels in (UNLABELLED, labels) and self._suffices(kept.needs, needs)
            ]
            if usable:
                kept = max(usable, key=lambda each: each.labels == labels)  # rather than one that knows nothing yet
                self._idle.remove(kept)
                kept.labels = labels
                kept.needs = replace(kept.needs, memory=max(kept.needs.memory, needs.memory))
            else:
                kept = _Kept(needs, labels)
            gone = self._make_room(kept.needs)
            kept.uses += 1
            self._busy.append(kept)
        for each in gone:
            each.close()
        if kept.worker is None:
            try:
                kept.worker = self._starter.start(needs, log)
            except BaseException:
                self._drop(kept)
                raise
        kept.worker.begin(log)
        if self._closed:
            kept.worker.kill()
        return kept

    def _make_room(self, needs: Needs) -> list[_Kept]:
        """Take workers without work away until there is room for another, those that hold a missing GPU first."""
        gone = []
        while self._idle and not self._starter.has_room(needs, [kept.needs for kept in (*self._idle, *self._busy)]):
            gone.append(max(self._idle, key=lambda kept: kept.needs.gpus * needs.gpus))
            self._idle.remove(gone[-1])
        return gone

    def _suffices(self, has: Needs, wants: Needs) -> bool:
        enough = has.cpus >= wants.cpus and has.memory >= wants.memory
        return has.gpus == wants.gpus and (enough or not self._remote)

    def _release(self, kept: _Kept) -> None:
        with self._lock:
            self._busy.remove(kept)
            keep = not self._fresh and not self._closed
            if keep:
                self._idle.append(kept)
        if not keep:
            kept.close()
        elif self._idle_seconds is not None:
            timer = threading.Timer(self._idle_seconds, self._expire, (kept, kept.uses))
            timer.daemon = True
            timer.start()

    def _expire(self, kept: _Kept, uses: int) -> None:
        """Let a worker end that had nothing to do since."""
        with self._lock:
            if kept not in self._idle or kept.uses != uses:
                return
            self._idle.remove(kept)
        kept.close()

    def _drop(self, kept: _Kept) -> None:
        if kept.worker is not None:
            kept.worker.kill()
        kept.close()
        with self._lock:
            self._busy.remove(kept)

    def close(self) -> None:
        """End all workers, those at work as well."""
        with self._lock:
            self._closed = True
            idle, busy = list(self._idle), list(self._busy)
            self._idle.clear()
        for kept in idle:
            if kept.worker is not None:
                kept.worker.release()
        for kept in idle:
            kept.close()
        for kept in busy:  # whoever talks with it closes it
            if kept.worker is not None:
                kept.worker.kill()
        self._starter.close()
