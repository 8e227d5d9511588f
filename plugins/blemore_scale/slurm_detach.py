"""The harness itself as a small Slurm job, which sends the others and outlives the shell that it was started from."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from blemore_harness.disk import write_atomically
from blemore_harness.errors import BlemoreError, RunError
from blemore_harness.executors import WAITING_FILE
from blemore_scale.slurm_commands import Queue, ask

JOB_FILE = "harness-job"
"""File of the run's folder with the number of the job."""

SCRIPT = """#!/bin/bash
export PYTHONPATH={paths}
{setup}
{command} &
harness=$!
# Near its time limit the harness ends as on Ctrl-C, and goes back into the queue, from where it continues.
waits={waits}
trap 'touch "$waits"; kill -TERM $harness; wait $harness; scontrol requeue $SLURM_JOB_ID || rm "$waits"' USR1
trap 'kill -TERM $harness; wait $harness' TERM
wait $harness
"""


def detach(words: Sequence[str], folder: Path, flags: Sequence[str], setup: str) -> str:
    """Send a job that gives a command of the harness; returns what the user may want to know.

    Args:
        words: the command, without the program.
        folder: of the run.
        flags: of sbatch.
        setup: lines of the shell before it, separated by semicolons.

    Raises:
        BlemoreError: Slurm refused it.
    """
    file = folder / JOB_FILE
    running = _find_running(file)
    if running:
        return f"this run is at work already, as Slurm job {running}\n" + _advice(folder, running)
    script = folder / "harness.sh"
    waits = folder / WAITING_FILE
    script.write_text(
        SCRIPT.format(
            paths=shlex.quote(os.pathsep.join(filter(None, sys.path))),
            setup="\n".join(line.strip() for line in setup.split(";")),
            command=shlex.join([sys.executable, "-m", "blemore_harness", *words]),
            waits=shlex.quote(str(waits)),
        )
    )
    waits.touch()
    sent = ask(
        "sbatch", "--parsable", "--requeue", "--open-mode=append", "--signal=B:USR1@120", "--job-name=blemore-harness",
        f"--output={folder / 'harness.log'}", *flags, str(script),
    )  # fmt: skip
    if sent.returncode:
        waits.unlink(missing_ok=True)
        what = re.sub(r"^sbatch: error: ", "", (sent.stderr.strip().splitlines() or ["no answer"])[-1])
        raise BlemoreError(f"--detach: Slurm refused the job of the harness: {what}")
    job = sent.stdout.strip().partition(";")[0]
    write_atomically(file, job)
    return f"the run is Slurm job {job}\n" + _advice(folder, job)


def _find_running(file: Path) -> str:
    """Return the job that carries the run out, empty where there is none."""
    try:
        job = file.read_text().strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from error
    queue = Queue()
    queue.add([job])
    return "" if queue.state(job).plain == "ended" else job


def _advice(folder: Path, job: str) -> str:
    return (
        f"follow it: blemore-harness runs watch {folder.name} (log: {folder / 'harness.log'})\n"
        f"end it: scancel {job}; the same command continues it"
    )
