"""Decoders and strategies on cases whose right value is worked out by hand, by scipy or by trying everything."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from scipy.optimize import minimize

from blemore_harness.decoding.actors import Familiarity, join_vectors, learn_actors
from blemore_harness.decoding.decoders import CentredDecoder, centre_rows, group_means, log_rows, measure_gaps
from blemore_harness.decoding.exact import search_exact
from blemore_harness.decoding.label_model import LabelEvidence, fit_expected_score
from blemore_harness.decoding.strategies import STRATEGIES, decode_folds, make_sample
from blemore_harness.errors import DataError, InvalidPredictions
from blemore_harness.protocol.grid import Thresholds
from blemore_harness.protocol.rules import NEUTRAL, decode, score
from strategy_cases import LABELS, literal_features, sample

# ------------------------------------------------------------------------------------------- the exact optimum


def row(one: float, two: float, places: tuple[int, int] = (0, 1)) -> list[float]:
    """Two values at two places, the rest zeros."""
    values = [0.0] * 6
    values[places[0]], values[places[1]] = one, two
    return values


def best_region(values: np.ndarray, truth: np.ndarray) -> tuple[float, float, Thresholds]:
    """The best Score, the largest region with it, and its middle: every region decoded in its middle."""
    ordered = np.sort(values, axis=1)
    lows, gaps = ordered[:, -2], ordered[:, -1] - ordered[:, -2]
    largest = values.argmax(axis=1)
    rest = values.copy()
    rest[np.arange(len(values)), largest] = -1
    blends = (largest != NEUTRAL) & (rest.argmax(axis=1) != NEUTRAL) & (lows > 0)
    alphas = sorted({0.0, 1.0, *lows[blends].tolist()}, reverse=True)
    betas = sorted({0.0, 1.0, *gaps.tolist()})
    found = (-1.0, -1.0, Thresholds(0, 0))
    for upper, lower in pairwise(alphas):
        alpha = (upper + lower) / 2
        middles = [(a + b) / 2 for a, b in pairwise(betas)]
        scores = [round(score(truth, decode(values, alpha, middle)).score, 9) for middle in middles]
        start = 0
        for end in range(1, len(scores) + 1):
            if end == len(scores) or scores[end] != scores[start]:
                region = (scores[start], (upper - lower) * (betas[end] - betas[start]))
                if region[0] > found[0] or (region[0] == found[0] and region[1] > found[1] + 1e-12):
                    found = (*region, Thresholds(alpha, (betas[start] + betas[end]) / 2))
                start = end
    return found


@pytest.mark.parametrize(
    ("values", "truth", "expected"),
    [
        # Uneven: alpha up to .3, beta from 0 to below .4.
        ([row(0.7, 0.3)], [row(70, 30)], (0.15, 0.2)),
        # Even: beta from .4 on.
        ([row(0.7, 0.3)], [row(50, 50)], (0.15, 0.7)),
        # Alone: alpha above .3.
        ([row(0.7, 0.3)], [row(100, 0)], (0.65, 0.5)),
        # The larger emotion is the smaller one of the row: no pair gets the saliences; both emotions up to alpha .3.
        ([row(0.7, 0.3)], [row(30, 70)], (0.15, 0.5)),
        # Neutral never blends, so nothing hangs on alpha or beta.
        ([row(0.7, 0.3, (0, 5))], [row(100, 0)], (0.5, 0.5)),
        ([row(0.3, 0.7, (0, 5))], [row(0, 100, (0, 5))], (0.5, 0.5)),
        # A second value of 0 never blends either.
        ([row(1.0, 0.0)], [row(100, 0)], (0.5, 0.5)),
        ([row(1.0, 0.0)], [row(50, 50)], (0.5, 0.5)),
        # The only blend of eight is worth more than six of the others: alpha from .1 to .2, beta below .6.
        (
            [row(0.8, 0.2), *[row(0.7, 0.3)] * 6, row(0.9, 0.1)],
            [row(70, 30), *[row(100, 0)] * 7],
            (0.15, 0.3),
        ),
        # One of two blends, the other lost anyway, is worth less than seven of ten: alpha above .3.
        (
            [row(0.8, 0.2), row(0.7, 0.3), *[row(0.7, 0.3)] * 7, row(0.9, 0.1)],
            [row(70, 30), row(50, 50, (2, 3)), *[row(100, 0)] * 8],
            (0.65, 0.5),
        ),
        # Alpha between .3, which must blend, and .2, which must not; beta below the one gap that counts.
        ([row(0.7, 0.3), row(0.8, 0.2)], [row(70, 30), row(100, 0)], (0.25, 0.2)),
        # Both blend: the smaller gap is even, the larger uneven.
        ([row(0.6, 0.4), row(0.8, 0.2)], [row(50, 50), row(70, 30)], (0.1, 0.4)),
        # Either of two is right: of the regions 1 - .4 by 1 and .4 by (1 - .2) the larger one.
        ([row(0.6, 0.4), row(0.6, 0.4)], [row(100, 0), row(0, 100, (3, 4))], (0.7, 0.5)),
    ],
)  # fmt: skip
def test_the_middle_of_the_best_region_by_hand(
    values: list[list[float]], truth: list[list[float]], expected: tuple[float, float]
) -> None:
    found = search_exact(np.array(values), np.array(truth, dtype=np.int8))
    assert (found.alpha, found.beta) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(30))
def test_the_middle_of_the_largest_best_region_is_taken(seed: int) -> None:
    random = np.random.default_rng(seed)
    clips = int(random.integers(1, 9))
    truth = LABELS[random.integers(len(LABELS), size=clips)]
    values = random.dirichlet(np.full(6, 0.6), clips) * 0.5 + truth / 200
    if seed % 3 == 0:
        values = values.round(1)
    best, area, middle = best_region(values, truth)
    found = search_exact(values, truth)
    assert score(truth, decode(values, found.alpha, found.beta)).score == pytest.approx(best, abs=1e-9)
    assert (found.alpha, found.beta) == pytest.approx((middle.alpha, middle.beta)), area


def test_thresholds_cannot_be_chosen_on_nothing() -> None:
    with pytest.raises(InvalidPredictions):
        search_exact(np.zeros((0, 6)), np.zeros((0, 6), dtype=np.int8))


# ------------------------------------------------------------------------------------- looking at the actor's clips


@pytest.mark.parametrize("ties", [False, True])
def test_gaps_of_several_actors_are_those_of_scipy(ties: bool) -> None:
    from scipy import stats

    random = np.random.default_rng(2)
    values = random.dirichlet(np.ones(6), 90)
    if ties:
        values = values.round(1)
    groups = random.integers(10, 14, 90)
    ordered = np.sort(values, axis=1)
    gaps = ordered[:, -1] - ordered[:, -2]
    first = values.argmax(axis=1)
    rest = values.copy()
    rest[np.arange(90), first] = -1
    counted = (first != NEUTRAL) & (rest.argmax(axis=1) != NEUTRAL)
    ranks, normal = np.ones(90), np.ones(90)
    for group in range(10, 14):
        mine = counted & (groups == group)
        assert mine.sum() > 5
        ranks[mine] = (stats.rankdata(gaps[mine]) - 0.5) / mine.sum()
        normal[mine] = stats.norm.cdf(stats.zscore(gaps[mine]))
    np.testing.assert_allclose(measure_gaps(values, groups, "rank"), ranks)
    np.testing.assert_allclose(measure_gaps(values, groups, "normal"), normal)


def test_an_actor_whose_gaps_are_all_alike_or_never_blend() -> None:
    values = np.array([row(0.6, 0.4), row(0.6, 0.4), row(0.9, 0.1, (0, 5)), row(0.6, 0.3)])
    assert measure_gaps(values, np.array([0, 0, 1, 2]), "normal").tolist() == [0.5, 0.5, 1.0, 0.5]
    assert measure_gaps(values, np.array([0, 0, 1, 2]), "rank").tolist() == [0.5, 0.5, 1.0, 0.5]


def test_means_of_groups_are_plain_means() -> None:
    columns, groups = np.random.default_rng(0).normal(size=(12, 3)), np.array([5, 2, 9] * 4)
    expected = [
        [np.mean([columns[j, k] for j in range(12) if groups[j] == groups[i]]) for k in range(3)] for i in range(12)
    ]
    np.testing.assert_allclose(group_means(columns, groups), expected)


def test_the_centre_is_the_mean_logarithm_of_every_emotion_by_itself() -> None:
    given = sample(bias=0.5)
    skewed = given.values * [0.5, 0.3, 0.1, 0.05, 0.04, 0.01]
    skewed[0, 2] = 0.0
    skewed /= skewed.sum(axis=1, keepdims=True)
    decoder = STRATEGIES["actor-centred"].learn(make_sample(skewed, given.truth, given.folds, given.groups))
    assert isinstance(decoder, CentredDecoder)
    expected = [np.mean([np.log(max(value, 1e-6)) for value in skewed[:, k]]) for k in range(6)]
    np.testing.assert_allclose(decoder.centre, expected)
    moved = centre_rows(skewed, given.groups, decoder.centre)
    np.testing.assert_array_equal(
        decoder.decode(skewed, given.groups), decode(moved, decoder.thresholds.alpha, decoder.thresholds.beta)
    )


def test_logarithms_of_small_probabilities_are_cut_at_1e_6() -> None:
    found = log_rows([[0.0, 1e-7, 1e-6, 1e-5, 0.5, 1.0]])
    np.testing.assert_allclose(found, np.log([[1e-6, 1e-6, 1e-6, 1e-5, 0.5, 1.0]]))


def test_guessed_actors_are_used_in_place_of_the_true_ones_where_clips_are_decoded_only() -> None:
    given = sample(bias=1.0)
    guessed = np.zeros_like(given.groups)
    for name in ("actor-centred", "actor-rank", "actor-scaled"):
        labels = decode_folds(STRATEGIES[name], given, guessed)
        for fold in range(3):
            own = given.folds == fold
            decoder = STRATEGIES[name].learn(given.without(fold))
            np.testing.assert_array_equal(labels[own], decoder.decode(given.values[own], guessed[own]))
        assert (labels != decode_folds(STRATEGIES[name], given)).any()


def test_one_fold_has_no_others() -> None:
    given = sample(folds=1)
    with pytest.raises(DataError, match="found 1"):
        decode_folds(STRATEGIES["other-folds"], given)
    assert decode_folds(STRATEGIES["official"], given).any(axis=1).all()
    two = sample(folds=2)
    assert decode_folds(STRATEGIES["other-folds"], two).any(axis=1).all()


# ---------------------------------------------------------------------------------------------------- guessed actors


def clusters(count: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Tight groups far from each other and from the origin, in the plane; and which clip is of which."""
    random = np.random.default_rng(count)
    places = np.array([[100 + 10 * k, 100 + 10 * (k % 2)] for k in range(count)])
    actors = np.repeat(np.arange(count), each)
    return places[actors] + random.normal(0, 0.1, (count * each, 2)), actors


def same(groups: np.ndarray, actors: np.ndarray) -> bool:
    """Whether two groupings are one, whatever the numbers."""
    return all((groups[i] == groups[j]) == (actors[i] == actors[j]) for i, j in product(range(len(actors)), repeat=2))


def grouper(clips_per_actor: float) -> Familiarity:
    """One that compares clips as they are."""
    return Familiarity(np.zeros(2), np.eye(2), clips_per_actor)


@pytest.mark.parametrize("clips_per_actor", [1.0, 1.1, 2.0, 3.0, 100.0])
def test_few_clips_are_grouped_at_any_number_of_clips_per_actor(clips_per_actor: float) -> None:
    vectors, actors = clusters(2, 2)
    assert grouper(clips_per_actor).group(vectors[:3]).tolist() == [0, 1, 2], "left alone"
    assert len(grouper(clips_per_actor).group(vectors)) == 4
    if clips_per_actor >= 2:
        assert same(grouper(clips_per_actor).group(vectors), actors)


@pytest.mark.parametrize(("actors", "found"), [(1, 2), (2, 2), (3, 3), (5, 5), (6, 5)])
def test_as_many_groups_as_clips_suggest_up_to_one_above_twice_as_many(actors: int, found: int) -> None:
    vectors, truth = clusters(actors, 4)
    groups = grouper(clips_per_actor=len(vectors) / 2).group(vectors)
    assert len(np.unique(groups)) == found
    assert same(groups, truth) == (actors == found)


def test_directions_are_the_discriminants_of_the_closed_form() -> None:
    """Of two actors there is one: the difference of means through the inverse of the shrunk scatter within actors."""
    random = np.random.default_rng(4)
    actors = np.array([3] * 20 + [8] * 30)
    vectors = random.normal(size=(50, 4)) * [1, 2, 0.5, 1] + np.outer(actors == 8, [1.0, 1.0, 0.0, -0.5]) + 5
    found = learn_actors(vectors, actors)
    one, two = vectors[actors == 3], vectors[actors == 8]
    within = (
        sum(np.outer(v, v) for v in one - one.mean(axis=0)) + sum(np.outer(v, v) for v in two - two.mean(axis=0))
    ) / 50
    within += 0.1 * np.trace(within) / 4 * np.eye(4)
    expected = np.linalg.solve(within, two.mean(axis=0) - one.mean(axis=0))
    assert found.directions.shape == (4, 1)
    cosine = abs(found.directions[:, 0] @ expected) / np.linalg.norm(found.directions) / np.linalg.norm(expected)
    assert cosine == pytest.approx(1)
    assert found.directions[:, 0] @ within @ found.directions[:, 0] == pytest.approx(1), "whitened"
    np.testing.assert_allclose(found.centre, vectors.mean(axis=0))
    assert found.clips_per_actor == 25


def test_members_are_standardised_reduced_and_weighed_alike() -> None:
    random = np.random.default_rng(1)
    one = (random.normal(size=(30, 3)) * [1, 100, 0.01] + 7).astype(np.float32)
    constant = np.concatenate([one, np.full((30, 1), 3.0, dtype=np.float32)], axis=1)
    joined = join_vectors([constant])
    scaled = (one - one.mean(axis=0)) / one.std(axis=0)
    # Turned, but with the distances of the standardised columns, at a mean square of 1 per clip.
    distances = ((scaled[:, None] - scaled[None]) ** 2).sum(axis=2) / 3
    np.testing.assert_allclose(((joined[:, None] - joined[None]) ** 2).sum(axis=2), distances, rtol=1e-3, atol=1e-4)
    assert (joined**2).sum(axis=1).mean() == pytest.approx(1)
    wide = join_vectors([one, random.normal(size=(100, 90)).astype(np.float32)[:30]])
    assert wide.shape == (30, 3 + 30)
    assert join_vectors([random.normal(size=(100, 90)).astype(np.float32)]).shape == (100, 64)


# --------------------------------------------------------------------------------------------------- expected Score


def test_features_of_labels_in_plain_words() -> None:
    values = np.random.default_rng(0).dirichlet(np.full(6, 0.4), 15)
    values[0, 2] = 0.0
    weights = np.random.default_rng(1).normal(size=13)
    found = LabelEvidence(np.log(np.maximum(values, 1e-6)).T).logits(weights).T
    np.testing.assert_allclose(found, literal_features(values) @ weights, atol=1e-12)


@pytest.mark.parametrize("clips", [3, 200])
def test_weights_are_the_most_likely_ones(clips: int) -> None:
    given = sample(clips=200)
    values, truth = given.values[:clips], given.truth[:clips]
    features, start = literal_features(values), np.array([1.0] * 3 + [0.0] * 10)
    own = [LABELS.tolist().index(label) for label in truth.tolist()]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = features @ weights
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        slope = np.einsum("nl,nlk->k", likely, features) - features[np.arange(clips), own].sum(axis=0)
        return (
            -np.log(likely[np.arange(clips), own]).sum() + 0.5 * ((weights - start) ** 2).sum(),
            slope + weights - start,
        )

    expected = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-9}).x
    found = fit_expected_score(values, truth)
    np.testing.assert_allclose(found.weights, expected, atol=1e-5)
    assert found.blend_share == ((truth > 0).sum(axis=1) == 2).mean()


def test_a_right_salience_is_worth_nothing_without_blends() -> None:
    values = np.array([row(0.5, 0.5), row(0.9, 0.1)])
    single = np.array([row(100, 0), row(100, 0)], dtype=np.int8)
    found = fit_expected_score(values, single)
    assert found.blend_share == 0.0
    likely = found.probabilities(values)
    sets = [tuple(np.flatnonzero(label)) for label in LABELS]
    gains = [[sum(p for p, other in zip(each, sets, strict=True) if other == mine) for mine in sets] for each in likely]
    np.testing.assert_array_equal(found.decode(values, None), LABELS[np.argmax(gains, axis=1)])
    with pytest.raises(DataError):
        fit_expected_score(values[:0], single[:0])
