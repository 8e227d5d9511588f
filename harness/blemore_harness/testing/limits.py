"""Checks of what a system leaves alone: its inputs, the disk, the network, the process; and of the GPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from blemore_harness.networks import resolve_device
from blemore_harness.testing.trials import Trials
from blemore_harness.testing.verdicts import Broken, NotApplicable

GPU_MEAN = 0.05
"""How far probabilities of a GPU may be from those of a CPU on average: it rounds otherwise, at every step."""


def check_inputs(bench: Trials) -> None:
    """Compare arrays and files with what they were before anything was called."""
    bench.settled()
    changed = bench.changed_inputs()
    if changed:
        raise Broken(f"what it was given was changed: {_few(changed)}; work on copies")


def check_writes(bench: Trials) -> None:
    """Look at what was written while it was called."""
    bench.settled()
    if bench.findings.written:
        raise Broken(
            f"it wrote outside its workspace and the cache: {_few(bench.findings.written)}; keep per-clip arrays in "
            "`context.cache`, files of a fold in `context.workspace`, remove temporary files, and say things with "
            "`context.log`: stdout is the answer of a command"
        )


def check_offline(bench: Trials) -> None:
    """Look at the addresses that it asked for."""
    bench.settled()
    if bench.findings.asked:
        raise Broken(
            f"it asked for the network: {_few(bench.findings.asked)}; only `prepare` may, and here it should not need "
            "to (a small untrained network in `demo_options`), or say that it does"
        )


def check_state(bench: Trials) -> None:
    """Compare global state before and after each call, but for those that load packages."""
    bench.settled()
    if bench.findings.changed:
        raise Broken(
            f"it changed what the whole process shares: {_few(bench.findings.changed)}; use generators of your own, "
            "`networks.seeded` and `networks.fitting_threads`, and put things back"
        )


def check_gpu(bench: Trials) -> None:
    """Do everything on a GPU and compare with the CPU."""
    if "torch" not in sys.modules:
        bench.first()
    if "torch" not in sys.modules:
        raise NotApplicable("it does not use torch")
    if resolve_device("auto") != "cuda":
        raise NotApplicable("torch sees no GPU here")
    trial = bench.once("gpu", lambda: bench.run("gpu", bench.fold, device="cuda"))
    apart = float(np.abs(trial.rows - bench.first().rows).mean())
    if apart > GPU_MEAN:
        raise Broken(f"rows on a GPU are {apart:.2g} from those on the CPU on average, expected at most {GPU_MEAN}")


def _few(found: Sequence[str]) -> str:
    """Name the first three of them, each once."""
    names = list(dict.fromkeys(found))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
