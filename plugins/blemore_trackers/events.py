"""Turns the events of a run into what every tracker can keep."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from blemore_harness.hookspecs import FoldFinished, RunFinished, RunStarted, hookimpl
from blemore_harness.record.folds import Curve
from blemore_harness.record.types import Record
from blemore_trackers.facts import collect_files, final_metrics, fold_metrics, numbers_of, read_table


class Client(Protocol):
    """A run as a tracker keeps it; it is made with the event that the run started with."""

    def log_fold(self, fold: int | None, metrics: Mapping[str, float]) -> None:
        """Keep numbers of a fold, or of the final fit (None)."""

    def log_curve(self, system: str, curve: Curve) -> None:
        """Keep a training curve."""

    def finish(self, record: Record, metrics: Mapping[str, float], table: str) -> None:
        """Keep the final numbers, and the table of results as text."""

    def keep_files(self, files: Sequence[Path]) -> None:
        """Keep files."""

    def close(self, status: str) -> None:
        """End the run: it is finished, failed or interrupted."""


class Listener:
    """The hooks of a tracker.

    Args:
        open_client: makes the client of a run that starts.
    """

    def __init__(self, open_client: Callable[[RunStarted], Client]) -> None:
        self._open = open_client
        self._client: Client | None = None

    @hookimpl
    def blemore_run_started(self, event: RunStarted) -> None:
        """Open a run at the tracker."""
        self._client = None
        self._client = self._open(event)

    @hookimpl
    def blemore_fold_finished(self, event: FoldFinished) -> None:
        """Pass on times, notes and training curves; scores are known when all folds are done."""
        if self._client is None:  # it could not be opened, which was said
            return
        numbers = {**numbers_of(event.notes), "seconds": event.seconds, "times_asked": float(event.times_asked)}
        self._client.log_fold(event.fold, {f"{event.system}/fold/{name}": value for name, value in numbers.items()})
        for curve in event.curves:
            self._client.log_curve(event.system, curve)

    @hookimpl
    def blemore_run_finished(self, event: RunFinished) -> None:
        """Pass on the results, and close the run whatever happens."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            for fold, metrics in fold_metrics(event.record):
                client.log_fold(fold, metrics)
            client.finish(event.record, final_metrics(event.record), read_table(event.folder))
            with tempfile.TemporaryDirectory() as place:
                client.keep_files(collect_files(event.folder, event.record, Path(place)))
        finally:
            client.close(event.record.status)
