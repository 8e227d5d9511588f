"""The record of a run: what was run on what, what came out, what produced it; always on disk, whatever happens."""

from __future__ import annotations

import copy
import importlib.metadata
import platform
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.data.download import Dataset
from blemore_harness.disk import write_atomically, write_json
from blemore_harness.errors import HarnessError, PluginFailed
from blemore_harness.files.leaderboard import write_submission
from blemore_harness.files.runs import RECORD_FILE, RECORD_SCHEMA, FoldResult
from blemore_harness.networks import Device
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.rules import PROTOCOL_VERSION
from blemore_harness.records.caveats import run_caveat
from blemore_harness.scoring.results import SystemPredictions, compare_best, rank_best
from blemore_harness.scoring.test_clips import PredictedLabels
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.resolved import ResolvedSystem
from blemore_harness.systems.submission import Submission

SUBMISSION_FILE = "submission.zip"
TABLE_FILE = "table.txt"
PACKAGES = ("numpy", "torch", "torchvision", "torchaudio", "transformers", "timm", "facenet-pytorch", "google-genai")
"""Packages whose versions the record keeps where they are installed."""


def start_record(
    submission: Submission,
    resolved_systems: Sequence[ResolvedSystem],
    dataset: Dataset,
    command: Sequence[str],
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Make the record of a run that is about to start; `warnings` are those of the view, besides the dataset's."""
    return {
        "schema": RECORD_SCHEMA,
        "status": "started",
        "caveat": run_caveat(resolved_systems, dataset.demo, submission.thresholds, len(dataset.left_out)),
        "submission": {
            "name": submission.name,
            "summary": submission.summary,
            "encoders": list(submission.encoders),
            "fusion": submission.fusion,
            "seed": submission.seed,
            "file": submission.source.name if submission.source else None,
            "thresholds": submission.thresholds,
            "expect": dict(submission.expect),
        },
        "identity": resolved_systems[-1].digest,
        "protocol": PROTOCOL_VERSION,
        "data": {
            "root": str(dataset.root),
            "digest": resolved_systems[-1].identity["data"],
            "demo": dataset.demo,
            "clips": len(dataset.ids),
            "actors": len(set(dataset.actors)),
            "blends": int(dataset.blends.sum()),
            "folds": len(dataset.fold_numbers),
            "fold_source": dataset.fold_source,
            "test_clips": len(dataset.test_ids),
            "left_out": dict(dataset.left_out),
        },
        "execution": {"command": list(command), "started": _now(), "python": platform.python_version()},
        "systems": [],
        "difference": None,
        "test": None,
        "warnings": [*dataset.warnings, *warnings],
        "error": None,
        "_entrants": {e.name: e.describe() for e in resolved_systems},
    }


class Recorder:
    """Writes down what happens to a run, and tells the plugins' notification hooks.

    Args:
        folder: the run's folder.
        record: as of `start_record`.
        plugins: whose hooks are told.
        started: `time.perf_counter()` at the start.
        draw: writes a record as text for people, which is kept as `table.txt`; None keeps the record only.
    """

    def __init__(
        self,
        folder: Path,
        record: dict[str, Any],
        plugins: Plugins,
        started: float,
        draw: Callable[[Mapping[str, Any]], str] | None = None,
    ) -> None:
        self.folder = folder
        self._described = record.pop("_entrants")
        self.record = record
        self._plugins = plugins
        self._started = started
        self._draw = draw
        self._scores: dict[str, Mapping[str, Any]] = {}

    @contextmanager
    def closing(self, device: Device) -> Iterator[None]:
        """Keep the record true around a run: started, then finished, failed or interrupted, whatever is raised."""
        execution = self.record["execution"]
        execution.update(device.describe(), versions=_versions())
        self._tell("blemore_run_started")
        self._save()
        try:
            yield
            failed = any(system["status"] != "finished" for system in self.record["systems"])
            self.record["status"] = "failed" if failed else "finished"
        except KeyboardInterrupt:
            self.record["status"] = "interrupted"
            raise
        except BaseException as error:
            self.record["status"] = "failed"
            self.record["error"] = _describe_error(error)
            raise
        finally:
            execution.update(device.describe())
            execution["finished"] = _now()
            execution["seconds"] = round(time.perf_counter() - self._started, 3)
            # ru_maxrss is in KiB on Linux and in bytes on macOS.
            unit = 1 if sys.platform == "darwin" else 1024
            largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
            execution["peak_memory_bytes"] = largest * unit
            self._tell("blemore_run_finished")
            self._save()

    def tell_fold(
        self, resolved: ResolvedSystem, index: int | None, result: FoldResult, blinded: BlindedDataset
    ) -> None:
        """Tell the plugins of a fold that is safely on disk; ids are the opaque ones."""
        opaque = blinded.opaque
        rows = Probabilities(tuple(opaque[name] for name in result.probabilities.ids), result.probabilities.values)
        facts = {"system": resolved.name, **result.facts, "fold": index}
        self._tell("blemore_fold_finished", result=facts, probabilities=rows)

    def add(
        self,
        resolved: ResolvedSystem,
        scores: Mapping[str, Any],
        rows: SystemPredictions,
        prepared: Mapping[str, Any] | None,
    ) -> None:
        """Add a finished system's row, with what its preparation noted, and compare the two best systems so far."""
        self._scores[resolved.name] = scores
        best = rank_best(self._scores)
        if len(best) > 1 and best != (self.record.get("difference") or {}).get("systems"):
            self.record["difference"] = compare_best(self._scores)
        warnings = [text for facts in rows.facts for text in facts["warnings"]]
        by_fold = {facts["fold"]: facts for facts in rows.facts}
        kept = ("times_asked", "seconds", "warnings")
        folds = [{**fold, **{key: by_fold[fold["fold"]][key] for key in kept}} for fold in scores["folds"]]
        notes = [{"fold": facts["fold"], **facts["notes"]} for facts in rows.facts if facts["notes"]]
        row = {
            **self._described[resolved.name],
            "status": "finished",
            **{key: value for key, value in scores.items() if key != "counts"},
            "folds": folds,
            "times_asked": sum(facts["times_asked"] for facts in rows.facts),
            "seconds": round(sum(facts["seconds"] for facts in rows.facts), 3),
            "notes": notes,
            "warnings": list(dict.fromkeys(warnings)),
        }
        if prepared is not None:
            row["prepared"] = prepared
        self.record["systems"].append(row)

    def fail(self, resolved: ResolvedSystem, error: PluginFailed) -> None:
        """Add the row of a system that failed; the others go on."""
        row = {**self._described[resolved.name], "status": "failed", "error": _describe_error(error)}
        row["error"]["trace"] = error.trace or row["error"]["trace"]
        self.record["systems"].append(row)
        self._save()

    def skip(self, resolved: ResolvedSystem, reason: str) -> None:
        """Add the row of a system that could not be tried."""
        self.record["systems"].append({**self._described[resolved.name], "status": "skipped", "reason": reason})

    def predict(self, resolved: ResolvedSystem, predicted: PredictedLabels) -> None:
        """Write the leaderboard file from a system's labels for the test clips."""
        write_submission(self.folder / SUBMISSION_FILE, predicted.ids, predicted.labels)
        self.record["test"] = {
            "system": resolved.name,
            "clips": len(predicted.ids),
            "strategy": predicted.strategy,
            "why": predicted.why,
            **(asdict(predicted.thresholds) if predicted.thresholds else {}),
            **predicted.facts,
            "file": SUBMISSION_FILE,
        }

    def _tell(self, hook: str, **arguments: object) -> None:
        # A copy: no hook can change what is recorded.
        self.record["warnings"] += self._plugins.tell(hook, record=copy.deepcopy(self.record), **arguments)

    def _save(self) -> None:
        write_json(self.folder / RECORD_FILE, self.record)
        if self._draw is not None:
            write_atomically(self.folder / TABLE_FILE, self._draw(self.record))


def _describe_error(error: BaseException) -> dict[str, Any]:
    known = isinstance(error, HarnessError)
    trace = "" if known else "".join(traceback.format_exception(error))
    return {"type": type(error).__name__, "message": str(error), "trace": trace}


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
