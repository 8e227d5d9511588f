"""A run of an MLflow experiment, where MLFLOW_TRACKING_URI says; else in `mlflow.db` of the working folder."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blemore_harness.hookspecs import RunStarted
from blemore_harness.record.folds import Curve
from blemore_harness.record.types import Record
from blemore_trackers.facts import list_caveats, list_parameters, list_tags

EXPERIMENT = "blemore"

BATCH = 500
"""Metrics sent at once; MLflow takes at most 1000."""

STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class Client:
    """Keeps parameters, tags, metrics and artifacts; it leaves the active run of the process, if any, alone."""

    def __init__(self, started: RunStarted) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # both are read when it is imported
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        tags = {"mlflow.source.name": "blemore-harness", **list_caveats(started), **list_tags(started)}
        run = self._client.create_run(
            experiment, run_name=started.folder.name, tags={_key(key): value for key, value in tags.items()}
        )
        self._run: str = run.info.run_id
        parameters = [Param(_key(key), str(value)) for key, value in list_parameters(started).items()]
        for start in range(0, len(parameters), 100):
            self._client.log_batch(self._run, params=parameters[start : start + 100])

    def log_fold(self, fold: int | None, metrics: Mapping[str, float]) -> None:
        """Keep numbers, with the fold as the step; those of the final fit under names of their own."""
        names = {name if fold is not None else name.replace("/fold/", "/final fit/"): v for name, v in metrics.items()}
        self._log([(name, value, fold or 0) for name, value in names.items()])

    def log_curve(self, system: str, curve: Curve) -> None:
        """Keep a training curve, with the epoch as the step."""
        part = "final fit" if curve.fold is None else f"fold {curve.fold}"
        points = zip(curve.epochs, curve.values, strict=True)
        self._log([(f"{system}/{curve.name}/{part}", value, int(epoch)) for epoch, value in points])

    def finish(self, record: Record, metrics: Mapping[str, float], table: str) -> None:
        """Keep the final numbers; the table is among the files."""
        self._log([(name, value, 0) for name, value in metrics.items()])

    def keep_files(self, files: Sequence[Path]) -> None:
        """Keep files as artifacts."""
        for file in files:
            self._client.log_artifact(self._run, str(file))

    def close(self, status: str) -> None:
        """End the run."""
        self._client.set_terminated(self._run, STATUS[status])

    def _log(self, points: Sequence[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics: list[Any] = [Metric(_key(name), value, now, step) for name, value, step in points]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(self._run, metrics=metrics[start : start + BATCH])


def _key(name: str) -> str:
    """Return a name that MLflow takes: `a+b` and `a@v` are none.

    >>> _key("wavlm+imagebind/fold/score")
    'wavlm_imagebind/fold/score'
    """
    return re.sub(r"[^\w\-. :/]", "_", name)
