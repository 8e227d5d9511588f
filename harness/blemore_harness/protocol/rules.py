"""The official rules and nothing else: labels, decoding of probabilities, the two accuracies.

Labels, true or decoded, are int8 (N, 6) percentages in the order of `EMOTIONS`: one emotion at 100, or two of the five
emotions other than neutral at 50/50, 70/30 or 30/70. The rules are the organisers' released evaluation of 2026-02; the
agreement holds to the last bit, which is why comparisons and subtractions here are plain float64 and never rearranged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.errors import ConfigError, InvalidPredictions, InvalidProbabilities
from blemore_harness.predictions import FloatArray

IndexArray: TypeAlias = NDArray[np.intp]

PROTOCOL_VERSION = "1"
"""Version of these rules; part of every run's identity. Raise it when any input decodes or scores differently."""

NEUTRAL = EMOTIONS.index("neu")

SINGLE = 100
"""Percentage of an emotion that stands alone (official label format)."""

EQUAL = 50
"""Percentage of both emotions of an even blend (official label format)."""

MAJOR, MINOR = 70, 30
"""Percentages of an uneven blend (official label format)."""

BLENDS = ((EQUAL, EQUAL), (MAJOR, MINOR), (MINOR, MAJOR))
"""Every pair of percentages that a blend can have."""

TEST_CLIPS = 594
"""Test clips of the released challenge (organisers' template)."""

VIDEO_ENDINGS = (".mov", ".mp4")
"""Endings of clips' files: released ones are .mov; some users convert them (organisers' release)."""

_EMOTION = f"({'|'.join(EMOTIONS[:NEUTRAL])})"
_SINGLE_NAME = re.compile(rf"(A[0-9]+)_{_EMOTION}_int([1-4])_ver([0-9]+)")
_NEUTRAL_NAME = re.compile(r"(A[0-9]+)_neu_sit([1-4])_ver([0-9]+)")
_BLEND_NAME = re.compile(rf"(A[0-9]+)_mix_{_EMOTION}_{_EMOTION}_([0-9]+)_([0-9]+)_ver([0-9]+)")


@dataclass(frozen=True)
class Scores:
    """The two official accuracies of a set of clips.

    Attributes:
        presence: ACC_P, the share of clips whose set of emotions is right.
        salience: ACC_S, the share of truly blended clips whose emotions and saliences are right.
    """

    presence: float
    salience: float

    @property
    def score(self) -> float:
        """The number that systems are ranked by: the mean of both accuracies."""
        return 0.5 * self.presence + 0.5 * self.salience


@dataclass(frozen=True)
class ClipName:
    """What a released training file name says.

    Attributes:
        actor: such as `A102`.
        percentages: the label, one number per emotion in the order of `EMOTIONS`.
        version: text after `ver`, whole; the official parser keeps its first character only.
        intensity: 1 to 4 for single emotions, else None.
        situation: 1 to 4 for neutral clips, else None.
    """

    actor: str
    percentages: tuple[int, ...]
    version: str
    intensity: int | None = None
    situation: int | None = None

    @property
    def truth(self) -> LabelArray:
        """The label as an int8 (6,) row."""
        return np.array(self.percentages, dtype=np.int8)


def parse_clip_id(name: str) -> ClipName | None:
    """Read actor and label from a released name without its ending; None for any other name.

    Released names are `A<digits>_<emotion>_int<1-4>_ver<k>`, `A<digits>_neu_sit<1-4>_ver<k>` and
    `A<digits>_mix_<e1>_<e2>_<s1>_<s2>_ver<k>` with e1 before e2 in the alphabet.

    >>> parse_clip_id("A102_mix_ang_fea_70_30_ver12")
    ClipName(actor='A102', percentages=(70, 0, 30, 0, 0, 0), version='12', intensity=None, situation=None)
    >>> parse_clip_id("test_0001") is None
    True
    """
    if found := _SINGLE_NAME.fullmatch(name):
        actor, emotion, intensity, version = found.groups()
        return ClipName(actor, _percentages({emotion: SINGLE}), version, intensity=int(intensity))
    if found := _NEUTRAL_NAME.fullmatch(name):
        actor, situation, version = found.groups()
        return ClipName(actor, _percentages({EMOTIONS[NEUTRAL]: SINGLE}), version, situation=int(situation))
    if found := _BLEND_NAME.fullmatch(name):
        actor, one, two, share_one, share_two, version = found.groups()
        if one < two and (int(share_one), int(share_two)) in BLENDS:
            return ClipName(actor, _percentages({one: int(share_one), two: int(share_two)}), version)
    return None


def strip_ending(name: str) -> str:
    """Return a clip's id: its name without the ending of a video, in upper or lower case.

    >>> strip_ending("test_0001.mov"), strip_ending("test_0001"), strip_ending("A1_neu_sit1_ver1.MP4")
    ('test_0001', 'test_0001', 'A1_neu_sit1_ver1')
    """
    stem, dot, ending = name.rpartition(".")
    return stem if f"{dot}{ending}".lower() in VIDEO_ENDINGS else name


def official_test_ids() -> tuple[str, ...]:
    """Return the ids of the challenge's test clips, `test_0001` to `test_0594`.

    >>> official_test_ids()[-1]
    'test_0594'
    """
    return tuple(f"test_{number:04d}" for number in range(1, TEST_CLIPS + 1))


def label_text(row: ArrayLike) -> str:
    """Write a label (6 percentages) for people.

    >>> label_text([100, 0, 0, 0, 0, 0]), label_text([70, 0, 30, 0, 0, 0])
    ('ang', 'ang+fea 70/30')
    """
    parts = [(name, int(share)) for name, share in zip(EMOTIONS, np.asarray(row), strict=True) if share > 0]
    names = "+".join(name for name, _ in parts)
    return names if len(parts) == 1 else f"{names} {'/'.join(str(share) for _, share in parts)}"


def top_two(values: FloatArray) -> tuple[IndexArray, IndexArray, FloatArray, FloatArray]:
    """Find the two largest values of every row (the official top-2 mask).

    Ties go to the lower index. The official sort is unstable there, so that its answer depends on the platform.

    Args:
        values: float64 (N, K), finite, K at least 2.

    Returns:
        Index of the largest, index of the second (intp), and both values (float64), each (N,).

    >>> first, second, high, low = top_two(np.array([[.2, .4, .4], [.7, .1, .2]]))
    >>> first.tolist(), second.tolist(), high.tolist(), low.tolist()
    ([1, 0], [2, 2], [0.4, 0.7], [0.4, 0.2])
    """
    rows = np.arange(len(values))
    first = values.argmax(axis=1)
    rest = values.copy()
    rest[rows, first] = -np.inf
    second = rest.argmax(axis=1)
    return first, second, values[rows, first], values[rows, second]


def decode(values: ArrayLike, alpha: float, beta: float, gaps: FloatArray | None = None) -> LabelArray:
    """Turn rows of probabilities into labels by the official rules.

    The two largest values of a row count, ties to the lower index. The larger alone is the answer where the smaller is
    0 or below `alpha` (equal survives), and where either is neutral, which never blends. Otherwise a blend: 50/50 where
    the two differ by at most `beta`, else 70 to the larger and 30 to the smaller. The difference is that of the raw
    float64 values: .4 and .3 with a beta of .1 differ by more than .1.

    Args:
        values: finite numbers (N, 6) in the order of `EMOTIONS`. Rows need not sum to 1; all-zero rows decode to `ang`.
        alpha: presence threshold in [0, 1].
        beta: salience threshold in [0, 1].
        gaps: float64 (N,), what beta is compared with in place of the difference, as in `GridCounter.count`; no
            official rule.

    Returns:
        int8 (N, 6) percentages.

    Raises:
        InvalidProbabilities: another shape, or values that are not finite.
        ConfigError: a threshold outside [0, 1].

    >>> [label_text(row) for row in decode([[.4, .3, .2, .1, 0, 0], [.4, .05, .05, .05, .05, .4]], .1, .1)]
    ['ang+disg 70/30', 'ang']
    """
    for name, threshold in (("alpha", alpha), ("beta", beta)):
        if not 0 <= threshold <= 1:
            raise ConfigError(f"expected {name} between 0 and 1, found {threshold}")
    rows = as_rows(values)
    first, second, high, low = top_two(rows)
    # With ties going to the lower index, and neutral last, the larger of the two wins against neutral either way round.
    blended = (low >= alpha) & (low > 0) & (first != NEUTRAL) & (second != NEUTRAL)
    even = (high - low if gaps is None else gaps) <= beta
    labels = np.zeros(rows.shape, dtype=np.int8)
    clips = np.arange(len(rows))
    labels[clips, first] = np.where(blended, np.where(even, EQUAL, MAJOR), SINGLE)
    labels[clips[blended], second[blended]] = np.where(even, EQUAL, MINOR)[blended]
    return labels


def acc_presence(truth: LabelArray, predicted: LabelArray) -> float:
    """ACC_P: the share of clips whose predicted set of emotions is the true one; neutral is a class like any other.

    Args:
        truth, predicted: int8 (N, 6) percentages of the same clips in the same order.

    Returns:
        A share from 0 to 1.

    Raises:
        InvalidPredictions: shapes that do not match, or no clips.

    >>> truth = np.array([[70, 30, 0, 0, 0, 0], [50, 0, 50, 0, 0, 0], [0, 0, 0, 0, 0, 100]], dtype=np.int8)
    >>> predicted = np.array([[30, 70, 0, 0, 0, 0], [50, 0, 50, 0, 0, 0], [0, 0, 0, 0, 100, 0]], dtype=np.int8)
    >>> round(acc_presence(truth, predicted), 3)
    0.667
    """
    _check_pair(truth, predicted)
    right = int(((truth > 0) == (predicted > 0)).all(axis=1).sum())
    return right / len(truth)


def acc_salience(truth: LabelArray, predicted: LabelArray) -> float:
    """ACC_S: the share of truly blended clips whose emotions and percentages are all right; 0.0 without any blend.

    Arguments and errors as of `acc_presence`.

    >>> truth = np.array([[70, 30, 0, 0, 0, 0], [50, 0, 50, 0, 0, 0], [0, 0, 0, 0, 0, 100]], dtype=np.int8)
    >>> predicted = np.array([[30, 70, 0, 0, 0, 0], [50, 0, 50, 0, 0, 0], [0, 0, 0, 0, 100, 0]], dtype=np.int8)
    >>> acc_salience(truth, predicted), acc_salience(truth[2:], predicted[2:])
    (0.5, 0.0)
    """
    _check_pair(truth, predicted)
    blends = (truth > 0).sum(axis=1) == 2
    right = int((truth == predicted)[blends].all(axis=1).sum())
    return right / int(blends.sum()) if blends.any() else 0.0


def score(truth: LabelArray, predicted: LabelArray) -> Scores:
    """Return both official accuracies; arguments and errors as of `acc_presence`.

    >>> label = np.array([[70, 30, 0, 0, 0, 0]], dtype=np.int8)
    >>> score(label, label), score(label, label[:, ::-1]).score
    (Scores(presence=1.0, salience=1.0), 0.0)
    """
    return Scores(acc_presence(truth, predicted), acc_salience(truth, predicted))


def as_rows(values: ArrayLike) -> FloatArray:
    """Return rows of numbers as float64 (N, 6).

    Args:
        values: numbers (N, 6) in the order of `EMOTIONS`; N may be 0.

    Raises:
        InvalidProbabilities: another shape, or values that are not finite.

    >>> as_rows([[0, 0, 0, 0, 0, 1]]).shape
    (1, 6)
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(EMOTIONS):
        raise InvalidProbabilities(f"expected rows of {len(EMOTIONS)} probabilities, found shape {rows.shape}")
    if not np.isfinite(rows).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        raise InvalidProbabilities(f"NaN or infinite values in {bad.size} of {len(rows)} rows (first: row {bad[0]})")
    return rows


def _percentages(shares: dict[str, int]) -> tuple[int, ...]:
    return tuple([shares.get(name, 0) for name in EMOTIONS])


def _check_pair(truth: LabelArray, predicted: LabelArray) -> None:
    if truth.shape != predicted.shape or truth.ndim != 2 or truth.shape[1] != len(EMOTIONS):
        raise InvalidPredictions(
            f"expected labels of shape (N, {len(EMOTIONS)}) for the same clips, found {truth.shape} true and "
            f"{predicted.shape} predicted ones"
        )
    if not len(truth):
        raise InvalidPredictions("there are no clips to score")
