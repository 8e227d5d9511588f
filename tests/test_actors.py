"""Guessing which clips are of one actor: on actors that were never seen, against a library's index."""

from __future__ import annotations

import numpy as np
import pytest

from blemore_harness.decoding.actors import COMPONENTS, join_vectors, learn_actors, rand_index, silhouette
from blemore_harness.errors import DataError


def voices(actors: int, clips: int, seed: int, distance: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings in which 4 of 40 directions belong to the actor and 4 louder ones to the emotion."""
    random = np.random.default_rng(seed)
    mixing = np.linalg.qr(np.random.default_rng(99).normal(size=(40, 40)))[0]
    names = np.repeat(np.arange(actors), clips)
    hidden = random.normal(size=(actors * clips, 40))
    hidden[:, :4] += distance * random.normal(size=(actors, 4))[names]
    hidden[:, 4:8] += 8 * random.normal(size=(6, 4))[random.integers(6, size=len(names))]
    return hidden @ mixing, names


def test_unseen_actors_are_told_apart_and_loud_emotions_do_not_disturb() -> None:
    learnt = learn_actors(*voices(12, 30, seed=0))
    vectors, names = voices(6, 30, seed=1)
    found = learnt.group(vectors)
    assert len(np.unique(found)) == 6
    assert rand_index(found, names) > 0.8
    plain = learn_actors(vectors, np.random.default_rng(0).permutation(names))
    assert rand_index(plain.group(vectors), names) < 0.5, "directions that were trained on shuffled actors say little"


def test_order_of_clips_does_not_matter() -> None:
    learnt = learn_actors(*voices(8, 20, seed=0))
    vectors, _ = voices(5, 20, seed=2)
    order = np.random.default_rng(1).permutation(len(vectors))
    assert rand_index(learnt.group(vectors)[order], learnt.group(vectors[order])) == 1.0


@pytest.mark.parametrize("clips", [1, 2, 14])
def test_few_clips_are_grouped_too(clips: int) -> None:
    learnt = learn_actors(*voices(4, 20, seed=0))
    assert learnt.group(voices(1, clips, seed=3)[0]).shape == (clips,)


def test_the_number_of_actors_is_found_where_they_have_fewer_clips() -> None:
    learnt = learn_actors(*voices(12, 30, seed=0, distance=5.0))
    vectors, names = voices(8, 18, seed=4, distance=5.0)
    assert 6 <= len(np.unique(learnt.group(vectors))) <= 9, "training actors have clips for 5"
    assert rand_index(learnt.group(vectors), names) > 0.7


@pytest.mark.slow
def test_silhouette_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    for _ in range(10):
        points, groups = random.normal(size=(25, 3)), random.integers(4, size=25)
        groups[0] = 9
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        assert silhouette(distances, groups) == pytest.approx(metrics.silhouette_score(points, groups))
    assert silhouette(distances, np.zeros(25, dtype=np.int64)) == -1.0


def test_index_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    for _ in range(20):
        one, two = random.integers(4, size=30), random.integers(3, size=30)
        assert rand_index(one, two) == pytest.approx(metrics.adjusted_rand_score(one, two))
    assert rand_index(np.zeros(5), np.zeros(5)) == 1.0


def test_members_count_alike_whatever_their_size_and_units() -> None:
    random = np.random.default_rng(0)
    small, large = random.normal(size=(50, 3)), 1e4 * random.normal(size=(50, 500))
    joined = join_vectors([small.astype(np.float32), large.astype(np.float32)])
    assert joined.shape == (50, 3 + min(50, COMPONENTS))
    assert (joined[:, :3] ** 2).sum() == pytest.approx((joined[:, 3:] ** 2).sum())
    constant = np.concatenate([small, np.ones((50, 1))], axis=1).astype(np.float32)
    assert join_vectors([constant]).shape == (50, 3)


def test_what_cannot_be_learnt_is_said() -> None:
    with pytest.raises(DataError, match="at least 2 of them, found 1"):
        learn_actors(np.ones((4, 2)), np.zeros(4, dtype=np.int64))
    with pytest.raises(DataError, match="only where a base model gives embeddings"):
        join_vectors([])
