"""A worker in a process of its own, started by a job of a cluster: same Python, same paths, ended with the job."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import secrets
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from blemore_harness.disk import read_tail
from blemore_harness.errors import BlemoreError
from blemore_harness.executors import HarnessAddress
from blemore_harness.networks import thread_variables
from blemore_harness.processes import end_group
from blemore_harness.running.worker import connect

START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from blemore_scale.launch import work; work()"
"""What the new interpreter does: import from where the harness imports, then wait for its address."""

MARK = "shared"
"""File of the jobs' folder that says that a job sees the folder of the harness and not one of the same name."""


@dataclass(frozen=True)
class Launch:
    """What a job needs to start its worker; can be pickled.

    Attributes:
        harness: how the worker finds the harness.
        paths: where the harness imports from.
        folder: where the jobs' logs are; every machine must see it.
        mark: what `MARK` holds in that folder.
        threads: of numerical libraries; as many as the job has cores.
    """

    harness: HarnessAddress
    paths: tuple[str, ...]
    folder: Path
    mark: str
    threads: int

    def run(self, job: str, log: Path | None = None) -> str:
        """Start the worker and wait for its end.

        It ends as well when this process is gone, however it ended.

        Args:
            job: how the engine names the job, for the record.
            log: file that gets what the worker prints; None leaves it to the job.

        Returns:
            In words how it ended; empty where it had nothing to do any more.
        """
        if not self._sees_folder():
            return f"the machine {socket.gethostname()} does not see {self.folder}: {SHARE}"
        words = [sys.executable, "-P", "-u", "-c", START, json.dumps(self.paths)]
        threads = thread_variables(self.threads)  # engines do not always bind a job to its cores
        with contextlib.ExitStack() as stack:
            output: IO[bytes] | None = None if log is None else stack.enter_context(log.open("ab"))
            worker = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, **threads},
            )  # fmt: skip
            stack.callback(worker.wait)
            stack.callback(end_group, worker.pid)
            assert worker.stdin is not None
            # Kept open: its end tells the worker that this process is gone.
            pipe = stack.enter_context(worker.stdin)
            with contextlib.suppress(BrokenPipeError):
                pipe.write(pickle.dumps((self.harness, job)))
                pipe.flush()
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        code = worker.returncode
        if code < 0:
            return f"the worker was ended by {signal.Signals(-code).name}"
        return f"the worker ended with exit code {code}" if code else ""

    def _sees_folder(self) -> bool:
        try:
            return (self.folder / MARK).read_text(encoding="ascii") == self.mark
        except OSError:
            return False


def open_folder(folder: Path) -> str:
    """Make the folder of the jobs, for its owner only as it holds keys of workers; returns what `MARK` holds."""
    mark = secrets.token_hex(8)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)  # where it was there already
    (folder / MARK).write_text(mark, encoding="ascii")
    return mark


def clear_folder(folder: Path) -> None:
    """Delete what holds keys of workers; logs stay, and the folder where there are some."""
    for pattern in ("*_submitted.pkl", "*_result.pkl", ".submission_file_*", MARK):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


SHARE = "runs (--runs), cache (BLEMORE_CACHE) and data must be on a file system that all machines share"
"""What to do where a job does not see the files of the harness."""


def work() -> None:
    """Read its address from standard input, and work for the harness until it has nothing more to do."""
    # The notice of a time limit is for the job, which puts itself back into the queue.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    life = os.dup(0)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    source = os.fdopen(life, "rb")
    harness, job = pickle.load(source)
    threading.Thread(target=_end_with, args=(source,), name="life of the job", daemon=True).start()
    try:
        connect(harness, job)
    except BlemoreError as error:
        sys.exit(str(error))


def _end_with(source: Any) -> None:
    """Wait until the job's process is gone, then end this one and all that it started."""
    source.read(1)
    os.killpg(0, signal.SIGKILL)


OWN_REMARKS = ("submitit ", "srun:", "the worker ended with exit code")
"""How lines of a log begin that the worker did not print."""


LINE_LENGTH = 5_000
"""Most characters of a line of a log that are told: room for the longest path in a sentence."""


def last_line(log: Path) -> str:
    """Return the last line of a log that says something; the engine's own remarks on how it goes do not count."""
    try:
        lines = read_tail(log)
    except OSError:
        return ""
    said = (line.strip() for line in reversed(lines))
    return next((line for line in said if line and not line.startswith(OWN_REMARKS)), "")[:LINE_LENGTH]
