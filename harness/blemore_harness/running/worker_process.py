"""A worker process as the harness holds it: started, listened to, ended with all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from blemore_harness.disk import read_tail
from blemore_harness.errors import printable
from blemore_harness.processes import end_group
from blemore_harness.running.template import Template
from blemore_harness.systems.failures import Lost

START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from blemore_harness.running.guardian import watch_worker; "
    "sys.exit(watch_worker(*map(int, sys.argv[2:])))"
)
"""What the new interpreter does: import from where this one imports, then hand over."""

GRACE = 10.0
"""Seconds that a worker gets to end after it has answered."""

STACK_SECONDS = 10.0
"""Seconds that a worker gets to write down where it stands when its time is over; it ends once it has."""

TAIL_LINES = 20
"""Lines of a worker's log that go into the record."""


@dataclass
class WorkerProcess:
    """A running worker: its guardian's process id, the pipe to it, and a socket that tells that it lives."""

    pid: int
    pipe: Connection
    life: socket.socket
    log: Path
    said: bytes = b""
    ended: bool = False

    @classmethod
    @contextlib.contextmanager
    def started(
        cls,
        log: Path,
        locks: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
        template: Template | None = None,
    ) -> Iterator[WorkerProcess]:
        """Start a worker; when the block ends, it and whatever it started are gone.

        Args:
            log: gets what the worker prints; removed where that is nothing.
            locks: descriptors of `runs.hold`: where the harness is killed, nobody else gets these folders before the
                worker is gone as well, which may still be writing.
            environment: variables that it gets besides those of this process.
            template: forks it, if it can.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)  # a dying worker of a run that was killed may still be writing its last words there
        variables = environment or {}
        with ExitStack() as stack:
            with log.open("xb") as output:
                worker = None if template is None else cls._fork(template, log, output.fileno(), locks, variables)
                if worker is None:
                    worker, process = cls._start(log, output.fileno(), locks, variables)
                    stack.callback(process.wait)
            stack.enter_context(worker.pipe)
            stack.enter_context(worker.life)
            stack.callback(worker.wait_for_end, GRACE)
            # Before it is reaped: until then no other group can have its number.
            stack.callback(end_group, worker.pid)
            yield worker
        remove_empty(log)

    @classmethod
    def _fork(
        cls, template: Template, log: Path, output: int, locks: Sequence[int], variables: Mapping[str, str]
    ) -> WorkerProcess | None:
        """Have a template fork it; None where that fails.

        A template that ends before it answers may have forked it: it is closed here and ends, and whoever is started
        in its place gets a pipe of its own.
        """
        with _connected() as (here, there, life, other):
            pid = template.fork(output, (there.fileno(), other.fileno(), *locks), variables)
            if pid is None:
                here.close()
                life.close()
                return None
            return cls(pid, here, life, log)

    @classmethod
    def _start(
        cls, log: Path, output: int, locks: Sequence[int], variables: Mapping[str, str]
    ) -> tuple[WorkerProcess, subprocess.Popen[bytes]]:
        """Start it in an interpreter of its own."""
        with _connected() as (here, there, life, other):
            passed = (there.fileno(), other.fileno(), *locks)
            words = [sys.executable, "-P", "-u", "-c", START, json.dumps(sys.path), *map(str, passed)]
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                pass_fds=passed, env={**os.environ, **variables},
            )  # fmt: skip
            return cls(process.pid, here, life, log), process

    def wait(self, seconds: float | None) -> bool:
        """Wait so many seconds, or for ever, for a message; returns whether there is one.

        Raises:
            Lost: it has ended.
        """
        ready = wait([self.pipe, self.life], seconds)
        if self.pipe not in ready and self.life in ready:
            self.read_life()
            if self.ended:
                raise self.lose(self.describe_end(), again=True)
        return self.pipe in ready

    def dismiss(self) -> None:
        """Let it end by itself; it has answered."""
        self.release()
        self.wait_for_end(GRACE)

    def release(self) -> None:
        """Tell it that there is no more to do."""
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(b"")

    def kill(self) -> None:
        """End it and what it started, at once."""
        end_group(self.pid)

    def read_life(self) -> None:
        """Take what the guardian says; the last message is how the worker ended."""
        try:
            news = self.life.recv(64)
        except OSError:
            news = b""
        self.said += news
        self.ended = not news

    def wait_for_end(self, seconds: float) -> None:
        """Wait until the guardian is gone, or for so many seconds."""
        until = time.monotonic() + seconds
        while not self.ended and wait([self.life], max(0.0, until - time.monotonic())):
            self.read_life()

    def ask_where_it_stands(self) -> None:
        """Have the stacks of a worker that hangs written into its log."""
        pid = self.said.split(b"\n")[0]
        if pid.isdigit() and self.said.count(b"\n") == 1:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGUSR1)
            self.wait_for_end(STACK_SECONDS)

    def lose(self, what: str, again: bool = False) -> Lost:
        """Put an end into words, with the last lines of the log; arguments as of `Lost`."""
        lines = read_tail(self.log)[-TAIL_LINES:]
        last = next((line for line in reversed(lines) if line.strip()), "nothing")
        return Lost(
            f" {what}; its last line: {printable(last.strip())[:200]} (log: {self.log})", "\n".join(lines), again
        )

    def describe_end(self) -> str:
        """Report how the worker ended without an answer."""
        self.wait_for_end(GRACE)
        words = self.said.decode("ascii", "replace").split("\n")
        code = words[1] if len(words) > 2 else ""
        if not code:
            return "was lost: its process vanished without an exit code"
        if code == f"-{signal.SIGKILL:d}":
            return "was lost: its process was killed by SIGKILL, as it happens when memory runs out"
        if code.startswith("-"):
            return f"was lost: its process was ended by {signal.Signals(-int(code)).name}"
        return f"was lost: its process ended by itself with exit code {code}"


def remove_empty(log: Path) -> None:
    """Remove a log into which nobody wrote."""
    if log.exists() and log.stat().st_size == 0:
        log.unlink()


@contextlib.contextmanager
def _connected() -> Iterator[tuple[Connection, Connection, socket.socket, socket.socket]]:
    """Open a pipe and a pair of sockets: the ends that stay here, and those of a worker, which are closed after it.

    Gives `here, there, life, other`.
    """
    here, there = Pipe()
    life, other = socket.socketpair()
    with there, other:
        try:
            yield here, there, life, other
        except BaseException:
            here.close()
            life.close()
            raise
