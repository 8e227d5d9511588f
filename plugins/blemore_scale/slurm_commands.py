"""What Slurm's own commands say of jobs: `squeue`, `scontrol`, `scancel`."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from blemore_harness.errors import ConfigError
from blemore_harness.executors import State

FRESH = 2.0
"""Seconds for which the answer of `squeue` serves all workers that ask."""

FORGOTTEN = "gone from the queue"
"""Of a job that ended so long ago that `squeue` does not know it; no state of Slurm's."""

ENDED = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
    "REVOKED", "TIMEOUT", FORGOTTEN,
})  # fmt: skip
"""States that a job does not leave; one that goes back into the queue is PENDING instead."""

WAITING = frozenset({
    "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD",
})  # fmt: skip

HOPELESS = frozenset({
    "BadConstraints", "PartitionTimeLimit", "PartitionNodeLimit", "InvalidAccount", "InvalidQOS",
    "DependencyNeverSatisfied", "JobHeldAdmin", "JobHoldMaxRequeue", "AccountNotAllowed", "QOSNotAllowed",
    "AssocMaxWallDurationPerJobLimit", "QOSMaxWallDurationPerJobLimit",
    "launch failed requeued held", "launch_failed_requeued_held",
})  # fmt: skip
"""Reasons for which a job in the queue never starts."""


@dataclass(frozen=True)
class JobState:
    """What `squeue` says of a job."""

    state: str
    reason: str

    @property
    def plain(self) -> State:
        """Whether it waits, runs, or has ended."""
        if self.state in ENDED or (self.state == "PENDING" and self.reason in HOPELESS):
            return "ended"
        return "waiting" if self.state in WAITING else "running"


GONE = JobState(FORGOTTEN, "")


class Queue:
    """The states of jobs, asked for all of them at once and not more often than needed; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: set[str] = set()
        self._states: dict[str, JobState] = {}
        self._asked = -FRESH

    def add(self, jobs: Sequence[str]) -> None:
        """Watch more jobs, which wait until the queue says something else."""
        with self._lock:
            self._jobs.update(jobs)
            self._states.update(dict.fromkeys(jobs, JobState("PENDING", "")))

    def state(self, job: str) -> JobState:
        """Return the state of a job, `GONE` where the queue has forgotten it; while Slurm does not answer, the last."""
        with self._lock:
            if time.monotonic() - self._asked >= FRESH:
                self._ask()
                self._asked = time.monotonic()
            return self._states[job]

    def _ask(self) -> None:
        open_jobs = sorted(job for job in self._jobs if self._states[job].plain != "ended")
        arrays = sorted({job.partition("_")[0] for job in open_jobs})
        said = ask("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r", "--jobs=" + ",".join(arrays))
        if said.returncode and "Invalid job id" not in said.stderr:
            return
        found = {job: JobState(*rest) for job, *rest in (line.split("|", 2) for line in said.stdout.splitlines())}
        self._states.update({job: found.get(job, GONE) for job in open_jobs})


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm; one that cannot be run is like one that fails."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))


def cancel(jobs: Sequence[str]) -> None:
    """End jobs, whether they wait or run."""
    if jobs:
        ask("scancel", "--quiet", *jobs)


def describe_end(job: str) -> tuple[str, str]:
    """Return in words how a job ended, and the machine that it ran on, which may be empty."""
    said = ask("scontrol", "--oneliner", "show", "job", job).stdout
    facts = dict(re.findall(r"(?:^|\s)(JobState|Reason|ExitCode|NodeList)=(\S*)", said))
    state, reason, code = (facts.get(name, "") for name in ("JobState", "Reason", "ExitCode"))
    if not state:
        return "ended, and Slurm has forgotten how", ""
    why = [state, *([reason] if reason not in ("", "None", state) else []), *([f"exit code {code}"] if code else [])]
    node = facts.get("NodeList", "")
    return "ended: " + ", ".join(why), "" if node == "(null)" else node


def forget_own_job() -> None:
    """Forget the Slurm job that this process may itself be in: its size would become that of the jobs sent from it.

    What users set for `sbatch`, such as SBATCH_ACCOUNT, stays.
    """
    for name in list(os.environ):
        if name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")) and name != "SLURM_CONF":
            with contextlib.suppress(KeyError):
                del os.environ[name]


def require_slurm() -> None:
    """Raise `ConfigError` where this machine cannot send jobs to a Slurm cluster."""
    said = ask("sinfo", "--noheader", "--format=%P")
    if said.returncode:
        what = " ".join(said.stderr.split()[:30]) or "no answer"
        raise ConfigError(
            f"--executor slurm: expected a machine from which jobs can be sent to Slurm, found: {what}. Give the "
            "command on a login node of the cluster"
        )
