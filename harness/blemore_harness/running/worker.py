"""The worker's side of isolation: finds the system, does one request, and asks the harness for whatever needs labels.

Held-out labels and real clip names never enter this process: scores, notes and log lines go over the line to the
harness, as they go to its desk when nothing is isolated.
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
class Wanted:
    """A system to be looked up by name: instances of plugins are not sent.

    Attributes:
        name: as the user wrote it.
        plugin: entry point that offers it; no other plugin is loaded.
        encoder: whether it is an encoder or a fusion.
        options: settled.
        code: what its distribution's code was when the run began.
        parts: of an early fusion.
    """

    name: str
    plugin: str
    encoder: bool
    options: Any
    code: Mapping[str, str | None]
    parts: tuple[Wanted, ...] = ()


@dataclass(frozen=True)
class Seat:
    """What of a `Context` can be sent; the rest goes over the line."""

    device: str
    seed: int
    workspace: Path
    cache: Cache
    final: bool
    scores: bool


@dataclass(frozen=True)
class Packet:
    """All that a worker is sent; `core` is the digest of the harness's own code when the run began."""

    wanted: Wanted
    core: object
    request: Request
    seats: tuple[Seat, ...]


class Line:
    """The way to the harness: one question at a time, from any thread of this process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._bars = 0

    def ask(self, seat: int, service: str, *arguments: Any) -> Any:
        """Have the harness do something and give what it says; raises what it raised."""
        with self._mine(service):
            self._connection.send(("ask", seat, service, arguments))
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
        if os.getpid() != self._owner:  # two processes on one line would tear each other's messages
            raise BlemoreError(f"'{service}' was asked for in another process: only the plugin's own may ask")
        with self._lock:
            yield


class LineReporter:
    """A `context.Reporter` at the other end of the line."""

    def __init__(self, line: Line, seat: int) -> None:
        self._line, self._seat = line, seat
        self.log = partial(line.ask, seat, "log")
        self.warn = partial(line.ask, seat, "warn")
        self.note = partial(line.ask, seat, "note")

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[LineBar]:
        """Open a bar there."""
        bar = self._line.next_bar()
        self._line.tell("open", self._seat, bar, label, total)
        try:
            yield LineBar(self._line, bar)
        finally:
            self._line.tell("close", bar)


class LineBar:
    """A running count at the other end of the line."""

    def __init__(self, line: Line, bar: int) -> None:
        self._line, self._bar = line, bar

    def advance(self, count: int = 1) -> None:
        """Report that `count` more pieces are done."""
        self._line.tell("advance", self._bar, count)


def serve(descriptor: int) -> int:
    """Take one request from the line, do it and send the answer; returns the exit code."""
    faulthandler.enable()
    # The harness asks with this signal where a worker stands whose time is over. The answer goes into its log; that it
    # then ends, as the signal has it otherwise, says that the answer is complete.
    faulthandler.register(signal.SIGUSR1, chain=True)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(KILL_ME_FIRST)
    connection = Connection(descriptor)
    os.register_at_fork(after_in_child=partial(os.close, descriptor))
    connection.send(_try_errand(connection.recv_bytes(), Line(connection)))
    return 0


def find_system(wanted: Wanted, plugins: Plugins) -> System:
    """Look a system up by name, or join the parts of an early fusion.

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


def _try_errand(data: bytes, line: Line) -> tuple[Any, ...]:
    """Do the request; whatever goes wrong is put into words that another process can read."""
    try:
        packet: Packet = pickle.loads(data)
        names = {part.plugin for part in packet.wanted.parts} or {packet.wanted.plugin}
        if packet.core != digest_core():
            raise RunError(EDITED.format(name="the harness"))
        system = find_system(packet.wanted, load_plugins({"BLEMORE_PLUGINS": ",".join(names)}))
        contexts = [_sit_down(seat, number, line) for number, seat in enumerate(packet.seats)]
        with blaming(system, offline=not isinstance(packet.request, Preparing)):
            answer = packet.request.do(system, packet.wanted.options, contexts)
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
    if isinstance(answer, Embeddings):
        return "vectors", answer.ids, answer.values
    return "rows", tuple((rows.ids, rows.values) for rows in answer)


def _sit_down(seat: Seat, number: int, line: Line) -> Context:
    return Context(
        device=seat.device,
        seed=seat.seed,
        workspace=seat.workspace,
        cache=seat.cache,
        reporter=LineReporter(line, number),
        score=partial(line.ask, number, "score") if seat.scores else refuse_to_score,
        final=seat.final,
    )
