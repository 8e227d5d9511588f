"""The official folds, and folds made where the metadata has none: actor-disjoint, balanced, from a seed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from blemore_harness.data.folds import FOLD_COUNT, OFFICIAL_FOLDS, are_official, make_folds
from blemore_harness.data.metadata import MetadataRows, read_metadata
from blemore_harness.errors import ConfigError, MetadataError
from builders import label_of, rows_of
from real_material import REAL, needs_real


def small(actors: int = 12) -> tuple[tuple[str, ...], NDArray[np.int8]]:
    rows = rows_of(actors)
    return tuple(row["video_id"] for row in rows), np.array([label_of(row) for row in rows], dtype=np.int8)


def real() -> MetadataRows:
    return read_metadata(REAL / "train_metadata.csv")


def actors_by_fold(actors: tuple[str, ...], folds: NDArray[np.int64]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for actor, fold in zip(actors, folds.tolist(), strict=True):
        found.setdefault(actor, set()).add(fold)
    return found


def imbalance(truth: NDArray[np.int8], folds: NDArray[np.int64]) -> float:
    """Squared distance of every label's count in every fold from an equal share, counted one by one."""
    labels = [tuple(row) for row in truth.tolist()]
    total = 0.0
    for label in set(labels):
        counts = [sum(1 for one, k in zip(labels, folds, strict=True) if one == label and k == f) for f in range(5)]
        total += sum((count - sum(counts) / 5) ** 2 for count in counts)
    return total


def test_the_official_folds_are_five_and_disjoint() -> None:
    assert sorted(OFFICIAL_FOLDS) == list(range(5)) == list(range(FOLD_COUNT))
    names = [name for base_models in OFFICIAL_FOLDS.values() for name in base_models]
    assert len(set(names)) == len(names) == 47


@needs_real
def test_the_real_folds_are_recognised_and_others_are_not() -> None:
    rows = real()
    assert rows.folds is not None
    assert are_official(rows.actors, rows.folds)
    assert not are_official(rows.actors, (rows.folds + 1) % 5)
    part = np.array([actor != "A26" for actor in rows.actors])
    fewer = tuple(actor for actor in rows.actors if actor != "A26")
    assert not are_official(fewer, rows.folds[part])


def test_made_folds_are_actor_disjoint_and_none_is_empty() -> None:
    for count in (5, 6, 7, 12, 31):
        actors, truth = small(count)
        folds = make_folds(actors, truth, 0)
        assert folds.dtype == np.int64
        assert len(folds) == len(actors)
        assert all(len(found) == 1 for found in actors_by_fold(actors, folds).values())
        assert set(folds.tolist()) == set(range(5))


def test_made_folds_are_the_same_every_time_whatever_the_order_of_rows() -> None:
    actors, truth = small()
    folds = make_folds(actors, truth, 3)
    assert (make_folds(actors, truth, 3) == folds).all()
    order = np.random.default_rng(0).permutation(len(actors))
    assert (make_folds(tuple(actors[i] for i in order), truth[order], 3) == folds[order]).all()


def test_the_seed_matters() -> None:
    actors, truth = small()
    made = {tuple(make_folds(actors, truth, seed).tolist()) for seed in range(5)}
    assert len(made) > 1


def test_the_number_of_folds_can_be_chosen() -> None:
    actors, truth = small()
    assert set(make_folds(actors, truth, 0, count=3).tolist()) == {0, 1, 2}


def test_refusals() -> None:
    actors, truth = small(4)
    with pytest.raises(MetadataError, match="5 actors, found 4"):
        make_folds(actors, truth, 0)
    with pytest.raises(ConfigError, match=r"seed.*-1"):
        make_folds(*small(), seed=-1)


def test_actors_with_few_clips_are_balanced_against_actors_with_many() -> None:
    actors, truth = small(10)
    # A1 and A2 three times over: dealt by turns, one fold would hold four times the clips of another.
    heavy = [i for i, actor in enumerate(actors) if actor in ("A1", "A2")]
    index = [*range(len(actors)), *heavy, *heavy]
    folds = make_folds([actors[i] for i in index], truth[index], 0)
    sizes = np.bincount(folds)
    assert sizes.max() <= 30
    assert sizes.sum() == len(index)


@needs_real
def test_made_folds_of_the_real_clips_are_balanced_better_than_random_ones() -> None:
    rows = real()
    names = sorted(set(rows.actors))
    position = [names.index(actor) for actor in rows.actors]
    chance = []
    for seed in range(20):
        dealt = np.random.default_rng(seed).permutation(np.arange(len(names)) % 5)
        chance.append(imbalance(rows.truth, dealt[position]))
    assert rows.folds is not None
    made = make_folds(rows.actors, rows.truth, 0)
    assert all(len(found) == 1 for found in actors_by_fold(rows.actors, made).values())
    assert imbalance(rows.truth, made) < min(chance) * 2 / 3
    assert imbalance(rows.truth, made) < np.mean(chance) / 3
    assert imbalance(rows.truth, made) < imbalance(rows.truth, rows.folds)
    assert np.ptp(np.bincount(made)) < np.ptp(np.bincount(rows.folds))
