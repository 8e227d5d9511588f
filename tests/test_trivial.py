"""The trivial baselines on real labels give the organisers' numbers, and learn from nothing but training labels."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.data.download import Dataset, read_dataset
from blemore_harness.errors import DataError
from blemore_harness.hookspecs import NoOptions
from blemore_harness.protocol.thresholds import search_official
from blemore_plugins.trivial import TrivialBlend, TrivialSingle

REAL = Path(__file__).parents[2] / "shared" / "blemore"
CONTEXT: Any = SimpleNamespace()  # neither baseline may want anything from it


def clips_of(dataset: Dataset, mask: np.ndarray[Any, Any]) -> Clips:
    ids = [name for name, take in zip(dataset.ids, mask, strict=True) if take]
    return Clips(tuple(map(Clip, ids)), tuple(np.array(dataset.actors)[mask].tolist()), dataset.truth[mask])


def fit_and_predict(system: TrivialSingle | TrivialBlend, train: Clips, held_out: Clips) -> np.ndarray[Any, Any]:
    fold = Fold(0, train, held_out)
    rows = system.fit(fold, NoOptions(), CONTEXT).predict(held_out, CONTEXT)
    assert rows.ids == held_out.ids
    return rows.values


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    metadata = REAL / "train_metadata.csv"
    if not metadata.exists():
        pytest.skip("the real metadata is not beside this checkout")
    folder = tmp_path_factory.mktemp("real")
    (folder / "train_metadata.csv").write_bytes(metadata.read_bytes())
    return read_dataset(folder)


@pytest.mark.parametrize(
    ("system", "right", "right_blends", "label"),
    [
        (TrivialSingle(), 192, 0, {(0, 0, 1, 0, 0, 0), (0, 0, 0, 1, 0, 0)}),
        (TrivialBlend(), 140, 47, None),
    ],
)
def test_fitted_on_all_real_clips(real: Dataset, system: Any, right: int, right_blends: int, label: Any) -> None:
    everything = clips_of(real, np.ones(len(real.ids), dtype=bool))
    strangers = Clips(tuple(Clip(f"x{i}") for i in range(len(everything))))
    values = fit_and_predict(system, everything, strangers)
    assert len(np.unique(values, axis=0)) == 1
    assert label is None or tuple(values[0]) in label
    choice = search_official(values, everything.labels)
    assert choice.scores.presence == right / 2456
    assert choice.scores.salience == right_blends / 1326


@pytest.mark.parametrize("system", [TrivialSingle(), TrivialBlend()])
def test_fitted_on_real_folds_uses_training_labels_only(real: Dataset, system: Any) -> None:
    for index in real.fold_numbers:
        held_out = real.folds == index
        values = fit_and_predict(system, clips_of(real, ~held_out), clips_of(real, held_out).unlabelled())
        counts: dict[tuple[int, ...], int] = {}
        pairs: dict[tuple[bool, ...], int] = {}
        for row in real.truth[~held_out].tolist():
            counts[tuple(row)] = counts.get(tuple(row), 0) + 1
            pairs[tuple(v > 0 for v in row)] = pairs.get(tuple(v > 0 for v in row), 0) + 1
        size = 1 if isinstance(system, TrivialSingle) else 2
        given = tuple(round(100 * value) for value in values[0])
        pair = tuple(v > 0 for v in given)
        assert sum(pair) == size
        assert pairs[pair] == max(n for p, n in pairs.items() if sum(p) == size)
        assert counts[given] == max(n for row, n in counts.items() if tuple(v > 0 for v in row) == pair)
        np.testing.assert_array_equal(values, np.tile(values[0], (int(held_out.sum()), 1)))


def small(*rows: list[int]) -> Clips:
    return Clips(tuple(Clip(f"c{i}") for i in range(len(rows))), ("A",) * len(rows), np.array(rows, dtype=np.int8))


UNKNOWN = Clips((Clip("x1"), Clip("x2")))
FEAR, JOY = [0, 0, 100, 0, 0, 0], [0, 0, 0, 100, 0, 0]


def test_ties_go_to_the_first_in_label_order() -> None:
    assert fit_and_predict(TrivialSingle(), small(JOY, FEAR), UNKNOWN)[0].tolist() == [0, 0, 1, 0, 0, 0]
    train = small([0, 50, 50, 0, 0, 0], [70, 0, 0, 30, 0, 0], [30, 0, 0, 70, 0, 0], [0, 50, 50, 0, 0, 0])
    assert fit_and_predict(TrivialBlend(), train, UNKNOWN)[0].tolist() == [0.7, 0, 0, 0.3, 0, 0]


def test_most_frequent_pair_comes_before_its_salience() -> None:
    # The most frequent cell is disg/fea 50/50, the most frequent pair is ang+hap.
    train = small(
        [0, 50, 50, 0, 0, 0], [0, 50, 50, 0, 0, 0], [70, 0, 0, 30, 0, 0], [30, 0, 0, 70, 0, 0], [30, 0, 0, 70, 0, 0]
    )
    assert fit_and_predict(TrivialBlend(), train, UNKNOWN)[0].tolist() == [0.3, 0, 0, 0.7, 0, 0]


def test_nothing_to_learn_from_and_nothing_to_predict() -> None:
    with pytest.raises(DataError, match=r"trivial-single.*single emotion"):
        fit_and_predict(TrivialSingle(), small([50, 50, 0, 0, 0, 0]), UNKNOWN)
    with pytest.raises(DataError, match=r"trivial-blend.*blend, found none"):
        fit_and_predict(TrivialBlend(), small(FEAR), UNKNOWN)
    assert fit_and_predict(TrivialSingle(), small(FEAR), Clips(())).shape == (0, 6)
