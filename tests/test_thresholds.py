"""Choosing thresholds by counting, against the literal loop over 400 decodings and real numbers."""

from __future__ import annotations

import csv
import doctest
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemore_harness.errors import ConfigError, DataError, InvalidPredictions, InvalidProbabilities
from blemore_harness.protocol import grid as grid_module
from blemore_harness.protocol import thresholds
from blemore_harness.protocol.grid import (
    OFFICIAL_GRID,
    Choice,
    GridCounter,
    GridScores,
    Thresholds,
    count_grids,
    place_on_grid,
)
from blemore_harness.protocol.rules import Scores, decode, score
from blemore_harness.protocol.thresholds import (
    cross_fitted,
    official,
    search_official,
    summarise,
)
from golden import literal_protocol as literal
from real_material import REAL, needs_real, real_labels

GRID = literal.linspace_grid()

values_ = st.one_of(
    st.sampled_from([0.0, *GRID]),
    st.floats(0, 1),
    st.integers(0, 10).map(lambda k: k / 10),
)
rows_ = st.lists(values_, min_size=6, max_size=6)
labels_ = st.one_of(
    st.sampled_from(literal.EMOTIONS).map(lambda name: {name: 100}),
    st.tuples(st.permutations(literal.EMOTIONS[:5]), st.sampled_from([30, 50, 70])).map(
        lambda drawn: {drawn[0][0]: drawn[1], drawn[0][1]: 100 - drawn[1]}
    ),
)
NEUTRAL = {"neu": 100}


def as_truth(labels: list[dict[str, int]]) -> np.ndarray:
    return np.array([literal.percentages(label) for label in labels], dtype=np.int8)


def as_literal(choice: Choice) -> dict[str, float]:
    return {
        "alpha": choice.thresholds.alpha,
        "beta": choice.thresholds.beta,
        "acc_presence": choice.scores.presence,
        "acc_salience": choice.scores.salience,
        "best_presence": choice.best_presence,
        "best_salience": choice.best_salience,
    }


@pytest.fixture(scope="module")
def made() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, truth and folds of 1,500 clips, ties and zeros among them."""
    rows = literal.make_rows(1500)
    return np.array(rows), as_truth(literal.make_truth(rows)), np.arange(1500) * 7 % 11 % 5


def test_the_grid_is_numpys_linspace() -> None:
    assert OFFICIAL_GRID.tolist() == GRID == np.linspace(0.05, 0.95, 20).tolist()
    assert not OFFICIAL_GRID.flags.writeable


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(st.tuples(rows_, labels_), min_size=1, max_size=7))
def test_the_search_equals_the_literal_loop(clips: list[tuple[list[float], dict[str, int]]]) -> None:
    rows, labels = [row for row, _ in clips], [label for _, label in clips]
    assert as_literal(search_official(rows, as_truth(labels))) == literal.search(rows, labels)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(rows_, min_size=1, max_size=6))
def test_the_search_where_the_truth_is_what_some_pair_decodes(rows: list[list[float]]) -> None:
    labels = [literal.decode_row(row, GRID[3], GRID[2]) for row in rows]
    found = search_official(rows, as_truth(labels))
    assert as_literal(found) == literal.search(rows, labels)
    assert found.best_presence == 1.0


@pytest.mark.parametrize(
    "labels",
    [[NEUTRAL, NEUTRAL], [{"ang": 100}, {"sad": 100}], [{"ang": 70, "fea": 30}, {"ang": 50, "fea": 50}]],
    ids=["all neutral", "no blends", "only blends"],
)
def test_the_search_on_one_sided_labels(labels: list[dict[str, int]]) -> None:
    rows = [[0.3, 0.0, 0.2, 0.0, 0.2, 0.3], [0.4, 0.1, 0.4, 0.0, 0.0, 0.1]]
    assert as_literal(search_official(rows, as_truth(labels))) == literal.search(rows, labels)
    for row, label in zip(rows, labels, strict=True):
        assert as_literal(search_official([row], as_truth([label]))) == literal.search([row], [label])


def test_the_search_gives_the_golden_choice() -> None:
    rows = literal.make_rows(literal.SEARCHED)
    found = search_official(rows, as_truth(literal.make_truth(rows)))
    assert as_literal(found) == json.loads(literal.GOLDEN.read_text())["search"]


def test_nothing_right_anywhere_chooses_the_smallest_thresholds() -> None:
    found = search_official([[0, 0, 0, 0, 0, 1]], as_truth([{"ang": 100}]))
    assert (found.thresholds.alpha, found.thresholds.beta) == (GRID[0], GRID[0])
    assert found.scores == Scores(0.0, 0.0)


def test_every_cell_of_the_tables_is_what_decoding_gives(made: tuple[np.ndarray, ...]) -> None:
    rows, truth, _ = made
    grid = GridCounter(truth).count(rows)
    for i, alpha in enumerate(GRID):
        for j, beta in enumerate(GRID):
            expected = score(truth, decode(rows, alpha, beta))
            assert grid.scores_at(i, j) == expected
            assert grid.surface[i, j] == expected.score
    assert grid.presence.shape == grid.salience.shape == (20, 20)


def test_rounding_decides_between_equal_scores_as_in_the_official_loop() -> None:
    # 5/6 + 0/2 and 2/6 + 1/2 are equal, but not as the official loop rounds them.
    first, second = (5, 0), (2, 1)
    assert 0.5 * (5 / 6) + 0.5 * (0 / 2) > 0.5 * (2 / 6) + 0.5 * (1 / 2)
    for one, two in ((first, second), (second, first)):
        presence, salience = np.zeros((2, 20, 20), dtype=np.int64)
        presence[3, 4], salience[3, 4] = one
        presence[5, 1], salience[5, 1] = two
        grid = GridScores(6, 2, presence, salience)
        assert grid.argbest() == literal_argbest(grid) == ((3, 4) if one == first else (5, 1))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_the_best_cell_is_the_literal_loops(clips: int, blends: int, seed: int, levels: int) -> None:
    source = np.random.default_rng(seed)
    blends = min(blends, clips)
    presence = source.integers(max(clips - levels, 0), clips + 1, (20, 20))
    salience = source.integers(max(blends - levels, 0), blends + 1, (20, 20))
    grid = GridScores(clips, blends, presence, salience)
    assert grid.argbest() == literal_argbest(grid)


def literal_argbest(grid: GridScores) -> tuple[int, int]:
    best, where = -1.0, (-1, -1)
    for i in range(20):
        for j in range(20):
            acc_p = int(grid.presence[i, j]) / grid.clips
            acc_s = int(grid.salience[i, j]) / grid.blends if grid.blends else 0.0
            if 0.5 * acc_p + 0.5 * acc_s > best:
                best, where = 0.5 * acc_p + 0.5 * acc_s, (i, j)
    return where


def test_counting_per_fold_is_counting_every_fold(made: tuple[np.ndarray, ...]) -> None:
    rows, truth, folds = made
    grids = GridCounter(truth, folds).per_fold(rows)
    assert list(grids) == [0, 1, 2, 3, 4]
    for fold, grid in grids.items():
        alone = GridCounter(truth[folds == fold]).count(rows[folds == fold])
        assert (grid.clips, grid.blends) == (alone.clips, alone.blends)
        assert (grid.presence == alone.presence).all()
        assert (grid.salience == alone.salience).all()


def test_sums_over_actors_are_the_counts_of_folds_and_of_all_clips(made: tuple[np.ndarray, ...]) -> None:
    rows, truth, folds = made
    actors = np.arange(1500) % 13  # in several folds: an actor of each
    grids = count_grids(rows, truth, folds, actors)
    assert len(grids.folds) == len({*zip(folds.tolist(), actors.tolist(), strict=True)})
    counted = GridCounter(truth, folds).per_fold(rows)
    for found, expected in (
        (grids.per_fold(), counted),
        (grids.take([1, 3]).per_fold(), {k: counted[k] for k in (1, 3)}),
    ):
        assert list(found) == list(expected)
        for fold, grid in found.items():
            assert same_counts(grid, expected[fold])
    assert same_counts(grids.pooled(), GridCounter(truth).count(rows))
    one = (folds == 2) & (actors == 5)
    place = 2 * 13 + 5  # by folds, then actors
    alone = GridCounter(truth[one]).count(rows[one])
    assert (grids.salience[place] == alone.salience).all()
    assert (grids.presence[place] == alone.presence[:, 7]).all()


def test_a_pair_of_the_grid_has_a_place() -> None:
    assert place_on_grid(Thresholds(GRID[7], GRID[2])) == (7, 2)
    with pytest.raises(ConfigError, match=r"0\.06"):
        place_on_grid(Thresholds(0.06, GRID[2]))


def same_counts(one: GridScores, two: GridScores) -> bool:
    return (
        (one.clips, one.blends) == (two.clips, two.blends)
        and np.array_equal(one.presence, two.presence)
        and np.array_equal(one.salience, two.salience)
    )


def test_official_chooses_on_the_fold_itself(made: tuple[np.ndarray, ...]) -> None:
    rows, truth, folds = made
    for fold, choice in official(rows, truth, folds).items():
        assert choice == search_official(rows[folds == fold], truth[folds == fold])


def test_cross_fitted_chooses_on_the_other_folds() -> None:
    # Every fold has its own best thresholds, and one of them is large: leaving a fold out changes the choice.
    rows, folds = np.array(literal.make_rows(600)), np.arange(600) % 11 % 5
    truth = np.zeros((600, 6), dtype=np.int8)
    for fold in range(5):
        truth[folds == fold] = decode(rows[folds == fold], GRID[1 + 2 * fold], GRID[9 - 2 * fold])
    pooled = search_official(rows, truth).thresholds
    assert any(choice.thresholds != pooled for choice in cross_fitted(rows, truth, folds).values())
    for fold, choice in cross_fitted(rows, truth, folds).items():
        inside = folds == fold
        others = search_official(rows[~inside], truth[~inside])
        assert choice.thresholds == others.thresholds
        decoded = decode(rows[inside], choice.thresholds.alpha, choice.thresholds.beta)
        assert choice.scores == score(truth[inside], decoded)
        own = search_official(rows[inside], truth[inside])
        assert (choice.best_presence, choice.best_salience) == (own.best_presence, own.best_salience)
        assert choice.scores.score <= own.scores.score


def test_folds_keep_their_numbers(made: tuple[np.ndarray, ...]) -> None:
    rows, truth, folds = made
    assert list(official(rows, truth, folds + 3)) == [3, 4, 5, 6, 7]


def test_cross_fitting_needs_two_folds() -> None:
    with pytest.raises(DataError, match="at least 2 folds, found 1"):
        cross_fitted(np.full((2, 6), 1 / 6), as_truth([NEUTRAL, NEUTRAL]), [0, 0])


def test_counting_refuses_what_does_not_fit() -> None:
    truth = as_truth([NEUTRAL, NEUTRAL])
    with pytest.raises(InvalidPredictions, match="N >= 1"):
        GridCounter(truth[:0])
    with pytest.raises(InvalidPredictions, match="expected labels of shape"):
        GridCounter(truth[:, :5])
    with pytest.raises(DataError, match="fold number for each of 2 clips"):
        GridCounter(truth, [0])
    with pytest.raises(InvalidProbabilities, match="one row for each of 2 clips, found 1"):
        search_official(np.full((1, 6), 1 / 6), truth)
    with pytest.raises(InvalidProbabilities, match="NaN"):
        search_official(np.full((2, 6), np.nan), truth)


def test_summary_is_mean_and_sample_deviation() -> None:
    scores = [Scores(0.1, 0.0), Scores(0.2, 0.3), Scores(0.6, 0.3)]
    found = summarise(scores)
    assert found["acc_presence"]["mean"] == pytest.approx(0.3)
    assert found["acc_presence"]["sd"] == pytest.approx((0.14 / 2) ** 0.5)
    assert found["score"]["mean"] == pytest.approx(0.25)
    assert set(found) == {"acc_presence", "acc_salience", "score"}
    assert summarise(scores[:1])["score"] == {"mean": 0.05, "sd": 0.0}
    with pytest.raises(InvalidPredictions, match="no folds"):
        summarise([])


@needs_real
def test_the_real_fold_of_a_hicmae() -> None:
    labels = real_labels()
    with (REAL / "hicmae_fold0_probabilities.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    values = [[float(row[name]) for name in literal.EMOTIONS] for row in rows]
    truth = np.array([labels[row["filename"]] for row in rows], dtype=np.int8)
    found = search_official(values, truth)
    assert as_literal(found) == {
        "alpha": 0.28684210526315784,
        "beta": 0.05,
        "acc_presence": 0.12260536398467432,
        "acc_salience": 0.0,
        "best_presence": 0.12260536398467432,
        "best_salience": 0.03214285714285714,
    }
    grid = GridCounter(truth).count(values)
    assert (grid.clips, grid.blends) == (522, 280)


@needs_real
def test_the_sizes_of_the_real_folds() -> None:
    with (REAL / "train_metadata.csv").open(newline="") as file:
        folds = [int(row["fold"]) for row in csv.DictReader(file)]
    truth = np.array(list(real_labels().values()), dtype=np.int8)
    grids = GridCounter(truth, folds).per_fold(np.full((2456, 6), 1 / 6))
    assert [grid.clips for grid in grids.values()] == [522, 486, 468, 472, 508]
    assert [grid.blends for grid in grids.values()] == [280, 270, 240, 240, 296]


def test_examples_in_docstrings() -> None:
    for module in (grid_module, thresholds):
        found = doctest.testmod(module)
        assert found.failed == 0
        assert found.attempted > 1
