"""The nouns: clips, folds, probabilities and embeddings are checked when made and read-only after."""

from __future__ import annotations

import dataclasses
import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness import errors
from blemore_harness.clips import EMOTIONS, Clip, Clips, Fold
from blemore_harness.errors import DataError, InvalidProbabilities, MediaError
from blemore_harness.predictions import Embeddings, Probabilities

IDS = ("c1", "c2", "c3", "c4")
TRUTH = [[100, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 100], [70, 0, 30, 0, 0, 0], [0, 50, 0, 0, 50, 0]]
EVEN = [1 / 6] * 6


def some_clips(**changed: Any) -> Clips:
    parts: dict[str, Any] = {"actors": ("A1", "A1", "A2", "A3"), "truth": np.array(TRUTH)} | changed
    return Clips(tuple(Clip(name) for name in IDS), **parts)


def test_the_label_order_is_the_protocols() -> None:
    assert EMOTIONS == ("ang", "disg", "fea", "hap", "sad", "neu")


# --------------------------------------------------------------------------------------------------------------- clips


def test_a_clip_gives_its_files(tmp_path: Path) -> None:
    clip = Clip("c1", Path("c1.mov"), {"WavLM_large": tmp_path / "c1.npy"})
    assert clip.video == clip.audio == Path("c1.mov")
    with pytest.raises(DataError, match=r"'WavLM_large'.*`feature_sets`"):
        clip.features("WavLM_large")
    (tmp_path / "c1.npy").touch()
    assert clip.features("WavLM_large") == tmp_path / "c1.npy"


def test_a_clip_without_files_says_so() -> None:
    clip = Clip("c1", None, {"HiCMAE": Path("c1.npy")})
    with pytest.raises(MediaError, match=r"clip c1.*\.mov") as caught:
        _ = clip.video
    assert caught.value.clip == "c1"
    with pytest.raises(MediaError, match=r"clip c1.*'WavLM'.*HiCMAE") as caught:
        clip.features("WavLM")
    assert caught.value.clip == "c1"


def test_clips_hold_what_they_were_given() -> None:
    clips = some_clips()
    assert len(clips) == 4
    assert clips.ids == IDS == tuple(clip.id for clip in clips)
    assert clips.labels.dtype == np.int8
    assert clips.labels.tolist() == TRUTH
    assert clips.targets.dtype == np.float32
    assert (clips.targets == np.array(TRUTH, dtype=np.float32) / np.float32(100)).all()


def test_clips_are_read_only_and_keep_no_tie_to_what_made_them() -> None:
    truth = np.array(TRUTH, dtype=np.int8)
    clips = some_clips(truth=truth)
    truth[0] = 0
    assert clips.labels.tolist() == TRUTH
    with pytest.raises(ValueError, match="read-only"):
        clips.labels[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        clips.truth = None  # type: ignore[misc]


@pytest.mark.parametrize(
    "row",
    [
        [0, 0, 0, 0, 0, 0],
        [90, 0, 0, 0, 0, 0],
        [60, 40, 0, 0, 0, 0],
        [50, 25, 25, 0, 0, 0],
        [70, 30, 30, -30, 0, 0],
        [50, 0, 0, 0, 0, 50],
        [0, 0, 0, 0, 30, 70],
        [200, -100, 0, 0, 0, 0],
        [356, 0, 0, 0, 0, 0],
        [0.7, 0, 0.3, 0, 0, 0],
        [99.5, 0, 0, 0, 0, 0],
        [np.nan, 0, 0, 0, 0, 100],
    ],
)
def test_labels_that_no_clip_can_have(row: list[float]) -> None:
    with pytest.raises(DataError, match=r"1 clip \(first: 'c3'\)"):
        some_clips(truth=np.array([*TRUTH[:2], row, TRUTH[3]]))


def test_every_official_label_is_one() -> None:
    rows = [[100 if k == i else 0 for k in range(6)] for i in range(6)]
    for i in range(5):
        for j in range(i + 1, 5):
            rows += [[{i: a, j: b}.get(k, 0) for k in range(6)] for a, b in ((50, 50), (70, 30), (30, 70))]
    assert len(rows) == 36
    clips = Clips(tuple(Clip(f"c{i}") for i in range(36)), truth=np.array(rows))
    assert clips.labels.tolist() == rows


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"actors": ("A1",)}, "1 actors.*4 clips"),
        ({"truth": np.array(TRUTH[:3])}, r"\(4, 6\).*\(3, 6\)"),
        ({"truth": np.array(TRUTH)[:, :5]}, r"\(4, 6\).*\(4, 5\)"),
    ],
)
def test_parts_that_do_not_match(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        some_clips(**changed)


def test_repeated_ids() -> None:
    with pytest.raises(DataError, match=r"1 .*\(first: 'c1'\)"):
        Clips((Clip("c1"), Clip("c2"), Clip("c1")))


def test_take_by_mask_and_by_position() -> None:
    clips = some_clips()
    by_mask = clips.take(np.array([False, True, False, True]))
    assert by_mask.ids == ("c2", "c4")
    assert by_mask.actors == ("A1", "A3")
    assert by_mask.labels.tolist() == [TRUTH[1], TRUTH[3]]
    assert clips.take([3, 0]).ids == ("c4", "c1")
    assert clips.take([]).ids == ()
    assert len(clips.take([]).labels) == 0
    assert clips.unlabelled().take([1]).truth is None
    with pytest.raises(DataError, match=r"\(4,\).*\(3,\)"):
        clips.take([True, False, True])


def test_unlabelled_clips_know_neither_label_nor_actor() -> None:
    bare = some_clips().unlabelled()
    assert bare.ids == IDS
    assert bare.truth is None
    assert bare.actors is None
    with pytest.raises(DataError, match="no labels"):
        _ = bare.targets
    with pytest.raises(DataError, match="no actors"):
        bare.inner_split(0)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_inner_split_is_by_actor_and_loses_nothing(share: float) -> None:
    names = [f"A{i % 9}" for i in range(45)]
    truth = np.array([TRUTH[i % 4] for i in range(45)])
    clips = Clips(tuple(Clip(f"c{i}") for i in range(45)), tuple(names), truth)
    learn, check = clips.inner_split(7, share)
    assert learn.actors
    assert check.actors
    assert not set(learn.actors) & set(check.actors)
    assert sorted(learn.ids + check.ids) == sorted(clips.ids)
    assert len(set(check.actors)) == min(max(round(share * 9), 1), 8)
    for part in (learn, check):
        assert part.labels.tolist() == [truth[clips.ids.index(name)].tolist() for name in part.ids]


def test_inner_split_depends_on_the_seed_and_on_nothing_else() -> None:
    clips = Clips(tuple(Clip(f"c{i}") for i in range(20)), tuple(f"A{i % 10}" for i in range(20)))
    assert clips.inner_split(3)[1].ids == clips.inner_split(3)[1].ids
    assert len({clips.inner_split(seed)[1].ids for seed in range(10)}) > 1
    turned = clips.take(np.arange(20)[::-1])
    assert set(turned.inner_split(3)[1].ids) == set(clips.inner_split(3)[1].ids)


def test_inner_split_needs_two_actors() -> None:
    with pytest.raises(DataError, match="2 actors, found 1"):
        some_clips(actors=("A1",) * 4).inner_split(0)


# --------------------------------------------------------------------------------------------------------------- folds


def test_held_out_clips_of_a_fold_have_no_labels() -> None:
    clips = some_clips()
    fold = Fold(0, clips.take([0, 1]), clips.take([2, 3]).unlabelled())
    assert fold.train.truth is not None
    for part in (clips.take([2, 3]), Clips(clips.items[2:], ("A2", "A3"))):
        with pytest.raises(DataError, match="labels"):
            Fold(0, clips.take([0, 1]), part)
    with pytest.raises(DataError, match=r"fold 0.* 1 clip \(first: 'c2'\)"):
        Fold(0, clips.take([0, 1]), clips.take([1, 2]).unlabelled())


# -------------------------------------------------------------------------------------------------------- probabilities


def rows(**changed: list[float]) -> list[list[float]]:
    return [changed.get(name, EVEN) for name in IDS]


def test_probabilities_are_kept_as_float64_and_read_only() -> None:
    given = np.array(rows(), dtype=np.float64)
    found = Probabilities(list(IDS), given)  # type: ignore[arg-type]
    given[0] = 0
    assert found.ids == IDS
    assert found.values.dtype == np.float64
    assert found.values.tolist() == rows()
    with pytest.raises(ValueError, match="read-only"):
        found.values[0] = 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (rows()[:3], r"\(4, 6\).*ang .* neu.*\(3, 6\)"),
        ([row[:5] for row in rows()], r"\(4, 5\)"),
        ([[row] for row in rows()], r"\(4, 1, 6\)"),
        (rows(c2=[np.nan, 1, 0, 0, 0, 0], c4=[np.nan] * 6), r"NaN.* 2 clips \(first: 'c2'\)"),
        (rows(c3=[np.inf, 0, 0, 0, 0, 0]), r"infinite.* 1 clip \(first: 'c3'\)"),
        (rows(c1=[-0.1, 0.3, 0.2, 0.2, 0.2, 0.2]), r"negative.* 1 clip \(first: 'c1'\).*softmax"),
        (rows(c4=[2, 0, 0, 0, 0, 0]), r"above 1.* 1 clip \(first: 'c4'\).*softmax"),
        (rows(c2=[0.5, 0, 0, 0, 0, 0.4]), r"sum.* 0\.9 .*1 clip \(first: 'c2'\)"),
        (rows(c2=[0, 0, 0, 0, 0, 0]), r"sum.* 0 .*1 clip \(first: 'c2'\)"),
        (rows(c2=[0.5, 0.5 + 2e-6, 0, 0, 0, 0]), r"sum.* 1(\.0+2)? in 1 clip"),
        ([["x"] * 6] * 4, r"not numbers"),
        ([EVEN, EVEN, EVEN, [1]], r"not numbers"),
        ([[3.2, -1, 0.5, 0, 0, -2]] * 4, r"negative.* 4 clips .*softmax"),
        ([[3.2, 1, 0.5, 0, 0, 2]] * 4, r"above 1.* 4 clips .*softmax"),
    ],
)
def test_rows_that_are_no_probabilities(values: Any, message: str) -> None:
    with pytest.raises(InvalidProbabilities, match=message):
        Probabilities(IDS, values)


def test_sums_may_be_off_by_a_millionth() -> None:
    Probabilities(("a",), [[0.5, 0.5 + 0.9e-6, 0, 0, 0, 0]])  # type: ignore[arg-type]
    Probabilities(("a",), np.full((1, 6), 1 / 6, dtype=np.float32))  # type: ignore[arg-type]


def test_probabilities_may_lie_outside_by_a_millionth() -> None:
    given = [[1.0000000000000002, 0, 0, 0, 0, 0], [1, -1e-17, 0, 0, 0, 1e-17], [1 + 9e-7, -9e-7, 0, 0, 0, 0], EVEN]
    found = Probabilities(IDS, given)  # type: ignore[arg-type]
    assert found.values.tolist() == [[1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1e-17], [1, 0, 0, 0, 0, 0], EVEN]
    assert not found.values.flags.writeable
    assert found.pick(IDS).values.tolist() == found.values.tolist()
    for row, what in (([1 + 2e-6, -2e-6, 0, 0, 0, 0], "negative"), ([1 + 2e-6, 0, 0, 0, 0, 0], "above 1")):
        with pytest.raises(InvalidProbabilities, match=f"{what}.* in 1 clip"):
            Probabilities(("a",), [row])  # type: ignore[arg-type]


def test_repeated_clips_are_refused() -> None:
    with pytest.raises(InvalidProbabilities, match=r"1 .*\(first: 'b'\)"):
        Probabilities(("b", "a", "b"), np.array([EVEN] * 3))


def test_rows_join_on_the_clip() -> None:
    values = np.eye(6)[:4]
    found = Probabilities(IDS, values).aligned(("c3", "c1", "c4", "c2"))
    assert found.ids == ("c3", "c1", "c4", "c2")
    assert (found.values == values[[2, 0, 3, 1]]).all()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (("c1", "c2", "c3", "c4", "c5"), r"1 of 5 .* 0 .*'c5'"),
        (("c1", "c2"), r"0 of 2 .* 2 .*'c3'"),
        (("x", "y"), r"2 of 2 .* 4 .*'x'"),
    ],
)
def test_rows_of_other_clips(wanted: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidProbabilities, match=message):
        Probabilities(IDS, np.array(rows())).aligned(wanted)


# ----------------------------------------------------------------------------------------------------------- embeddings


def test_embeddings_are_float32_and_read_only() -> None:
    found = Embeddings(["a", "b"], [[1, 2, 3], [4, 5, 6]])  # type: ignore[arg-type]
    assert found.values.dtype == np.float32
    assert found.values.shape == (2, 3)
    assert not found.values.flags.writeable


@pytest.mark.parametrize(
    ("ids", "values", "message"),
    [
        (("a", "b"), [[1, 2]], r"2 .*\(1, 2\)"),
        (("a", "a"), [[1, 2], [1, 2]], r"2 unique ids.*\(2, 2\)"),
        (("a",), [1, 2], r"\(2,\)"),
        (("a", "b"), [[1], [np.nan]], r"1 clip \(first: 'b'\)"),
        (("a", "b"), [[1], [1e300]], r"1 clip \(first: 'b'\)"),
        (("a", "b"), [[1], ["x"]], "not numbers"),
        (("a", "b"), [[1], [1, 2]], "not numbers"),
    ],
)
def test_vectors_that_are_refused(ids: tuple[str, ...], values: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Embeddings(ids, values)


# -------------------------------------------------------------------------------------------------------------- errors


def test_examples_in_docstrings() -> None:
    failed, tried = doctest.testmod(errors)
    assert failed == 0
    assert tried >= 5
