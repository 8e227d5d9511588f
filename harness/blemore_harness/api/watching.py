"""Follows a run that goes on elsewhere, from what it writes into its folder."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from blemore_harness.api.opening import runs_folder
from blemore_harness.api.reporting import LOGGER
from blemore_harness.api.run import Run, load_run

if TYPE_CHECKING:
    from blemore_harness.files.runs import Runs

PAUSE = 1.0
"""Seconds between two looks at a run."""


def watch_run(name: str | Path, *, runs: str | Path | None = None) -> Run:
    """Follow a run that goes on in another process until it has ended: its log lines are logged. Returns the run.

    Args:
        name, runs: as of `load_run`.

    Raises:
        RunError: as of `load_run`.
    """
    from blemore_harness.files.runs import Runs

    folder = find_watched(Runs(runs_folder(runs)), str(name))
    for line in follow_run(folder):
        LOGGER.info("%s", line)
    return load_run(folder)


def find_watched(runs: Runs, name: str) -> Path:
    """Find a run as `Runs.find` does, or by the name of its folder one without a record: after `--detach` it waits."""
    folder = runs.root / name
    waits = re.search("-[0-9a-f]{12}$", name) and folder.is_dir() and not has_begun(folder)
    return folder if waits else runs.find(name)


def has_begun(folder: Path) -> bool:
    """Return whether a run has written its first record since it was last sent to begin elsewhere."""
    from blemore_harness.executors import WAITING_FILE
    from blemore_harness.files.runs import RECORD_FILE

    return (folder / RECORD_FILE).is_file() and not (folder / WAITING_FILE).exists()


def follow_run(folder: Path, pause: float = PAUSE) -> Iterator[str]:
    """Return the lines of a run's log since it was last started, as they are written, until it has ended.

    A run that has not begun is waited for, one that goes back into a queue too. It has ended when its record says so,
    or where no process holds its folder: a killed run writes no record.
    """
    from blemore_harness.files.housekeeping import is_held
    from blemore_harness.files.runs import read_record
    from blemore_harness.running.run_log import LOG_FILE

    path = folder / LOG_FILE
    read = None
    while not has_begun(folder):
        time.sleep(pause)
    while True:
        over = has_begun(folder) and (read_record(folder).status != "started" or not is_held(folder))
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        if read is None:
            starts = [number for number, line in enumerate(lines) if line[20:].startswith("started:")]
            read = starts[-1] if starts else 0
        whole = [line for line in lines[read:] if line.endswith("\n")]
        yield from (line.rstrip("\n") for line in whole)
        read += len(whole)
        if over:
            return
        time.sleep(pause)
