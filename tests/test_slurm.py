"""The executor `slurm` on a real Slurm of one node: the same results, and what happens to jobs in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import blemore_harness as bh
from blemore_harness.errors import BlemoreError, ConfigError
from blemore_harness.executors import HarnessAddress, Needs
from blemore_harness.files.runs import read_record
from blemore_harness.running import calls, remote
from blemore_harness.systems.plugins import load_plugins
from blemore_scale import launch, slurm_commands
from blemore_scale.launch import Launch, open_folder
from blemore_scale.settings import read_minutes
from blemore_scale.slurm import Slurm
from blemore_scale.slurm_commands import Queue, forget_own_job
from blemore_scale.slurm_detach import detach
from cluster_cases import Case, opened_case, wait_until
from isolated_runs import alive, files_of, timeless
from slurm_cluster import missing, slurm_cluster

pytestmark = pytest.mark.encoders  # with all extras, among them `slurm`

OPTIONS = {"host": "127.0.0.1", "mem": "300M", "cpus": "1", "parallel": "3"}


@pytest.fixture(scope="module")
def slurm() -> Iterator[Path]:
    if not os.environ.get("CI"):
        pytest.importorskip("submitit")
        if missing():
            pytest.skip(missing())
    assert missing() == ""
    with slurm_cluster() as configuration, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(configuration))
        patch.setattr(slurm_commands, "FRESH", 0.2)
        patch.setattr(remote, "POLL", 0.2)
        yield configuration


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    with opened_case(tmp_path) as opened:
        yield opened


def ask(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def jobs() -> set[str]:
    """The jobs that wait or run."""
    return set(ask("squeue", "--noheader", "--array", "--format=%i").split())


def joined(options: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in options.items())


def open_slurm(folder: Path, **options: str) -> Slurm:
    found = load_plugins().open_executor("slurm", {**OPTIONS, **options})
    assert isinstance(found, Slurm)
    found.folder = folder
    return found


@pytest.mark.slow
def test_jobs_that_are_killed_preempted_or_out_of_time_lose_nothing(slurm: Path, case: Case) -> None:
    plain, folder = case.evaluate("stepping,quick", "plain")

    def kill(process: int) -> None:
        os.kill(process, signal.SIGKILL)

    def end_time(process: int) -> None:
        """Send the notice that Slurm sends before a time limit."""
        variables = Path(f"/proc/{process}/environ").read_text().split("\0")
        (job,) = (text.removeprefix("SLURM_JOB_ID=") for text in variables if text.startswith("SLURM_JOB_ID="))
        ask("scancel", "--signal=USR2", job)
        wait_until(lambda: not alive(process))

    def preempt(process: int) -> None:
        ask("sbatch", "--partition=urgent", "--cpus-per-task=4", "--output=/dev/null", "--wrap=sleep 1")
        wait_until(lambda: not alive(process))

    with case.disturbing({"0": kill, "1": end_time, "final": preempt}):
        record, elsewhere = case.evaluate("stepping,quick", "slurm", "slurm", OPTIONS)
    assert record["status"] == "finished", record["systems"]
    assert files_of(folder.parent) == files_of(elsewhere.parent)
    assert timeless(record["systems"]) == timeless(plain["systems"])
    assert (elsewhere / "submission.zip").read_bytes() == (folder / "submission.zip").read_bytes()
    begun = case.epochs()
    for part in ("0", "1", "final"):
        mine = [line for line in begun if line.startswith(part)]
        assert mine[:3] == [f"{part} {epoch}" for epoch in range(3)]
        assert set(mine[3:]) == {f"{part} 2", f"{part} 3"}, "an epoch that was trained is not trained again"
    assert [said for said in case.reporter.said if "stepping (fold-0) was lost: Slurm job" in str(said)]
    wait_until(lambda: not jobs())
    names = {path.name for path in (elsewhere / "workers").iterdir()}
    assert names
    # A job that ends after the run still writes that it has, and nothing else.
    left = [name for name in names if not name.endswith((".out", ".sh", "_result.pkl"))]
    assert not left, "keys of workers are still there"


def test_a_job_that_fails_is_reported_with_its_log(slurm: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "TRIES", 0)
    record, _ = case.evaluate("ending,quick", "slurm", "slurm", OPTIONS)
    states = {row["name"]: row for row in record["systems"]}
    message = states["ending"]["error"]["message"]
    assert "this is the last line (log: " in message
    assert Path(message.rpartition("(log: ")[2].rstrip(")")).is_file()
    assert states["quick"]["status"] == "finished"


def test_systems_are_sent_as_arrays_and_refusals_are_plain(slurm: Path, tmp_path: Path) -> None:
    executor = open_slurm(tmp_path / "workers")
    wanted = [Needs(f"{name} fold-{fold}", name, "audio", 0, 1, 2**28) for fold in (0, 1) for name in ("one", "two")]
    addresses = [HarnessAddress("127.0.0.1", 1, b"key", f"token-{number}") for number in range(4)]
    started = executor.start(wanted, addresses)
    names = [getattr(each, "id", "") for each in started]
    assert [name.rpartition("_")[2] for name in names] == ["0", "0", "1", "1"]
    assert names[0].partition("_")[0] == names[2].partition("_")[0] != names[1].partition("_")[0]
    wait_until(lambda: all(each.state() == "ended" for each in started))
    assert "no harness answers at 127.0.0.1:1" in started[0].describe_end()
    executor.close()
    assert started[0].state() == "ended"

    with pytest.raises(BlemoreError, match=r"Slurm refused the jobs of one: .*partition"):
        open_slurm(tmp_path / "workers", partition="nowhere").start(wanted[:1], addresses[:1])
    never = open_slurm(tmp_path / "workers", time="30-0")
    (waiting,) = never.start(wanted[:1], addresses[:1])
    wait_until(lambda: waiting.state() == "ended")
    assert "can never start: Slurm says PartitionTimeLimit" in waiting.describe_end()
    wait_until(lambda: not jobs())
    never.close()


def test_a_machine_that_does_not_see_the_folder_ends_the_run(slurm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "workers"
    executor = open_slurm(folder, setup=f"echo another > {folder}/shared")
    wanted = Needs("one fold-0", "one", "audio", 0, 1, 2**28)
    harness = HarnessAddress("127.0.0.1", 1, b"key", "token")
    (started,) = executor.start([wanted], [harness])
    wait_until(lambda: started.state() == "ended")
    assert f"does not see {folder}" in started.describe_end()
    with pytest.raises(ConfigError, match=rf"does not see {folder}.*file system that all machines share"):
        executor.start([wanted], [harness])
    executor.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_jobs_end_with_the_harness_however_it_ends(slurm: Path, case: Case, number: signal.Signals) -> None:
    words = ["--plugin", "stepping", "--device", "cpu", "--executor", "slurm", "--executor-options", joined(OPTIONS)]
    held = []

    def end(process: int) -> None:
        held.append(process)
        harness.send_signal(number)
        wait_until(lambda: not alive(process))

    with case.disturbing({"1": end}), case.command("run", *words) as harness:
        harness.wait()
    assert len(held) == 1
    wait_until(lambda: not jobs())
    if number == signal.SIGKILL:
        with case.command("run", *words) as again:
            assert again.wait() == 0


def test_detached_the_harness_is_a_job_itself(slurm: Path, case: Case) -> None:
    options = OPTIONS | {"harness-mem": "500M"}
    words = ["--plugin", "stepping,quick", "--fusion", "median", "--device", "cpu", "--runs", "runs"]
    words += ["--executor", "slurm", "--detach", "--executor-options", joined(options)]
    said = []

    def ask_again(process: int) -> None:
        with case.command("run", *words) as again:
            said.append(again.communicate()[0])

    with case.disturbing({"1": ask_again}):
        with case.command("run", *words) as started:
            first = started.communicate()[0]
        assert started.returncode == 0
        assert "the run is Slurm job " in first
        wait_until(lambda: not jobs())
    job = first.partition("Slurm job ")[2].split()[0]
    assert f"at work already, as Slurm job {job}" in said[0]
    assert f"scancel {job}" in said[0]
    plain, folder = case.evaluate("stepping,quick", "plain")
    (record,) = (read_record(path.parent) for path in (case.root / "runs").glob("*/record.json"))
    assert timeless(record.to_json()["systems"]) == timeless(plain["systems"])
    assert files_of(case.root / "runs") == files_of(folder.parent)

    with case.command("run", *words) as again:
        assert again.wait() == 0
    (path,) = (case.root / "runs").glob("*/record.json")
    watched = bh.watch_run(path.parent.name, runs=case.root / "runs")
    assert watched.record.execution.started > record.execution.started, "watched from its new beginning"
    wait_until(lambda: not jobs())
    assert not (path.parent / "waiting").exists()


def test_options_become_what_slurm_is_asked_for(slurm: Path, tmp_path: Path) -> None:
    texts = {"partition": "cpus", "gpu-partition": "gpus", "time": "2:00:00", "gpu-time": "90", "gres": "gpu:a100:1"}
    executor = load_plugins().open_executor("slurm", {**texts, "setup": "module load cuda; echo ready"})
    assert isinstance(executor, Slurm)
    network = executor.parameters(Needs("s4d fold-1", "s4d", "video", 1, 4, 5 * 2**30 + 1))
    light = executor.parameters(Needs("prosody fold-1", "prosody", "audio", 0, 4, 2**30))
    assert (network["partition"], network["gres"], network["time"]) == ("gpus", "gpu:a100:1", 90)
    assert (light["partition"], light["gres"], light["time"]) == ("cpus", None, 120)
    assert (network["mem"], network["cpus_per_task"], network["job_name"]) == ("6G", 4, "blemore-s4d")
    assert network["setup"][1:] == ["module load cuda", " echo ready"]
    plain = load_plugins().open_executor("slurm", {})
    assert isinstance(plain, Slurm)
    assert plain.parameters(Needs("s4d fold-1", "s4d", "video", 1, 4, 2**30))["gres"] == "gpu:1"
    for options, found in (({"partitoin": "x"}, "partition"), ({"time": "soon"}, "'soon'"), ({"cpus": "0"}, "'0'")):
        with pytest.raises(ConfigError, match=found):
            load_plugins().open_executor("slurm", options)


def test_a_job_that_slurm_has_forgotten_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detached run whose job ended days ago is sent again, and nobody waits for a worker of then."""
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    queue = Queue()
    queue.add(["4711"])
    assert queue.state("4711").plain == "ended"


def test_a_job_that_slurm_refuses_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("sbatch", "echo no; exit 1"), ("squeue", "exit 0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BlemoreError, match="Slurm refused the job of the harness"):
        detach(["run"], tmp_path, [], "")
    assert not (tmp_path / "waiting").exists()


def test_only_the_owner_reads_the_folder_with_the_key(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir(mode=0o755)
    for folder in (tmp_path / "workers", tmp_path / "new"):
        open_folder(folder)
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_worker_has_as_many_threads_as_its_job_has_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "START", "from blemore_harness.networks import usable_cpus; print(usable_cpus())")
    job = Launch(HarnessAddress("127.0.0.1", 1, b"key", "token"), (), tmp_path, open_folder(tmp_path), 1)
    assert job.run("job", tmp_path / "log") == ""
    assert (tmp_path / "log").read_text().split() == ["1"]


def test_the_own_job_is_forgotten_and_what_users_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "7")
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    forget_own_job()
    assert "SLURM_CPUS_PER_TASK" not in os.environ
    assert os.environ["SBATCH_ACCOUNT"] == "mine"


def test_times_are_read_as_slurm_does() -> None:
    texts = ["90", "4:00:00", "1-12", "2:30", "1-02:03", "1-02:03:04"]
    assert [read_minutes(text) for text in texts] == [90, 240, 2160, 3, 1563, 1564]
