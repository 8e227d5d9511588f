"""The executor `ray`: workers as actors of a Ray cluster, or of one that is started on this machine."""

from __future__ import annotations

import importlib.util
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from blemore_harness.errors import BlemoreError, ConfigError, ExtraMissing
from blemore_harness.executors import Executor, HarnessAddress, Needs, Started, State
from blemore_scale.launch import SHARE, Launch, clear_folder, last_line, open_folder
from blemore_scale.settings import check_names, listening_for, read_count

KNOWN = ("address", "parallel", "host", "cpus")

NOTICE_SECONDS = 10
"""How long it may take Ray to notice that an actor is gone whose worker does not answer any more."""

LOCAL = "local"
"""Address that means a cluster of its own on this machine."""


class RayCluster(Executor):
    """Actors of a Ray cluster."""

    name = "ray"
    summary = "workers as actors of a Ray cluster"
    idle_seconds: ClassVar[float] = 20.0

    def __init__(self, options: Mapping[str, str]) -> None:
        check_names(self.name, options, KNOWN)
        super().__init__(options)
        self._parallel = read_count(self.name, options, "parallel", 1) if "parallel" in options else None
        if importlib.util.find_spec("ray") is None:
            raise ExtraMissing("--executor ray needs ray: pip install 'blemore-harness[ray]'")
        asked = read_count(self.name, options, "cpus", 0) if "cpus" in options else None
        self._ray, self._own = _join(options.get("address", LOCAL))
        largest = max(int(node["Resources"].get("CPU", 0)) for node in self._ray.nodes() if node["Alive"])
        self.cpus = asked or max(1, min(type(self).cpus, largest))
        self._actors: list[RayWorker] = []
        self._lock = threading.Lock()
        self._mark = ""
        self.unshared = ""
        self.closed = False

    @property
    def slots(self) -> int:
        """As many as `parallel` says, else as the cluster has room for."""
        return self._parallel or max(1, int(self._ray.cluster_resources().get("CPU", 1)) // self.cpus)

    @property
    def host(self) -> str:
        """The address of this machine in the cluster, or what `host` says."""
        if "host" in self.options:
            return self.options["host"]
        local = self.options.get("address", LOCAL) == LOCAL
        return "127.0.0.1" if local else str(self._ray.util.get_node_ip_address())

    @property
    def listens_on(self) -> str:
        """Loopback for a cluster on this machine, else all interfaces."""
        return listening_for(self.host)

    def start(self, needs: Sequence[Needs], addresses: Sequence[HarnessAddress]) -> Sequence[Started]:
        """Ask for an actor for each, on a machine with as many free cores and GPUs."""
        if self.unshared:
            raise ConfigError(f"--executor ray: {self.unshared}")
        if any(each.gpus for each in needs) and not self._ray.cluster_resources().get("GPU"):
            raise ConfigError("--executor ray: no machine of the cluster has a GPU: add one, or run with --device cpu")
        if not self._mark:
            self._mark = open_folder(self.folder)
        started = [self._start(each, harness) for each, harness in zip(needs, addresses, strict=True)]
        with self._lock:
            self._actors += started
        return started

    def _start(self, needs: Needs, harness: HarnessAddress) -> RayWorker:
        paths = tuple(filter(None, map(str, sys.path)))
        launch = Launch(harness, paths, self.folder, self._mark, max(1, needs.cpus))
        log = self.folder / f"{needs.system}-{harness.token}.log"
        actor = self._ray.remote(_make_actor()).options(
            num_cpus=max(1, needs.cpus), num_gpus=needs.gpus, max_restarts=0, name=f"blemore-{harness.token}"
        )
        return RayWorker(self._ray, actor.remote(), launch, log, self)

    def close(self) -> None:
        """End all actors, and the cluster where it was started here; delete what holds keys of workers."""
        if self.closed:
            return
        with self._lock:
            actors, self._actors = self._actors, []
        for actor in actors:
            actor.stop()
            actor.forget()
        self.closed = True
        if self._own:
            with _keeping_signals():
                self._ray.shutdown()
        if self._mark:
            clear_folder(self.folder)


class RayWorker(Started):
    """An actor that waits for a machine, runs a worker there, or has ended."""

    def __init__(self, ray: Any, actor: Any, launch: Launch, log: Path, executor: RayCluster) -> None:
        self._ray, self._actor, self._log, self._executor = ray, actor, log, executor
        self._words = log.with_suffix(".end")
        self._where = actor.where.remote()
        self._end = actor.run.remote(launch.paths, pickle.dumps(launch), str(log), str(self._words))

    def state(self) -> State:
        """As far as Ray knows: one whose machine is gone has ended."""
        if self._executor.closed or self._is_ready(self._end):
            return "ended"
        return "running" if self._is_ready(self._where) else "waiting"

    def describe_end(self) -> str:
        """Report the machine, how it ended, the last line and the path of the log."""
        if self._executor.closed:
            return "Ray actor: the run has ended"
        self._ray.wait([self._end], timeout=NOTICE_SECONDS)
        node = f" on {self._ray.get(self._where)}" if self._is_ready(self._where) else ""
        try:
            how = self._words.read_text(encoding="utf-8")
        except OSError:
            how = "is gone with its process or its machine"
        if SHARE in how:
            self._executor.unshared = how
            return f"Ray actor{node}: {how}"
        log = f"; its last line: {last_line(self._log) or 'nothing'} (log: {self._log})" if self._log.is_file() else ""
        return f"Ray actor{node}: {how}{log}"

    def stop(self) -> None:
        """Kill the actor; its worker ends with it."""
        if self._executor.closed:
            return
        try:
            self._ray.kill(self._actor)
        except (self._ray.exceptions.RayError, ValueError):  # it is gone already
            return

    def forget(self) -> None:
        """Delete what it wrote besides its log."""
        self._words.unlink(missing_ok=True)

    def _is_ready(self, reference: Any) -> bool:
        ready, _ = self._ray.wait([reference], timeout=0)
        return bool(ready)


def _make_actor() -> type[Any]:
    """Return the actor's class; one made in a function is sent whole, as the cluster knows no module of ours."""

    class Actor:
        def where(self) -> str:
            return socket.gethostname()

        def run(self, paths: Sequence[str], launch: bytes, log: str, end: str) -> None:
            sys.path[:] = paths
            from pathlib import Path

            import ray

            job = f"actor {ray.get_runtime_context().get_actor_id()[:12]}"
            ended = pickle.loads(launch).run(job, Path(log))
            if ended:
                Path(end).write_text(ended, encoding="utf-8")
            ray.actor.exit_actor()  # or it would keep its cores and GPUs

    return Actor


def _join(address: str) -> tuple[Any, bool]:
    """Import Ray and join a cluster; returns the module, and whether the connection is ours to end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return ray, False
    try:
        with _keeping_signals():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=_dashboard(address))
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        what = " ".join(str(error).split()[:30]) or type(error).__name__
        raise BlemoreError(f"--executor ray: no Ray cluster answers at {address}: {what}") from error
    return ray, True


def _dashboard(address: str) -> bool | None:
    return False if address == LOCAL else None


@contextmanager
def _keeping_signals() -> Iterator[None]:
    """Keep what SIGINT and SIGTERM do: Ray sets handlers of its own, and the harness ends a run by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
