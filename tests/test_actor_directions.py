"""Directions that tell actors apart: against the formulas written out, on few actors, and inside a trained head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clips, Fold
from blemore_harness.errors import DataError, InvalidOption
from blemore_harness.heads.fitting import fit_head, fit_heads_together
from blemore_harness.heads.identity import SHRINKAGE, find_actor_directions
from blemore_harness.heads.options import HeadOptions
from blemore_harness.heads.scaling import fit_scaler
from blemore_harness.predictions import Embeddings
from fakes import LABELS, make_context
from fakes import make_fold as make_plain_fold

Array = np.ndarray[Any, Any]


def make_case(
    seed: int, people: int = 5, clips: int = 60, width: int = 20, size: float = 2.0
) -> tuple[Array, Array, Array]:
    """Embeddings of actors who differ in every direction and act unequal labels; labels; actors."""
    random = np.random.default_rng(seed)
    truth = LABELS[random.integers(len(LABELS), size=clips)].astype(np.int8)
    actor = np.arange(clips) * people // clips
    vectors = random.normal(size=(clips, width)) + size * random.normal(size=(people, width))[actor]
    vectors += truth @ random.normal(size=(6, width)) / 50
    vectors = ((vectors - vectors.mean(axis=0)) / vectors.std(axis=0)).astype(np.float32)
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


@pytest.mark.parametrize("seed", range(3))
def test_actors_have_equal_means_after_all_directions_are_removed(seed: int) -> None:
    vectors, truth, actors = make_case(seed)
    directions = find_actor_directions(vectors, truth, actors.tolist(), 99)
    assert len(directions.measured) == 4
    means = actor_means(adjusted(directions.apply(vectors), truth), actors)
    before = actor_means(adjusted(vectors, truth), actors)
    weights = np.array([(actors == each).mean() for each in np.unique(actors)])
    np.testing.assert_allclose(means - weights @ means, 0, atol=1e-5)
    assert np.abs(before - weights @ before).max() > 0.1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_removed_directions_are_those_of_the_discriminant_analysis(count: int) -> None:
    """In the span of the actors' means: the largest ratios of scatter between to scatter within, by scipy."""
    from scipy.linalg import eigh, orth

    vectors, truth, actors = make_case(3)
    residual = adjusted(vectors, truth)
    people = np.unique(actors)
    means, sizes = actor_means(residual, actors), np.array([(actors == each).sum() for each in people])
    means -= sizes @ means / sizes.sum()
    basis = orth(means.T)
    inside = (residual - actor_means(residual, actors)[np.searchsorted(people, actors)]) @ basis
    within = inside.T @ inside / len(inside)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    between = (means @ basis).T @ np.diag(sizes) @ (means @ basis) / sizes.sum()
    _, leading = eigh(between, within)
    leading = leading[:, ::-1][:, :count]
    expected = np.eye(vectors.shape[1]) - basis @ leading @ (basis @ within @ leading).T
    found = find_actor_directions(vectors, truth, actors.tolist(), count)
    np.testing.assert_allclose(found.apply(vectors), vectors @ expected, atol=1e-4)
    np.testing.assert_allclose(found.measured @ found.removed.T, np.eye(count), atol=1e-9)
    np.testing.assert_allclose(found.apply(vectors) @ found.measured.T, 0, atol=1e-9)


def test_a_lone_direction_of_identity_is_found_among_many() -> None:
    random = np.random.default_rng(0)
    actor = np.arange(400) % 8
    identity = np.zeros(50)
    identity[7] = 1
    vectors = random.normal(size=(400, 50)) + np.outer(3 * random.normal(size=8)[actor], identity)
    truth = LABELS[random.integers(len(LABELS), size=400)].astype(np.int8)
    names = [f"A{each}" for each in actor]
    directions = find_actor_directions(vectors.astype(np.float32), truth, names, 1)
    assert abs(directions.measured[0, 7]) / np.linalg.norm(directions.measured[0]) > 0.95
    after = directions.apply(vectors.astype(np.float32))
    assert after[:, 7].std() < 0.2 * vectors[:, 7].std()
    np.testing.assert_allclose(np.delete(after, 7, 1).std(axis=0), np.delete(vectors, 7, 1).std(axis=0), rtol=0.05)


def test_labels_that_only_some_actors_acted_are_not_taken_for_identity() -> None:
    random = np.random.default_rng(1)
    actor = np.arange(200) % 4
    truth = np.zeros((200, 6), dtype=np.int8)
    emotion = np.where(random.random(200) < 0.8, actor, random.integers(6, size=200))
    truth[np.arange(200), emotion] = 100
    vectors = (random.normal(size=(200, 12)) * 0.5 + 4 * random.normal(size=(6, 12))[emotion]).astype(np.float32)
    after = find_actor_directions(vectors, truth, [f"A{each}" for each in actor], 3).apply(vectors)
    means = np.stack([after[emotion == each].mean(axis=0) for each in range(6)])
    # Emotions remain as far apart as a random three of twelve directions leave them.
    assert means.var(axis=0).sum() > 0.5 * np.stack([vectors[emotion == k].mean(axis=0) for k in range(6)]).var(0).sum()


@pytest.mark.parametrize(("people", "clips", "width"), [(1, 10, 4), (2, 2, 5), (2, 9, 1), (6, 6, 8), (9, 30, 3)])
def test_few_actors_clips_and_dimensions(people: int, clips: int, width: int) -> None:
    vectors, truth, actors = make_case(0, people, clips, width)
    directions = find_actor_directions(vectors, truth, actors.tolist(), 4)
    assert len(directions.measured) <= min(people - 1, width)
    assert np.isfinite(directions.apply(vectors)).all()
    if people == 1:
        np.testing.assert_array_equal(directions.apply(vectors), vectors)


def test_embeddings_that_do_not_vary_have_no_directions() -> None:
    _, truth, actors = make_case(0)
    directions = find_actor_directions(np.zeros((60, 20), dtype=np.float32), truth, actors.tolist(), 3)
    assert len(directions.measured) == 0


def test_a_row_is_the_same_among_any_others_and_the_directions_are_the_same_again() -> None:
    vectors, truth, actors = make_case(4, width=300)
    directions = find_actor_directions(vectors, truth, actors.tolist(), 3)
    again = find_actor_directions(vectors, truth, actors.tolist(), 3)
    np.testing.assert_array_equal(directions.measured, again.measured)
    np.testing.assert_array_equal(directions.removed, again.removed)
    scaler = replace(fit_scaler(vectors), identity=directions)
    whole = scaler.apply(vectors)
    for part in (slice(0, 1), slice(7, 20)):
        np.testing.assert_array_equal(scaler.apply(vectors[part]), whole[part])


def test_wide_embeddings_take_little_memory_and_work() -> None:
    vectors, truth, actors = make_case(5, people=47, clips=200, width=7168)
    directions = find_actor_directions(vectors, truth, actors.tolist(), 99)
    assert directions.measured.shape == directions.removed.shape == (46, 7168)


SMALL = HeadOptions(hidden="8", epochs=3, batch_size=16, learning_rate=1e-2, remove_actors=2)


def embed(clips: Clips) -> Embeddings:
    """Embeddings that hold the name of a clip and nothing else."""
    values = [np.random.default_rng([3, *clip.id.encode()]).normal(3, 2, size=12) for clip in clips]
    return Embeddings(clips.ids, np.array(values, dtype=np.float32).reshape(len(clips), 12))


def make_fold(clips: int, held: int) -> Fold:
    """A fold whose actors each acted several labels."""
    fold = make_plain_fold(clips, held)
    labels = LABELS[np.random.default_rng(clips).integers(len(LABELS), size=clips)].astype(np.int8)
    return replace(fold, train=Clips(fold.train.items, fold.train.actors, labels))


@pytest.mark.encoders
def test_a_head_is_trained_and_predicts_without_the_directions_of_its_training_clips(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    fold = make_fold(40, 10)
    model = fit_head(embed, fold, SMALL, make_context(tmp_path))
    assert fold.train.actors is not None
    vectors = embed(fold.train).values
    plain = fit_scaler(vectors)
    expected = find_actor_directions(plain.apply(vectors), fold.train.labels, fold.train.actors, 2)
    assert model.scaler.identity is not None
    np.testing.assert_array_equal(model.scaler.identity.measured, expected.measured)
    np.testing.assert_allclose(model.scaler.apply(vectors) @ expected.measured.T, 0, atol=1e-5)
    # What moves along a removed direction only changes no prediction.
    moved = Embeddings(fold.train.ids, (vectors + 5 * plain.scale * expected.removed[0]).astype(np.float32))
    other = replace(
        model, rows_of=lambda clips: replace(model.rows_of(clips), values=moved.pick(clips.ids).values.copy())
    )
    rows = [each.predict(fold.train.unlabelled(), make_context(tmp_path)).values for each in (model, other)]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-5)


@pytest.mark.encoders
def test_folds_trained_together_remove_the_directions_of_their_own_training_clips(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folds = [make_fold(40, 10), make_fold(32, 10)]
    contexts = [make_context(tmp_path / str(k), seed=k) for k in range(2)]
    together = fit_heads_together(lambda clips, _: embed(clips), folds, SMALL, contexts)
    for fold, context, model in zip(folds, contexts, together, strict=True):
        alone = fit_head(embed, fold, SMALL, context)
        assert model.scaler.identity is not None
        assert alone.scaler.identity is not None
        np.testing.assert_array_equal(model.scaler.identity.removed, alone.scaler.identity.removed)
        rows = [each.predict(fold.held_out, context).values for each in (model, alone)]
        np.testing.assert_allclose(rows[0], rows[1], atol=1e-5)


@pytest.mark.encoders
def test_clips_without_actors_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    fold = make_fold(40, 10)
    nameless = replace(fold, train=Clips(fold.train.items, None, fold.train.labels))
    with pytest.raises(DataError, match="remove_actors"):
        fit_head(embed, nameless, replace(SMALL, selection="held-out"), make_context(tmp_path, score=lambda rows: None))


def test_fewer_than_no_directions_are_refused() -> None:
    with pytest.raises(InvalidOption, match=r"remove_actors.* -1"):
        HeadOptions(remove_actors=-1)


def test_ratios_are_the_scatter_of_actors_along_the_directions() -> None:
    vectors, truth, actors = make_case(2)
    found = find_actor_directions(vectors, truth, actors.tolist(), 3)
    means = actor_means(adjusted(vectors, truth), actors) @ found.measured.T
    weights = np.array([(actors == each).mean() for each in np.unique(actors)])
    np.testing.assert_allclose(weights @ np.square(means - weights @ means), found.ratios, rtol=1e-4)
    assert (np.diff(found.ratios) <= 0).all()
