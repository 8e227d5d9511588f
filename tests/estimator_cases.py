"""Clips without files for estimators: what a function computes from them is their label through noise."""

from __future__ import annotations

import numpy as np

from blemore_harness.clips import Clip
from blemore_harness.testing import Session, Subject
from blemore_harness.testing.material import Material, make_rows_material

MATERIAL = make_rows_material()
TRUTH = {clip.content: MATERIAL.truth[clip.id] for clip in MATERIAL.clips}


class Bare(Session):
    """A session whose encoders get clips without files."""

    def material(self, subject: Subject) -> Material:
        return MATERIAL


def glimpse(clip: Clip) -> np.ndarray:
    """The label of a clip with noise, float64 (6,)."""
    return TRUTH[clip.content] + np.random.default_rng(int(clip.content, 16)).normal(0, 0.1, 6)
