"""A download as it lies on disk: metadata, videos and features found at any depth and joined on the clip id."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from blemore_harness.data import download
from blemore_harness.data.download import DEMO_MARKER, Dataset, read_dataset
from blemore_harness.errors import DataError, MetadataError
from builders import COLUMNS, label_of, put, rows_of, single, write_download, write_metadata
from real_material import REAL, needs_real


def test_a_whole_download(tmp_path: Path) -> None:
    rows = rows_of()
    found = read_dataset(write_download(tmp_path, rows))
    ids = tuple(row["filename"] for row in rows)
    assert found.root == tmp_path.resolve()
    assert found.ids == ids
    assert found.truth.tolist() == [label_of(row) for row in rows]
    assert found.blends.tolist() == [row["mix"] == "1" for row in rows]
    assert found.fold_numbers == (0, 1)
    assert found.fold_source == "metadata"
    assert found.test_ids == ("test_0001", "test_0002", "test_0003")
    assert set(found.videos) == {*ids, *found.test_ids}
    assert all(path.stem == name for name, path in found.videos.items())
    assert set(found.features) == {"WavLM_large"}
    assert set(found.features["WavLM_large"]) == {*ids, *found.test_ids}
    assert not found.demo
    assert found.warnings == ()
    assert not found.folds.flags.writeable


def test_the_metadata_file_itself_and_a_link_to_the_folder(tmp_path: Path) -> None:
    write_download(tmp_path / "data")
    whole = read_dataset(tmp_path / "data")
    assert read_dataset(tmp_path / "data" / "train_metadata.csv").videos == whole.videos
    (tmp_path / "link").symlink_to(tmp_path / "data")
    linked = read_dataset(tmp_path / "link")
    assert linked.root == whole.root
    assert set(linked.videos) == set(whole.videos)
    renamed = (tmp_path / "data" / "train_metadata.csv").rename(tmp_path / "data" / "mine.csv")
    assert read_dataset(renamed).ids == whole.ids


def test_videos_at_any_depth_with_either_ending_in_any_case(tmp_path: Path) -> None:
    write_metadata(tmp_path, rows_of())
    there = {
        "A1_ang_int1_ver1": "A1_ang_int1_ver1.mov",
        "A1_disg_int1_ver1": "a/b/c/d/A1_disg_int1_ver1.MOV",
        "A1_fea_int1_ver1": "part 01/A1_fea_int1_ver1.mp4",
        "A2_ang_int1_ver1": "part_02/A2_ang_int1_ver1.Mp4",
        "test_0001": "deep/er/test_0001.MP4",
    }
    for path in there.values():
        put(tmp_path / path)
    found = read_dataset(tmp_path)
    assert {name: str(path.relative_to(tmp_path)) for name, path in found.videos.items()} == there
    assert found.test_ids == ("test_0001",)
    assert found.warnings == ()


def test_what_is_no_clip_is_left_alone(tmp_path: Path) -> None:
    write_metadata(tmp_path, rows_of())
    for name in (
        "._A1_ang_int1_ver1.mov",
        ".hidden/A1_ang_int1_ver1.mov",
        "__x/._test_0001.mov",
        "A1_ang_int1_ver1.txt",
    ):
        put(tmp_path / name)
    (tmp_path / "A1_hap_int1_ver1.mov").mkdir()
    found = read_dataset(tmp_path)
    assert found.videos == {}
    assert found.test_ids == ()
    assert found.warnings == ()


def test_videos_that_no_row_knows_are_said(tmp_path: Path) -> None:
    write_download(tmp_path)
    for name in ("holiday.mp4", "A99_ang_int1_ver1.mov", "A1_ang_int1_ver1 (1).mov"):
        put(tmp_path / "zz" / name)
    found = read_dataset(tmp_path)
    assert found.warnings == ("3 videos (first: 'A1_ang_int1_ver1 (1).mov') without a row in the metadata: ignored",)
    assert "holiday" not in found.videos


def test_empty_videos_and_broken_links_count_as_missing(tmp_path: Path) -> None:
    write_metadata(tmp_path, rows_of())
    put(tmp_path / "A1_ang_int1_ver1.mov").write_bytes(b"")
    (tmp_path / "A1_sad_int1_ver1.mov").symlink_to(tmp_path / "nowhere.mov")
    os.mkfifo(tmp_path / "A2_sad_int1_ver1.mov")
    found = read_dataset(tmp_path)
    assert found.videos == {}
    assert found.warnings == (
        "3 videos (first: 'A1_ang_int1_ver1.mov') empty or not a file: counted as missing; download it again",
    )


def test_an_empty_copy_does_not_hide_the_good_one(tmp_path: Path) -> None:
    write_metadata(tmp_path, rows_of())
    put(tmp_path / "a" / "A1_ang_int1_ver1.mov").write_bytes(b"")
    good = put(tmp_path / "b" / "A1_ang_int1_ver1.mov")
    assert read_dataset(tmp_path).videos == {"A1_ang_int1_ver1": good}


def test_two_copies_are_warned_about(tmp_path: Path) -> None:
    write_download(tmp_path)
    first = tmp_path / "part_01" / "A1_ang_int1_ver1.mov"
    copy = put(tmp_path / "zz" / "A1_ang_int1_ver1.mp4")
    found = read_dataset(tmp_path)
    assert found.videos["A1_ang_int1_ver1"] == first
    assert found.warnings == (f"1 video (first: '{first} and {copy}') found more than once: the first is used",)


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    write_metadata(tmp_path / "data", rows_of())
    put(tmp_path / "elsewhere" / "A1_ang_int1_ver1.mov")
    (tmp_path / "data" / "part_01").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "self").symlink_to(tmp_path / "data")
    found = read_dataset(tmp_path / "data")
    assert set(found.videos) == {"A1_ang_int1_ver1"}
    assert found.warnings == ()


def test_folders_that_cannot_be_looked_into_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_download(tmp_path)
    real = os.scandir

    def scandir(path: str) -> object:
        if Path(path).name == "part_01":
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(download.os, "scandir", scandir)
    found = read_dataset(tmp_path)
    closed = tmp_path / "part_01"
    (warning,) = found.warnings
    assert f"1 folder (first: '{closed}')" in warning
    assert "A1_ang_int1_ver1" not in found.videos


def test_released_features_by_store(tmp_path: Path) -> None:
    write_metadata(tmp_path, rows_of())
    train, test = tmp_path / "sub" / "pre_extracted_train_data", tmp_path / "pre_extracted_test_data"
    put(train / "WavLM_large_train" / "A1_ang_int1_ver1.npy")
    put(train / "OpenFace_3_train" / "A1_ang_int1_ver1.csv")
    put(train / "OpenFace_3_train" / "A1_ang_int1_ver1.txt")
    put(train / "OpenFace_3_train" / "._A1_ang_int1_ver1.csv")
    put(test / "WavLM_large_test" / "test_0007.npy")
    put(test / "WavLM_large_train" / "test_0008.npy")
    put(tmp_path / "other" / "WavLM_large_train" / "A1_sad_int1_ver1.npy")
    found = read_dataset(tmp_path)
    assert {store: set(paths) for store, paths in found.features.items()} == {
        "OpenFace_3": {"A1_ang_int1_ver1"},
        "WavLM_large": {"A1_ang_int1_ver1", "test_0007"},
    }
    assert found.features["OpenFace_3"]["A1_ang_int1_ver1"].suffix == ".csv"
    # Test clips are known from features alone.
    assert found.test_ids == ("test_0007",)


def test_nothing_is_joined_on_order(tmp_path: Path) -> None:
    rows = rows_of()
    straight, turned = write_download(tmp_path / "straight", rows), tmp_path / "turned"
    shutil.copytree(straight, turned)
    write_metadata(turned, rows[::-1])
    first, second = read_dataset(straight), read_dataset(turned)
    assert first.ids == second.ids[::-1]
    for found in (first, second):
        for name, label, actor, fold in zip(found.ids, found.truth, found.actors, found.folds, strict=True):
            row = next(row for row in rows if row["filename"] == name)
            assert label.tolist() == label_of(row)
            assert (actor, str(fold)) == (row["video_id"], row["fold"])
            assert found.videos[name].stem == found.features["WavLM_large"][name].stem == name


def without_folds(folder: Path, actors: int = 6) -> Path:
    write_metadata(folder, rows_of(actors), COLUMNS[:-1])
    return folder


def test_folds_are_made_where_there_are_none(tmp_path: Path) -> None:
    found = read_dataset(without_folds(tmp_path), fold_seed=4)
    assert found.fold_source == "made"
    assert found.fold_numbers == (0, 1, 2, 3, 4)
    (warning,) = found.warnings
    assert "5 actor-disjoint folds (seed 4)" in warning
    assert (found.folds == read_dataset(tmp_path, fold_seed=4).folds).all()
    made = {tuple(read_dataset(tmp_path, fold_seed=seed).folds.tolist()) for seed in range(6)}
    assert len(made) > 1


def test_too_few_actors_for_folds(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="5 actors, found 3"):
        read_dataset(without_folds(tmp_path, actors=3))


def test_the_demo_is_known_by_its_marker(tmp_path: Path) -> None:
    write_download(tmp_path)
    put(tmp_path / DEMO_MARKER, "{}")
    assert read_dataset(tmp_path).demo


def test_test_clips_among_the_training_rows_are_refused(tmp_path: Path) -> None:
    rows = [*rows_of(), single("A1", "ang", filename="test_0002.mov", fold="0")]
    write_download(tmp_path, rows)
    with pytest.raises(DataError, match=r"1 test clip \(first: 'test_0002'\) in train_metadata\.csv"):
        read_dataset(tmp_path)


def test_folders_without_a_download(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"train_metadata.csv in {tmp_path}: .*--data"):
        read_dataset(tmp_path)
    with pytest.raises(DataError, match=f"{tmp_path / 'nowhere'} .*--data"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"x{5000}: File name too long"):
        read_dataset(Path("x" * 5000))
    (tmp_path / "train_metadata.csv").mkdir()
    with pytest.raises(DataError, match=r"train_metadata\.csv"):
        read_dataset(tmp_path)


@needs_real
def test_the_real_metadata() -> None:
    found: Dataset = read_dataset(REAL)
    assert len(found.ids) == 2456
    assert found.fold_source == "official"
    assert found.fold_numbers == (0, 1, 2, 3, 4)
    assert found.test_ids == ()
    assert found.warnings == ()


@needs_real
def test_the_real_metadata_without_its_folds(tmp_path: Path) -> None:
    lines = (REAL / "train_metadata.csv").read_text().splitlines()
    put(tmp_path / "train_metadata.csv", "\n".join(line.rpartition(",")[0] for line in lines))
    found = read_dataset(tmp_path)
    assert found.fold_source == "made"
    assert found.fold_numbers == (0, 1, 2, 3, 4)
    assert "no fold column" in found.warnings[0]
    assert len({(a, int(k)) for a, k in zip(found.actors, found.folds, strict=True)}) == 47
