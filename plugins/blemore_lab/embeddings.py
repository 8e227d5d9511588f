"""Simulated embeddings: expression with the actor's own style, intensity and identity, seen through a random network.

What a modality shows of a clip is a mixture of the prototypes of its emotions, with heavy-tailed errors that encoders
of the modality share. An encoder maps it, together with the identity of the actor, to an embedding. See
`docs/explanation/simulation.md` for the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.options import demand
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.rules import MAJOR, MINOR
from blemore_lab.encoders import BETWEEN, BLEND_HEIGHT, PUBLISHED, Skill
from blemore_lab.labels import Groups

Vectors: TypeAlias = NDArray[np.float32]

LATENT = 8
"""Dimensions in which a modality shows expression."""

TRAITS = 6
"""Dimensions of an actor's identity in a modality."""

HIDDEN = 64
"""Hidden units of an encoder's random network."""


@dataclass(frozen=True)
class EmbeddingSetting:
    """How actors, modalities and encoders differ.

    Attributes:
        style: how much an actor's prototypes of emotions differ from the common ones, against their size.
        emphasis: sd, over actors and emotions, of the logarithm of how strongly an actor shows an emotion.
        identity: size of the actor's identity in what an encoder sees, against errors of 1.
        intensity: sd, over clips, of the logarithm of the intensity.
        alike: share of the variance of errors that encoders of one modality have in common; of two modalities,
            `BETWEEN` of it.
        tails: degrees of freedom of the errors (Student's t); fewer are heavier tails.
        height: of each emotion of a blend against that of an emotion alone.
        blends: how much of an uneven blend's difference is seen, against the sum of both emotions.
        level: published accuracies are multiplied by it to give those of the simulated encoders.
        dimensions: of an embedding.
    """

    style: float = 0.5
    emphasis: float = 0.4
    identity: float = 1.0
    intensity: float = 0.35
    alike: float = 0.6
    tails: float = 4.0
    height: float = BLEND_HEIGHT
    blends: float = 0.25
    level: float = 1.0
    dimensions: int = 48

    def __post_init__(self) -> None:
        for name, highest in (("style", 3.0), ("emphasis", 2.0), ("identity", 10.0), ("intensity", 2.0)):
            value = getattr(self, name)
            demand(0 <= value <= highest, name, f"a number from 0 to {highest:g}", value)
        demand(0 <= self.alike <= 1, "alike", "a number from 0 to 1", self.alike)
        demand(0 < self.height <= 2, "height", "a number above 0, at most 2", self.height)
        demand(0 <= self.blends <= 2, "blends", "a number from 0 to 2", self.blends)
        demand(self.tails > 2, "tails", "degrees of freedom above 2", self.tails)
        demand(0.3 <= self.level <= 1.5, "level", "a factor from 0.3 to 1.5", self.level)
        demand(8 <= self.dimensions <= 1024, "dimensions", "a number from 8 to 1024", self.dimensions)


@dataclass(frozen=True)
class Scene:
    """What happens in front of the encoders, by modality (`video`, `audio`).

    Attributes:
        present, lean: float64 (N, L), what the emotions of a clip show, and how those of an uneven blend differ.
        errors: float64 (N, L), which all encoders of the modality share.
        identity: float64 (N, Q) of the clip's actor.
    """

    present: Mapping[str, FloatArray]
    lean: Mapping[str, FloatArray]
    errors: Mapping[str, FloatArray]
    identity: Mapping[str, FloatArray]


class Draws:
    """Random numbers by label: what is drawn under a label does not depend on what else is drawn.

    Args:
        seed: the same gives the same numbers.
    """

    def __init__(self, seed: Sequence[int]) -> None:
        self._seed = tuple(seed)

    def generator(self, label: str) -> np.random.Generator:
        """Return the generator of a label."""
        return np.random.default_rng([*self._seed, crc32(label.encode())])

    def normal(self, label: str, *shape: int) -> FloatArray:
        """Draw standard normal numbers."""
        return self.generator(label).standard_normal(shape)

    def heavy(self, label: str, clips: int, width: int, freedom: float) -> FloatArray:
        """Draw errors of variance 1 with Student's tails: a clip that is unusual is so in all dimensions."""
        random = self.generator(label)
        scale = np.sqrt((freedom - 2) / random.chisquare(freedom, size=(clips, 1)))
        return np.asarray(random.standard_normal((clips, width)) * scale)


def draw_scene(truth: LabelArray, actors: Groups, setting: EmbeddingSetting, draws: Draws) -> Scene:
    """Draw what actors show in clips of labels int8 (N, 6), and what disturbs it."""
    count, people, emotions = len(truth), int(actors.max()) + 1, len(EMOTIONS)
    emphasis = np.exp(setting.emphasis * draws.normal("emphasis", people, emotions))[actors]
    intensity = np.exp(setting.intensity * draws.normal("intensity", count, 1))
    shown = (truth > 0) * emphasis
    blend = (truth > 0).sum(axis=1, keepdims=True) == 2
    shown = intensity * np.where(blend, 2 * setting.height, 1.0) * shown / shown.sum(axis=1, keepdims=True)
    leaning = intensity * 2 * setting.height * emphasis * ((truth == MAJOR).astype(np.float64) - (truth == MINOR)) / 2
    everyone = draws.heavy("errors", count, LATENT, setting.tails)
    parts: tuple[dict[str, FloatArray], ...] = ({}, {}, {}, {})
    for name in ("video", "audio"):
        prototypes = draws.normal(f"prototypes {name}", emotions, LATENT)
        own = prototypes + setting.style * draws.normal(f"style {name}", people, emotions, LATENT)
        for part, amounts in zip(parts, (shown, leaning), strict=False):
            part[name] = np.einsum("nk,nkl->nl", amounts, own[actors])
        mine = draws.heavy(f"errors {name}", count, LATENT, setting.tails)
        parts[2][name] = np.sqrt(BETWEEN) * everyone + np.sqrt(1 - BETWEEN) * mine
        parts[3][name] = setting.identity * draws.normal(f"identity {name}", people, TRAITS)[actors]
    return Scene(*parts)


def embed(name: str, skill: Skill, scene: Scene, setting: EmbeddingSetting, draws: Draws) -> Vectors:
    """Return a simulated encoder's embeddings, float32 (N, D).

    Args:
        name: a key of `PUBLISHED`; decides the modality and the random numbers.
        skill: size of expression against errors of 1, and how much of an uneven blend's difference is seen.
    """
    modality = PUBLISHED[name].modality
    seen = []
    for part in ("video", "audio") if modality == "audiovisual" else (modality,):
        shown = skill.presence * (scene.present[part] + skill.blends * scene.lean[part])
        own = draws.heavy(f"errors {part} {name}", len(shown), LATENT, setting.tails)
        errors = np.sqrt(setting.alike) * scene.errors[part] + np.sqrt(1 - setting.alike) * own
        seen += [shown + errors, scene.identity[part]]
    inputs = np.concatenate(seen, axis=1)
    inputs = inputs / np.sqrt(np.mean(np.square(inputs)))
    first = draws.normal(f"first layer {name}", inputs.shape[1], HIDDEN) / np.sqrt(inputs.shape[1])
    second = draws.normal(f"second layer {name}", HIDDEN, setting.dimensions) / np.sqrt(HIDDEN)
    return np.asarray(np.tanh(inputs @ first) @ second, dtype=np.float32)
