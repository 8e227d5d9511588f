"""Time and memory of a piece of work, on a CPU or a GPU."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"
"""Value written to /proc/self/clear_refs to reset the peak of the resident memory."""


@dataclass(frozen=True)
class Measured:
    """Clips per second, and peak memory in bytes, of torch on a GPU, else of the process (None if unknown)."""

    rate: float
    peak: int | None


def measure(work: Callable[[], int], device: str) -> Measured:
    """Run a piece of work once, which returns the number of clips."""
    import torch

    on_gpu = device.startswith("cuda")
    free_memory(device)
    known = True
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    else:
        known = reset_resident()
    started = time.perf_counter()
    clips = work()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() if on_gpu else peak_resident() if known else None
    return Measured(clips / seconds, peak)


def free_memory(device: str) -> None:
    """Release unused memory."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def reset_resident() -> bool:
    """Reset the peak of the process's resident memory; False where the system cannot."""
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return False
    return STATUS.exists()


def peak_resident() -> int:
    """Return the peak of the process's resident memory since the reset, in bytes."""
    [line] = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
