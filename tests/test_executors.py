"""Executors: workers that connect over the network, the same bits and the same record as in this process."""

from __future__ import annotations

import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import ClassVar

import pytest

from blemore_harness.errors import ConfigError, UnknownName
from blemore_harness.executors import Executor, HarnessAddress, Needs, Started, State
from blemore_harness.running import pool, remote, work
from blemore_harness.running.isolation import Isolation
from blemore_harness.running.remote import RemoteWorker, WorkerListener
from blemore_harness.systems.plugins import load_plugins
from isolated_runs import Bench, all_files, opened_bench, timeless
from toys import system

pytestmark = pytest.mark.once

CONNECT = (
    "import pickle, sys; from blemore_harness.running.worker import connect; "
    "connect(pickle.loads(bytes.fromhex(sys.argv[1])), sys.argv[2])"
)


class Job(Started):
    def __init__(self, name: str, harness: HarnessAddress, log: Path, again: int = 0) -> None:
        self.name, self.log, self.again = name, log, again
        self.command = [sys.executable, "-c", CONNECT, pickle.dumps(harness).hex(), name]
        self.begin()

    def begin(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(self.command, stdout=file, stderr=file, env=environment)

    def state(self) -> State:
        if self.process.poll() is None:
            return "running"
        if self.again and self.process.returncode == -signal.SIGKILL:
            self.again -= 1
            self.begin()
            return "waiting"
        return "ended"

    def describe_end(self) -> str:
        return f"job {self.name} ended with exit code {self.process.wait()} (log: {self.log})"

    def stop(self) -> None:
        self.again = 0
        self.process.kill()
        self.process.wait()


class Loopback(Executor):
    name = "loopback"
    summary = "processes that connect over the network"
    folder: ClassVar[Path]

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        if set(options) - {"slots"}:
            raise ConfigError(f"loopback: expected the option slots, found {sorted(options)[0]}")
        self.jobs: list[Job] = []
        self.needs: list[Needs] = []
        self.again = 0

    @property
    def slots(self) -> int:
        return int(self.options.get("slots", 2))

    def start(self, needs: Sequence[Needs], addresses: Sequence[HarnessAddress]) -> Sequence[Started]:
        new = [
            Job(f"job-{len(self.jobs) + i}", harness, self.folder / f"{len(self.jobs) + i}.log", self.again)
            for i, harness in enumerate(addresses)
        ]
        self.jobs += new
        self.needs += needs
        return new

    def close(self) -> None:
        for job in self.jobs:
            job.stop()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.chdir(tmp_path)
    with opened_bench(tmp_path) as opened:
        yield opened


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[Loopback]:
    Loopback.folder = tmp_path
    found = Loopback({})
    yield found
    found.close()


def test_workers_that_connect_give_the_same_files_and_record(bench: Bench, executor: Loopback) -> None:
    plain, folder = bench.run("talker,file-bytes", "plain", None)
    isolation = Isolation(jobs=2, fresh=False, executor=executor)
    record, elsewhere = bench.run("talker,file-bytes", "remote", isolation)
    assert record["status"] == "finished", [each["error"] for each in record["systems"] if "error" in each]
    assert all_files(folder.parent) == all_files(elsewhere.parent)
    assert timeless(record["systems"]) == timeless(plain["systems"])
    assert {needs.name for needs in executor.needs} >= {"talker prepare", "file-bytes prepare"}
    assert {needs.kind for needs in executor.needs} <= {"audio", "video", "audiovisual", "fusion"}
    assert all(place["worker"].startswith("job-") for place in system(record, "talker")["places"])
    assert len(executor.jobs) < 11, "workers are kept"
    assert all(job.process.wait() is not None for job in executor.jobs)


def test_one_job_at_a_time_is_one_whatever_the_executor_has_room_for(
    bench: Bench, executor: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots: list[int] = []

    def start(engine: Loopback, count: int) -> remote.RemoteStarter:
        slots.append(count)
        return remote.RemoteStarter(engine, count)

    monkeypatch.setattr(work, "RemoteStarter", start)
    assert executor.slots > 1
    record, _ = bench.run("talker", "remote", Isolation(jobs=1, fresh=False, executor=executor))
    assert (record["status"], slots) == ("finished", [1])


@pytest.mark.parametrize(
    ("again", "brief", "deaths", "status"),
    [(0, 0, 2, "finished"), (0, 0, 3, "failed"), (5, 0, 4, "finished"), (5, math.inf, 3, "failed")],
)
def test_a_job_that_ends_is_tried_again_and_one_that_is_put_back_continues(
    bench: Bench, executor: Loopback, monkeypatch: pytest.MonkeyPatch,
    again: int, brief: float, deaths: int, status: str,
) -> None:  # fmt: skip
    """An engine puts a job back into its queue under the same token, as often as it likes if the job got anywhere."""
    monkeypatch.setenv("DEATHS", str(deaths))
    monkeypatch.setattr(pool, "BRIEF", brief)
    executor.again = again
    record, _ = bench.run("dying", "remote", Isolation(jobs=2, fresh=False, executor=executor))
    row = system(record, "dying")
    assert row["status"] == status, row
    assert len(Path("deaths").read_text()) == deaths + (status == "finished")
    if status == "failed":
        assert "was lost: job job-" in row["error"]["message"]
        assert "exit code -9" in row["error"]["message"]


def test_whoever_does_not_know_the_key_is_not_let_in(executor: Loopback) -> None:
    listener = WorkerListener(executor)
    right = listener.address()
    # A worker knows its own key, and that is no other's.
    job = executor.start([], [HarnessAddress(right.host, right.port, listener.address().key, right.token)])[0]
    assert isinstance(job, Job)
    assert job.process.wait() == 1
    assert "no harness answers" in job.log.read_text()
    assert listener.wait_for(right.token, 0) is None
    assert "key" not in repr(right).replace("key=b", "")
    executor.start([], [right])
    found = listener.wait_for(right.token, 300)
    assert found is not None
    assert found[0].job == "job-1"
    with socket.socket(fileno=os.dup(found[1].fileno())) as peer:
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), "a machine that loses power says nothing"
    found[1].close()
    listener.close()


def test_whoever_connects_and_says_nothing_is_hung_up_on(executor: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "GREETING_SECONDS", 0)
    listener = WorkerListener(executor)
    harness = listener.address()
    with socket.create_connection((harness.host, harness.port)) as silent:
        assert silent.recv(1) == b""
    for thread in threading.enumerate():
        if thread.name == "greeting":
            thread.join()
    listener.close()


def test_the_gate_stays_open_when_a_connection_fails_and_closes_whole(
    executor: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, failures = socket.socket.accept, [OSError("too many open files")]

    def failing(listener: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop()
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", failing)
    listener = WorkerListener(executor)
    harness = listener.address()
    executor.start([], [harness])
    found = listener.wait_for(harness.token, 300)
    assert found is not None
    assert not failures
    found[1].close()
    threads = [each for each in threading.enumerate() if each.name == "listener"]
    listener.close()
    for thread in threads:
        thread.join()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((harness.host, harness.port))


def test_nobody_waits_for_a_worker_that_is_in_the_queue_when_the_run_ends(executor: Loopback) -> None:
    class Waiting(Started):
        stopped = False

        def state(self) -> State:
            return "waiting"

        def stop(self) -> None:
            self.stopped = True

    listener, started = WorkerListener(executor), Waiting()
    worker = RemoteWorker(listener, listener.address(), started)
    worker.pipe, there = Pipe()
    there.close()
    worker.kill()
    assert not worker.come_back()
    assert started.stopped
    listener.close()


def test_an_executor_is_opened_by_name_with_its_options() -> None:
    plugins = load_plugins({"BLEMORE_PLUGINS": "late"})
    plugins.executors["loopback"] = Loopback, plugins.offers["late"][0].distribution
    assert plugins.open_executor("loopback", {"slots": "3"}).slots == 3
    with pytest.raises(ConfigError, match="found speed"):
        plugins.open_executor("loopback", {"speed": "3"})
    with pytest.raises(UnknownName, match="loopback"):
        plugins.open_executor("loopbak", {})
