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
    return tuple(sorted(scores, key=lambda each: -each.cross_fitted.ranked.mean))


def _join(means: Sequence[Means]) -> Means:
    def join(found: Sequence[Mean | None]) -> Mean | None:
        values = [each.mean for each in found if each is not None]
        return Mean(fmean(values), stdev(values) if len(values) > 1 else 0.0) if values else None

    presence = join([each.acc_presence for each in means])
    assert presence is not None
    return Means(presence, join([each.acc_salience for each in means]), join([each.score for each in means]))


def _mean_intervals(intervals: Sequence[Intervals | None]) -> Intervals | None:
    known = [each for each in intervals if each is not None]
    if len(known) < len(intervals):
        return None

    def mean(found: Sequence[Interval | None]) -> Interval | None:
        ends = [each for each in found if each is not None]
        return (fmean(low for low, _ in ends), fmean(high for _, high in ends)) if ends else None

    presence = mean([each.acc_presence for each in known])
    assert presence is not None
    return Intervals(presence, mean([each.acc_salience for each in known]), mean([each.score for each in known]))
