"""Runs that differ in the base seed alone, as one: means over seeds, and how much a seed changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from blemore_harness.record.scores import Interval, Intervals, Mean, Means
from blemore_harness.record.types import FinishedSystem, Record


@dataclass(frozen=True)
class SeedScores:
    """What a system scores over base seeds.

    Attributes:
        name: of the system.
        seeds: with which it was scored.
        official: numbers as in the papers (in-sample), mean and sample standard deviation between seeds (ddof=1).
        cross_fitted: out-of-sample numbers, likewise.
        intervals: of the cross-fitted numbers of one run, over actors: means of both ends over seeds; None where a run
            has none.
    """

    name: str
    seeds: tuple[int, ...]
    official: Means
    cross_fitted: Means
    intervals: Intervals | None


def summarise_seeds(records: Mapping[int, Record]) -> tuple[SeedScores, ...]:
    """Summarise each system over the runs that scored it, the best cross-fitted Score first.

    Args:
        records: by base seed.
    """
    found: dict[str, dict[int, FinishedSystem]] = {}
    for seed, record in sorted(records.items()):
        for system in record.finished:
            found.setdefault(system.name, {})[seed] = system
    scores = [
        SeedScores(
            name,
            tuple(systems),
            _join([system.official for system in systems.values()]),
            _join([system.cross_fitted for system in systems.values()]),
            _mean_intervals([system.intervals for system in systems.values()]),
        )
        for name, systems in found.items()
    ]
    return tuple(sorted(scores, key=lambda each: -each.cross_fitted.score.mean))


def _join(means: Sequence[Means]) -> Means:
    values = {
        measure: [each.by_measure()[measure].mean for each in means]
        for measure in ("acc_presence", "acc_salience", "score")
    }
    return Means(**{name: Mean(fmean(seen), stdev(seen) if len(seen) > 1 else 0.0) for name, seen in values.items()})


def _mean_intervals(intervals: Sequence[Intervals | None]) -> Intervals | None:
    known = [each for each in intervals if each is not None]
    if len(known) < len(intervals):
        return None

    def mean(ends: Sequence[Interval]) -> Interval:
        return fmean(low for low, _ in ends), fmean(high for _, high in ends)

    return Intervals(
        mean([each.acc_presence for each in known]),
        mean([each.acc_salience for each in known]),
        mean([each.score for each in known]),
    )
