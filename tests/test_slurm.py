"""The executor `slurm` on a real Slurm of one node: the same results, and what happens to jobs in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from blemore_harness.systems.plugins import load_plugins
from blemore_scale.slurm import Slurm
from cluster_cases import Case, alive, files_of, opened_case, timeless, wait_until
from slurm_cluster import missing, slurm_cluster

OPTIONS = {"host": "127.0.0.1", "mem": "300M", "cpus": "1", "parallel": "3"}


@pytest.fixture(scope="module")
def slurm() -> Iterator[Path]:
    if os.environ.get("CI"):
        assert missing() == ""
    elif missing():
        pytest.skip(missing())
    pytest.importorskip("submitit")
    with slurm_cluster() as configuration, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(configuration))
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


def open_slurm(folder: Path, **options: str) -> Slurm:
    found = load_plugins().open_executor("slurm", {**OPTIONS, **options})
    assert isinstance(found, Slurm)
    found.folder = folder
    return found


@pytest.mark.slow
def test_jobs_that_are_killed_preempted_or_out_of_time_lose_nothing(slurm: Path, case: Case) -> None:
    plain, folder = case.run("stepping,quick", "plain")

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
        record, elsewhere = case.run("stepping,quick", "slurm", "slurm", OPTIONS)
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
    assert not [name for name in names if not name.endswith((".out", ".sh"))], "the key of the run is still there"


def test_a_job_that_fails_is_reported_with_its_log(slurm: Path, case: Case) -> None:
    record, _ = case.run("ending,quick", "slurm", "slurm", OPTIONS)
    states = {row["name"]: row for row in record["systems"]}
    message = states["ending"]["error"]["message"]
    assert "this is the last line (log: " in message
    assert Path(message.rpartition("(log: ")[2].rstrip(")")).is_file()
    assert states["quick"]["status"] == "finished"
