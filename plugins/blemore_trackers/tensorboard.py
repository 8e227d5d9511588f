"""Event files for TensorBoard, in `tensorboard/` of the run's folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blemore_harness.hookspecs import RunStarted
from blemore_harness.record.folds import Curve
from blemore_harness.record.types import Record
from blemore_trackers.facts import list_caveats, list_parameters, list_tags

FOLDER = "tensorboard"


class Client:
    """Writes one series of event files for every system, and one for the curves of each of its folds.

    So `tensorboard --logdir blemore-runs` draws systems, folds and runs over each other. The files of an earlier start
    of the same run are replaced: finished folds are told again.
    """

    def __init__(self, started: RunStarted) -> None:
        self._root = started.folder / FOLDER
        self._writers: dict[Path, Any] = {}
        self._parameters = list_parameters(started)
        shutil.rmtree(self._root, ignore_errors=True)
        facts = {**list_caveats(started), **self._parameters, **list_tags(started)}
        rows = [f"| {key} | {str(value).replace('|', '/')} |" for key, value in facts.items()]
        self._write_text("run", "\n".join(["| fact | value |", "|---|---|", *rows]))

    def log_fold(self, fold: int | None, metrics: Mapping[str, float]) -> None:
        """Keep numbers, with the fold as the step; those of the final fit under names of their own."""
        for name, value in metrics.items():
            system, _, rest = name.partition("/")
            tag = rest if fold is not None else rest.replace("fold/", "final fit/")
            self._write_scalar(system, tag, value, fold or 0)

    def log_curve(self, system: str, curve: Curve) -> None:
        """Keep a training curve, with the epoch as the step."""
        part = "final fit" if curve.fold is None else f"fold {curve.fold}"
        for epoch, value in zip(curve.epochs, curve.values, strict=True):
            self._write_scalar(f"{system}/{part}", curve.name, value, int(epoch))

    def finish(self, record: Record, metrics: Mapping[str, float], table: str) -> None:
        """Keep final numbers, parameters beside them, and the table."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        for name, value in metrics.items():
            system, _, measure = name.partition("/")
            self._write_scalar(system, measure, value, 0)
        for scored in record.finished:
            trial = f"{self._root.parent.name}/{scored.name}"
            self._add(scored.name, hparams_pb(self._parameters, trial_id=trial))
        self._write_text("table", "\n".join(f"    {line}" for line in table.splitlines()))  # as it stands

    def keep_files(self, files: Sequence[Path]) -> None:
        """Do nothing: they stand beside the event files, and TensorBoard keeps none."""

    def close(self, status: str) -> None:
        """Write the status, and close the files."""
        self._write_text("status", status)
        for writer in self._writers.values():
            writer.close()

    def _write_scalar(self, place: str, tag: str, value: float, step: int) -> None:
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        self._add(place, scalar_pb(tag, value), step)

    def _write_text(self, tag: str, text: str) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add("", text_pb(tag, text))

    def _add(self, place: str, summary: Any, step: int = 0) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = self._root / place
        if folder not in self._writers:
            self._writers[folder] = EventFileWriter(str(folder))
        self._writers[folder].add_event(Event(wall_time=time.time(), step=step, summary=summary))
