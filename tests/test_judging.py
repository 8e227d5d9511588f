"""How good an epoch is: the official Score by the literal rules, then the mean log-likelihood by plain sums."""

from __future__ import annotations

import math

import numpy as np
import pytest

from blemore_harness.clips import Clip, Clips
from blemore_harness.heads.judging import InnerJudge, measure_gain
from golden import literal_protocol
from golden.literal_protocol import EMOTIONS

TRUTH = np.array(
    [[70, 30, 0, 0, 0, 0], [0, 0, 50, 0, 50, 0], [0, 0, 0, 100, 0, 0], [0, 0, 0, 0, 0, 100], [0, 30, 0, 70, 0, 0]],
    dtype=np.int8,
)


def judge_of(truth: np.ndarray) -> InnerJudge:
    """A judge on clips with these labels."""
    names = tuple(f"c{number}" for number in range(len(truth)))
    return InnerJudge(Clips(tuple(map(Clip, names)), names, truth))


@pytest.mark.parametrize("seed", range(4))
def test_a_grade_is_the_official_score_and_the_mean_log_likelihood(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = TRUTH[random.integers(0, len(TRUTH), 30)]
    rows = 0.6 * random.dirichlet(np.ones(6), 30) + 0.4 * truth / 100
    labels = [{EMOTIONS[k]: int(share) for k, share in enumerate(row) if share} for row in truth]
    found = literal_protocol.search(rows.tolist(), labels)
    likelihood = sum(
        share / 100 * math.log(value)
        for label, row in zip(truth.tolist(), rows.tolist(), strict=True)
        for share, value in zip(label, row, strict=True)
    )
    assert judge_of(truth).grade(rows) == pytest.approx(
        (0.5 * found["acc_presence"] + 0.5 * found["acc_salience"], likelihood / 30), rel=1e-6
    )


def test_a_probability_of_zero_counts_as_1e_12() -> None:
    truth = np.array([[100, 0, 0, 0, 0, 0], [70, 30, 0, 0, 0, 0]], dtype=np.int8)
    rows = np.array([[0.0, 1, 0, 0, 0, 0], [0.5, 0, 0.5, 0, 0, 0]])
    expected = (math.log(1e-12) + 0.7 * math.log(0.5) + 0.3 * math.log(1e-12)) / 2
    assert judge_of(truth).grade(rows) == pytest.approx((0.0, expected), rel=1e-6)


def test_of_equal_scores_the_likelier_rows_are_better_and_a_better_score_beats_both() -> None:
    truth = np.array([[100, 0, 0, 0, 0, 0], [0, 100, 0, 0, 0, 0]], dtype=np.int8)
    judge = judge_of(truth)
    sure = judge.grade(np.array([[0.98, 0.02, 0, 0, 0, 0], [0.02, 0.98, 0, 0, 0, 0]]))
    unsure = judge.grade(np.array([[0.53, 0.47, 0, 0, 0, 0], [0.47, 0.53, 0, 0, 0, 0]]))
    # One of two wrong, the other certain: likelier than two that are barely wrong, or barely right.
    half = judge.grade(np.array([[1.0, 0, 0, 0, 0, 0], [0.51, 0.49, 0, 0, 0, 0]]))
    assert (sure[0], unsure[0], half[0]) == (0.5, 0.5, 0.25)
    assert sure > unsure > half
    assert half[1] > unsure[1]


def test_a_gain_and_its_error_are_those_of_the_actors_by_the_literal_rules() -> None:
    random = np.random.default_rng(0)
    truth = TRUTH[random.integers(0, len(TRUTH), 40)]
    actors = tuple(f"A{number}" for number in random.integers(0, 3, 40))
    clips = Clips(tuple(Clip(f"c{number}") for number in range(40)), actors, truth)
    heads = [share * random.dirichlet(np.ones(6), 40) + (1 - share) * truth / 100 for share in (0.5, 0.8)]
    labels = [{EMOTIONS[k]: int(share) for k, share in enumerate(row) if share} for row in truth]
    scores = []
    for rows in heads:
        best = literal_protocol.search(rows.tolist(), labels)
        each = []
        for actor in sorted(set(actors)):
            own = [k for k, name in enumerate(actors) if name == actor]
            decoded = [literal_protocol.decode_row(row, best["alpha"], best["beta"]) for row in rows[own].tolist()]
            both = ([labels[k] for k in own], decoded)
            each.append(0.5 * literal_protocol.presence(*both) + 0.5 * literal_protocol.salience(*both))
        scores.append(each)
    gains = [one - other for one, other in zip(*scores, strict=True)]
    mean = sum(gains) / 3
    error = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / 2 / 3)
    assert measure_gain(clips, *heads) == pytest.approx((mean, error))
    assert mean > error > 0
    assert measure_gain(clips, *reversed(heads)) == pytest.approx((-mean, error))
    alone = clips.take([actor == "A0" for actor in actors])
    rows = [head[[actor == "A0" for actor in actors]] for head in heads]
    assert measure_gain(alone, *rows)[1] == math.inf
