"""The worker's side of isolation: finds the system, carries out one request, asks the harness for what needs labels.

Held-out labels and real clip names never enter this process: scores, notes and log lines go over a pipe to the harness,
as they go to its scoring service when nothing is isolated.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from blemore_harness.cache import Cache
from blemore_harness.context import Context, refuse_to_score
from blemore_harness.errors import BlemoreError, RunError, is_disk_trouble
from blemore_harness.hookspecs import Encoder
from blemore_harness.predictions import Embeddings
from blemore_harness.running.requests import Preparing, Request
from blemore_harness.systems.core_code import digest_core
from blemore_harness.systems.early_fusion import EarlyFusion, Part
from blemore_harness.systems.failures import Crash, blaming, describe_failure
from blemore_harness.systems.plugins import Plugins, System, load_plugins
from blemore_harness.systems.submission import plain_name

KILL_ME_FIRST = "500"
"""Added to the worker's score when memory runs out, so that the kernel ends it rather than the harness (0 to 1000)."""


EDITED = "the code of {name} was edited while the run went on: give the command again, it is another system now"
"""A worker reads the code anew, and its results would stand under the identity of the old."""


@dataclass(frozen=True)
class SentSystem:
    """A system to be looked up by name: instances of plugins are not sent.

    Attributes:
        name: as the user wrote it.
        plugin: entry point that offers it; no other plugin is loaded.
        encoder: whether it is an encoder or a fusion.
        options: resolved.
        code: what its distribution's code was when the run began.
        parts: of an early fusion.
    """

    name: str
    plugin: str
    encoder: bool
    options: Any
    code: Mapping[str, str | None]
    parts: tuple[SentSystem, ...] = ()


@dataclass(frozen=True)
class SentContext:
    """What of a `Context` can be sent; the rest is asked for over the pipe."""

    device: str
    seed: int
    workspace: Path
    cache: Cache
    final: bool
    scores: bool


@dataclass(frozen=True)
class Task:
    """All that a worker is sent; `core` is the digest of the harness's own code when the run began."""

    system: SentSystem
    core: object
    request: Request
    context: SentContext


class HarnessPipe:
    """The pipe to the harness: one question at a time, from any thread of this process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._bars = 0

    def ask(self, service: str, *arguments: Any) -> Any:
        """Have the harness do something and give what it says; raises what it raised."""
        with self._mine(service):
            self._connection.send(("ask", service, arguments))
            done, answer = self._connection.recv()
        if not done:
            raise answer
        return answer

    def tell(self, *message: Any) -> None:
        """Report something that needs no answer."""
        with self._mine(str(message[0])):
            self._connection.send(message)

    def next_bar(self) -> int:
        """Return the number of the next progress bar."""
        with self._lock:
            self._bars += 1
            return self._bars

    @contextlib.contextmanager
    def _mine(self, service: str) -> Iterator[None]:
        if os.getpid() != self._owner:  # two processes on one pipe would tear each other's messages
            raise BlemoreError(f"'{service}' was asked for in another process: only the plugin's own may ask")
        with self._lock:
            yield


class PipeReporter:
    """A `context.Reporter` at the other end of the pipe."""

    def __init__(self, pipe: HarnessPipe) -> None:
        self._pipe = pipe
        self.log = partial(pipe.ask, "log")
        self.warn = partial(pipe.ask, "warn")
        self.note = partial(pipe.ask, "note")

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[PipeBar]:
        """Open a bar there."""
        bar = self._pipe.next_bar()
        self._pipe.tell("open", bar, label, total)
        try:
            yield PipeBar(self._pipe, bar)
        finally:
            self._pipe.tell("close", bar)


class PipeBar:
    """A running count at the other end of the pipe."""

    def __init__(self, pipe: HarnessPipe, bar: int) -> None:
        self._pipe, self._bar = pipe, bar

    def advance(self, count: int = 1) -> None:
        """Report that `count` more pieces are done."""
        self._pipe.tell("advance", self._bar, count)


def serve(descriptor: int) -> int:
    """Take one request from the pipe, carry it out and send the answer; returns the exit code."""
    faulthandler.enable()
    # The harness asks with this signal where a worker stands whose time is over. The answer goes into its log; that it
    # then ends, as the signal has it otherwise, says that the answer is complete.
    faulthandler.register(signal.SIGUSR1, chain=True)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(KILL_ME_FIRST)
    connection = Connection(descriptor)
    os.register_at_fork(after_in_child=partial(os.close, descriptor))
    connection.send(_try_task(connection.recv_bytes(), HarnessPipe(connection)))
    return 0


def find_system(wanted: SentSystem, plugins: Plugins) -> System:
    """Look a system up by name, or make an early fusion from its parts.

    Raises:
        RunError: its code was edited since the run began.
    """
    if wanted.parts:
        found = [(part, find_system(part, plugins)) for part in wanted.parts]
        return EarlyFusion(tuple(Part(p.name, system, p.options) for p, system in found if isinstance(system, Encoder)))
    look_up = plugins.encoder if wanted.encoder else plugins.fusion
    offer = look_up(plain_name(wanted.name))
    if offer.distribution.facts() != wanted.code:
        raise RunError(EDITED.format(name=wanted.name))
    return offer.system


def _try_task(data: bytes, pipe: HarnessPipe) -> tuple[Any, ...]:
    """Carry the request out; whatever goes wrong is put into words that another process can read."""
    try:
        task: Task = pickle.loads(data)
        names = {part.plugin for part in task.system.parts} or {task.system.plugin}
        if task.core != digest_core():
            raise RunError(EDITED.format(name="the harness"))
        system = find_system(task.system, load_plugins({"BLEMORE_PLUGINS": ",".join(names)}))
        context = _make_context(task.context, pipe)
        with blaming(system, offline=not isinstance(task.request, Preparing)):
            answer = task.request.do(system, task.system.options, context)
    except Crash as crash:
        return "crashed", *crash.parts
    except RunError as error:
        return "raised", error
    except Exception as error:
        if isinstance(error, OSError) and is_disk_trouble(error):
            return "disk", error.errno, error.strerror, error.filename
        # It could not be found, or its options not be read.
        return "crashed", *describe_failure(error, None).parts
    if answer is None:
        return ("nothing",)
    return "embeddings" if isinstance(answer, Embeddings) else "probabilities", answer.ids, answer.values


def _make_context(sent: SentContext, pipe: HarnessPipe) -> Context:
    return Context(
        device=sent.device,
        seed=sent.seed,
        workspace=sent.workspace,
        cache=sent.cache,
        reporter=PipeReporter(pipe),
        score=partial(pipe.ask, "score") if sent.scores else refuse_to_score,
        final=sent.final,
    )
