"""Tests, intervals, groups and calibration on cases whose right value is worked out by hand or by plain loops."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from actor_cases import counted
from blemore_harness.decoding.label_model import all_labels
from blemore_harness.errors import DataError
from blemore_harness.protocol.grid import OFFICIAL_GRID, GridCounter
from blemore_harness.protocol.rules import decode, score
from blemore_harness.protocol.thresholds import cross_fitted
from blemore_harness.scoring import intervals, paired_tests
from blemore_harness.scoring.breakdown import Answers, break_down, count_errors
from blemore_harness.scoring.calibration import measure_calibration
from blemore_harness.scoring.intervals import (
    ActorCounts,
    count_actors,
    find_differences,
    say_difference,
    share_interval,
    short,
)
from blemore_harness.scoring.paired_tests import swap_answers, swap_rows
from blemore_harness.scoring.sensitivity import measure_sensitivity, summarise_thresholds
from golden import literal_protocol

LABELS = all_labels()

# ------------------------------------------------------------------------------------------------------- paired tests


def pair_of_systems(seed: int, blends: float, folds: int = 3) -> tuple[np.ndarray, ...]:
    """Truth, two systems' rows, folds and actors: folds of several sizes, and so large a share of blends."""
    random = np.random.default_rng(seed)
    actor = np.repeat(np.arange(5), [9, 16, 7, 12, 20])
    single = random.random(len(actor)) >= blends
    truth = np.where(single, random.integers(0, 6, len(actor)), random.integers(6, 36, len(actor)))
    labels = LABELS[truth]
    rows = [0.45 * labels / 100 + 0.55 * random.dirichlet(np.full(6, 0.7), len(actor)) for _ in range(2)]
    return labels, rows[0], rows[1], actor % folds, np.array([f"A{k}" for k in actor])


def literal_choice(values: np.ndarray, truth: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """ACC_P, ACC_S and Score, means over folds, thresholds by the literal loop over the clips of the other folds."""
    found = []
    for fold in np.unique(folds):
        others, own = folds != fold, folds == fold
        labels = [{literal_protocol.EMOTIONS[k]: int(v) for k, v in enumerate(row) if v} for row in truth[others]]
        best = literal_protocol.search(values[others].tolist(), labels)
        scores = score(truth[own], decode(values[own], best["alpha"], best["beta"]))
        found.append([scores.presence, scores.salience, scores.score])
    return np.mean(found, axis=0)


@pytest.mark.parametrize(("seed", "blends"), [(0, 0.3), (1, 0.6), (2, 0.0)])
def test_p_of_rows_in_several_folds_equals_every_swap_written_out(seed: int, blends: float) -> None:
    truth, one, two, folds, actors = pair_of_systems(seed, blends)
    first, second = (counted(values, truth, folds, actors) for values in (one, two))

    def choose(values: np.ndarray) -> np.ndarray:
        chosen = cross_fitted(values, truth, folds)
        parts = [(choice.scores.presence, choice.scores.salience) for choice in chosen.values()]
        return np.array([*np.mean(parts, axis=0), np.mean(parts)])

    np.testing.assert_allclose(choose(one), literal_choice(one, truth, folds))
    seen, reached = np.abs(choose(one) - choose(two)), np.zeros(3)
    for swapped in itertools.product((False, True), repeat=5):
        mask = np.array(swapped)[np.unique(actors, return_inverse=True)[1]][:, None]
        reached += np.abs(choose(np.where(mask, two, one)) - choose(np.where(mask, one, two))) >= seen - 1e-12
    np.testing.assert_allclose(swap_rows(first, second), reached / 32)


def test_a_fold_without_blends_counts_as_nothing_right_there() -> None:
    truth, one, two, folds, actors = pair_of_systems(3, 0.5)
    truth[folds == 1] = LABELS[np.arange((folds == 1).sum()) % 6]
    first, second = (counted(values, truth, folds, actors) for values in (one, two))
    expected = literal_choice(one, truth, folds) - literal_choice(two, truth, folds)
    found = find_differences(first, second)
    np.testing.assert_allclose([found[name]["difference"] for name in intervals.MEASURES], expected, atol=1e-12)
    assert (swap_rows(first, second) <= 1).all()
    answers = swap_answers(first, second)
    reached = np.zeros(3)
    for swapped in itertools.product((False, True), repeat=5):
        sides = [np.where(swapped, b, a) for a, b in ((first.table.T, second.table.T), (second.table.T, first.table.T))]
        means = []
        for clips, blends, present, exact in sides:
            parts = []
            for fold in range(3):
                mine = first.folds == fold
                salience = exact[mine].sum() / blends[mine].sum() if blends[mine].sum() else 0.0
                parts.append([present[mine].sum() / clips[mine].sum(), salience])
            means.append(np.append(np.mean(parts, axis=0), np.mean(parts)))
        reached += np.abs(means[0] - means[1]) >= np.abs(expected) - 1e-9
    np.testing.assert_allclose(answers, reached / 32)


def better_everywhere(actors: int) -> tuple[ActorCounts, ActorCounts]:
    """Two systems, the first right on all clips of all actors, the second on none; two folds."""
    folds, size = np.arange(actors) % 2, np.full(actors, 10)
    order = np.argsort(folds, kind="stable")
    none = np.zeros(actors, dtype=np.int64)
    right = ActorCounts(folds[order], size, size // 2, size, size // 2)
    return right, replace(right, presence=none, salience=none)


def test_every_swap_is_tried_up_to_13_actors_and_random_ones_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only no swap and all swaps reach the whole difference.
    assert swap_answers(*better_everywhere(13)) == pytest.approx([2 / 2**13] * 3)
    monkeypatch.setattr(paired_tests, "RESAMPLES", 499)
    # None of 499 random swaps of 40 actors does; the real way counts as one more.
    assert swap_answers(*better_everywhere(40)) == pytest.approx([1 / 500] * 3)
    # Of 14 actors some do by chance: 2 of 16,384 ways.
    monkeypatch.setattr(paired_tests, "RESAMPLES", 40_000)
    assert swap_answers(*better_everywhere(14)) == pytest.approx([2 / 2**14] * 3, abs=1.5e-4)


def test_random_swaps_of_rows_come_near_to_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, one, two, folds, actors = pair_of_systems(1, 0.6)
    first, second = (counted(values, truth, folds, actors) for values in (one, two))
    exact = swap_rows(first, second)
    monkeypatch.setattr(paired_tests, "EXACT_UNITS", 4)
    monkeypatch.setattr(paired_tests, "SWAPS", 3_100)
    np.testing.assert_allclose(swap_rows(first, second), exact, atol=0.035)
    with pytest.raises(DataError):
        swap_rows(*(replace(each, folds=np.zeros(5, dtype=np.int64)) for each in (first, second)))


# ------------------------------------------------------------------------------------------------------------ intervals


@pytest.mark.parametrize(
    ("difference", "interval", "p", "expected"),
    [
        (0.02, [0.001, 0.04], 0.049, "a is .020 above b in x: beyond noise (95 % .001 to .040, p .049, paired"),
        (-0.02, [-0.04, -0.001], None, "a is .020 below b in x: beyond noise (95 % -.040 to -.001, paired"),
        (0.02, [0.0, 0.04], 0.3, "a is .020 above b in x: within noise (95 % .000 to .040, p .300, paired"),
        (0.02, [-0.04, 0.0], 0.3, "a is .020 above b in x: within noise (95 % -.040 to .000, p .300, paired"),
        (0.02, [0.001, 0.04], 0.05, "a is .020 above b in x: within noise (95 % .001 to .040, but p .050, paired"),
        (0.02, [-0.01, 0.04], 0.0004, "a is .020 above b in x: within noise (95 % -.010 to .040, but p <.001, paired"),
        (1e-13, [-0.01, 0.04], 0.0005, "a and b are equal in x: within noise (95 % -.010 to .040, but p .001, paired"),
        (1e-11, None, None, "a is .000 above b in x; no interval"),
    ],
)
def test_a_difference_is_beyond_noise_where_interval_and_p_agree(
    difference: float, interval: list[float] | None, p: float | None, expected: str
) -> None:
    found = {"difference": difference, "interval": interval} | ({} if p is None else {"p": p})
    assert say_difference("a", "b", found, "x").startswith(expected)


def test_numbers_are_written_without_their_leading_zero() -> None:
    written = [short(0.12345), short(-0.12345), short(10.25, 1), short(-0.0001), short(0.0), short(-1.5), short(100.0)]
    assert written == [".123", "-.123", "10.2", ".000", ".000", "-1.500", "100.000"]


# ---------------------------------------------------------------------------------------------------------- calibration


def test_calibration_by_hand() -> None:
    values = np.array(
        [[0.6, 0.4, 0, 0, 0, 0], [0.65, 0.05, 0.3, 0, 0, 0], [1.0, 0, 0, 0, 0, 0], [0.25, 0.25, 0.5, 0, 0, 0]]
    )
    truth = np.array(
        [[70, 30, 0, 0, 0, 0], [0, 0, 100, 0, 0, 0], [100, 0, 0, 0, 0, 0], [0, 50, 50, 0, 0, 0]], dtype=np.int8
    )
    found = measure_calibration(values, truth)
    bins = [(row["low"], row["high"], row["clips"]) for row in found["largest"]]
    assert bins == [(0.5, 0.6, 1), (0.6, 0.7, 2), (0.9, 1.0, 1)]
    assert [row["probability"] for row in found["largest"]] == pytest.approx([0.5, 0.625, 1.0])
    assert [row["share"] for row in found["largest"]] == pytest.approx([0.5, 0.35, 1.0])
    assert [row["present"] for row in found["largest"]] == pytest.approx([1.0, 0.5, 1.0])
    assert found["expected_calibration_error"] == pytest.approx(2 / 4 * 0.275)
    assert [(row["low"], row["blends"]) for row in found["second"]] == [(0.0, 0), (0.2, 1.0), (0.3, 0.0), (0.4, 1.0)]
    # Second values of blends .4 and .25, of the others .3 and 0: three of four pairs in order.
    assert found["blend_auc"] == 0.75
    squares = [0.01 + 0.01, 0.65**2 + 0.05**2 + 0.7**2, 0.0, 0.25**2 + 0.25**2]
    assert found["brier"] == pytest.approx(sum(squares) / 4)
    shares = truth / 100
    assert found["brier_constant"] == pytest.approx(((shares - shares.mean(axis=0)) ** 2).sum() / 4)
    assert measure_calibration(values[1:3], truth[1:3])["blend_auc"] is None
    assert measure_calibration(values[:1], truth[:1])["blend_auc"] is None


def test_equal_second_values_count_half() -> None:
    values = np.array([[0.7, 0.3, 0, 0, 0, 0]] * 3 + [[0.8, 0.2, 0, 0, 0, 0]])
    truth = np.array([[50, 50, 0, 0, 0, 0]] + [[100, 0, 0, 0, 0, 0]] * 3, dtype=np.int8)
    assert measure_calibration(values, truth)["blend_auc"] == pytest.approx((0.5 + 0.5 + 1) / 3)


def test_as_few_different_rows_as_labels_are_answers() -> None:
    random = np.random.default_rng(0)
    different = random.dirichlet(np.ones(6), 37)
    truth = LABELS[np.arange(38) % 36]
    assert measure_calibration(different[np.arange(38) % 36], truth)["answers"] is True
    assert measure_calibration(different[np.arange(38) % 37], truth)["answers"] is False
    assert measure_calibration(different[:36], truth[:36])["answers"] is False, "too few clips to say"
    assert measure_calibration(different[np.arange(37) % 36], truth[:37])["answers"] is True


# ------------------------------------------------------------------------------------------ groups, errors, thresholds


def answers_of(seed: int, clips: int = 150, actors: int = 10) -> Answers:
    random = np.random.default_rng(seed)
    truth, said = (LABELS[random.integers(0, 36, clips)] for _ in range(2))
    said[::2] = truth[::2]
    # Pairs that are right but for the saliences, and neutral in place of others.
    said[1::9] = truth[1::9][:, [1, 0, 2, 3, 4, 5]]
    actor = random.integers(0, actors, clips)
    gender = np.array(["F", "M", ""])[actor % 3]
    return Answers(truth, said, actor % 2, tuple(f"A{k}" for k in actor), tuple(gender.tolist()))


def test_the_interval_of_a_group_is_that_of_its_clips_alone() -> None:
    answers = answers_of(1)
    found = break_down(answers)
    pairs = sorted(set(zip(answers.folds.tolist(), answers.actors, strict=True)))
    neutral, blends = answers.truth[:, 5] > 0, (answers.truth > 0).sum(axis=1) == 2
    right = ((answers.truth > 0) == (answers.labels > 0)).all(axis=1)
    for name, mask in (("single", ~blends & ~neutral), ("blend", blends), ("neutral", neutral)):
        (row,) = [each for each in found["kind"] if each["name"] == name]
        mine = [[i for i in np.flatnonzero(mask) if (answers.folds[i], answers.actors[i]) == pair] for pair in pairs]
        clips = np.array([len(part) for part in mine])
        hits = np.array([sum(right[part]) for part in mine])
        actors = sum(map(bool, mine))
        assert row["actors"] == actors
        assert row["acc_presence_interval"] == share_interval(hits, clips)
        assert row["acc_presence"] == pytest.approx(right[mask].mean())


@pytest.mark.parametrize(("actors", "shown"), [(2, False), (3, True)])
def test_an_interval_needs_three_actors(actors: int, shown: bool) -> None:
    single, _, blend = break_down(answers_of(2, actors=actors))["kind"]
    assert (single["name"], blend["name"], blend["actors"]) == ("single", "blend", actors)
    for measure in ("acc_presence", "acc_salience"):
        assert (blend[f"{measure}_interval"] is not None) == shown
    assert (single["acc_salience"], single["acc_salience_interval"]) == (None, None)


def test_kinds_of_errors_by_their_words() -> None:
    answers = answers_of(3, clips=600)
    found = count_errors(answers)
    expected = dict.fromkeys(found["kinds"], 0)
    saliences = {truth: dict.fromkeys(("50/50", "70/30", "30/70"), 0) for truth in ("50/50", "70/30", "30/70")}
    for truth, said in zip(answers.truth.tolist(), answers.labels.tolist(), strict=True):
        there, named = ({k for k in range(6) if row[k]} for row in (truth, said))
        if truth == said:
            expected["right"] += 1
        elif len(there) == 2 and there == named:
            expected["right pair, wrong salience"] += 1
        elif len(there) == 2 and len(named) == 2:
            expected["blend answered with another pair"] += 1
        elif len(there) == 2:
            kind = "one of its emotions" if named < there else "another single emotion"
            expected[f"blend answered with {kind}"] += 1
        elif len(named) == 2:
            kind = "a blend that holds it" if there < named else "a blend without it"
            expected[f"single answered with {kind}"] += 1
        else:
            expected["single answered with another single"] += 1
        if len(there) == 2 and there == named:
            one, two = sorted(there)
            saliences[f"{truth[one]}/{truth[two]}"][f"{said[one]}/{said[two]}"] += 1
    assert found["kinds"] == expected
    assert min(expected.values()) > 0
    assert found["saliences"] == [{"truth": truth, **row} for truth, row in saliences.items()]
    assert len(found["frequent"]) == 10


def test_thresholds_of_one_run_have_no_spread() -> None:
    found = summarise_thresholds([("a", 0.1, 0.3), ("b", 0.3, 0.4), ("b", 0.7, 0.1)])
    assert found["a"] == {"runs": 1, "alpha": {"mean": 0.1, "sd": 0.0, "min": 0.1, "max": 0.1},
                          "beta": {"mean": 0.3, "sd": 0.0, "min": 0.3, "max": 0.3}}  # fmt: skip
    assert found["b"]["alpha"] == pytest.approx({"mean": 0.5, "sd": 0.08**0.5, "min": 0.3, "max": 0.7})
    assert (found["overall"]["runs"], found["overall"]["beta"]["min"]) == (3, 0.1)


def test_what_another_folds_thresholds_cost_by_decoding() -> None:
    truth, values, _, folds, _ = pair_of_systems(4, 0.5)
    found = measure_sensitivity(GridCounter(truth, folds).per_fold(values))

    def reached(mask: np.ndarray, alpha: float, beta: float) -> float:
        return score(truth[mask], decode(values[mask], alpha, beta)).score

    surfaces = [[[reached(folds == k, a, b) for b in OFFICIAL_GRID] for a in OFFICIAL_GRID] for k in range(3)]
    places = [divmod(int(np.argmax(surface)), 20) for surface in surfaces]
    losses = np.array([[np.max(surface) - surface[a][b] for surface in surfaces] for a, b in places])
    np.testing.assert_allclose(found["transfer"], losses, atol=1e-12)
    assert losses.any()
    assert found["transfer_loss"] == pytest.approx(losses.sum() / 6)
    chosen = [(row["alpha"], row["beta"]) for row in found["folds"]]
    assert chosen == [(OFFICIAL_GRID[a], OFFICIAL_GRID[b]) for a, b in places]
    alone = measure_sensitivity({0: GridCounter(truth[folds == 0]).count(values[folds == 0])})
    assert (alone["transfer"], alone["transfer_loss"]) == ([[0.0]], 0.0)
    everything = np.ones(len(truth), dtype=bool)
    assert found["best"]["score"] == pytest.approx(reached(everything, found["best"]["alpha"], found["best"]["beta"]))


def test_counts_of_other_clips_are_refused() -> None:
    truth, one, _, folds, actors = pair_of_systems(5, 0.5)
    first = count_actors(truth, decode(one, 0.1, 0.1), folds, actors)
    for change in ("folds", "clips", "blends"):
        other = replace(first, **{change: getattr(first, change) + 1})
        with pytest.raises(DataError):
            find_differences(first, other)


@pytest.mark.parametrize("seed", range(5))
def test_p_of_answers_weighs_every_fold_by_its_own_clips(seed: int) -> None:
    """Folds of very different sizes, actors of one or many clips: every swap written out."""
    random = np.random.default_rng(seed)
    folds = np.array([0, 0, 1, 1, 1, 2, 2])
    clips = np.array([2, 3, 40, 60, 50, 9, 12])
    blends = np.array([1, 2, 30, 20, 10, 0, 5])
    first, second = (
        ActorCounts(folds, clips, blends, random.integers(0, clips + 1), random.integers(0, blends + 1)) for _ in "ab"
    )

    def means(mask: np.ndarray) -> np.ndarray:
        found = []
        for one, two in ((first, second), (second, first)):
            present, exact = np.where(mask, two.presence, one.presence), np.where(mask, two.salience, one.salience)
            parts = [
                [
                    present[folds == k].sum() / clips[folds == k].sum(),
                    exact[folds == k].sum() / blends[folds == k].sum(),
                ]
                for k in range(3)
            ]
            found.append(np.append(np.mean(parts, axis=0), np.mean(parts)))
        return np.abs(found[0] - found[1])

    real = means(np.zeros(7, dtype=bool))
    ways = [means(np.array(swapped)) >= real - 1e-9 for swapped in itertools.product((False, True), repeat=7)]
    np.testing.assert_allclose(swap_answers(first, second), np.mean(ways, axis=0))
