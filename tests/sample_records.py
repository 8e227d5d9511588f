"""Records made by hand, whole as the harness writes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from blemore_harness.record.scores import Drop, Intervals, Mean, Means, Sensitivity, Spread, StrategyScores
from blemore_harness.record.types import (
    CardFacts,
    DataFacts,
    Error,
    Execution,
    FailedSystem,
    FinishedSystem,
    PluginFacts,
    Record,
    SubmissionFacts,
    TestLabels,
)


def sample_means(presence: float, salience: float) -> Means:
    return Means(Mean(presence, 0.124), Mean(salience, 0.072), Mean((presence + salience) / 2, 0.09))


def facts(name: str) -> dict[str, Any]:
    return {
        "name": name, "kind": "encoder", "modality": "audio", "plugin": PluginFacts("toys", "toys", "1", None),
        "digest": "0123456789ab", "options": {}, "options_given": {}, "base_models": (), "parts": (), "caveat": None,
        "card": CardFacts(None, None, None, None, (), None, None, None),
    }  # fmt: skip


def sample_system(name: str, presence: float = 0.578, salience: float = 0.33, **changes: Any) -> FinishedSystem:
    """A scored system; its cross-fitted numbers are .03 lower than the official ones."""
    honest = sample_means(presence - 0.03, salience - 0.03)
    spread, ends = Spread(0.1, 0.0, 0.1, 0.1), (honest.score.mean - 0.05, honest.score.mean + 0.05)
    system = FinishedSystem(
        **facts(name),
        official=sample_means(presence, salience),
        cross_fitted=honest,
        intervals=Intervals(ends, ends, ends),
        sensitivity=Sensitivity(spread, spread, 0.01, Drop(0.03, None)),
        strategies={"other-folds": StrategyScores(**honest.by_measure(), sees="others", transductive=False)},
        folds=(),
        times_asked=0,
        seconds=1.5,
        notes=(),
        warnings=(),
        prepared=None,
    )
    return replace(system, **changes)


def failed_system(name: str, message: str) -> FailedSystem:
    return FailedSystem(**facts(name), error=Error("PluginFailed", message, ""))


def sample_record(*systems: FinishedSystem | FailedSystem, demo: bool = False, **changes: Any) -> Record:
    """A finished run on other folds of the metadata, with labels for two test clips."""
    record = Record(
        status="finished",
        caveat=None,
        submission=SubmissionFacts("sample", "", ("one",), None, 0, None, None, {}),
        identity="0123456789abcdef",
        protocol="1",
        data=DataFacts("data", "0123456789abcdef", demo, 60, 6, 40, 3, "metadata", 2, {}),
        execution=Execution(("blemore-harness", "run"), "2026-11-01T00:00:00+00:00", "3.11.7"),
        systems=systems,
        test=TestLabels("one", 2, "other-folds", "asked for", 0.1, 0.1, False, None, None, None, "submission.zip"),
    )
    return replace(record, **changes)
