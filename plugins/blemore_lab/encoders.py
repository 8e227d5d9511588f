"""Simulated encoders: rows of probabilities from labels, with errors that clips, actors and encoders share.

A clip's logits are a signal by its label plus errors of unit variance plus a bias of its actor; its row is their
softmax at a sharpness of its actor's own. See `docs/explanation/simulation.md` for the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from zlib import crc32

import numpy as np

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.errors import InvalidOption, UnknownName
from blemore_harness.hookspecs import Modality
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.rules import MAJOR, MINOR, SINGLE
from blemore_lab.labels import Groups

BLEND_HEIGHT = 0.75
"""Height of each emotion of a blend against that of an emotion alone, for an encoder of blend skill 0."""

HEIGHT_GAIN = 0.25
"""How much that height grows with the blend skill."""

CONFIDENCE = 0.6
"""Sharpness of rows against that of calibrated ones.

With it and the defaults of `Setting`, alpha and beta at their best per fold have about the mean and the spread of the
organisers' recorded runs.
"""

BETWEEN = 0.5
"""Share of the correlation within a modality that encoders of different modalities have too.

With it, the simulated fusion of two and of many encoders gains about what the published ones gain.
"""


@dataclass(frozen=True)
class Published:
    """What a real encoder reached: official (optimistic) means over the five folds.

    Attributes:
        modality: what it looks at or listens to.
        presence, salience: ACC_P and ACC_S.
    """

    modality: Modality
    presence: float
    salience: float


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "s4d": Published("video", 0.340, 0.140),
        "gemini": Published("audiovisual", 0.320, 0.137),
        "videomae": Published("video", 0.291, 0.144),
        "wav2vec2": Published("audio", 0.294, 0.120),
        "timesformer": Published("video", 0.259, 0.131),
        "hicmae": Published("audiovisual", 0.298, 0.180),
        "imagebind": Published("video", 0.290, 0.130),
        "videomaev2": Published("video", 0.273, 0.106),
        "clip": Published("video", 0.266, 0.105),
        "wavlm": Published("audio", 0.265, 0.121),
        "hubert": Published("audio", 0.243, 0.104),
        "openface": Published("video", 0.228, 0.119),
        "videoswin": Published("video", 0.225, 0.089),
    }
)
"""Encoders that can be simulated: five of arXiv 2603.23650, table I; the others are the organisers' baselines."""

DEFAULT_ENCODERS = ("s4d", "gemini", "videomae", "wav2vec2", "timesformer")
"""The encoders that the authors of arXiv 2603.23650 trained themselves."""


@dataclass(frozen=True)
class Setting:
    """How actors and encoders err.

    Attributes:
        bias: standard deviation, over actors, of what an actor adds to each logit, against errors of 1 over clips.
        correlation: of the errors (and biases) of two encoders of one modality; of two modalities, `BETWEEN` of it.
        sharpness: standard deviation, over actors, of the logarithm of an actor's sharpness.
    """

    bias: float = 0.5
    correlation: float = 0.6
    sharpness: float = 0.4

    def __post_init__(self) -> None:
        for name, value, highest in (("bias", self.bias, 3.0), ("sharpness", self.sharpness, 3.0)):
            if not 0 <= value <= highest:
                raise InvalidOption(f"{name}: expected a number from 0 to {highest:g}, found {value}")
        if not 0 <= self.correlation <= 1:
            raise InvalidOption(f"correlation: expected a number from 0 to 1, found {self.correlation}")


@dataclass(frozen=True)
class Skill:
    """What an encoder can do.

    Attributes:
        presence: height of an emotion that is there alone, against errors of 1.
        blends: how well blends are read: above 0 the difference of a 70/30 blend's emotions is seen, half this much in
            each; the heights of both grow with it, and shrink where it is below 0.
    """

    presence: float
    blends: float


@dataclass(frozen=True)
class Errors:
    """What stands between labels and rows.

    Attributes:
        logits: float64 (N, 6), errors and biases together.
        sharpness: float64 (N,), factors around 1.
    """

    logits: FloatArray
    sharpness: FloatArray


def make_rows(truth: LabelArray, skill: Skill, errors: Errors) -> FloatArray:
    """Return an encoder's probabilities, float64 (N, 6), for labels int8 (N, 6)."""
    alone = (truth == SINGLE).astype(np.float64)
    both = ((truth > 0) & (truth < SINGLE)).astype(np.float64)
    lean = (truth == MAJOR).astype(np.float64) - (truth == MINOR)
    height = max(BLEND_HEIGHT + HEIGHT_GAIN * skill.blends, 0.0)
    signal = skill.presence * (alone + height * both) + max(skill.blends, 0.0) * lean
    logits = CONFIDENCE * skill.presence * errors.sharpness[:, None] * (signal + errors.logits)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def draw_errors(names: Sequence[str], setting: Setting, actors: Groups, seed: Sequence[int]) -> dict[str, Errors]:
    """Draw the errors of several encoders on the same clips.

    What an encoder draws does not depend on which others there are, nor on the sizes in `setting`: the same seed gives
    the same standard normal numbers, so that settings are compared on common ones.

    Args:
        names: keys of `PUBLISHED`.
        setting: how large errors of actors are, and how much encoders share.
        actors: int64 (N,) actor of each clip.
        seed: anything that `numpy.random.default_rng` takes; the same gives the same.
    """
    shape, people = (len(actors), len(EMOTIONS)), int(actors.max()) + 1
    clips = _draw_shared(names, setting.correlation, shape, (*seed, 0))
    biases = _draw_shared(names, setting.correlation, (people, len(EMOTIONS)), (*seed, 1))
    sharpness = _draw_shared(names, setting.correlation, (people, 1), (*seed, 2))
    return {
        name: Errors(
            clips[name] + setting.bias * biases[name][actors], np.exp(setting.sharpness * sharpness[name][actors, 0])
        )
        for name in names
    }


def _draw_shared(
    names: Sequence[str], correlation: float, shape: tuple[int, int], seed: Sequence[int]
) -> dict[str, FloatArray]:
    """Draw standard normal numbers per encoder: a part of all, a part of the modality, a part of its own."""

    def part(label: str) -> FloatArray:
        return np.random.default_rng([*seed, crc32(label.encode())]).standard_normal(shape)

    everyone = part("everyone")
    own = {"video": part("modality video"), "audio": part("modality audio")}
    # An audiovisual encoder shares half of what it shares with each.
    own["audiovisual"] = (own["video"] + own["audio"]) / np.sqrt(2)
    weights = np.sqrt([correlation * BETWEEN, correlation * (1 - BETWEEN), 1 - correlation])
    return {
        name: weights[0] * everyone + weights[1] * own[PUBLISHED[name].modality] + weights[2] * part(f"encoder {name}")
        for name in names
    }


def check_encoders(names: Sequence[str]) -> None:
    """Refuse encoders without published numbers.

    Raises:
        UnknownName: one that is not in `PUBLISHED`.
        InvalidOption: none at all, or one named twice.
    """
    for name in names:
        if name not in PUBLISHED:
            raise UnknownName.among("encoder to simulate", name, PUBLISHED)
    if not names or len(set(names)) < len(names):
        raise InvalidOption(f"expected encoders to simulate, each once, found '{','.join(names)}'")
