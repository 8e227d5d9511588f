"""Workers that an executor starts elsewhere: they connect to the harness, which knows each by its token."""

from __future__ import annotations

import contextlib
import pickle
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge, wait
from pathlib import Path

from blemore_harness.errors import RunError
from blemore_harness.executors import Executor, HarnessAddress, Needs, Started
from blemore_harness.running.worker import Registration, keep_alive
from blemore_harness.systems.failures import Lost

POLL = 2.0
"""Seconds between two questions to an engine about a worker."""

PATIENCE = 60.0
"""Seconds that a worker whose connection broke may be called running before it is stopped."""

LONGEST_TOKEN = 64
"""Bytes of the first message of whoever connects, at most."""

TOGETHER = 0.2
"""Seconds in which workers that are wanted are asked for at once, as an array of jobs is."""


GREETING_SECONDS = 30.0
"""Within which whoever connects must have said who it is."""


class WorkerListener:
    """Listens for workers, and hands each connection to whoever waits for its token.

    Every worker has a key of its own: what it knows opens no other's place.

    Args:
        executor: says where to listen, and under which name this machine is reached.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._keys: dict[str, bytes] = {}
        self._arrived: dict[str, tuple[Registration, Connection]] = {}
        self._change = threading.Condition()
        self._closed = False
        try:
            self._listener = socket.create_server((executor.listens_on, 0), backlog=128)
        except OSError as error:
            raise RunError(f"cannot listen on {executor.listens_on} for workers: {error.strerror}") from error
        threading.Thread(target=self._accept, name="listener", daemon=True).start()

    def address(self) -> HarnessAddress:
        """Return what a new worker is given."""
        port, token = int(self._listener.getsockname()[1]), secrets.token_hex(8)
        self._keys[token] = secrets.token_bytes(32)
        return HarnessAddress(self._executor.host, port, self._keys[token], token)

    def wait_for(self, token: str, seconds: float) -> tuple[Registration, Connection] | None:
        """Wait for a worker to connect; None where it has not in so many seconds."""
        with self._change:
            self._change.wait_for(lambda: token in self._arrived, seconds)
            return self._arrived.pop(token, None)

    def close(self) -> None:
        """Listen no more."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone leaves the thread waiting, and the port open
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                if self._closed:
                    return
                time.sleep(TOGETHER)  # too many open files, or whoever connected is gone: others will come
                continue
            # By itself, so that whoever connects and says nothing keeps nobody out.
            threading.Thread(target=self._greet, args=(peer,), name="greeting", daemon=True).start()

    def _greet(self, peer: socket.socket) -> None:
        """Take a worker in, unless it does not know its key or takes too long to say so."""
        keep_alive(peer)
        connection = Connection(peer.fileno())
        late = threading.Timer(GREETING_SECONDS, _hang_up, (peer,))
        late.start()
        found = self._recognise(connection)
        late.cancel()
        late.join()
        peer.detach()
        if found is None:
            connection.close()
            return
        with self._change:
            self._arrived[found[0]] = found[1], connection
            self._change.notify_all()

    def _recognise(self, connection: Connection) -> tuple[str, Registration] | None:
        try:
            token = connection.recv_bytes(LONGEST_TOKEN).decode("ascii")
            deliver_challenge(connection, self._keys[token])
            answer_challenge(connection, self._keys[token])
            registration = connection.recv()
        except (OSError, EOFError, ValueError, KeyError, AuthenticationError, pickle.UnpicklingError):
            return None
        return (token, registration) if isinstance(registration, Registration) else None


def _hang_up(peer: socket.socket) -> None:
    with contextlib.suppress(OSError):
        peer.shutdown(socket.SHUT_RDWR)


class RemoteWorker:
    """A worker that an executor started; `pipe` is the connection to it once it is there."""

    pipe: Connection

    def __init__(self, listener: WorkerListener, harness: HarnessAddress, started: Started) -> None:
        self._listener, self._token, self._started = listener, harness.token, started
        self.registration: Registration | None = None
        self._released = False
        self._killed = threading.Event()

    def arrive(self) -> None:
        """Wait until it has connected, for as long as it waits or runs.

        Raises:
            Lost: it ended before, or was killed.
        """
        while (found := self._listener.wait_for(self._token, POLL)) is None:
            if self._killed.is_set() or self._started.state() == "ended":
                raise self.lose(self.describe_end(), again=True)
        self.registration, self.pipe = found

    def wait(self, seconds: float | None) -> bool:
        """As `isolation.Worker.wait`."""
        if wait([self.pipe], POLL if seconds is None else min(POLL, seconds)):
            return True
        if self._killed.is_set() or (self._started.state() == "ended" and not self.pipe.poll()):
            raise self.lose(self.describe_end(), again=True)
        return False

    def come_back(self) -> bool:
        """After its connection broke, wait for it to connect again; returns whether it did."""
        self.pipe.close()
        until = time.monotonic() + PATIENCE
        while (found := self._listener.wait_for(self._token, POLL)) is None:
            state = "ended" if self._killed.is_set() else self._started.state()
            if state == "waiting":
                until = time.monotonic() + PATIENCE
            elif state == "ended" or time.monotonic() >= until:
                self._started.stop()
                return False
        self.registration, self.pipe = found
        return True

    def lose(self, what: str, again: bool = False) -> Lost:
        """As `isolation.Worker.lose`."""
        return Lost(f" {what}", "", again)

    def describe_end(self) -> str:
        """As `isolation.Worker.describe_end`."""
        return f"was lost: {self._started.describe_end()}"

    def ask_where_it_stands(self) -> None:
        """Stop it: what it printed is in the engine's log."""
        self._started.stop()

    def describe(self) -> dict[str, str]:
        """Return its host and its name: the engine's, or the process id."""
        assert self.registration is not None
        return {"host": self.registration.host, "worker": self.registration.job or f"process {self.registration.pid}"}

    def begin(self, log: Path) -> None:
        """Do nothing: what it prints is in the engine's log."""

    def kill(self) -> None:
        """As `pool.PoolWorker.kill`."""
        self._killed.set()
        self._started.stop()

    def release(self) -> None:
        """As `pool.PoolWorker.release`."""
        if self._released:
            return
        self._released = True
        try:
            if self.pipe.poll():  # nothing is left to be said: its connection broke, and its job may be in the queue
                self._started.stop()
            self.pipe.send_bytes(b"")
        except OSError:
            self._started.stop()

    def close(self) -> None:
        """As `pool.PoolWorker.close`."""
        self.release()
        self.pipe.close()


class RemoteStarter:
    """Starts workers through an executor; those that are wanted at nearly the same time, together.

    Args:
        slots: how many there may be at a time.
    """

    def __init__(self, executor: Executor, slots: int) -> None:
        self._executor, self._slots = executor, slots
        self._listener = WorkerListener(executor)
        self._lock = threading.Lock()
        self._wanted: list[_Wanted] = []
        self._coming: list[RemoteWorker] = []
        self._closed = False

    def start(self, needs: Needs, log: object) -> RemoteWorker:
        """Return a worker that has connected.

        Raises:
            Lost: it ended before it could.
            BlemoreError: the engine cannot be used.
        """
        own = _Wanted(needs)
        with self._lock:
            self._wanted.append(own)
            first = len(self._wanted) == 1
        if first:
            time.sleep(TOGETHER)
            with self._lock:
                batch, self._wanted = self._wanted, []
            self._ask(batch)
        own.asked.wait()
        if own.error is not None:
            raise own.error
        assert own.worker is not None
        with self._lock:
            self._coming.append(own.worker)
        if self._closed:
            own.worker.kill()
        try:
            own.worker.arrive()
        finally:
            with self._lock:
                self._coming.remove(own.worker)
        return own.worker

    def _ask(self, batch: list[_Wanted]) -> None:
        try:
            addresses = [self._listener.address() for _ in batch]
            started = self._executor.start([each.needs for each in batch], addresses)
            for each, harness, own in zip(batch, addresses, started, strict=True):
                each.worker = RemoteWorker(self._listener, harness, own)
        except Exception as error:
            for each in batch:
                each.error = error
        finally:
            for each in batch:
                each.asked.set()

    def has_room(self, needs: Needs, others: Sequence[Needs]) -> bool:
        """Return whether one more may be asked for; the engine queues what it has no room for."""
        return len(others) < self._slots

    def close(self) -> None:
        """Start no more, and end those that have not connected."""
        with self._lock:
            self._closed = True
            coming = list(self._coming)
        for worker in coming:
            worker.kill()
        self._listener.close()


class _Wanted:
    def __init__(self, needs: Needs) -> None:
        self.needs = needs
        self.asked = threading.Event()
        self.worker: RemoteWorker | None = None
        self.error: Exception | None = None
