"""What an export says of a system besides its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from blemore_harness.errors import RunError, UnknownName
from blemore_harness.record.scores import Interval, Mean
from blemore_harness.record.types import FinishedSystem, Record
from blemore_harness.scoring.caveats import describe_data, describe_help, describe_system
from blemore_harness.scoring.published import MEASURES

KINDS = {
    "out-of-sample": "thresholds and fusion weights chosen on the other folds (cross-fitted)",
    "official": "thresholds and fusion weights chosen on the scored folds (in-sample), as in the papers",
}
"""Kinds of numbers, and what they mean."""


@dataclass(frozen=True)
class Result:
    """A number.

    Attributes:
        kind: of `KINDS`.
        measure: `acc_presence`, `acc_salience` or `score`.
        title: of the measure.
        value: mean and standard deviation over folds.
        interval: 95 % interval of an out-of-sample number; None where there is none.
    """

    kind: str
    measure: str
    title: str
    value: Mean
    interval: Interval | None


def find_systems(record: Record, run: str, name: str | None) -> tuple[FinishedSystem, ...]:
    """Return the scored systems of a run, or the one of a name.

    Raises:
        RunError: nothing was scored.
        UnknownName: a system that was not scored in this run.
    """
    if not record.finished:
        raise RunError(f"{run} has no scored system (status: {record.status}): run the same command again")
    if name is None:
        return record.finished
    found = tuple(system for system in record.finished if system.name == name)
    if not found:
        raise UnknownName.among(f"scored system of {run}", name, [system.name for system in record.finished])
    return found


def list_results(system: FinishedSystem) -> Iterator[Result]:
    """Yield the out-of-sample numbers of a system, then the official ones."""
    for kind, means in (("out-of-sample", system.cross_fitted), ("official", system.official)):
        for measure, title in MEASURES.items():
            interval = getattr(system.intervals, measure) if system.intervals and kind == "out-of-sample" else None
            mean = means.by_measure()[measure]
            if mean is not None:
                yield Result(kind, measure, title, mean, interval)


def list_caveats(record: Record, system: FinishedSystem) -> list[str]:
    """Return why a system's numbers are not comparable or not of a real system."""
    return [*describe_data(record.data), *describe_system(system, record), *describe_help(system, record)]


def plain_file_name(text: str) -> str:
    """Return a text as part of a file name: letters, digits, dots and dashes.

    >>> plain_file_name("imagebind+wavlm@quick")
    'imagebind-wavlm-quick'
    """
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "system"
