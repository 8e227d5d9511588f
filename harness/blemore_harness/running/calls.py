"""What stands between the harness and a plugin during a call: what it says is kept, what it raises is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from blemore_harness.context import Progress, Reporter
from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.errors import MediaError, PluginFailed, RunError, advise, is_disk_trouble
from blemore_harness.files.runs import SystemFolder
from blemore_harness.systems.failures import Crash, Lost
from blemore_harness.systems.resolved import ResolvedSystem


@dataclass
class Notebook:
    """Keeps what a plugin says for the record, and says it to the user, with real clip names."""

    reporter: Reporter
    translate: Callable[[str], str]
    notes: dict[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    asked: int = 0

    def log(self, message: str) -> None:
        """Report one line."""
        self.reporter.log(self.translate(message))

    def warn(self, message: str) -> None:
        """Report and keep one line."""
        self.warnings.append(self.translate(message))
        self.reporter.warn(self.warnings[-1])

    def note(self, name: str, value: object) -> None:
        """Keep a fact."""
        self.notes[name] = json.loads(self.translate(json.dumps(value)))


class PluginReporter:
    """The reporting side as a plugin holds it: a way to the desk, none to labels or real names."""

    def __init__(self, ask: Callable[..., Any], reporter: Reporter, part: str) -> None:
        self._open_bar, self._part = reporter.progress, part
        self.log = partial(ask, "log")
        self.warn = partial(ask, "warn")
        self.note = partial(ask, "note")

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Open a bar that says which fold it is for."""
        return self._open_bar(f"{label} ({self._part})", total)


@contextmanager
def guard(
    resolved: ResolvedSystem, blinded: BlindedDataset, part: str, folder: SystemFolder, stop_at_bad_clips: bool = False
) -> Iterator[None]:
    """Turn the `Crash` of a plugin into an error that names it, with real clip names; write its traceback down.

    What the harness itself raises in the block passes: it is nobody else's failure.

    Args:
        part: what is done: a fold, or a step such as `prepare`.
        folder: gets the traceback.
        stop_at_bad_clips: raise `MediaError`, which ends the run, for a clip that the plugin cannot use.

    Raises:
        PluginFailed: the plugin raised, broke its contract or was lost.
        RunError: a disk is full.
    """
    folder.traceback(part).unlink(missing_ok=True)
    try:
        yield
    except Crash as crash:
        if stop_at_bad_clips and crash.clip in blinded.real:
            raise MediaError(blinded.translate(f"{resolved.name}{crash.what}"), crash.clip) from crash
        raise name_failure(crash, resolved, blinded, part, folder) from crash
    except OSError as error:
        if is_disk_trouble(error):
            raise RunError(f"{resolved.name} ({part}): {blinded.translate(advise(error))}") from error
        raise


def name_failure(
    crash: Crash, resolved: ResolvedSystem, blinded: BlindedDataset, part: str, folder: SystemFolder
) -> PluginFailed:
    """Name who failed, where and why, with real clip names, and write the traceback into the system's folder."""
    what, trace = blinded.translate(f"{resolved.name} ({part}){crash.what}"), blinded.translate(crash.trace)
    if crash.clip in blinded.real:
        what += "; run --skip-bad-clips leaves it out for every system"
    if not isinstance(crash, Lost) and crash.trace:
        at = f"at {crash.place}; " if crash.place else ""
        what += f" ({at}traceback: {folder.keep_traceback(part, trace)})"
    return PluginFailed(what, resolved.name, trace)
