"""Finds the skill with which a simulated encoder reaches the published accuracies on a label table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemore_harness.errors import first_and_count
from blemore_harness.heads.options import HeadOptions
from blemore_harness.protocol.grid import GridCounter
from blemore_harness.protocol.rules import Scores
from blemore_lab.embeddings import Draws, EmbeddingSetting, draw_scene, embed
from blemore_lab.encoders import PUBLISHED, Errors, Setting, Skill, draw_errors, make_rows
from blemore_lab.labels import LabelTable
from blemore_lab.training import train_heads

DRAWS = 8
"""Draws of errors that a skill is measured on: their mean ACC_P lies within about .004 of that of all draws."""

CALIBRATION_SEED = 20260221
"""Calibration draws have a stream of their own: the same whatever is simulated afterwards."""

PRESENCE_RANGE, BLENDS_RANGE = (0.0, 12.0), (-1.0, 1.2)
"""Where skills are looked for; outside, ACC_S does not grow any more with the skill for blends."""

PRESENCE_STEPS, BLENDS_STEPS = 12, 8
"""Bisections: to about .003 in the first skill and .01 in the second."""

SIZES = (0.4, 0.7, 1.2, 2.0, 3.5)
"""Sizes of expression at which heads are trained to see what they reach."""

EMBEDDING_DRAWS = 3
"""Draws of everything, networks too, on which they are trained."""

TOLERANCE = 0.015
"""How far from the published accuracies is worth a warning."""


@dataclass(frozen=True)
class Calibrated:
    """A simulated encoder.

    Attributes:
        name: a key of `PUBLISHED`.
        skill: what it can do.
        reached: official accuracies on the calibration draws.
        level: factor on the published accuracies that were aimed at.
    """

    name: str
    skill: Skill
    reached: Scores
    level: float = 1.0

    @property
    def wanted(self) -> Scores:
        """Accuracies that were aimed at."""
        published = PUBLISHED[self.name]
        return Scores(published.presence * self.level, published.salience * self.level)

    @property
    def is_off(self) -> bool:
        """Return whether they could not be reached."""
        misses = (self.wanted.presence - self.reached.presence, self.wanted.salience - self.reached.salience)
        return max(map(abs, misses)) > TOLERANCE


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


def calibrate_embeddings(
    names: Sequence[str], table: LabelTable, setting: EmbeddingSetting, heads: HeadOptions
) -> tuple[Calibrated, ...]:
    """Find the sizes of expression with which heads reach the published ACC_P, times the level of the setting.

    Heads are trained at `SIZES`, and ACC_P and ACC_S are smoothed over them by polynomials: a random network more or
    less makes more difference than a small step.

    Args:
        names: keys of `PUBLISHED`.
        table: the labels and folds that the accuracies are measured on.
        setting: of the world.
        heads: how heads are trained.
    """
    modalities = {PUBLISHED[name].modality: name for name in names}
    found: dict[str, list[list[Scores]]] = {modality: [] for modality in modalities}
    counter, train = GridCounter(table.truth, table.folds), table.clips()
    for number in range(EMBEDDING_DRAWS):
        draws = Draws((CALIBRATION_SEED, number))
        scene = draw_scene(table.truth, table.actors, setting, draws)
        vectors = {
            f"{modality} {size}": embed(name, Skill(size, setting.blends), scene, setting, draws)
            for modality, name in modalities.items()
            for size in SIZES
        }
        rows = train_heads(vectors, train, table.folds, None, heads, number)
        for modality in modalities:
            each = [counter.per_fold(rows[f"{modality} {size}"].train) for size in SIZES]
            found[modality].append([mean_scores([g.choose().scores for g in grids.values()]) for grids in each])
    return tuple(_read_off(name, found[PUBLISHED[name].modality], setting) for name in names)


def _read_off(name: str, found: Sequence[Sequence[Scores]], setting: EmbeddingSetting) -> Calibrated:
    """Return the size at which the smoothed ACC_P is the wanted one."""
    fine = np.linspace(np.log(SIZES[0]), np.log(SIZES[-1]), 400)
    at = np.tile(np.log(SIZES), len(found))
    presence, salience = (
        np.polyval(np.polyfit(at, [getattr(scores, part) for draw in found for scores in draw], 3), fine)
        for part in ("presence", "salience")
    )
    place = int(np.abs(presence - PUBLISHED[name].presence * setting.level).argmin())
    skill = Skill(float(np.exp(fine[place])), setting.blends)
    return Calibrated(name, skill, Scores(float(presence[place]), float(salience[place])), setting.level)


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Return the mean of both accuracies."""
    return Scores(
        float(np.mean([each.presence for each in scores])), float(np.mean([each.salience for each in scores]))
    )


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
