"""Finds the skill with which a simulated encoder reaches the published accuracies on a label table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemore_harness.errors import first_and_count
from blemore_harness.protocol.grid import GridCounter
from blemore_harness.protocol.rules import Scores
from blemore_lab.encoders import PUBLISHED, Errors, Setting, Skill, draw_errors, make_rows
from blemore_lab.labels import LabelTable

DRAWS = 8
"""Draws of errors that a skill is measured on: their mean ACC_P lies within about .004 of that of all draws."""

CALIBRATION_SEED = 20260221
"""Calibration draws have a stream of their own: the same whatever is simulated afterwards."""

PRESENCE_RANGE, BLENDS_RANGE = (0.0, 12.0), (-1.0, 1.2)
"""Where skills are looked for; outside, ACC_S does not grow any more with the skill for blends."""

PRESENCE_STEPS, BLENDS_STEPS = 12, 8
"""Bisections: to about .003 in the first skill and .01 in the second."""

TOLERANCE = 0.015
"""How far from the published accuracies is worth a warning."""


@dataclass(frozen=True)
class Calibrated:
    """A simulated encoder.

    Attributes:
        name: a key of `PUBLISHED`.
        skill: what it can do.
        reached: official accuracies on the calibration draws.
    """

    name: str
    skill: Skill
    reached: Scores

    @property
    def is_off(self) -> bool:
        """Return whether the published accuracies could not be reached."""
        wanted = PUBLISHED[self.name]
        return max(abs(wanted.presence - self.reached.presence), abs(wanted.salience - self.reached.salience)) > (
            TOLERANCE
        )


def calibrate(names: Sequence[str], table: LabelTable, setting: Setting) -> tuple[Calibrated, ...]:
    """Find skills by bisection on common draws: presence for ACC_P, and around it, blends for ACC_S.

    Args:
        names: keys of `PUBLISHED`.
        table: the labels and folds that the accuracies are measured on.
        setting: how actors err; how encoders share errors makes no difference to one alone.
    """
    counter = GridCounter(table.truth, table.folds)
    # Every encoder on the same draws: one stream, of the modality and name that stand for all.
    draws = [draw_errors(["s4d"], setting, table.actors, (CALIBRATION_SEED, number))["s4d"] for number in range(DRAWS)]
    return tuple(_calibrate(name, table, counter, draws) for name in names)


def explain_misses(encoders: Sequence[Calibrated]) -> str | None:
    """Report which encoders miss their published accuracies; None where none does."""
    off = [encoder.name for encoder in encoders if encoder.is_off]
    if not off:
        return None
    return f"published accuracies are missed by more than {TOLERANCE:g} by {first_and_count(off, 'simulated encoder')}"


def _calibrate(name: str, table: LabelTable, counter: GridCounter, draws: Sequence[Errors]) -> Calibrated:
    wanted = PUBLISHED[name]

    def measure(skill: Skill) -> Scores:
        chosen = [
            grid.choose().scores
            for errors in draws
            for grid in counter.per_fold(make_rows(table.truth, skill, errors)).values()
        ]
        return Scores(float(np.mean([s.presence for s in chosen])), float(np.mean([s.salience for s in chosen])))

    def with_presence(blends: float) -> Skill:
        low, high = PRESENCE_RANGE
        for _ in range(PRESENCE_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if measure(Skill(middle, blends)).presence < wanted.presence else (low, middle)
        return Skill((low + high) / 2, blends)

    low, high = BLENDS_RANGE
    for _ in range(BLENDS_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if measure(with_presence(middle)).salience < wanted.salience else (low, middle)
    skill = with_presence((low + high) / 2)
    return Calibrated(name, skill, measure(skill))
