"""What a judge is asked, and what its beliefs mean as six probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from blemore_harness.clips import EMOTIONS
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.rules import EQUAL, MAJOR, MINOR, NEUTRAL, SINGLE

WORDS = ("anger", "disgust", "fear", "happiness", "sadness", "neutral (no emotion)")
"""Of `EMOTIONS`."""

PAIRS = tuple(combinations(range(NEUTRAL), 2))
"""The ten blends: indices of two emotions other than neutral."""

SETS = (*((emotion,) for emotion in range(len(EMOTIONS))), *PAIRS)
"""The 16 sets of emotions that a clip may express, in the order of the question."""

LETTERS = tuple("ABCDEFGHIJKLMNOP")
"""Answers to the question about the set, in the order of `SETS`."""

SHARES = ((MAJOR, MINOR), (EQUAL, EQUAL), (MINOR, MAJOR))
"""Proportions of a blend, in the order of the question."""

NUMBERS = ("1", "2", "3")
"""Answers to the question about the proportion, in the order of `SHARES`."""

LEAST_BLEND = 0.1
"""Least probability of the most probable blend for which its proportion is asked: below, no proportion can move an
emotion's probability by more than .02 from that of equal shares."""

INSTRUCTION = (
    "You are given {input} of a short video clip. An actor expresses one emotion, or a blend of two emotions, with "
    "face, body and non-verbal voice. Judge what is expressed, not who the person is."
)
"""The built-in text before the question; `{input}` is replaced by what is sent."""

SET_QUESTION = (
    "Which emotion, or which blend of two emotions, is expressed?\n"
    + "\n".join(
        f"{letter}) {' and '.join(WORDS[emotion] for emotion in emotions)}"
        for letter, emotions in zip(LETTERS, SETS, strict=True)
    )
    + "\nAnswer with one letter and nothing else."
)
"""The first question: a forced choice among the sets."""


def ask_ratio(pair: Sequence[int]) -> str:
    """Return the second question: a forced choice among the proportions of a blend."""
    one, two = WORDS[pair[0]], WORDS[pair[1]]
    return (
        f"The clip expresses a blend of {one} and {two}. In which proportion?\n"
        f"1) mostly {one}: {MAJOR} % {one}, {MINOR} % {two}\n"
        f"2) both equally: {EQUAL} % {one}, {EQUAL} % {two}\n"
        f"3) mostly {two}: {MINOR} % {one}, {MAJOR} % {two}\n"
        "Answer with one number and nothing else."
    )


def answer_set(label: Sequence[int]) -> str:
    """Return the letter of a label (6 percentages).

    >>> answer_set([0, 0, 0, 0, 0, 100]), answer_set([70, 0, 0, 30, 0, 0])
    ('F', 'I')
    """
    return LETTERS[SETS.index(tuple(int(emotion) for emotion in np.flatnonzero(np.asarray(label))))]


def answer_ratio(label: Sequence[int]) -> str | None:
    """Return the number of a blend's proportion, None for a single emotion.

    >>> answer_ratio([30, 0, 0, 70, 0, 0]), answer_ratio([0, 0, 0, 0, 0, 100])
    ('3', None)
    """
    shares = tuple(int(share) for share in label if share)
    return None if shares == (SINGLE,) else NUMBERS[SHARES.index(shares)]


def likely_blend(sets: FloatArray) -> tuple[int, int] | None:
    """Return the most probable blend, None if its probability is below `LEAST_BLEND`; ties by the order of `SETS`."""
    blends = sets[len(EMOTIONS) :]
    best = int(blends.argmax())
    return PAIRS[best] if blends[best] >= LEAST_BLEND else None


def mix(sets: FloatArray, ratios: Mapping[tuple[int, int], FloatArray]) -> FloatArray:
    """Return the expected label: six probabilities that the official decoding reads as meant.

    A label is an emotion at 100, or two at 70/30, 50/50 or 30/70. The judge's belief is

        P(single e) = sets[e],   P(blend ij at proportion r) = sets[ij] ratios[ij][r]

    with equal shares where no proportion is known. The probability of an emotion is the mean of its share over all
    labels, weighted by their probabilities:

        p[e] = sum over labels of P(label) share(e, label) / 100

    A judge that is certain thus gives the label's own shares: one emotion at 1, or two at .7/.3 or .5/.5, which decode
    to this label for every alpha in (0, .3] and beta in [0, .4). One that is unsure gives the weighted mean of what it
    would give in each case. A row sums to 1 if `sets` and every `ratios` do.

    Args:
        sets: float64 (16,) probabilities in the order of `SETS`.
        ratios: float64 (3,) probabilities in the order of `SHARES`, by blend.

    >>> sets = np.eye(16)[SETS.index((0, 2))]
    >>> mix(sets, {(0, 2): np.array([1.0, 0, 0])}).round(2).tolist()
    [0.7, 0.0, 0.3, 0.0, 0.0, 0.0]
    """
    row = np.zeros(len(EMOTIONS))
    row += sets[: len(EMOTIONS)]
    for pair, probability in zip(PAIRS, sets[len(EMOTIONS) :], strict=True):
        shares = np.asarray(SHARES, dtype=np.float64) / SINGLE
        known = ratios.get(pair)
        row[list(pair)] += probability * (shares[1] if known is None else known @ shares)
    return row
