"""What a Slurm job does: start a worker, and go back into the queue when its time is over."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blemore_scale.launch import Launch

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission


@dataclass(frozen=True)
class Job:
    """Called by submitit in the job."""

    launch: Launch

    def __call__(self) -> None:
        """Start the worker and wait for it; the job fails with its words where it failed."""
        from submitit import JobEnvironment

        failed = self.launch.run(JobEnvironment().job_id)
        if failed:
            print(failed, file=sys.stderr, flush=True)  # noqa: T201
            # Not an exception, whose traceback would be the last word of the log.
            os._exit(1)

    def checkpoint(self) -> DelayedSubmission:
        """Return what the job does after it went back into the queue: the same, the harness knows what is done."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(self)
