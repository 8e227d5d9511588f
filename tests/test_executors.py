"""Executors: workers that connect over the network, the same bits and the same record as in this process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from blemore_harness.errors import ConfigError, UnknownName
from blemore_harness.executors import Executor, Needs, Started, State, Welcome
from blemore_harness.running.isolation import Isolation
from blemore_harness.running.pool import Pool
from blemore_harness.running.remote import Gate, RemoteStarter
from blemore_harness.systems.plugins import load_plugins
from test_isolation import Bench, bench, files_of, timeless

__all__ = ["bench"]

pytestmark = pytest.mark.once

CONNECT = (
    "import pickle, sys; from blemore_harness.running.worker import connect; "
    "connect(pickle.loads(bytes.fromhex(sys.argv[1])), sys.argv[2])"
)


class Job(Started):
    def __init__(self, name: str, welcome: Welcome, log: Path) -> None:
        self.name, self.log = name, log
        self.command = [sys.executable, "-c", CONNECT, pickle.dumps(welcome).hex(), name]
        self.begin()

    def begin(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(self.command, stdout=file, stderr=file, env=environment)

    def state(self) -> State:
        return "running" if self.process.poll() is None else "ended"

    def fate(self) -> str:
        return f"job {self.name} ended with exit code {self.process.wait()} (log: {self.log})"

    def stop(self) -> None:
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
        self.closed = 0

    @property
    def slots(self) -> int:
        return int(self.options.get("slots", 2))

    def start(self, needs: Sequence[Needs], welcomes: Sequence[Welcome]) -> Sequence[Started]:
        new = [
            Job(f"job-{len(self.jobs) + i}", welcome, self.folder / f"{len(self.jobs) + i}.log")
            for i, welcome in enumerate(welcomes)
        ]
        self.jobs += new
        self.needs += needs
        return new

    def close(self) -> None:
        self.closed += 1
        for job in self.jobs:
            job.stop()


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[Loopback]:
    Loopback.folder = tmp_path
    found = Loopback({})
    yield found
    found.close()


def test_workers_that_connect_give_the_same_bits_and_record(bench: Bench, executor: Loopback) -> None:
    plain, folder = bench.run("talker,file-bytes", "plain", None)
    said = list(bench.reporter.said)
    bench.reporter.said.clear()
    isolation = Isolation(executor=executor, fresh=False)
    pool = Pool(RemoteStarter(executor), 2, 1, isolation)
    record, elsewhere = bench.run("talker,file-bytes", "remote", pool)
    pool.close()
    assert record["status"] == "finished", [each["error"] for each in record["systems"] if "error" in each]
    assert files_of(folder.parent) == files_of(elsewhere.parent)
    assert timeless(record["systems"]) == timeless(plain["systems"])
    assert bench.reporter.said == said
    assert executor.closed == 1
    assert [needs.name for needs in executor.needs][:1] == ["talker prepare"]


def test_whoever_does_not_know_the_key_is_not_let_in(executor: Loopback) -> None:
    gate = Gate(executor)
    right = gate.welcome()
    job = executor.start([], [Welcome(right.host, right.port, b"another key", right.token)])[0]
    assert isinstance(job, Job)
    assert job.process.wait() == 1
    assert "no harness answers" in job.log.read_text()
    assert gate.wait_for(right.token, 0) is None
    assert "key" not in repr(right).replace("key=b", "")
    executor.start([], [right])
    found = gate.wait_for(right.token, 300)
    assert found is not None
    assert found[0].job == "job-1"
    found[1].close()
    gate.close()


def test_an_executor_is_opened_by_name_with_its_options() -> None:
    plugins = load_plugins({"BLEMORE_PLUGINS": "late"})
    plugins.executors["loopback"] = Loopback, plugins.offers["late"][0].distribution
    assert plugins.open_executor("loopback", {"slots": "3"}).slots == 3
    with pytest.raises(ConfigError, match="found speed"):
        plugins.open_executor("loopback", {"speed": "3"})
    with pytest.raises(UnknownName, match="loopback"):
        plugins.open_executor("loopbak", {})
