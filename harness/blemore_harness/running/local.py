"""Worker processes of this machine that are kept between requests: one for each GPU, and others without."""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from blemore_harness.executors import Needs
from blemore_harness.networks import thread_variables
from blemore_harness.running.template import Template
from blemore_harness.running.worker_process import WorkerProcess
from blemore_harness.systems.failures import Lost


class LocalWorker:
    """A worker process that takes several requests.

    Args:
        starter: gets its GPU back.
        log: gets what it prints at first.
        gpu: as CUDA_VISIBLE_DEVICES names it; empty for none.
    """

    def __init__(self, starter: LocalStarter, log: Path, gpu: str) -> None:
        self._starter, self._gpu = starter, gpu
        self._lock = threading.Lock()
        self._closed = self._killed = False
        self._stack = ExitStack()
        visible = {"CUDA_VISIBLE_DEVICES": gpu} if starter.divides_gpus else {}
        variables = {**starter.variables, **visible}
        process = WorkerProcess.started(log, starter.locks, variables, starter.template)
        self._process = self._stack.enter_context(process)
        self.pipe = self._process.pipe

    def begin(self, log: Path) -> None:
        """As `pool.PoolWorker.begin`."""
        log.touch()  # a worker that has ended meanwhile will not
        self._process.log = log

    def wait(self, seconds: float | None) -> bool:
        """As `isolation.Worker.wait`."""
        return self._process.wait(seconds)

    def lose(self, what: str, again: bool = False) -> Lost:
        """As `isolation.Worker.lose`."""
        return self._process.lose(what, again)

    def describe_end(self) -> str:
        """As `isolation.Worker.describe_end`."""
        return self._process.describe_end()

    def ask_where_it_stands(self) -> None:
        """As `isolation.Worker.ask_where_it_stands`."""
        self._process.ask_where_it_stands()

    def describe(self) -> dict[str, str]:
        """As `pool.PoolWorker.describe`."""
        return {"host": platform.node(), "worker": f"process {self._process.pid}"}

    def come_back(self) -> bool:
        """Return False: a process that ended stays so."""
        return False

    def kill(self) -> None:
        """As `pool.PoolWorker.kill`."""
        with self._lock:  # not when it is closed: its number may be another's then
            self._killed = True
            if not self._closed:
                self._process.kill()

    def release(self) -> None:
        """As `pool.PoolWorker.release`."""
        self._process.release()

    def close(self) -> None:
        """As `pool.PoolWorker.close`."""
        if not self._killed:
            self._process.dismiss()  # whoever ends by itself is counted: memory, time
        with self._lock:
            self._closed = True
            self._stack.close()
        self._starter.take_back(self._gpu)


class LocalStarter:
    """Starts worker processes, one for each GPU, and others that see none.

    Args:
        locks: as of `Isolation`.
        cpus: threads that libraries start in each.
        gpus: as of `needs.list_gpus`.
        memory: bytes that all workers may take.
        modules: large libraries that most workers import.
    """

    def __init__(
        self, locks: Sequence[int], cpus: int, gpus: Sequence[str], memory: int, modules: Sequence[str] = ()
    ) -> None:
        self.locks = tuple(locks)
        self.divides_gpus = bool(gpus)
        self.variables = {name: value for name, value in thread_variables(cpus).items() if name not in os.environ}
        self.template = Template(modules, self.variables) if modules and sys.platform == "linux" else None
        self._lock = threading.Lock()
        self._gpus = list(gpus)
        self._all_gpus, self._memory = len(gpus), memory

    def start(self, needs: Needs, log: Path) -> LocalWorker:
        """As `pool.Starter.start`."""
        with self._lock:
            gpu = self._gpus.pop(0) if needs.gpus else ""
        return LocalWorker(self, log, gpu)

    def has_room(self, needs: Needs, others: Sequence[Needs]) -> bool:
        """Return whether memory and GPUs suffice."""
        every = (needs, *others)
        return sum(e.gpus for e in every) <= self._all_gpus and sum(e.memory for e in every) <= self._memory

    def take_back(self, gpu: str) -> None:
        """Count a GPU as free."""
        if gpu:
            with self._lock:
                self._gpus.append(gpu)

    def close(self) -> None:
        """End the template; every worker is closed by itself."""
        if self.template is not None:
            self.template.close()
