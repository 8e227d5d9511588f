"""Checks of keys and disks."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from blemore_harness.disk import cache_root
from blemore_harness.errors import printable

BYTES_PER_CLIP = 16_000_000
"""Room in the cache for the shared frames of a clip (`frames.py`: 150 GB of frames take a third to a seventh), with
the features of several encoders beside them."""

LOW_DISK = 1_000_000_000

Verdict = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        what: what was checked.
        verdict: `problem` where the run could not work.
        found: what is there.
        todo: what to do; empty where nothing is.
    """

    what: str
    verdict: Verdict
    found: str
    todo: str = ""

    def row(self) -> dict[str, str]:
        """Return it as a row of a table, one line a cell."""
        return {key: printable(value) for key, value in asdict(self).items()}


def look_at_keys(keys: Sequence[str]) -> Finding:
    """Report which of the variables that hold keys are set, and no more of them."""
    said = {"set": [name for name in keys if os.environ.get(name)]}
    said["not set"] = [name for name in keys if name not in said["set"]]
    found = "; ".join(f"{', '.join(names)} {word}" for word, names in said.items() if names)
    return Finding("keys", "ok", found or "none is needed")


def look_at_disks(clips: int, runs: Path) -> Iterator[Finding]:
    """Report what is free where things are written, and how much a run on so many clips may need there."""
    cache, need = cache_root(), clips * BYTES_PER_CLIP
    used = f", {size_of(bytes_below(cache))} in it" + (f", about {size_of(need)} may be needed" if need else "")
    for what, place in (("runs", runs), ("cache", cache), ("tmp", Path(tempfile.gettempdir()))):
        whole = place.absolute()
        home = next(folder for folder in (whole, *whole.parents) if folder.exists())
        free = shutil.disk_usage(home).free
        found = f"{place}: {size_of(free)} free" + (used if what == "cache" else "")
        if not os.access(home, os.W_OK):
            todo = "name another folder (--runs, BLEMORE_CACHE, TMPDIR)"
            yield Finding(what, "problem", f"{found}, not writable", todo)
        elif free < max(LOW_DISK, need if what == "cache" else 0):
            verdict: Verdict = "problem" if free < LOW_DISK else "warning"
            yield Finding(what, verdict, found, "make room, or set BLEMORE_FRAMES_GB to less than 40")
        else:
            yield Finding(what, "ok", found)


def bytes_below(folder: Path) -> int:
    """Return the size of all files below a folder."""
    total = 0
    for home, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(home, name)).st_size  # noqa: PTH118
            except OSError:
                continue  # just removed by another process
    return total


def size_of(count: float) -> str:
    """Write a number of bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"
