"""What plugins get to see: nothing reachable from it names a clip, an emotion or an actor that it must not know."""

from __future__ import annotations

import errno
import gc
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from blemore_harness import disk
from blemore_harness.cache import DIGESTS
from blemore_harness.clips import EMOTIONS, Clip, Clips
from blemore_harness.data import neutral_files
from blemore_harness.data.blinded import HOMES, BlindedDataset, blind_dataset
from blemore_harness.data.download import leave_out, read_dataset
from blemore_harness.errors import DataError
from builders import Row, label_of, put, rows_of, write_download, write_metadata

OPAQUE = re.compile(r"c[0-9a-f]{16}")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_download(tmp_path / "data")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def view_of(data: Path, cache: Path) -> BlindedDataset:
    return blind_dataset(read_dataset(data), cache)


def by_real_name(blinded: BlindedDataset) -> dict[str, Clip]:
    return {blinded.real[clip.id]: clip for clip in (*blinded.train, *blinded.test)}


# ------------------------------------------------------------------------------------------------ what must not be seen


def reachable(start: object) -> Iterator[object]:
    """Everything that can be got at from an object; code apart, which every plugin can import anyway."""
    beyond = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType, types.FrameType)
    seen: dict[int, object] = {}
    queue = [start]
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, beyond):
            continue
        seen[id(thing)] = thing
        yield thing
        queue += gc.get_referents(thing)
        # What the collector does not follow: keys that are text, arrays' bases and elements, attributes kept in slots.
        if isinstance(thing, dict):
            queue += list(thing)
        if isinstance(thing, np.ndarray):
            queue += [thing.base, *(thing.ravel().tolist() if thing.dtype == object else [])]
        for cls in type(thing).__mro__:
            queue += [getattr(thing, name, None) for name in getattr(cls, "__slots__", ()) if name != "__weakref__"]


def texts(start: object) -> list[str]:
    """Every piece of text that can be reached, paths as they are opened included."""
    found = []
    for thing in reachable(start):
        if isinstance(thing, bytes):
            found.append(thing.decode("latin-1"))
        elif isinstance(thing, str | os.PathLike):
            found.append(os.fspath(thing))
    return found


def arrays(start: object) -> list[np.ndarray[Any, Any]]:
    return [thing for thing in reachable(start) if isinstance(thing, np.ndarray)]


def labels_in(found: list[np.ndarray[Any, Any]]) -> int:
    """How many rows look like labels: six numbers that sum to 100, or to 1."""
    rows = [array.reshape(-1, 6) for array in found if array.size and array.size % 6 == 0]
    return sum(int(np.isin(part.sum(axis=1, dtype=float), (1.0, 100.0)).sum()) for part in rows)


def test_the_walk_finds_what_is_hidden() -> None:
    class Slotted:
        __slots__ = ("inside",)

        def __init__(self, inside: object) -> None:
            self.inside = inside

    base = np.array([[100, 0, 0, 0, 0, 0]] * 4)
    hidden = {"a": [Slotted((Path("A1_ang_int1_ver1.mov"), lambda: 0))], "b": base[1:3]}
    assert "A1_ang_int1_ver1.mov" in texts(hidden)
    assert labels_in(arrays(hidden)) == 6
    assert any("deep" in text for text in texts(np.array([{"deep": 1}], dtype=object)))


def handed_out(blinded: BlindedDataset) -> dict[str, Clips]:
    """Every set of clips that a plugin is given and that must tell neither labels nor actors."""
    found = {"prepare": blinded.everything(), "final": blinded.fold(None).held_out, "test": blinded.test}
    return found | {f"held out in fold {k}": blinded.fold(k).held_out for k in sorted(set(blinded.folds.tolist()))}


def test_no_name_label_or_actor_can_be_reached_from_clips_to_predict(data: Path, cache: Path) -> None:
    blinded = view_of(data, cache)
    real = set(blinded.real.values())
    actors = {row["video_id"] for row in rows_of()}
    tokens = re.compile(rf"(?<![a-z0-9])({'|'.join(EMOTIONS)}|mix|int[1-4]|sit[1-4]|test_\d+)(?![a-z0-9])")
    for what, clips in handed_out(blinded).items():
        assert len(clips)
        found = [text.replace(str(cache), "") for text in texts(clips)]
        assert any(OPAQUE.search(text) for text in found), what
        for text in found:
            assert not tokens.search(text), (what, text)
            assert not any(name in text for name in real), (what, text)
            assert not actors & set(re.split(r"[^A-Za-z0-9]", text)), (what, text)
        assert labels_in(arrays(clips)) == 0, what


def test_the_training_part_of_a_fold_tells_its_own_labels_and_nothing_of_the_others(data: Path, cache: Path) -> None:
    blinded = view_of(data, cache)
    rows = {row["filename"]: row for row in rows_of()}
    for index in (0, 1):
        fold = blinded.fold(index)
        learnt = {blinded.real[name] for name in fold.train.ids}
        assert learnt == {name for name, row in rows.items() if row["fold"] != str(index)}
        found = texts(fold)
        assert not [text for text in found if any(name in text for name in blinded.real.values())]
        others = {row["video_id"] for row in rows.values() if row["fold"] == str(index)}
        assert not others & set(found)
        # The training labels, and no second array of labels anywhere.
        assert labels_in(arrays(fold)) == len(fold.train)


def test_ids_and_names_are_neutral(data: Path, cache: Path) -> None:
    blinded = view_of(data, cache)
    blinded.publish_feature_set("WavLM_large")
    for clip in blinded.everything():
        assert OPAQUE.fullmatch(clip.id)
        assert clip.video.name == f"{clip.id}.mov"
        assert clip.audio == clip.video
        assert clip.features("WavLM_large").name == f"{clip.id}.npy"
        assert clip.video.is_relative_to(cache)


def told_by_path(path: Path) -> str:
    """Whatever operations on a path tell in words: where it leads, and under which name it is open."""
    told = [str(path.resolve()), os.path.realpath(path), str(path.stat()), str(path.lstat()), str(path.absolute())]
    for step in (path, *path.parents):
        told += [str(step.readlink())] if step.is_symlink() else []
    with path.open("rb") as file:
        opened = Path(f"/proc/self/fd/{file.fileno()}")
        told += [str(opened.readlink()), os.path.realpath(opened)] if opened.is_symlink() else []
    told += [other.name for other in path.parent.iterdir()]
    return "\n".join(told)


def below(folder: Path) -> Iterator[str]:
    """Names and contents of all files, but for those that are the clips' own."""
    for path in folder.rglob("*"):
        yield str(path.relative_to(folder))
        if path.is_file() and HOMES not in path.parts:
            yield path.read_bytes().decode("latin-1")
        elif path.suffix == ".json":
            yield path.read_text(encoding="utf-8")


@pytest.mark.parametrize("linked", [True, False])
def test_no_operation_on_a_path_leads_to_a_real_name(
    data: Path, cache: Path, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not linked:
        refuse_links(monkeypatch)
    blinded = view_of(data, cache)
    blinded.publish_feature_set("WavLM_large")
    real = set(blinded.real.values())
    for what, clips in handed_out(blinded).items():
        paths = [Path(thing) for thing in reachable(clips) if isinstance(thing, Path)]
        assert len(paths) == 2 * len(clips), what
        for path in paths:
            assert not path.is_symlink()
            told = told_by_path(path)
            assert not any(name in told for name in real), (what, told)
            assert str(data) not in told, (what, told)
    for text in below(cache):
        assert not any(name in text for name in real), text
        assert str(data) not in text, text


def test_the_walk_over_paths_finds_what_a_link_tells(tmp_path: Path) -> None:
    put(tmp_path / "data" / "A1_ang_int1_ver1.mov")
    (tmp_path / "c1.mov").symlink_to(tmp_path / "data" / "A1_ang_int1_ver1.mov")
    assert told_by_path(tmp_path / "c1.mov").count("A1_ang_int1_ver1") >= 5


def refuse_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand for a cache on another file system than the download."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)


def test_files_that_cannot_be_linked_are_copied_once_and_again_when_they_change(
    data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch)
    monkeypatch.setattr(neutral_files, "_clone", lambda real, neutral: False)
    said: list[str] = []

    def opened() -> dict[str, Clip]:
        blinded = blind_dataset(read_dataset(data), cache, log=said.append)
        blinded.publish_feature_set("WavLM_large")
        return by_real_name(blinded)

    before = opened()
    assert [line.split(" to ")[0] for line in said] == ["copying 63 files (0.00 GB)"] * 2, "videos, then features"
    times = {name: clip.video.stat().st_ctime_ns for name, clip in before.items()}
    assert {name: clip.video.stat().st_ctime_ns for name, clip in opened().items()} == times
    assert len(said) == 2
    name = "A1_ang_int1_ver1"
    assert before[name].video.stat().st_nlink == 1
    replace_unseen(data / "part_01" / f"{name}.mov", b"VIDEO 0", in_place=True)
    after = opened()
    assert after[name].video.read_bytes() == b"VIDEO 0"
    assert [line.split(" to ")[0] for line in said[2:]] == ["copying 1 files (0.00 GB)"]
    assert {other for other, clip in after.items() if clip.video.stat().st_ctime_ns != times[other]} == {name}


def test_without_links_and_without_room_it_is_said_what_is_needed(
    data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch)
    monkeypatch.setattr(neutral_files, "_clone", lambda real, neutral: False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(DataError, match=r"63 files .*BLEMORE_CACHE"):
        view_of(data, cache)
    assert not list(cache.rglob("*.mov"))


def test_symbolic_links_of_earlier_versions_are_gone_and_those_in_a_download_are_followed(
    data: Path, cache: Path, tmp_path: Path
) -> None:
    old = cache / "views" / "0123" / "c0123.mov"
    old.parent.mkdir(parents=True)
    old.symlink_to(data / "part_01" / "A1_ang_int1_ver1.mov")
    put(cache / "contents.json", "{}")
    (data / "part_01").rename(tmp_path / "elsewhere")
    (data / "part_01").mkdir()
    for path in (tmp_path / "elsewhere").iterdir():
        (data / "part_01" / path.name).symlink_to(path)
    clips = by_real_name(view_of(data, cache))
    assert {path.name for path in cache.iterdir()} == {HOMES, DIGESTS}
    for name, clip in clips.items():
        assert not clip.video.is_symlink(), name
        assert clip.video.samefile(read_dataset(data).videos[name])


# --------------------------------------------------------------------------------------------------- what must be right


def test_everything_translates_back(data: Path, cache: Path) -> None:
    blinded = view_of(data, cache)
    blinded.publish_feature_set("WavLM_large")
    dataset = read_dataset(data)
    clips = by_real_name(blinded)
    assert set(clips) == {*dataset.ids, *dataset.test_ids}
    for name, clip in clips.items():
        assert clip.video.read_bytes() == dataset.videos[name].read_bytes()
        assert clip.features("WavLM_large").read_bytes() == dataset.features["WavLM_large"][name].read_bytes()
    rows = {row["filename"]: row for row in rows_of()}
    assert blinded.train.actors is not None
    for clip_id, actor, label, fold in zip(
        blinded.train.ids, blinded.train.actors, blinded.train.labels, blinded.folds, strict=True
    ):
        row = rows[blinded.real[clip_id]]
        assert (actor, label.tolist(), str(fold)) == (row["video_id"], label_of(row), row["fold"])


def test_folds_part_the_training_clips(data: Path, cache: Path) -> None:
    blinded = view_of(data, cache)
    for index in (0, 1):
        fold = blinded.fold(index)
        assert fold.index == index
        assert sorted(fold.train.ids + fold.held_out.ids) == list(blinded.train.ids)
        assert {blinded.folds[blinded.train.ids.index(name)] for name in fold.held_out.ids} == {index}
    final = blinded.fold(None)
    assert final.index is None
    assert final.train.ids == blinded.train.ids
    assert final.held_out.ids == blinded.test.ids
    assert blinded.everything().ids == tuple(sorted(blinded.train.ids + blinded.test.ids))


def test_messages_get_real_names_back(data: Path, cache: Path) -> None:
    blinded = view_of(data, cache)
    one, two = blinded.train.ids[0], blinded.test.ids[0]
    real, test = blinded.real[one], blinded.real[two]
    assert blinded.translate(f"{one}: no face; {two}.mov") == f"{real}: no face; {test}.mov"
    assert blinded.translate(f"features_{one}.npy") == f"features_{real}.npy"
    for text in ("c0123456789abcdef", f"x{one}", f"{one}0", "nothing", ""):
        assert blinded.translate(text) == text


def test_the_order_says_nothing(data: Path, cache: Path) -> None:
    blinded = view_of(data, cache)
    for clips in (blinded.train, blinded.test, blinded.everything(), blinded.fold(0).train, blinded.fold(0).held_out):
        assert list(clips.ids) == sorted(clips.ids)
    # Neither do names: a hash, not a number in file order.
    listed = [clip_id for _, clip_id in sorted((real, clip_id) for clip_id, real in blinded.real.items())]
    assert listed != sorted(listed)


def test_the_order_of_metadata_rows_changes_nothing(data: Path, cache: Path) -> None:
    before = view_of(data, cache)
    rows = rows_of()
    write_metadata(data, [rows[i] for i in np.random.default_rng(1).permutation(len(rows))])
    after = view_of(data, cache)
    assert after.digest == before.digest
    assert after.real == before.real
    assert after.train.ids == before.train.ids
    assert after.train.actors == before.train.actors
    assert (after.train.labels == before.train.labels).all()
    assert (after.folds == before.folds).all()
    assert after.everything() == before.everything()


def test_the_view_does_not_depend_on_where_the_data_lies(data: Path, cache: Path, tmp_path: Path) -> None:
    before = view_of(data, cache)
    after = view_of(data.rename(tmp_path / "moved"), tmp_path / "other cache")
    assert after.digest == before.digest
    assert after.real == before.real
    assert [clip.content for clip in after.train] == [clip.content for clip in before.train]


@pytest.mark.slow
def test_the_view_is_the_same_in_every_process(data: Path, cache: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from blemore_harness.data.download import read_dataset; "
        "from blemore_harness.data.blinded import blind_dataset; "
        "v = blind_dataset(read_dataset(Path(sys.argv[1])), Path(sys.argv[2])); print(v.digest, *v.train.ids)"
    )
    said = []
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(data), str(cache)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        said.append(done.stdout.split())
    blinded = view_of(data, cache)
    assert said == [[blinded.digest, *blinded.train.ids]] * 2


# ------------------------------------------------------------------------------------------------ digests and the cache


def change_label(rows: list[Row], data: Path) -> None:
    # A name that is not a released one, so that the label may be another.
    rows[0]["emotion_1"] = "sad"


def change_fold(rows: list[Row], data: Path) -> None:
    for row in rows:
        if row["video_id"] == "A1":
            row["fold"] = "1"


def change_actor(rows: list[Row], data: Path) -> None:
    rows[0]["video_id"] = "A9"


def drop_clip(rows: list[Row], data: Path) -> None:
    rows.pop()


def change_video(rows: list[Row], data: Path) -> None:
    put(data / "part_01" / "clip 0.mov", "another content")


def drop_video(rows: list[Row], data: Path) -> None:
    (data / "part_01" / "clip 0.mov").unlink()


def add_test(rows: list[Row], data: Path) -> None:
    put(data / "test" / "test_0009.mov")


def change_test(rows: list[Row], data: Path) -> None:
    put(data / "test" / "test_0001.mov", "another content")


def drop_test(rows: list[Row], data: Path) -> None:
    (data / "test" / "test_0002.mov").unlink()
    (data / "pre_extracted_test_data" / "WavLM_large_test" / "test_0002.npy").unlink()


CHANGES = [change_label, change_fold, change_actor, drop_clip, change_video, drop_video]
TEST_CHANGES = [add_test, change_test, drop_test]


@pytest.mark.parametrize("change", CHANGES)
def test_the_digest_knows_what_can_change_a_number(tmp_path: Path, cache: Path, change: Any) -> None:
    rows = [row | {"filename": f"clip {i}"} for i, row in enumerate(rows_of())]
    data = write_download(tmp_path / "data", rows)
    before = view_of(data, cache).digest
    assert view_of(data, cache).digest == before
    change(rows, data)
    write_metadata(data, rows)
    assert view_of(data, cache).digest != before


@pytest.mark.parametrize("change", TEST_CHANGES)
def test_test_clips_have_a_digest_of_their_own_and_change_nothing_of_training(
    data: Path, cache: Path, change: Any
) -> None:
    before = view_of(data, cache)
    store = before.publish_feature_set("WavLM_large")
    change([], data)
    put(data / "pre_extracted_test_data" / "WavLM_large_test" / "test_0001.npy", "other test features")
    after = view_of(data, cache)
    assert (after.digest, after.train.ids, after.publish_feature_set("WavLM_large").train) == (
        before.digest, before.train.ids, store.train,
    )  # fmt: skip
    assert after.test_digest != before.test_digest
    assert after.publish_feature_set("WavLM_large").test != store.test
    both = set(before.test.ids) & set(after.test.ids)
    assert {name: before.real[name] for name in both} == {name: after.real[name] for name in both}
    assert len(both) >= 2, "the id of a test clip comes from the training part and the clip itself"


@pytest.mark.parametrize("without_videos", [False, True])
def test_released_features_that_nobody_asks_for_change_no_digest(data: Path, cache: Path, without_videos: bool) -> None:
    if without_videos:
        for path in data.rglob("*.mov"):
            path.unlink()
    before = view_of(data, cache)
    for row in rows_of():
        put(data / "pre_extracted_train_data" / "CLIP_train" / f"{row['filename']}.npy", "more")
    after = view_of(data, cache)
    assert after.digest == before.digest
    assert after.publish_feature_set("WavLM_large") == before.publish_feature_set("WavLM_large")


def test_the_digest_does_not_know_what_cannot(tmp_path: Path, cache: Path) -> None:
    data = write_download(tmp_path / "data")
    before = view_of(data, cache)
    rows = [row | {"gender": "F", "version": "7"} for row in rows_of()]
    write_metadata(data, rows)
    put(data / "notes.txt")
    (data / "part_01").rename(data / "videos")
    after = view_of(data, cache)
    assert after.digest == before.digest
    assert after.everything().ids == before.everything().ids
    assert all(clip.video.exists() for clip in after.everything())


def test_features_count_where_there_is_no_video(tmp_path: Path, cache: Path) -> None:
    data = write_download(tmp_path / "data")
    video = next(data.rglob("A1_ang_int1_ver1.mov"))
    video.unlink()
    before = by_real_name(view_of(data, cache))["A1_ang_int1_ver1"]
    assert before.video_file is None
    assert before.content
    put(next(data.rglob("A1_ang_int1_ver1.npy")), "other features")
    after = by_real_name(view_of(data, cache))["A1_ang_int1_ver1"]
    assert after.content != before.content
    assert after.id == before.id


def test_clips_without_any_file_have_no_content(tmp_path: Path, cache: Path) -> None:
    write_metadata(tmp_path / "data", rows_of())
    blinded = view_of(tmp_path / "data", cache)
    assert {clip.content for clip in blinded.train} == {""}
    assert len(blinded.test) == 0


class Counter:
    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.calls.append((done, total))


def test_contents_are_read_once(data: Path, cache: Path) -> None:
    dataset = read_dataset(data)
    first = Counter()
    before = blind_dataset(dataset, cache, first)
    assert first.calls == [(i, 63) for i in range(1, 64)]
    again = Counter()
    assert blind_dataset(dataset, cache, again).digest == before.digest
    assert again.calls == []
    video = data / "part_01" / "A1_ang_int1_ver1.mov"
    put(video, "VIDEO 0")
    os.utime(video, ns=(1, 1))
    changed = Counter()
    after = blind_dataset(dataset, cache, changed)
    assert changed.calls == [(1, 1)]
    assert by_real_name(after)["A1_ang_int1_ver1"].content != by_real_name(before)["A1_ang_int1_ver1"].content


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe\x00binary", b"[1, 2]", b"0" * 16, b"0 " * 100_000])
def test_a_damaged_memo_is_made_again(data: Path, cache: Path, damage: bytes) -> None:
    before = view_of(data, cache)
    entries = sorted((cache / DIGESTS).iterdir())
    assert len(entries) == 63
    whole = [entry.read_bytes() for entry in entries]
    for entry in entries[::2]:
        entry.write_bytes(damage)
    assert view_of(data, cache).digest == before.digest
    assert [entry.read_bytes() for entry in entries] == whole


def replace_unseen(path: Path, content: bytes, in_place: bool) -> None:
    """Put other bytes of the same length there, with the time of the old ones, as `cp -a` and `unzip` may do."""
    status = path.stat()
    assert len(content) == status.st_size
    if in_place:
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        put(path.with_name("new"), content)
        os.utime(path.with_name("new"), ns=(status.st_atime_ns, status.st_mtime_ns))
        path.with_name("new").replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize("in_place", [True, False])
def test_files_replaced_by_others_of_equal_size_and_time_are_seen(data: Path, cache: Path, in_place: bool) -> None:
    before = view_of(data, cache)
    store = before.publish_feature_set("WavLM_large")
    view_of(data, cache).publish_feature_set("WavLM_large")
    name = "A1_ang_int1_ver1"
    replace_unseen(data / "pre_extracted_train_data" / "WavLM_large_train" / f"{name}.npy", b"FEATURES 0", in_place)
    replace_unseen(data / "part_01" / f"{name}.mov", b"VIDEO 0", in_place)
    after = view_of(data, cache)
    assert after.publish_feature_set("WavLM_large").train != store.train
    assert after.digest != before.digest
    clip = by_real_name(after)[name]
    assert clip.video.read_bytes() == b"VIDEO 0"
    assert clip.features("WavLM_large").read_bytes() == b"FEATURES 0"


def test_links_of_other_views_do_not_have_contents_read_again(data: Path, cache: Path) -> None:
    """A hard link changes a file's ctime, by which replaced files are told."""
    dataset = read_dataset(data)
    blind_dataset(dataset, cache).publish_feature_set("WavLM_large")
    counter = Counter()
    smaller = leave_out(dataset, {dataset.ids[0]: "tried"})
    blind_dataset(smaller, cache, counter).publish_feature_set("WavLM_large")
    blind_dataset(dataset, cache, counter).publish_feature_set("WavLM_large")
    assert counter.calls == []


def test_neutral_files_follow_files_that_move(data: Path, cache: Path) -> None:
    before = by_real_name(view_of(data, cache))["A1_ang_int1_ver1"]
    (data / "part_01").rename(data / "elsewhere")
    after = by_real_name(view_of(data, cache))["A1_ang_int1_ver1"]
    assert after.video == before.video
    assert after.video.samefile(data / "elsewhere" / "A1_ang_int1_ver1.mov")


def test_a_file_that_vanishes_or_cannot_be_read(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = read_dataset(data)
    video = data / "part_01" / "A1_ang_int1_ver1.mov"
    video.unlink()
    with pytest.raises(DataError, match=f"{video}"):
        blind_dataset(dataset, cache)
    put(video)

    def refuse(*_: object) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk.hashlib, "file_digest", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        blind_dataset(dataset, cache)
