"""Time and memory of a piece of work, on a CPU or a GPU."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"
"""What Linux takes for: let the peak of the resident memory begin anew."""


@dataclass(frozen=True)
class Measured:
    """Clips a second; and the peak in bytes, of torch's memory on a GPU, else of the process (None: cannot be told)."""

    rate: float
    peak: int | None


def measure(work: Callable[[], int], device: str) -> Measured:
    """Do a piece of work once, which says how many clips it did."""
    on_gpu = device.startswith("cuda")
    free_memory(device)
    known = True
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    else:
        known = _reset_resident()
    started = time.perf_counter()
    clips = work()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() if on_gpu else _peak_resident() if known else None
    return Measured(clips / seconds, peak)


def free_memory(device: str) -> None:
    """Return back what nobody holds."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def _reset_resident() -> bool:
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return False
    return STATUS.exists()


def _peak_resident() -> int:
    [line] = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
