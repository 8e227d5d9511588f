"""How likely each of the 36 labels is, given a row of probabilities; and the label that promises the best Score.

A small model with a handful of weights, trained on out-of-fold rows: it calibrates the row (a weight for its logits, a
bias per emotion) and knows how common single emotions, neutral, even and uneven blends are. The official decoding asks
which thresholds fit best; this asks for each clip which answer gains most in expectation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.decoding.decoders import Groups, log_rows
from blemore_harness.errors import DataError
from blemore_harness.predictions import FloatArray, softmax
from blemore_harness.protocol.rules import BLENDS, EQUAL, NEUTRAL, SINGLE

PENALTY = 1.0
"""Weight of the squared distance from the starting weights, in clips: it only matters for very few of them."""

TOLERANCE = 1e-5
"""Length of the gradient of the log-likelihood, in clips, at which its maximum counts as found."""

BLOCK = 512
"""Clips in a matrix product: as many as OpenBLAS multiplies in one thread. Threads would round by their number."""


def all_labels() -> LabelArray:
    """Return every label that a clip can have, int8 (36, 6): six single emotions, then ten pairs in three proportions.

    >>> all_labels().shape
    (36, 6)
    """
    labels = [[SINGLE * (i == k) for i in range(len(EMOTIONS))] for k in range(len(EMOTIONS))]
    for one, two in combinations(range(NEUTRAL), 2):
        for share_one, share_two in BLENDS:
            labels.append([share_one * (i == one) + share_two * (i == two) for i in range(len(EMOTIONS))])
    return np.array(labels, dtype=np.int8)


@dataclass(frozen=True)
class ExpectedScoreDecoder:
    """Answers with the label that gains most expected Score.

    Attributes:
        weights: float64 (K,), of what speaks for each label, in the order of `LabelEvidence`.
        blend_share: share of blends among clips, which says what a right salience is worth; nothing where it is 0.
    """

    weights: FloatArray
    blend_share: float

    def decode(self, values: FloatArray, groups: Groups | None) -> LabelArray:
        """Return for each row the label with the largest .5 P(set) / clips + .5 P(label) / blends."""
        labels = all_labels()
        likely = self.probabilities(values)
        same_set = ((labels[:, None] > 0) == (labels[None] > 0)).all(axis=2)
        gain = likely @ same_set.T.astype(np.float64)
        blends = (labels > 0).sum(axis=1) == 2
        if self.blend_share > 0:
            gain += np.where(blends, likely / self.blend_share, 0.0)
        return np.asarray(labels[gain.argmax(axis=1)])

    def probabilities(self, values: FloatArray) -> FloatArray:
        """Return the probability of each label, float64 (N, 36), in the order of `all_labels`."""
        return softmax(np.ascontiguousarray(LabelEvidence(log_rows(values).T).logits(self.weights).T))


class LabelEvidence:
    """What speaks for each label: two numbers that depend on the clip, and nine that do not.

    For a single emotion its log-probability; for a blend the mean of both log-probabilities, and their difference
    towards the larger share (uneven blends) or their distance (even ones). Then a one for each emotion by its share,
    and for each kind of label: a single emotion other than neutral, an even blend, an uneven one.

    Args:
        logs: float64 (..., 6, C), log-probabilities of C clips.

    Attributes:
        height, side: float64 (..., 36, C), log-probability or its mean; difference or distance, 0 for single emotions.
        places: float64 (36, 3, 13), which weights height, side and a constant are multiplied by.
    """

    def __init__(self, logs: FloatArray) -> None:
        labels = all_labels()
        present = labels > 0
        one, two = present.argmax(axis=1), len(EMOTIONS) - 1 - present[:, ::-1].argmax(axis=1)
        blend, even = one != two, labels.max(axis=1) == EQUAL
        apart = logs[..., one, :] - logs[..., two, :]
        lean = labels[np.arange(len(labels)), one] / SINGLE - 0.5
        self.height = (logs[..., one, :] + logs[..., two, :]) / 2
        self.side = np.where(even[:, None], np.abs(apart), lean[:, None] * apart)
        varying = np.eye(4)[[blend.astype(int), np.where(even, 3, 2)]]
        kinds = np.column_stack([~blend & (one != NEUTRAL), even, blend & ~even])
        fixed = np.hstack([labels / SINGLE, kinds])
        self.places = np.zeros((len(labels), 3, 4 + fixed.shape[1]))
        self.places[:, :2, :4], self.places[:, 2, 4:] = varying.transpose(1, 0, 2), fixed

    def logits(self, weights: FloatArray) -> FloatArray:
        """Return the log-odds of each label, float64 (..., 36, C)."""
        height, side, constant = (self.places @ weights).T[:, :, None]
        return np.asarray(height * self.height + side * self.side + constant)


class _Likelihood:
    """Minus the log-likelihood plus penalty as a function of the weights.

    Clips are held in blocks, (B, 36, C); the last block is filled with clips that count nothing. The probabilities at
    the last weights are kept for the second derivatives.
    """

    def __init__(self, values: FloatArray, truth: LabelArray) -> None:
        block = min(BLOCK, len(values))
        blocks = -(-len(values) // block)
        logs, counted = np.zeros((blocks * block, len(EMOTIONS))), np.zeros(blocks * block)
        logs[: len(values)], counted[: len(values)] = log_rows(values), 1.0
        self._evidence = LabelEvidence(logs.reshape(blocks, block, -1).transpose(0, 2, 1))
        self._counted = counted.reshape(blocks, 1, block)
        own = np.zeros((blocks * block, len(all_labels())))
        own[: len(values)] = (truth[:, None] == all_labels()[None]).all(axis=2)
        self._wanted = self._gather(own.reshape(blocks, block, -1).transpose(0, 2, 1))
        self.start = np.zeros(self._evidence.places.shape[2])
        self.start[:3] = 1.0
        self._last, self._likely = np.full(len(self.start), np.nan), own

    def value(self, weights: FloatArray) -> tuple[float, FloatArray]:
        """Return value and gradient."""
        likely = self._evidence.logits(weights)
        highest = likely.max(axis=1, keepdims=True)
        likely -= highest
        np.exp(likely, out=likely)
        sums = likely.sum(axis=1, keepdims=True)
        likely *= self._counted / sums
        self._last, self._likely = weights.copy(), likely
        pulled = weights - self.start
        total = float(((highest + np.log(sums)) * self._counted).sum()) - float(self._wanted @ weights)
        return total + 0.5 * PENALTY * float((pulled**2).sum()), self._gather(likely) - self._wanted + PENALTY * pulled

    def curvature(self, weights: FloatArray) -> FloatArray:
        """Return the second derivatives, float64 (K, K)."""
        if not np.array_equal(weights, self._last):
            self.value(weights)
        likely, height, side, places = self._likely, self._evidence.height, self._evidence.side, self._evidence.places
        tall, aside = likely * height, likely * side
        moments = np.empty((len(places), 3, 3))
        for row, column, one, two in ((0, 0, tall, height), (0, 1, tall, side), (1, 1, aside, side)):
            moments[:, row, column] = moments[:, column, row] = np.einsum("blc,blc->l", one, two)
        for place, each in enumerate((tall, aside, likely)):
            moments[:, place, 2] = moments[:, 2, place] = each.sum(axis=(0, 2))
        flat = places.reshape(-1, len(weights))
        expected = places[:, 0].T @ tall + places[:, 1].T @ aside + places[:, 2].T @ likely
        spread = (expected @ expected.transpose(0, 2, 1)).sum(axis=0)
        return np.asarray(flat.T @ (moments @ places).reshape(flat.shape) - spread + PENALTY * np.eye(len(weights)))

    def _gather(self, likely: FloatArray) -> FloatArray:
        """Return the sum, float64 (K,), of what speaks for labels, each as probable as `likely` (B, 36, C) says."""
        evidence = self._evidence
        sums = [(likely * evidence.height).sum(axis=(0, 2)), (likely * evidence.side).sum(axis=(0, 2)),
                likely.sum(axis=(0, 2))]  # fmt: skip
        return np.asarray(np.einsum("pl,lpk->k", np.stack(sums), evidence.places))


def fit_expected_score(values: FloatArray, truth: LabelArray) -> ExpectedScoreDecoder:
    """Fit the weights by maximum likelihood with a light pull towards plain probabilities.

    By Newton's method in a trust region (`trust-exact` of scipy).

    Args:
        values: float64 (N, 6), rows that never saw their clip.
        truth: int8 (N, 6) percentages.

    Raises:
        DataError: no clips.
    """
    if not len(values):
        raise DataError("the label model needs at least one clip")
    from scipy.optimize import minimize

    likelihood = _Likelihood(values, truth)
    found = minimize(
        likelihood.value,
        likelihood.start,
        jac=True,
        hess=likelihood.curvature,
        method="trust-exact",
        options={"gtol": TOLERANCE},
    )
    blends = (truth > 0).sum(axis=1) == 2
    return ExpectedScoreDecoder(np.asarray(found.x), float(blends.mean()))
