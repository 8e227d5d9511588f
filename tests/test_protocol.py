"""The official rules: decoding, accuracies and names, against a literal implementation and real numbers."""

from __future__ import annotations

import doctest
import hashlib
import inspect
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemore_harness.errors import ConfigError, InvalidPredictions, InvalidProbabilities
from blemore_harness.protocol import grid, thresholds
from blemore_harness.protocol import rules as protocol
from blemore_harness.protocol.rules import (
    ClipName,
    Scores,
    acc_presence,
    acc_salience,
    decode,
    label_text,
    parse_clip_id,
    score,
    top_two,
)
from golden import literal_protocol as literal
from real_material import needs_real, real_labels

ROOT = Path(__file__).parents[1]
GOLDEN = json.loads(literal.GOLDEN.read_text())

FEA = [0, 0, 100, 0, 0, 0]


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.array(literal.make_rows())


def one(values: list[float], alpha: float, beta: float) -> str:
    return label_text(decode([values], alpha, beta)[0])


def test_golden_rows_are_the_ones_that_the_digests_are_of(rows: np.ndarray) -> None:
    assert rows.shape == (literal.ROWS, 6)
    assert hashlib.sha256(rows.astype("<f8").tobytes()).hexdigest() == GOLDEN["rows_sha256"]


def test_decoding_100_000_rows_gives_the_golden_labels(rows: np.ndarray) -> None:
    decoded = np.zeros(rows.shape, dtype=np.int8)
    for k in range(400):
        decoded[k::400] = decode(rows[k::400], *literal.pair_of(k))
    digests = [hashlib.sha256(part.tobytes()).hexdigest() for part in np.split(decoded, 10)]
    assert digests == GOLDEN["decoded_sha256"]


def test_decoding_the_shown_golden_rows() -> None:
    assert len(GOLDEN["rows"]) >= 300
    for index, values, (alpha, beta), label in GOLDEN["rows"]:
        assert decode([values], alpha, beta).tolist() == [label], index


def test_the_literal_implementation_still_gives_the_golden_labels(rows: np.ndarray) -> None:
    part = rows[:10_000].tolist()
    decoded = [literal.percentages(literal.decode_row(row, *literal.pair_of(i))) for i, row in enumerate(part)]
    assert literal.digest(decoded) == GOLDEN["decoded_sha256"][0]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.7, 1.0])), min_size=6, max_size=6
    ),
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.3])),
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.3])),
)
def test_decoding_equals_the_literal_rules_at_any_thresholds(values: list[float], alpha: float, beta: float) -> None:
    assert decode([values], alpha, beta)[0].tolist() == literal.percentages(literal.decode_row(values, alpha, beta))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=20))
def test_top_two_is_a_stable_sort(values: list[list[int]]) -> None:
    array = np.array(values, dtype=np.float64)
    first, second, high, low = top_two(array)
    order = np.argsort(-array, axis=1, kind="stable")
    assert (first == order[:, 0]).all()
    assert (second == order[:, 1]).all()
    assert (high == np.sort(array, axis=1)[:, -1]).all()
    assert (low == np.sort(array, axis=1)[:, -2]).all()


def test_decoding_leaves_its_input_alone() -> None:
    values = np.array([[0.4, 0.3, 0.3, 0, 0, 0]])
    values.setflags(write=False)
    assert decode(values, 0.1, 0.1).dtype == np.int8


@pytest.mark.parametrize(
    ("values", "alpha", "beta", "expected"),
    [
        pytest.param([0.4, 0.3, 0.2, 0.1, 0, 0], 0.1, 0.1, "ang+disg 70/30", id="float64 difference above .1"),
        pytest.param([0.3, 0.4, 0.2, 0.1, 0, 0], 0.1, 0.1, "ang+disg 30/70", id="the larger may come second"),
        pytest.param(
            [0.5, 0.25, 0.25, 0, 0, 0], 0.1, 0.25, "ang+disg 50/50", id="tie to the lower index, beta reached"
        ),
        pytest.param([0.1, 0.1, 0.2, 0.2, 0.2, 0.2], 0.05, 0.05, "fea+hap 50/50", id="four tied"),
        pytest.param([0.6, 0.3, 0.1, 0, 0, 0], 0.3, 0.05, "ang+disg 70/30", id="equal to alpha survives"),
        pytest.param([0.6, 0.3, 0.1, 0, 0, 0], np.nextafter(0.3, 1), 0.05, "ang", id="just below alpha does not"),
        pytest.param([0.2, 0.2, 0.15, 0.15, 0.15, 0.15], 0.9, 0.5, "ang", id="largest below alpha stands alone"),
        pytest.param([0, 0, 0, 0.2, 0.1, 0.3], 0.5, 0.5, "neu", id="which can be neutral"),
        pytest.param([0, 0, 0, 0.45, 0, 0.55], 0.05, 0.95, "neu", id="neutral above stands alone"),
        pytest.param([0, 0, 0, 0.55, 0, 0.45], 0.05, 0.95, "hap", id="neutral below is dropped"),
        pytest.param([0, 0, 0, 0.5, 0, 0.5], 0.05, 0.95, "hap", id="a tie with neutral goes to the other"),
        pytest.param([0.4, 0.3, 0.1, 0.1, 0, 0.35], 0.05, 0.95, "ang", id="neutral second hides the third"),
        pytest.param([1, 0, 0, 0, 0, 0], 0, 0, "ang", id="one positive value at alpha 0"),
        pytest.param([0, 0, 0, 0, 0, 0], 0.05, 0.05, "ang", id="all zero"),
        pytest.param([0, 0, 0, 0, 0, 1], 0.05, 0.05, "neu", id="all neutral"),
        pytest.param([0.5, 0.5, 0, 0, 0, 0], 0.5, 0, "ang+disg 50/50", id="beta 0"),
    ],
)
def test_decoding_rules(values: list[float], alpha: float, beta: float, expected: str) -> None:
    assert one(values, alpha, beta) == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_decoding_refuses_what_is_not_finite(bad: float) -> None:
    with pytest.raises(InvalidProbabilities, match=r"1 of 2 rows \(first: row 1\)"):
        decode([[1, 0, 0, 0, 0, 0], [bad, 0, 0, 0, 0, 0]], 0.1, 0.1)


@pytest.mark.parametrize("shape", [(6,), (2, 5), (1, 2, 6)])
def test_decoding_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidProbabilities, match="found shape"):
        decode(np.zeros(shape), 0.1, 0.1)


@pytest.mark.parametrize(("alpha", "beta", "name"), [(30, 0.1, "alpha"), (0.1, -0.1, "beta"), (np.nan, 0.1, "alpha")])
def test_decoding_refuses_thresholds_outside_0_to_1(alpha: float, beta: float, name: str) -> None:
    with pytest.raises(ConfigError, match=f"expected {name} between 0 and 1"):
        decode(np.zeros((1, 6)), alpha, beta)


def test_no_rows_decode_to_no_labels() -> None:
    assert decode(np.zeros((0, 6)), 0.1, 0.1).shape == (0, 6)


def test_accuracies_equal_the_literal_ones() -> None:
    rows = literal.make_rows(3000)
    truth = literal.make_truth(rows)
    array = np.array([literal.percentages(label) for label in truth], dtype=np.int8)
    for alpha, beta in ((0.05, 0.05), (0.2, 0.15), (0.3, 0.4), (0.95, 0.95)):
        predicted = [literal.decode_row(row, alpha, beta) for row in rows]
        found = score(array, decode(rows, alpha, beta))
        assert found == Scores(literal.presence(truth, predicted), literal.salience(truth, predicted))
        assert found.score == 0.5 * found.presence + 0.5 * found.salience


def test_salience_counts_true_blends_only() -> None:
    truth = np.array([[70, 30, 0, 0, 0, 0], FEA], dtype=np.int8)
    assert score(truth, np.array([[30, 70, 0, 0, 0, 0], FEA], dtype=np.int8)) == Scores(1.0, 0.0)
    assert score(truth, np.array([[70, 30, 0, 0, 0, 0], [50, 50, 0, 0, 0, 0]], dtype=np.int8)) == Scores(0.5, 1.0)
    assert score(truth, np.array([[100, 0, 0, 0, 0, 0], FEA], dtype=np.int8)) == Scores(0.5, 0.0)


def test_without_blends_salience_is_zero() -> None:
    truth = np.array([FEA], dtype=np.int8)
    assert acc_salience(truth, truth) == 0.0
    assert score(truth, truth).score == 0.5


def test_scoring_refuses_other_clips_and_none() -> None:
    with pytest.raises(InvalidPredictions, match="for the same clips"):
        acc_presence(np.zeros((2, 6), dtype=np.int8), np.zeros((3, 6), dtype=np.int8))
    with pytest.raises(InvalidPredictions, match="no clips"):
        score(np.zeros((0, 6), dtype=np.int8), np.zeros((0, 6), dtype=np.int8))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("A102_ang_int1_ver1", ClipName("A102", (100, 0, 0, 0, 0, 0), "1", intensity=1)),
        ("A2301_sad_int4_ver12", ClipName("A2301", (0, 0, 0, 0, 100, 0), "12", intensity=4)),
        ("A55_neu_sit3_ver2", ClipName("A55", (0, 0, 0, 0, 0, 100), "2", situation=3)),
        ("A1_mix_disg_sad_30_70_ver1", ClipName("A1", (0, 30, 0, 0, 70, 0), "1")),
        ("A1_mix_ang_hap_50_50_ver10", ClipName("A1", (50, 0, 0, 50, 0, 0), "10")),
    ],
)
def test_released_names(name: str, expected: ClipName) -> None:
    found = parse_clip_id(name)
    assert found == expected
    assert found.truth.dtype == np.int8
    assert found.truth.tolist() == list(expected.percentages)


@pytest.mark.parametrize(
    "name",
    [
        "test_0001",
        "",
        "A102_ang_int5_ver1",
        "A102_ang_int1_ver1.mov",
        "A102_neu_int1_ver1",
        "A102_joy_int1_ver1",
        "A_ang_int1_ver1",
        "A1_ang_sit1_ver1",
        "A1_mix_fea_ang_70_30_ver1",
        "A1_mix_ang_ang_50_50_ver1",
        "A1_mix_ang_neu_50_50_ver1",
        "A1_mix_ang_fea_60_40_ver1",
        "A1_mix_ang_fea_70_70_ver1",
        "A1_mix_ang_fea_70_30_ver",
        "A1_ang_int1_ver1\n",
        "A١_ang_int1_ver1",
    ],
)
def test_other_names(name: str) -> None:
    assert parse_clip_id(name) is None


def test_label_text() -> None:
    assert [label_text(row) for row in ([0, 0, 0, 0, 0, 100], [0, 30, 0, 70, 0, 0])] == ["neu", "disg+hap 30/70"]


def test_scores_are_the_mean_of_both() -> None:
    assert Scores(0.5, 0.25).score == 0.375


@needs_real
def test_every_real_name_says_what_its_columns_say() -> None:
    labels = real_labels()
    assert len(labels) == 2456
    for name, label in labels.items():
        found = parse_clip_id(name)
        assert found is not None
        assert found.truth.tolist() == label, name


@needs_real
def test_trivial_rows_on_the_real_labels() -> None:
    truth = np.array(list(real_labels().values()), dtype=np.int8)
    blends = (truth > 0).sum(axis=1) == 2
    assert (len(truth), int(blends.sum())) == (2456, 1326)
    fear = np.tile(np.array(FEA, dtype=np.int8), (2456, 1))
    assert score(truth, fear) == Scores(192 / 2456, 0.0)
    singles = Counter(label_text(row) for row in truth[~blends])
    assert max(singles.values()) == singles["fea"] == singles["hap"] == 192
    pairs = Counter(tuple(np.flatnonzero(row)) for row in truth[blends])
    assert max(pairs.values()) == pairs[0, 3] == pairs[0, 2] == 140
    pair = ([50, 0, 0, 50, 0, 0], [70, 0, 0, 30, 0, 0], [30, 0, 0, 70, 0, 0])
    found = [score(truth, np.tile(np.array(label, dtype=np.int8), (2456, 1))) for label in pair]
    assert {scores.presence for scores in found} == {140 / 2456}
    other = [[50, 0, 50, 0, 0, 0], [70, 0, 30, 0, 0, 0], [30, 0, 70, 0, 0, 0]]
    found += [score(truth, np.tile(np.array(label, dtype=np.int8), (2456, 1))) for label in other]
    assert max(scores.salience for scores in found) == 47 / 1326


@pytest.mark.parametrize("module", [protocol, grid, thresholds], ids=lambda module: module.__name__)
def test_public_functions_of_the_rules_have_an_example(module: ModuleType) -> None:
    public = [
        found
        for name, found in vars(module).items()
        if inspect.isfunction(found) and found.__module__ == module.__name__ and not name.startswith("_")
    ]
    assert len(public) >= 3
    assert [found.__name__ for found in public if ">>> " not in inspect.getdoc(found)] == []


def test_examples_in_docstrings_and_docs() -> None:
    assert doctest.testmod(protocol).failed == 0
    found = doctest.testfile(str(ROOT / "docs" / "reference" / "protocol.md"), module_relative=False, encoding="utf-8")
    assert found.failed == 0
    assert found.attempted > 10
