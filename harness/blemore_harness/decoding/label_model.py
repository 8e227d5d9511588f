"""How likely each of the 36 labels is, given a row of probabilities; and the label that promises the best Score.

A small model with a handful of weights, trained on out-of-fold rows: it calibrates the row (a weight for its logits, a
bias per emotion) and knows how common single emotions, neutral, even and uneven blends are. The official decoding asks
which thresholds fit best; this asks for each clip which answer gains most in expectation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.decoding.decoders import Groups, log_rows
from blemore_harness.errors import DataError
from blemore_harness.predictions import FloatArray, softmax
from blemore_harness.protocol.rules import BLENDS, NEUTRAL, SINGLE

PENALTY = 1.0
"""Weight of the squared distance from the starting weights, in clips: it only matters for very few of them."""

TOLERANCE = 1e-5
"""Length of the gradient of the log-likelihood, in clips, at which its maximum counts as found."""


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
        weights: float64 (K,), of the features of `describe_labels`.
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
        return softmax(describe_labels(values) @ self.weights)


def describe_labels(values: FloatArray) -> NDArray[np.float64]:
    """Return what speaks for each label, float64 (N, 36, K).

    For a single emotion its log-probability; for a blend the mean of both log-probabilities, and their difference
    towards the larger share, for uneven ones. Then a one for each emotion by its share, and for each kind of label.
    """
    logs, labels = log_rows(values), all_labels()
    shares = labels / 100.0
    blend = (labels > 0).sum(axis=1) == 2
    present = (labels > 0) / (labels > 0).sum(axis=1, keepdims=True)
    height = logs @ present.T
    lean = logs @ (shares - present).T
    distance = np.zeros_like(height)
    for index in np.flatnonzero(blend):
        one, two = np.flatnonzero(labels[index])
        distance[:, index] = np.abs(logs[:, one] - logs[:, two])
    kinds = np.stack(
        [~blend & (labels[:, NEUTRAL] == 0), blend & (labels.max(axis=1) == 50), blend & (labels.max(axis=1) == 70)]
    )
    columns = [height * ~blend, height * blend, lean, distance * (blend & (labels.max(axis=1) == 50))]
    fixed = np.concatenate([shares, kinds.T], axis=1)
    return np.concatenate([np.stack(columns, axis=2), np.broadcast_to(fixed, (len(logs), *fixed.shape))], axis=2)


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

    features = describe_labels(values)
    target = (truth[:, None] == all_labels()[None]).all(axis=2).argmax(axis=1)
    start = np.zeros(features.shape[2])
    start[:3] = 1.0
    wanted = features[np.arange(len(features)), target].sum(axis=0)
    flat = features.reshape(-1, features.shape[2])

    def objective(weights: FloatArray) -> tuple[float, FloatArray]:
        logits = features @ weights
        highest = logits.max(axis=1)
        total = float((highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))).sum())
        value = total - float(wanted @ weights) + 0.5 * PENALTY * float(((weights - start) ** 2).sum())
        return value, softmax(logits).ravel() @ flat - wanted + PENALTY * (weights - start)

    def curvature(weights: FloatArray) -> FloatArray:
        likely = softmax(features @ weights)
        expected = (likely[:, None] @ features)[:, 0]
        return (flat * likely.reshape(-1, 1)).T @ flat - expected.T @ expected + PENALTY * np.eye(len(weights))

    found = minimize(objective, start, jac=True, hess=curvature, method="trust-exact", options={"gtol": TOLERANCE})
    blends = (truth > 0).sum(axis=1) == 2
    return ExpectedScoreDecoder(np.asarray(found.x), float(blends.mean()))
