"""A run of a Trackio project, on this machine unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says otherwise."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blemore_harness.hookspecs import RunStarted
from blemore_harness.record.folds import Curve
from blemore_harness.record.types import Record
from blemore_trackers.facts import list_caveats, list_parameters, list_tags

PROJECT = "blemore"


class Client:
    """Keeps the configuration, metrics, the table as text, and files as artifacts."""

    def __init__(self, started: RunStarted) -> None:
        import trackio

        self._trackio: Any = trackio
        with _quiet():
            self._run: Any = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", PROJECT),
                # Every start is a run of its own, and runs of one name are told apart by their time.
                name=f"{started.folder.name} {started.record.execution.started}",
                config={**list_parameters(started), **list_caveats(started), **list_tags(started)},
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

    def log_fold(self, fold: int | None, metrics: Mapping[str, float]) -> None:
        """Keep numbers, with the fold as the step; those of the final fit under names of their own."""
        if fold is None:
            metrics = {name.replace("/fold/", "/final fit/"): value for name, value in metrics.items()}
        self._run.log(dict(metrics), step=fold or 0)

    def log_curve(self, system: str, curve: Curve) -> None:
        """Keep a training curve, with the epoch as the step."""
        part = "final fit" if curve.fold is None else f"fold {curve.fold}"
        for epoch, value in zip(curve.epochs, curve.values, strict=True):
            self._run.log({f"{system}/{curve.name}/{part}": value}, step=int(epoch))

    def finish(self, record: Record, metrics: Mapping[str, float], table: str) -> None:
        """Keep the final numbers and the table."""
        self._run.log({**metrics, "table": self._trackio.Markdown(f"```text\n{table}\n```")}, step=0)

    def keep_files(self, files: Sequence[Path]) -> None:
        """Keep files as artifacts."""
        for file in files:
            self._run.log_artifact(file, name=file.name, type="results")

    def close(self, status: str) -> None:
        """End the run."""
        self._run.log({"status": status}, step=0)
        with _quiet():
            self._trackio.finish()


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """Keep what Trackio prints about its dashboard from the user's terminal."""
    return contextlib.redirect_stdout(io.StringIO())
