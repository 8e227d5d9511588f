"""Directions that tell actors apart: against the formulas written out, on few actors, and inside a trained head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clips, Fold
from blemore_harness.errors import DataError
from blemore_harness.heads import identity
from blemore_harness.heads.fitting import fit_head, fit_heads_together, load_head
from blemore_harness.heads.identity import SMOOTHING, find_actor_directions
from blemore_harness.heads.options import HeadOptions
from blemore_harness.heads.scaling import fit_scaler
from blemore_harness.heads.subsampled import fit_head_on_rows
from blemore_harness.predictions import Embeddings
from fakes import LABELS, make_context
from fakes import make_fold as make_plain_fold

Array = np.ndarray[Any, Any]


def make_case(
    seed: int, people: int = 5, clips: int = 200, width: int = 12, size: float = 2.0
) -> tuple[Array, Array, Array]:
    """Embeddings of actors who differ in every direction and act unequal labels; labels; actors."""
    random = np.random.default_rng(seed)
    truth = LABELS[random.integers(len(LABELS), size=clips)].astype(np.int8)
    actor = np.arange(clips) * people // clips
    vectors = random.normal(size=(clips, width)) + size * random.normal(size=(people, width))[actor]
    vectors += truth @ random.normal(size=(6, width)) / 50
    vectors = ((vectors - vectors.mean(axis=0)) / np.maximum(vectors.std(axis=0), 1e-9)).astype(np.float32)
    return vectors, truth, np.array([f"A{each}" for each in actor])


def adjusted(vectors: Array, truth: Array) -> Array:
    """Embeddings minus the mean of their label."""
    residual = vectors.astype(np.float64)
    for label in np.unique(truth, axis=0):
        same = (truth == label).all(axis=1)
        residual[same] -= vectors[same].mean(axis=0, dtype=np.float64)
    return residual


def actor_means(values: Array, actors: Array) -> Array:
    return np.stack([values[actors == each].mean(axis=0) for each in np.unique(actors)])


def literal_analysis(vectors: Array, truth: Array, actors: Array) -> tuple[Array, Array, Array, float]:
    """Return basis (D, Q), scatter within and between in it, and effective dimensions, with all matrices."""
    from scipy.linalg import orth

    residual = adjusted(vectors, truth)
    people = np.unique(actors)
    means, sizes = actor_means(residual, actors), np.array([(actors == each).sum() for each in people])
    inside = residual - means[np.searchsorted(people, actors)]
    whole = inside.T @ inside / len(inside)
    basis = orth((np.sqrt(sizes)[:, None] * means).T)
    freedom = len(inside) - len(people) - len(np.unique(truth, axis=0)) + 1
    within = basis.T @ whole @ basis * len(inside) / freedom
    within = (1 - SMOOTHING) * within + SMOOTHING * np.trace(within) / len(within) * np.eye(len(within))
    between = (means @ basis).T @ np.diag(sizes) @ (means @ basis) / len(actors)
    return basis, within, between, 1 / (np.trace(whole @ whole) / np.trace(whole) ** 2 - 1 / freedom)


@pytest.mark.parametrize("seed", range(3))
def test_directions_are_those_of_the_discriminant_analysis_by_scipy(seed: int) -> None:
    from scipy.linalg import eigh

    vectors, truth, actors = make_case(seed)
    basis, within, between, dimensions = literal_analysis(vectors, truth, actors)
    ratios, leading = eigh(between, within)
    found = find_actor_directions(vectors, truth, actors.tolist())
    assert len(found.ratios) == 4
    chance = (np.sqrt(dimensions) + 2) ** 2 / 200
    np.testing.assert_allclose(found.ratios, ratios[::-1] - chance, rtol=0.05, atol=0.02)
    leading = leading[:, ::-1]
    shares = np.diag(found.ratios / (1 + found.ratios))
    expected = np.eye(12) - basis @ leading @ shares @ (basis @ within @ leading).T
    np.testing.assert_allclose(found.apply(vectors), vectors @ expected, atol=1e-4)
    np.testing.assert_allclose(found.measured @ found.removed.T, shares, atol=1e-9)


def test_actors_come_nearer_to_each_other_by_the_share_of_scatter_between_them() -> None:
    vectors, truth, actors = make_case(1, size=3.0)
    found = find_actor_directions(vectors, truth, actors.tolist())
    before, after = (
        actor_means(adjusted(values, truth), actors) @ found.measured.T for values in (vectors, found.apply(vectors))
    )
    np.testing.assert_allclose(after, before / (1 + found.ratios), atol=1e-5)
    assert np.abs(after).max() < 0.5 * np.abs(before).max()


@pytest.mark.parametrize("width", [20, 400])
def test_actors_who_do_not_differ_have_no_directions(width: int) -> None:
    """Nor where embeddings are so wide that the means of actors differ a lot by chance."""
    for seed in range(5):
        vectors, truth, actors = make_case(seed, people=10, clips=300, width=width, size=0.0)
        found = find_actor_directions(vectors, truth, actors.tolist())
        assert (found.ratios < 0.25).all()
        assert np.linalg.norm(found.apply(vectors) - vectors) < 0.02 * np.linalg.norm(vectors)


def test_a_lone_direction_of_identity_is_found_among_many() -> None:
    random = np.random.default_rng(0)
    actor = np.arange(400) % 8
    lone = np.zeros(50)
    lone[7] = 1
    vectors = (random.normal(size=(400, 50)) + np.outer(3 * random.normal(size=8)[actor], lone)).astype(np.float32)
    truth = LABELS[random.integers(len(LABELS), size=400)].astype(np.int8)
    found = find_actor_directions(vectors, truth, [f"A{each}" for each in actor])
    assert found.ratios[0] > 3
    assert (found.ratios[1:] < 0.2).all()
    assert abs(found.measured[0, 7]) / np.linalg.norm(found.measured[0]) > 0.95
    after = found.apply(vectors)
    assert after[:, 7].std() < 0.5 * vectors[:, 7].std()
    np.testing.assert_allclose(np.delete(after, 7, 1).std(axis=0), np.delete(vectors, 7, 1).std(axis=0), rtol=0.05)


def test_labels_that_some_actors_act_more_often_are_not_taken_for_identity() -> None:
    random = np.random.default_rng(1)
    actor = np.arange(200) % 4
    truth = np.zeros((200, 6), dtype=np.int8)
    emotion = np.where(random.random(200) < 0.8, actor, random.integers(6, size=200))
    truth[np.arange(200), emotion] = 100
    vectors = (random.normal(size=(200, 12)) * 0.5 + 4 * random.normal(size=(6, 12))[emotion]).astype(np.float32)
    found = find_actor_directions(vectors, truth, [f"A{each}" for each in actor])
    assert (found.ratios < 0.1).all()


@pytest.mark.parametrize(("people", "clips", "width"), [(1, 10, 4), (2, 2, 5), (2, 9, 1), (6, 6, 8), (9, 30, 3)])
def test_few_actors_clips_and_dimensions(people: int, clips: int, width: int) -> None:
    vectors, truth, actors = make_case(0, people, clips, width)
    directions = find_actor_directions(vectors, truth, actors.tolist())
    assert len(directions.measured) <= min(people - 1, width)
    assert np.isfinite(directions.apply(vectors)).all()
    if people == 1:
        np.testing.assert_array_equal(directions.apply(vectors), vectors)


def test_embeddings_that_do_not_vary_have_no_directions() -> None:
    _, truth, actors = make_case(0)
    assert len(find_actor_directions(np.zeros((200, 12), dtype=np.float32), truth, actors.tolist()).measured) == 0


@pytest.mark.parametrize("rows", [100, 3000])
def test_the_number_of_dimensions_is_estimated_well_from_few_rows_too(rows: int) -> None:
    random = np.random.default_rng(0)
    sizes = np.logspace(0, -1, 200)
    drawn = random.normal(size=(rows, 200)) * sizes
    probed = drawn @ random.normal(size=(200, identity.PROBES))
    found = identity._effective_dimensions(probed, drawn.T @ probed, rows)
    assert found == pytest.approx((sizes**2).sum() ** 2 / (sizes**4).sum(), rel=0.3)


def test_a_row_is_the_same_among_any_others_and_the_directions_are_the_same_again() -> None:
    vectors, truth, actors = make_case(4, width=300)
    directions = find_actor_directions(vectors, truth, actors.tolist())
    again = find_actor_directions(vectors, truth, actors.tolist())
    assert len(directions.measured) > 0
    np.testing.assert_array_equal(directions.measured, again.measured)
    np.testing.assert_array_equal(directions.removed, again.removed)
    scaler = replace(fit_scaler(vectors), identity=directions)
    whole = scaler.apply(vectors)
    for part in (slice(0, 1), slice(7, 20)):
        np.testing.assert_array_equal(scaler.apply(vectors[part]), whole[part])


def test_wide_embeddings_have_fewer_directions_than_there_are_actors() -> None:
    vectors, truth, actors = make_case(5, people=47, clips=200, width=7168, size=9.0)
    assert 0 < len(find_actor_directions(vectors, truth, actors.tolist()).measured) <= 46


SMALL = HeadOptions(hidden="8", epochs=3, batch_size=16, learning_rate=1e-2, normalise_actors=True)


def make_fold(clips: int, held: int) -> Fold:
    """A fold whose actors each act several labels."""
    fold = make_plain_fold(clips, held)
    labels = LABELS[np.random.default_rng(clips).integers(len(LABELS), size=clips)].astype(np.int8)
    return replace(fold, train=Clips(fold.train.items, fold.train.actors, labels))


def embed_for(fold: Fold, clips: Clips) -> Embeddings:
    """Embeddings of a clip's own numbers, which in training clips say who acts."""
    actor = dict(zip(fold.train.ids, fold.train.actors or (), strict=False))
    values = []
    for clip in clips:
        person = np.random.default_rng([5, *actor.get(clip.id, clip.id).encode()]).normal(0, 4, size=12)
        values.append(person + np.random.default_rng([3, *clip.id.encode()]).normal(3, 2, size=12))
    return Embeddings(clips.ids, np.array(values, dtype=np.float32).reshape(len(clips), 12))


@pytest.mark.encoders
def test_a_head_is_trained_and_predicts_with_the_directions_of_its_training_clips(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    fold = make_fold(40, 10)
    model = fit_head(lambda clips: embed_for(fold, clips), fold, SMALL, make_context(tmp_path))
    assert fold.train.actors is not None
    vectors = embed_for(fold, fold.train).values
    plain = fit_scaler(vectors)
    expected = find_actor_directions(plain.apply(vectors), fold.train.labels, fold.train.actors)
    assert len(expected.measured) > 0
    assert model.scaler.identity is not None
    np.testing.assert_array_equal(model.scaler.identity.measured, expected.measured)
    without = fit_head(
        lambda clips: embed_for(fold, clips), fold, replace(SMALL, normalise_actors=False), make_context(tmp_path)
    )
    assert without.scaler.identity is None
    rows = [each.predict(fold.held_out, make_context(tmp_path)).values for each in (model, without)]
    assert np.abs(rows[0] - rows[1]).max() > 1e-3


@pytest.mark.encoders
def test_folds_trained_together_have_the_directions_of_their_own_training_clips(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folds = [make_fold(40, 10), make_fold(32, 10)]
    contexts = [make_context(tmp_path / str(k), seed=k) for k in range(2)]
    together = fit_heads_together(lambda clips, _: embed_for(folds[0], clips), folds, SMALL, contexts)
    for fold, context, model in zip(folds, contexts, together, strict=True):
        alone = fit_head(lambda clips: embed_for(folds[0], clips), fold, SMALL, context)
        assert model.scaler.identity is not None
        assert alone.scaler.identity is not None
        np.testing.assert_array_equal(model.scaler.identity.removed, alone.scaler.identity.removed)
        rows = [each.predict(fold.held_out, context).values for each in (model, alone)]
        np.testing.assert_allclose(rows[0], rows[1], atol=1e-5)


@pytest.mark.encoders
def test_of_several_rows_of_a_clip_their_mean_counts(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    fold = make_fold(40, 10)
    assert fold.train.actors is not None
    counts = {clip: 1 + len(clip) % 3 + number % 2 for number, clip in enumerate(fold.train.ids)}

    def rows_of(clip: Any) -> Array:
        row = embed_for(fold, Clips((clip,))).values
        return np.concatenate([row + 0.5 * number for number in range(counts.get(clip.id, 2))])

    options = HeadOptions(
        head="mlp-512-subsampled", hidden="8", epochs=2, normalise_actors=True, learning_rate=1e-2, batch_size=32
    )
    model = fit_head_on_rows(rows_of, fold, options, make_context(tmp_path))
    plain = replace(model.scaler, identity=None)
    rows = [plain.apply(rows_of(clip)) for clip in fold.train]
    clip_means = np.stack([each.mean(axis=0) for each in rows])
    expected = find_actor_directions(clip_means, fold.train.labels, fold.train.actors)
    assert model.scaler.identity is not None
    np.testing.assert_allclose(model.scaler.identity.ratios, expected.ratios, rtol=1e-3)


@pytest.mark.encoders
def test_clips_without_actors_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    fold = make_fold(40, 10)
    nameless = replace(fold, train=Clips(fold.train.items, None, fold.train.labels))
    context = make_context(tmp_path, score=lambda rows: None)
    with pytest.raises(DataError, match="normalise_actors"):
        fit_head(lambda clips: embed_for(fold, clips), nameless, replace(SMALL, selection="held-out"), context)


@pytest.mark.encoders
@pytest.mark.parametrize("normalise", [False, True])
def test_a_kept_head_predicts_the_same_with_and_without_directions(tmp_path: Path, normalise: bool) -> None:
    pytest.importorskip("torch")
    fold, context = make_fold(40, 10), make_context(tmp_path)
    options = replace(SMALL, normalise_actors=normalise)
    model = fit_head(lambda clips: embed_for(fold, clips), fold, options, context)
    model.save(tmp_path)
    loaded = load_head(tmp_path, lambda clips: embed_for(fold, clips), context)
    expected = model.predict(fold.held_out, context).values
    np.testing.assert_array_equal(loaded.predict(fold.held_out, context).values, expected)
