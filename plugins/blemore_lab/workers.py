"""Runs replicates in this process or in several, always the same ones in the same order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial

from blemore_harness.errors import BlemoreError, PluginFailed
from blemore_harness.processes import open_pool
from blemore_lab.replicates import ReplicateResult

Run = Callable[[int], ReplicateResult]


@dataclass(frozen=True)
class Failure:
    """A plugin's failure on its way from one process to another."""

    message: str
    plugin: str


def run_all(run: Run, numbers: Sequence[int], workers: int) -> Iterator[ReplicateResult]:
    """Run the replicates of some numbers and give their results in order.

    Args:
        run: computes the replicate of a number; with several workers, a function that another process can be sent.
        numbers: of the replicates.
        workers: processes; 1 computes here.

    Raises:
        PluginFailed: a fusion that crashed.
        BlemoreError: a process that was ended from outside.
    """
    if min(workers, len(numbers)) <= 1:
        yield from map(run, numbers)
        return
    with open_pool(min(workers, len(numbers)), _leave_interrupts_to_parent) as pool:
        try:
            for result in pool.map(partial(_run_elsewhere, run), numbers):
                if isinstance(result, Failure):
                    raise PluginFailed(result.message, result.plugin)
                yield result
        except BrokenProcessPool as error:
            raise BlemoreError("a process of the simulation was ended, perhaps for want of memory") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _run_elsewhere(run: Run, number: int) -> ReplicateResult | Failure:
    try:
        return run(number)
    except PluginFailed as error:  # has more arguments than travel with an exception
        return Failure(str(error), error.plugin)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
