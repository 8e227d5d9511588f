"""A run of a Weights & Biases project: offline, unless the user has set WANDB_MODE or a key."""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blemore_harness.hookspecs import RunStarted
from blemore_harness.record.folds import Curve
from blemore_harness.record.types import Record
from blemore_trackers.facts import list_caveats, list_parameters, list_tags

PROJECT = "blemore"

TAG_LENGTH = 64
"""Characters that a tag may have."""


class Client:
    """Keeps the configuration, tags, metrics with axes of their own, a table, and files as an artifact."""

    def __init__(self, started: RunStarted) -> None:
        offline = not _is_set_up()
        if offline:
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is imported
        import wandb

        caveats = list_caveats(started)
        self._wandb: Any = wandb
        self._name = started.folder.name
        self._files: list[Path] = []
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=self._name,
            config={**list_parameters(started), **caveats, **list_tags(started)},
            tags=sorted({text[:TAG_LENGTH] for text in caveats.values()}),
            mode="offline" if offline else None,
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, save_code=False, disable_git=True),
        )

    def log_fold(self, fold: int | None, metrics: Mapping[str, float]) -> None:
        """Keep numbers over folds; those of the final fit in the summary."""
        if fold is None:
            self._run.summary.update({name.replace("/fold/", "/final fit/"): v for name, v in metrics.items()})
            return
        self._log_over("fold", fold, metrics)

    def log_curve(self, system: str, curve: Curve) -> None:
        """Keep a training curve over epochs."""
        part = "final fit" if curve.fold is None else f"fold {curve.fold}"
        for epoch, value in zip(curve.epochs, curve.values, strict=True):
            self._log_over("epoch", epoch, {f"{system}/{curve.name}/{part}": value})

    def finish(self, record: Record, metrics: Mapping[str, float], table: str) -> None:
        """Keep the final numbers in the summary, and as a table."""
        self._run.summary.update(dict(metrics))
        measures = sorted({name.partition("/")[2] for name in metrics})
        rows = [[s.name, *(metrics.get(f"{s.name}/{measure}") for measure in measures)] for s in record.finished]
        if rows:
            self._run.log({"results": self._wandb.Table(["system", *measures], rows)})

    def keep_files(self, files: Sequence[Path]) -> None:
        """Keep files as one artifact; they are copied at once."""
        artifact = self._wandb.Artifact(re.sub(r"[^\w\-.]", "_", self._name)[:128], "results")
        for file in files:
            artifact.add_file(str(file), policy="mutable")
        self._run.log_artifact(artifact)

    def close(self, status: str) -> None:
        """End the run."""
        self._run.finish(exit_code=0 if status == "finished" else 1)

    def _log_over(self, axis: str, place: float, metrics: Mapping[str, float]) -> None:
        for name in metrics:
            self._run.define_metric(name, step_metric=axis)
        self._run.log({axis: place, **metrics})


def _is_set_up(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the user has told wandb where runs go, or has logged in."""
    if environment.get("WANDB_MODE") or environment.get("WANDB_API_KEY"):
        return True
    host = re.sub(r"^https?://", "", environment.get("WANDB_BASE_URL", "https://api.wandb.ai")).partition("/")[0]
    try:
        return netrc.netrc(environment.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
