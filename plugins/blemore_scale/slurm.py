"""The executor `slurm`: workers as jobs of a Slurm cluster, sent with submitit as an array per system."""

from __future__ import annotations

import importlib.util
import shlex
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from blemore_harness.errors import BlemoreError, ConfigError, ExtraMissing
from blemore_harness.executors import Executor, HarnessAddress, Needs, Started, State
from blemore_scale.launch import SHARE, Launch, clear_folder, last_line, open_folder
from blemore_scale.settings import check_names, listening_for, read_count, read_minutes
from blemore_scale.slurm_commands import (
    HOPELESS,
    Queue,
    cancel,
    describe_end,
    forget_own_job,
    require_slurm,
)
from blemore_scale.slurm_detach import detach

PER_JOB = ("partition", "account", "qos", "constraint", "gres", "time", "mem", "cpus", "exclude")
"""Options that may also stand behind `gpu-` or `cpu-`, for jobs that use a GPU and those that do not, and behind
`harness-`, for the job of the harness with `--detach`."""

KINDS = ("gpu", "cpu", "harness")

KNOWN = ("parallel", "host", "setup", *PER_JOB, *(f"{kind}-{name}" for kind in KINDS for name in PER_JOB))

HARNESS = {"time": "1-00:00:00", "mem": "4G", "cpus": "1"}
"""Of the harness's own job, unless options with `harness-` say otherwise."""

HOURS = "4:00:00"
"""Time limit of a job; one that reaches it goes back into the queue and continues."""

WARNING_SECONDS = 90
"""How long before its time limit a job is told, so that it puts itself back into the queue."""

MOST_REQUEUES = 50
"""How often a job that reaches its time limit goes back into the queue."""

GIGABYTE = 1 << 30


class Slurm(Executor):
    """Jobs of a Slurm cluster."""

    name = "slurm"
    summary = "workers as jobs of a Slurm cluster"
    idle_seconds: ClassVar[float] = 20.0

    def __init__(self, options: Mapping[str, str]) -> None:
        check_names(self.name, options, KNOWN)
        super().__init__(options)
        self._parallel = read_count(self.name, options, "parallel", 32)
        for kind in KINDS:
            read_minutes(self._choose(kind, "time", HOURS))
            read_count(self.name, {"cpus": self._choose(kind, "cpus", "1")}, "cpus", 1)
        if importlib.util.find_spec("submitit") is None:
            raise ExtraMissing("--executor slurm needs submitit: pip install 'blemore-harness[slurm]'")
        forget_own_job()
        require_slurm()
        self._queue = Queue()
        self._jobs: list[SlurmJob] = []
        self._lock = threading.Lock()
        self._mark = ""
        self.unshared = ""

    @property
    def slots(self) -> int:
        """As many as `parallel` says."""
        return self._parallel

    @property
    def host(self) -> str:
        """The name of this machine, or what `host` says."""
        return self.options.get("host") or socket.gethostname()

    @property
    def listens_on(self) -> str:
        """All interfaces, but for a cluster that is this machine."""
        return listening_for(self.host)

    def start(self, needs: Sequence[Needs], addresses: Sequence[HarnessAddress]) -> Sequence[Started]:
        """Send a job array per system, or a job where a system wants one worker."""
        if self.unshared:
            raise ConfigError(f"--executor slurm: {self.unshared}")
        if not self._mark:
            self._mark = open_folder(self.folder)
        arrays: dict[tuple[object, ...], list[int]] = {}
        for index, each in enumerate(needs):
            arrays.setdefault((each.system, each.gpus, each.cpus, each.memory), []).append(index)
        started: dict[int, SlurmJob] = {}
        for indices in arrays.values():
            jobs = self._send(needs[indices[0]], [addresses[index] for index in indices])
            started.update(zip(indices, jobs, strict=True))
        return [started[index] for index in range(len(needs))]

    def _send(self, needs: Needs, addresses: Sequence[HarnessAddress]) -> list[SlurmJob]:
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        from blemore_scale.slurm_job import Job

        sender = SlurmExecutor(self.folder, max_num_timeout=MOST_REQUEUES)
        sender.update_parameters(**self.parameters(needs))
        launch = Launch(addresses[0], tuple(map(str, sys.path)), self.folder, self._mark, self._cpus(needs))
        work = [Job(replace(launch, harness=harness)) for harness in addresses]
        try:
            sent = sender.submit_array(work) if len(work) > 1 else [sender.submit(work[0])]
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            what = " ".join(str(error).split("\n")[-1].split()) or type(error).__name__
            raise BlemoreError(f"--executor slurm: Slurm refused the jobs of {needs.system}: {what}") from error
        jobs = [SlurmJob(each.job_id, Path(each.paths.stdout), self, self._queue) for each in sent]
        self._queue.add([job.id for job in jobs])
        with self._lock:
            self._jobs += jobs
        return jobs

    def parameters(self, needs: Needs) -> dict[str, Any]:
        """Return the parameters of submitit for the jobs of a system."""
        kind = "gpu" if needs.gpus else "cpu"
        cpus = self._cpus(needs)
        chosen: dict[str, Any] = {
            name: self._choose(kind, name) for name in ("partition", "account", "qos", "constraint", "exclude")
        }
        # Without a prefix `gres` is about GPUs, which other jobs do without.
        gres = self._choose("gpu", "gres", f"gpu:{needs.gpus}") if needs.gpus else self.options.get("cpu-gres")
        setup = [line for line in self.options.get("setup", "").split(";") if line.strip()]
        return {name: value for name, value in chosen.items() if value} | {
            "job_name": f"blemore-{needs.system}",
            "time": read_minutes(self._choose(kind, "time", HOURS)),
            "mem": self._choose(kind, "mem") or f"{-(-needs.memory // GIGABYTE)}G",
            "cpus_per_task": cpus,
            "gres": gres,
            "array_parallelism": self._parallel,
            "signal_delay_s": WARNING_SECONDS,
            "stderr_to_stdout": True,
            "wckey": None,
            "setup": [f"export PYTHONPATH={shlex.quote(':'.join(filter(None, sys.path)))}", *setup],
            "srun_args": [f"--cpus-per-task={cpus}"],  # since Slurm 22.05 a step does not inherit it
            "additional_parameters": {"requeue": True},
        }

    def detach(self, words: Sequence[str], folder: Path) -> str:
        """Send the harness as a job, which sends the others."""
        chosen = {name: self._choose("harness", name) for name in PER_JOB if name not in ("gres", *HARNESS)}
        chosen |= {name: self.options.get(f"harness-{name}", default) for name, default in HARNESS.items()}
        chosen["cpus-per-task"] = chosen.pop("cpus")
        flags = [f"--{name}={value}" for name, value in chosen.items() if value]
        return detach(words, folder, flags, self.options.get("setup", ""))

    def _cpus(self, needs: Needs) -> int:
        return int(self._choose("gpu" if needs.gpus else "cpu", "cpus") or max(1, needs.cpus))

    def _choose(self, kind: str, name: str, default: str = "") -> str:
        return self.options.get(f"{kind}-{name}") or self.options.get(name) or default

    def close(self) -> None:
        """Cancel all jobs that have not ended, and delete what holds keys of workers; the logs stay."""
        with self._lock:
            jobs, self._jobs = self._jobs, []
        cancel([job.id for job in jobs if job.state() != "ended"])
        if self._mark:
            clear_folder(self.folder)


class SlurmJob(Started):
    """A job of Slurm, or a task of an array."""

    def __init__(self, job: str, log: Path, executor: Slurm, queue: Queue) -> None:
        self.id, self.log = job, log
        self._executor, self._queue = executor, queue

    def state(self) -> State:
        """As Slurm says; a job that can never start has ended."""
        return self._queue.state(self.id).plain

    def describe_end(self) -> str:
        """Report Slurm's words, the machine, the last line and the path of the log."""
        known = self._queue.state(self.id)
        if known.state == "PENDING" and known.reason in HOPELESS:
            self.stop()
            return f"Slurm job {self.id} can never start: Slurm says {known.reason}; change --executor-options"
        how, node = describe_end(self.id)
        on = f" on {node}" if node else ""
        said = last_line(self.log)
        if SHARE in said:
            self._executor.unshared = said
        if self.log.is_file():
            return f"Slurm job {self.id}{on} {how}; its last line: {said or 'nothing'} (log: {self.log})"
        if node:
            self._executor.unshared = f"the machine {node} could not write {self.log}: {SHARE}"
            return f"Slurm job {self.id}{on} {how}; {self._executor.unshared}"
        return f"Slurm job {self.id} {how}; it has no log: it did not start"

    def stop(self) -> None:
        """Cancel it."""
        cancel([self.id])
