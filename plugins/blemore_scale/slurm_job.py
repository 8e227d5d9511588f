"""What a Slurm job does: start a worker, and go back into the queue when its time is over."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from submitit.core.utils import DelayedSubmission

from blemore_scale.launch import Launch


@dataclass(frozen=True)
class Job:
    """Called by submitit in the job."""

    launch: Launch

    def __call__(self) -> None:
        """Start the worker and wait for it; the job fails with its words where it failed."""
        array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        failed = self.launch.run(f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", ""))
        if failed:
            print(failed, file=sys.stderr, flush=True)  # noqa: T201
            # Not an exception, whose traceback would be the last word of the log.
            os._exit(1)

    def checkpoint(self) -> DelayedSubmission:
        """Return what the job does after it went back into the queue: the same, the harness knows what is done."""
        return DelayedSubmission(self)
