"""The record of a run while it is made: always on disk, whatever happens; notification hooks are told of it."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.data.download import Dataset
from blemore_harness.disk import write_atomically, write_json
from blemore_harness.errors import HarnessError, PluginFailed
from blemore_harness.executors import WAITING_FILE
from blemore_harness.files.leaderboard import write_submission
from blemore_harness.files.runs import RECORD_FILE, FoldResult
from blemore_harness.hookspecs import FoldFinished, RunFinished, RunStarted
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.rules import PROTOCOL_VERSION
from blemore_harness.record.folds import Place
from blemore_harness.record.scores import FoldRecord
from blemore_harness.record.types import (
    CardFacts,
    DataFacts,
    Error,
    Execution,
    ExtraFacts,
    FailedSystem,
    FinishedSystem,
    PluginFacts,
    Prepared,
    Record,
    SkippedSystem,
    SubmissionFacts,
    SystemFacts,
    SystemRecord,
    TestLabels,
)
from blemore_harness.scoring.caveats import run_caveat
from blemore_harness.scoring.results import ScoredSystem, SystemPredictions, compare_best
from blemore_harness.scoring.test_clips import PredictedLabels
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.resolved import ResolvedSystem
from blemore_harness.systems.submission import Submission

SUBMISSION_FILE = "submission.zip"
TABLE_FILE = "table.txt"
PACKAGES = (
    "numpy", "scipy", "av", "pillow", "torch", "torchvision", "torchaudio", "transformers", "timm", "facenet-pytorch",
    "google-genai",
)  # fmt: skip
"""Packages whose versions the record keeps where they are installed."""


def start_record(
    submission: Submission,
    resolved_systems: Sequence[ResolvedSystem],
    dataset: Dataset,
    command: Sequence[str],
    warnings: Sequence[str] = (),
    seeds: Mapping[str, str] | None = None,
) -> Record:
    """Make the record of a run that is about to start.

    Args:
        warnings: those of the blinded dataset, besides the dataset's own.
        seeds: configuration hashes of the run's group, by seed.
    """
    return Record(
        caveat=run_caveat(
            resolved_systems,
            dataset.demo,
            submission.thresholds,
            len(dataset.left_out),
            submission.tuned,
            dataset.corpus,
            [each.corpus for each in dataset.extra],
        ),
        submission=SubmissionFacts(
            name=submission.name,
            summary=submission.summary,
            encoders=tuple(submission.encoders),
            fusion=submission.fusion,
            seed=submission.seed,
            file=submission.source.name if submission.source else None,
            thresholds=submission.thresholds,
            expect={} if dataset.corpus else dict(submission.expect),  # of BLEMORE
            tuned=submission.tuned,
        ),
        identity=resolved_systems[-1].digest,
        protocol=PROTOCOL_VERSION,
        data=_describe_data(dataset, resolved_systems[-1].identity),
        execution=Execution(tuple(command), _now(), platform.python_version()),
        warnings=(
            *dataset.warnings,
            *(f"--extra-train {each.corpus}: {text}" for each in dataset.extra for text in each.warnings),
            *warnings,
        ),
        seeds=dict(seeds or {}),
    )


def _describe_data(dataset: Dataset, identity: Mapping[str, Any]) -> DataFacts:
    return DataFacts(
        root=str(dataset.root),
        digest=str(identity["data"]),
        demo=dataset.demo,
        clips=len(dataset.ids),
        actors=len(set(dataset.actors)),
        blends=int(dataset.blends.sum()),
        folds=len(dataset.fold_numbers),
        fold_source=dataset.fold_source,
        test_clips=len(dataset.test_ids),
        left_out=dict(dataset.left_out),
        corpus=dataset.corpus,
        extra=tuple(
            ExtraFacts(
                each.corpus,
                str(each.root),
                identity["extra"][each.corpus],
                len(each.ids),
                len(set(each.actors)),
                dict(each.left_out),
            )
            for each in dataset.extra
        ),
    )


class Recorder:
    """Writes down what happens to a run, and tells the plugins' notification hooks.

    Attributes:
        record: as it stands now.

    Args:
        folder: the run's folder.
        record: as of `start_record`.
        plugins: whose hooks are told.
        started: `time.perf_counter()` at the start.
        draw: writes a record as text for people, which is kept as `table.txt`; None keeps the record only.
        systems: that are about to be evaluated.
    """

    def __init__(
        self, folder: Path, record: Record, plugins: Plugins, started: float,
        draw: Callable[[Record], str] | None = None, systems: Sequence[ResolvedSystem] = (),
    ) -> None:  # fmt: skip
        self.folder = folder
        self.record = record
        self._plugins = plugins
        self._started = started
        self._draw = draw
        self._systems = tuple(systems)
        self._scores: dict[str, ScoredSystem] = {}

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Keep the record true around a run: started, then finished, failed or interrupted, whatever is raised."""
        self._update_execution(versions=_versions())
        facts = tuple(SystemFacts(**_describe_system(resolved)) for resolved in self._systems)
        self._tell("blemore_run_started", RunStarted(self.folder, self.record, facts))
        self._save()
        (self.folder / WAITING_FILE).unlink(missing_ok=True)
        try:
            yield
            failed = len(self.record.finished) < len(self.record.systems)
            self.record = replace(self.record, status="failed" if failed else "finished")
        except KeyboardInterrupt:
            self.record = replace(self.record, status="interrupted")
            raise
        except BaseException as error:
            self.record = replace(self.record, status="failed", error=_describe_error(error))
            raise
        finally:
            self.record = replace(self.record, difference=compare_best(self._scores))
            self._update_execution(
                finished=_now(),
                seconds=round(time.perf_counter() - self._started, 3),
                peak_memory_bytes=_peak_memory(),
            )
            self._save()  # who is told may read it
            self._tell("blemore_run_finished", RunFinished(self.folder, self.record))
            self._save()

    def warn(self, *texts: str) -> None:
        """Keep warnings about the run."""
        self.record = replace(self.record, warnings=(*self.record.warnings, *texts))

    def tell_fold(
        self, resolved: ResolvedSystem, index: int | None, result: FoldResult, blinded: BlindedDataset
    ) -> None:
        """Tell the plugins of a fold that is safely on disk; ids are the opaque ones."""
        opaque, facts = blinded.opaque, result.facts
        where = facts.get("computed_on", {})
        self._update_execution(**{name: where[name] for name in ("device", "gpu") if name in where})
        rows = Probabilities(tuple(opaque[name] for name in result.probabilities.ids), result.probabilities.values)
        self._tell(
            "blemore_fold_finished",
            FoldFinished(
                folder=self.folder,
                record=self.record,
                system=resolved.name,
                fold=index,
                seconds=facts["seconds"],
                times_asked=facts["times_asked"],
                notes=facts["notes"],
                warnings=tuple(facts["warnings"]),
                probabilities=rows,
            ),
        )

    def add(
        self,
        resolved: ResolvedSystem,
        scores: ScoredSystem,
        rows: SystemPredictions,
        prepared: Mapping[str, Any] | None,
    ) -> None:
        """Add a finished system, with what its preparation noted."""
        self._scores[resolved.name] = scores
        by_fold = {facts["fold"]: facts for facts in rows.facts}
        folds = (
            FoldRecord(
                **vars(fold),
                times_asked=by_fold[fold.fold]["times_asked"],
                seconds=by_fold[fold.fold]["seconds"],
                warnings=tuple(by_fold[fold.fold]["warnings"]),
            )
            for fold in scores.folds
        )
        self._append(
            FinishedSystem(
                **_describe_system(resolved),
                official=scores.official,
                cross_fitted=scores.cross_fitted,
                intervals=scores.intervals,
                sensitivity=scores.sensitivity,
                strategies=scores.strategies,
                folds=tuple(folds),
                times_asked=sum(facts["times_asked"] for facts in rows.facts),
                seconds=round(sum(facts["seconds"] for facts in rows.facts), 3),
                notes=tuple({"fold": facts["fold"], **facts["notes"]} for facts in rows.facts if facts["notes"]),
                warnings=tuple(dict.fromkeys(text for facts in rows.facts for text in facts["warnings"])),
                prepared=None
                if prepared is None
                else Prepared(prepared["notes"], tuple(prepared["warnings"]), prepared["seconds"]),
                places=tuple(Place(facts["fold"], **facts.get("computed_on", {})) for facts in rows.facts),
            )
        )

    def fail(self, resolved: ResolvedSystem, error: PluginFailed) -> None:
        """Add a system that failed; the others continue."""
        said = _describe_error(error)
        said = replace(said, trace=error.trace or said.trace)
        self._append(FailedSystem(**_describe_system(resolved), error=said))
        self._save()

    def skip(self, resolved: ResolvedSystem, reason: str) -> None:
        """Add a system that could not be tried."""
        self._append(SkippedSystem(**_describe_system(resolved), reason=reason))

    def predict(self, resolved: ResolvedSystem, predicted: PredictedLabels) -> None:
        """Write the leaderboard file from a system's labels for the test clips."""
        write_submission(self.folder / SUBMISSION_FILE, predicted.ids, predicted.labels)
        thresholds, guessed = predicted.thresholds, predicted.guessed
        test = TestLabels(
            system=resolved.name,
            clips=len(predicted.ids),
            strategy=predicted.strategy,
            why=predicted.why,
            alpha=None if thresholds is None else thresholds.alpha,
            beta=None if thresholds is None else thresholds.beta,
            transductive=guessed is not None,
            groups=None if guessed is None else len(np.unique(guessed.test)),
            rand_index=None if guessed is None else round(guessed.rand_index, 4),
            score_with_guessed_actors=predicted.guessed_score,
            file=SUBMISSION_FILE,
        )
        self.record = replace(self.record, test=test)

    def _append(self, system: SystemRecord) -> None:
        self.record = replace(self.record, systems=(*self.record.systems, system))

    def _update_execution(self, **facts: Any) -> None:
        self.record = replace(self.record, execution=replace(self.record.execution, **facts))

    def _tell(self, hook: str, event: RunStarted | FoldFinished | RunFinished) -> None:
        self.warn(*(text for text in self._plugins.tell(hook, event) if text not in self.record.warnings))

    def _save(self) -> None:
        write_json(self.folder / RECORD_FILE, self.record.to_json())
        if self._draw is not None:
            write_atomically(self.folder / TABLE_FILE, self._draw(self.record))


def _describe_system(resolved: ResolvedSystem) -> dict[str, Any]:
    """Return the fields of `SystemFacts`."""
    return vars(_facts_of(resolved.describe()))


def _facts_of(described: Mapping[str, Any]) -> SystemFacts:
    return SystemFacts(
        **{
            **described,
            "plugin": PluginFacts(**described["plugin"]),
            "base_models": tuple(described["base_models"]),
            "parts": tuple(_facts_of(part) for part in described["parts"]),
            "card": CardFacts(**described["card"]),
        }
    )


def _describe_error(error: BaseException) -> Error:
    known = isinstance(error, HarnessError)
    trace = "" if known else "".join(traceback.format_exception(error))
    return Error(type(error).__name__, str(error), trace)


def _peak_memory() -> int:
    """Return the largest memory of this process or of one of its children, in bytes."""
    # ru_maxrss is in KiB on Linux and in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


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
