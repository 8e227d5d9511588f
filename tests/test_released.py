"""Released features on disk: spellings of stores, and the organisers' aggregated files, which plugins never see."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.data.blinded import BlindedDataset, blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.data.inspection import inspect_dataset, render_inspection
from blemore_harness.data.released import STORES, find_feature_set, join_spellings
from blemore_harness.errors import DataError
from builders import put, rows_of, write_download, write_metadata
from released_files import write_aggregate

STORE = "wavlm_static_features"
NAMES = [*(row["filename"] for row in rows_of(2)), "test_0001", "test_0002"]


def embeddings_of(names: list[str], width: int = 2, kind: Any = np.float64) -> dict[str, np.ndarray]:
    random = np.random.default_rng(len(names))
    return {name: random.normal(size=7 * width).astype(kind) for name in names}


def view_of(data: Path) -> BlindedDataset:
    return blind_dataset(read_dataset(data), data.parent / "cache")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A download of metadata alone."""
    write_metadata(tmp_path / "data", rows_of(2))
    return tmp_path / "data"


def rows_seen(blinded: BlindedDataset, store: str = STORE) -> dict[str, np.ndarray]:
    """What plugins read, by real name."""
    found = {}
    for clip in blinded.everything():
        if store in clip.feature_files:
            with clip.features(store).open("rb") as file:
                found[blinded.real[clip.id]] = np.lib.format.read_array(file, allow_pickle=False)
    return found


# ------------------------------------------------------------------------------------------------------------ spellings


def test_the_documented_stores_are_known() -> None:
    protocol = Path(__file__).parents[2] / "shared" / "reference" / "protocol.md"
    if not protocol.exists():
        pytest.skip("the description of the download is not beside this checkout")
    section = protocol.read_text().partition("| folder stem |")[2].partition("\n\n")[0]
    stems = [line.split("|")[1] for line in section.splitlines()[2:]]
    assert sorted(STORES) == sorted(name.strip() for stem in stems for name in stem.split(","))


def test_a_store_is_a_folder_of_the_right_place_and_ending() -> None:
    train, test = Path("x/pre_extracted_train_data"), Path("pre_extracted_test_data")
    assert find_feature_set(train / "WavLM_large_train") == "WavLM_large"
    assert find_feature_set(test / "HiCMAE_test") == "HiCMAE"
    for other in (train / "HiCMAE_test", test / "HiCMAE_train", train / "HiCMAE", Path("other/HiCMAE_train")):
        assert find_feature_set(other) is None


def test_other_spellings_of_a_released_store_are_joined(data: Path) -> None:
    one, two, three = NAMES[:3]
    put(data / "pre_extracted_train_data" / "wavlm_large_train" / f"{one}.npy")
    put(data / "pre_extracted_train_data" / "WavLM_large_train" / f"{two}.npy")
    put(data / "pre_extracted_test_data" / "WavLM-Large_test" / "test_0001.npy")
    put(data / "pre_extracted_train_data" / "openface3_train" / f"{three}.csv")
    put(data / "pre_extracted_train_data" / "wavlm_train" / f"{three}.npy")
    found = read_dataset(data)
    assert {store: set(clips) for store, clips in found.feature_sets.items()} == {
        "WavLM_large": {one, two, "test_0001"},
        "OpenFace_3": {three},
        "wavlm": {three},
    }
    assert found.warnings == ()


def test_spellings_that_hold_the_same_clip_stay_apart(data: Path) -> None:
    one, two = NAMES[:2]
    for name in (one, two):
        put(data / "pre_extracted_train_data" / "WavLM_large_train" / f"{name}.npy", "a")
    put(data / "pre_extracted_train_data" / "WAVLM_LARGE_train" / f"{one}.npy", "b")
    found = read_dataset(data)
    assert {store: len(clips) for store, clips in found.feature_sets.items()} == {"WavLM_large": 2, "WAVLM_LARGE": 1}
    (warning,) = found.warnings
    assert "WAVLM_LARGE and WavLM_large" in warning
    assert f"1 clip (first: '{one}')" in warning


def test_nothing_is_joined_that_is_not_a_released_store() -> None:
    found = {"Mine": {"a": Path("1")}, "mine": {"b": Path("2")}, "CLIP": {"a": Path("3")}}
    assert join_spellings(found) == (found, [])


def test_a_clip_that_lies_twice_in_a_store_is_said(data: Path) -> None:
    first = put(data / "a" / "pre_extracted_train_data" / "HiCMAE_train" / f"{NAMES[0]}.npy")
    again = put(data / "b" / "pre_extracted_train_data" / "HiCMAE_train" / f"{NAMES[0]}.npy")
    found = read_dataset(data)
    assert found.features["HiCMAE"] == {NAMES[0]: first}
    assert found.warnings == (f"1 feature file (first: '{first} and {again}') found more than once: the first is used",)


# ----------------------------------------------------------------------------------------------------- aggregated files


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("ending", ["", ".npy", ".mov"])
def test_rows_are_joined_on_the_clip(data: Path, ending: str, kind: Any) -> None:
    vectors = embeddings_of([*NAMES[::-1], "A99_ang_int1_ver1"], kind=kind)
    write_aggregate(data / "deep" / "er" / "WavLM_static_features.npz", vectors, ending)
    blinded = view_of(data)
    assert STORE in blinded.feature_sets
    assert blinded.test.ids
    digests = blinded.publish_feature_set(STORE)
    assert all(re.fullmatch("[0-9a-f]{16}", digest) for digest in digests)
    seen = rows_seen(blinded)
    assert set(seen) == set(NAMES)
    for name, row in seen.items():
        assert row.dtype == kind
        assert (row == vectors[name]).all()


def test_the_rows_have_neutral_names_and_wait_until_they_are_asked_for(data: Path) -> None:
    write_aggregate(data / f"{STORE}.npz", embeddings_of(NAMES))
    blinded = view_of(data)
    clips = blinded.everything()
    assert not any(clip.feature_files[STORE].exists() for clip in clips)
    blinded.publish_feature_set(STORE)
    for clip in clips:
        path = clip.features(STORE)
        assert path.name == f"{clip.id}.npy"
        assert path.is_relative_to(data.parent / "cache")
        assert not path.is_symlink()
        assert not any(name.encode() in path.read_bytes() for name in NAMES)
    assert not any(name in path.name for path in (data.parent / "cache").rglob("*") for name in NAMES)


def test_rows_are_written_once_and_again_when_the_file_changes(data: Path) -> None:
    vectors = embeddings_of(NAMES)
    path = write_aggregate(data / f"{STORE}.npz", vectors)
    blinded = view_of(data)
    before = blinded.publish_feature_set(STORE)
    one, two = (clip.features(STORE) for clip in blinded.everything().items[:2])
    stamp = one.stat().st_mtime_ns
    assert view_of(data).publish_feature_set(STORE) == before
    assert one.stat().st_mtime_ns == stamp
    two.unlink()
    assert view_of(data).publish_feature_set(STORE) == before
    assert two.exists()
    vectors[NAMES[0]] = vectors[NAMES[0]] + 1
    write_aggregate(path, vectors)
    changed = view_of(data)
    assert changed.publish_feature_set(STORE) != before
    assert (rows_seen(changed)[NAMES[0]] == vectors[NAMES[0]]).all()


def test_an_interrupted_writing_is_done_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_aggregate(data / f"{STORE}.npz", embeddings_of(NAMES))
    blinded, real, written = view_of(data), np.save, []

    def save(*arguments: Any, **settings: Any) -> None:
        written.append(arguments)
        if len(written) == 5:
            raise KeyboardInterrupt
        real(*arguments, **settings)

    monkeypatch.setattr(np, "save", save)
    with pytest.raises(KeyboardInterrupt):
        blinded.publish_feature_set(STORE)
    blinded.publish_feature_set(STORE)
    assert len(written) == 5 + len(NAMES)
    assert set(rows_seen(blinded)) == set(NAMES)


def test_training_and_test_clips_in_two_files(data: Path) -> None:
    vectors = embeddings_of(NAMES)
    for part, names in (("train", NAMES[:-2]), ("test", NAMES[-3:])):
        write_aggregate(data / part / f"{STORE}.npz", {name: vectors[name] for name in names})
    blinded = view_of(data)
    blinded.publish_feature_set(STORE)
    seen = rows_seen(blinded)
    assert all((seen[name] == vectors[name]).all() for name in NAMES)
    assert inspect_dataset(read_dataset(data))["features"] == {STORE: {"train": 20, "test": 2}}
    assert f"features   {STORE}: 20 training, 2 test" in render_inspection(inspect_dataset(read_dataset(data)))


def test_files_that_contradict_each_other(data: Path) -> None:
    vectors = embeddings_of(NAMES)
    first = write_aggregate(data / "a" / f"{STORE}.npz", vectors)
    second = write_aggregate(data / "b" / f"{STORE}.npz", {NAMES[3]: vectors[NAMES[3]] + 1})
    with pytest.raises(DataError, match=f"{first} and {second} .*'{NAMES[3]}'"):
        view_of(data).publish_feature_set(STORE)
    write_aggregate(second, embeddings_of(["test_0003"], width=3))
    with pytest.raises(DataError, match=f"14 in {first} and 21 in {second}"):
        view_of(data).publish_feature_set(STORE)


def test_the_content_of_clips_that_have_a_row_and_nothing_else(data: Path) -> None:
    vectors = embeddings_of(NAMES)
    path = write_aggregate(data / f"{STORE}.npz", vectors)
    before = view_of(data)
    assert len({clip.content for clip in before.everything()}) == len(NAMES)
    store = before.publish_feature_set(STORE)
    write_aggregate(path, vectors | {NAMES[0]: vectors[NAMES[1]]})
    after = view_of(data)
    assert [a.content != b.content for a, b in zip(after.train, before.train, strict=True)] == [True] * len(after.train)
    assert after.digest == before.digest, "only what is read counts, and that is in the digest of the store"
    assert after.publish_feature_set(STORE).train != store.train
    assert after.publish_feature_set(STORE).test == store.test


def test_contents_of_clips_with_videos_or_features_do_not_know_the_rows(tmp_path: Path) -> None:
    data = write_download(tmp_path / "data", rows_of(2), tests=2)
    (data / "test" / "test_0001.mov").unlink()
    before = view_of(data)
    write_aggregate(data / f"{STORE}.npz", embeddings_of(NAMES))
    after = view_of(data)
    assert after.digest == before.digest
    assert after.feature_sets == before.feature_sets | {STORE}
    assert [clip.content for clip in after.everything()] == [clip.content for clip in before.everything()]


# -------------------------------------------------------------------------------------------- aggregated files, damaged


def bytes_of(**arrays: Any) -> bytes:
    held = io.BytesIO()
    np.savez(held, **arrays)
    return held.getvalue()


def archive_of(base_models: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in base_models.items():
            archive.writestr(name, content)
    return held.getvalue()


X = np.ones((2, 14))
TWO = np.array(NAMES[:2])
WHOLE = bytes_of(X=X, filenames=TWO)
DAMAGES = {
    "no archive": (b"not an archive", "'filenames'"),
    "empty": (b"", "'filenames'"),
    "cut": (WHOLE[: len(WHOLE) // 2], "'filenames'"),
    "flipped": (WHOLE.replace(X.tobytes(), X.tobytes()[:-1] + b"\0"), "'X'"),
    "no names": (bytes_of(X=X), "X and filenames, found X"),
    "no numbers": (bytes_of(x=X, filenames=TWO), "X and filenames, found x, filenames"),
    "object names": (bytes_of(X=X, filenames=TWO.astype(object)), "'filenames'"),
    "object numbers": (bytes_of(X=X.astype(object), filenames=TWO), "'X'"),
    "numbers for names": (
        bytes_of(X=X, filenames=np.arange(2)),
        "expected 'filenames' to be text .*, found int64",
    ),
    "table of names": (bytes_of(X=X, filenames=TWO[None]), r"expected 'filenames' to be text .* \(1, 2\)"),
    "text for numbers": (bytes_of(X=TWO, filenames=TWO), r"expected 'X' to be numbers \(N, 7 x D\), found <U"),
    "flat": (bytes_of(X=X[0], filenames=TWO), r"expected 'X' to be numbers \(N, 7 x D\), found float64 \(14,\)"),
    "too few rows": (bytes_of(X=X[:1], filenames=TWO), "'X' .* 1 .*'filenames' .* 2"),
    "not seven": (bytes_of(X=X[:, :13], filenames=TWO), "7 x D .*'X', found 13"),
    "no columns": (bytes_of(X=X[:, :0], filenames=TWO), "7 x D .*'X', found 0"),
    "twice": (
        bytes_of(X=X, filenames=np.array([NAMES[0], f"{NAMES[0]}.mov"])),
        rf"'filenames' .* 1 clip \(first: '{NAMES[0]}'\)",
    ),
    "pickle inside": (archive_of({"X.npy": b"\x80\x04.", "filenames.npy": b"\x80\x04."}), "'filenames'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_when_it_is_needed(data: Path, damage: str) -> None:
    content, reason = DAMAGES[damage]
    path = data / f"{STORE}.npz"
    path.write_bytes(content)
    found = read_dataset(data)  # reading, and systems that do not need it, go on
    assert all(warning.startswith(f"{path}: ") for warning in found.warnings)
    with pytest.raises(DataError, match=f"{re.escape(str(path))}: .*{reason}"):
        view_of(data).publish_feature_set(STORE)


def test_what_is_no_aggregated_file_is_left_alone(data: Path) -> None:
    for name in ("features.npz", "_static_features.npz", f"{STORE}.npy", f"._{STORE}.npz", f"{STORE}.npz.part"):
        put(data / name)
    (data / f"folder_{STORE}.npz").mkdir()
    assert read_dataset(data).feature_sets == {}
    with pytest.raises(DataError, match=rf"'{STORE}' .*none.*{STORE}\.npz"):
        view_of(data).publish_feature_set(STORE)


@pytest.mark.parametrize(
    ("file", "store"),
    {
        "videoswintransformer": "videoswintransformer", "VideoSwin": "videoswintransformer",
        "videomae": "videomae", "videomaev2": "videomae", "wavlm": "wavlm",
    }.items(),
)  # fmt: skip
def test_one_encoder_may_go_by_its_folder_or_by_the_organisers_name(data: Path, file: str, store: str) -> None:
    write_aggregate(data / f"{file}_static_features.npz", {name: np.ones(14) for name in NAMES})
    assert set(read_dataset(data).feature_sets) == {f"{store}_static_features"}


def test_a_folder_wins_over_a_file_of_the_same_name(data: Path) -> None:
    write_aggregate(data / f"{STORE}.npz", embeddings_of(NAMES))
    put(data / "pre_extracted_train_data" / f"{STORE}_train" / f"{NAMES[0]}.npy", "released")
    blinded = view_of(data)
    blinded.publish_feature_set(STORE)
    clip = next(clip for clip in blinded.train if blinded.real[clip.id] == NAMES[0])
    assert clip.features(STORE).read_bytes() == b"released"
    assert inspect_dataset(read_dataset(data))["features"] == {STORE: {"train": 1, "test": 0}}
    assert sum(STORE in clip.feature_files for clip in blinded.everything()) == 1


# ------------------------------------------------------------------------------------------- digests of stores


def test_the_digest_of_a_folder_store_is_that_of_all_its_files(tmp_path: Path) -> None:
    data = write_download(tmp_path / "data", rows_of(2), tests=1)

    def digest() -> str:
        blinded = view_of(data)
        (store,) = blinded.feature_sets
        return blinded.publish_feature_set(store)

    before, files = digest(), sorted(data.rglob("*.npy"))
    assert len(files) == 21
    assert digest() == before
    put(files[0].with_name("A99_ang_int1_ver1.npy"), "features of a clip that is not in the metadata")
    assert digest() == before
    found = {before}
    for file in files:
        put(file, f"other {file.name}")
        found.add(digest())
    assert len(found) == 1 + 21


def test_rows_that_lie_there_are_not_handed_out_for_a_file_that_was_damaged_since(data: Path) -> None:
    path = write_aggregate(data / f"{STORE}.npz", embeddings_of(NAMES))
    blinded = view_of(data)
    blinded.publish_feature_set(STORE)
    path.write_bytes(WHOLE[: len(WHOLE) // 2])
    with pytest.raises(DataError, match=re.escape(str(path))):
        view_of(data).publish_feature_set(STORE)
