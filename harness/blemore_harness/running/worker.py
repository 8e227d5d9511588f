"""The worker's side: finds systems, carries out one request after the other, asks the harness for what needs labels.

Held-out labels and real clip names never enter this process: scores, notes and log lines go over a pipe to the harness,
as they go to its scoring service when nothing is isolated. A worker on another machine has a network connection in
place of the pipe (`connect`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import select
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

from blemore_harness.cache import Cache
from blemore_harness.context import Context, refuse_to_score
from blemore_harness.errors import BlemoreError, RunError, is_disk_trouble
from blemore_harness.executors import HarnessAddress
from blemore_harness.hookspecs import Encoder
from blemore_harness.networks import Device, resolve_device
from blemore_harness.predictions import Embeddings
from blemore_harness.running.requests import Preparing, Request
from blemore_harness.systems.core_code import digest_core
from blemore_harness.systems.early_fusion import EarlyFusion, Part
from blemore_harness.systems.failures import Crash, blaming, describe_failure
from blemore_harness.systems.plugins import Plugins, System, load_plugins
from blemore_harness.systems.submission import plain_name

KILL_ME_FIRST = "500"
"""Added to the worker's score when memory runs out, so that the kernel ends it rather than the harness (0 to 1000)."""

KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 6}
"""A connection is asked after 60 silent seconds, then every 20, and ends after 6 questions without an answer."""

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
    """What of a `Context` can be sent; the rest is asked for over the pipe.

    Attributes:
        device: `cpu` or `cuda`; `auto` where the worker's machine decides.
    """

    device: str
    seed: int
    workspace: Path
    cache: Cache
    final: bool
    scores: bool


@dataclass(frozen=True)
class Task:
    """All that a worker is sent for one request.

    Attributes:
        core: digest of the harness's own code when the run began.
        log: file that what is printed goes to from now on; None leaves it where it is.
    """

    system: SentSystem
    core: object
    request: Request
    context: SentContext
    log: Path | None = None


@dataclass(frozen=True)
class Registration:
    """What a worker says of itself when it has connected: where it is."""

    host: str
    pid: int
    job: str


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
    """Take requests from the pipe, carry them out and send the answers; returns the exit code."""
    faulthandler.enable()
    # The harness asks with this signal where a worker stands whose time is over. The answer goes into its log; that it
    # then ends, as the signal has it otherwise, says that the answer is complete.
    faulthandler.register(signal.SIGUSR1, chain=True)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(KILL_ME_FIRST)
    connection = Connection(descriptor)
    os.register_at_fork(after_in_child=partial(os.close, descriptor))
    _answer_all(connection)
    return 0


def connect(harness: HarnessAddress, job: str = "") -> None:
    """Work for the harness that sent its address, until it says that there is no more to do or is gone.

    To be called in a fresh process that an executor started, in the main thread.

    Args:
        job: how the engine names this worker, for the record.

    Raises:
        BlemoreError: no harness answers there.
    """
    faulthandler.enable()
    try:
        connection = Client((harness.host, harness.port))
        connection.send_bytes(harness.token.encode("ascii"))
        answer_challenge(connection, harness.key)
        deliver_challenge(connection, harness.key)
    except (OSError, EOFError, AuthenticationError) as error:
        raise BlemoreError(f"no harness answers at {harness.host}:{harness.port}: its run may have ended") from error
    with connection:
        os.register_at_fork(after_in_child=partial(os.close, connection.fileno()))
        threading.Thread(target=_end_with_harness, args=(connection.fileno(),), name="harness", daemon=True).start()
        connection.send(Registration(socket.gethostname(), os.getpid(), job))
        _answer_all(connection)


def keep_alive(peer: socket.socket) -> None:
    """Have a connection end where the machine at its other end is gone without a word, as when it loses power."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):  # not everywhere
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _end_with_harness(connection: int) -> None:
    """End this process when the harness is gone, in the middle of a request as well: nobody wants the answer."""
    with socket.socket(fileno=os.dup(connection)) as watched:
        keep_alive(watched)
        poll = select.poll()
        poll.register(watched, select.POLLRDHUP)
        poll.poll()
    os._exit(0)


def _answer_all(connection: Connection) -> None:
    """Answer requests until an empty one, or the end of the harness."""
    pipe = HarnessPipe(connection)
    while True:
        try:
            data = connection.recv_bytes()
        except (EOFError, OSError):
            return
        if not data:
            return
        connection.send(_try_task(data, pipe))


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
        if task.log is not None:
            _print_to(task.log)
        names = {part.plugin for part in task.system.parts} or {task.system.plugin}
        if task.core != digest_core():
            raise RunError(EDITED.format(name="the harness"))
        system = find_system(task.system, load_plugins({"BLEMORE_PLUGINS": ",".join(names)}))
        context = _make_context(task.context, pipe)
        pipe.tell("where", describe_place(context.device))
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


def describe_place(device: str) -> dict[str, Any]:
    """Return the device of this process, and the GPU's name where it computes on one."""
    found = Device(device)
    found.resolve()
    return found.describe()


def _print_to(log: Path) -> None:
    """Let what this process and its children print go to a file."""
    with log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)


def _make_context(sent: SentContext, pipe: HarnessPipe) -> Context:
    return Context(
        device=resolve_device(sent.device),
        seed=sent.seed,
        workspace=sent.workspace,
        cache=sent.cache,
        reporter=PipeReporter(pipe),
        score=partial(pipe.ask, "score") if sent.scores else refuse_to_score,
        final=sent.final,
    )
