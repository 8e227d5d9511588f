"""The cache: whole or not there, keyed by content and settings, and never a pickle."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemore_harness.cache import Cache, Store
from blemore_harness.clips import Clip
from blemore_harness.disk import atomic_file, digest_of, write_atomically
from blemore_harness.errors import DataError

CLIP = Clip("c1", content="aa11")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Cache(tmp_path).store("vectors", layers=[6, 12])


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()} - {"settings.json"}


def test_array_comes_back_bit_for_bit(store: Store) -> None:
    for dtype in (np.float32, np.float64, np.uint8, np.float16):
        array = np.random.default_rng(0).integers(0, 200, (3, 4)).astype(dtype)
        store.save(CLIP, array, part=np.dtype(dtype).name)
        for mmap in (False, True):
            found = store.load(CLIP, np.dtype(dtype).name, mmap=mmap)
            np.testing.assert_array_equal(found, array)
            assert found.dtype == dtype


def write_half(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_exception_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.npy"
    for before in (None, b"old"):
        if before:
            path.write_bytes(before)
        with pytest.raises(KeyboardInterrupt):
            write_half(path)
        assert files(tmp_path) == ({"file.npy"} if before else set())
        assert not before or path.read_bytes() == before


def test_array_that_cannot_be_written_leaves_nothing(store: Store) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        store.save(CLIP, np.array([{"an": "object"}], dtype=object))
    assert files(store.folder) == set()
    assert not store.has(CLIP)


def test_kill_while_writing_leaves_no_file_under_the_name(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from blemore_harness.cache import atomic_file\n"
        "with atomic_file(Path(sys.argv[1]) / 'x.npy') as file:\n"
        "    file.write(b'half'); file.flush(); print('writing', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "x.npy").exists()
    write_atomically(tmp_path / "x.npy", "whole")
    assert (tmp_path / "x.npy").read_text() == "whole"


def test_nothing_computed_yet_says_so(store: Store) -> None:
    with pytest.raises(DataError, match=r"nothing computed for clip c1 in .*vectors.*: run `prepare` first"):
        store.load(CLIP)


def test_clip_without_content_is_refused(store: Store) -> None:
    with pytest.raises(DataError, match="clip c2 has neither video nor features"):
        store.has(Clip("c2"))


def valid_file() -> bytes:
    file = BytesIO()
    np.save(file, np.arange(12, dtype=np.float32).reshape(3, 4))
    return file.getvalue()


def zipped() -> bytes:
    file = BytesIO()
    np.savez(file, a=np.zeros(2))
    return file.getvalue()


class Bomb:
    """Says when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('a pickle was loaded')",))


def object_array() -> bytes:
    file = BytesIO()
    np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)
    return file.getvalue()


DAMAGED = {
    "empty": b"",
    "text": b"hello",
    "cut off": valid_file()[:-5],
    "cut in the header": valid_file()[:40],
    "huge shape": valid_file().replace(b"(3, 4), }    ", b"(99999999999)}"),
    "a pickle": pickle.dumps(Bomb()),
    "an array of objects": object_array(),
    "an archive": zipped(),
    "half an archive": zipped()[:50],
}


@pytest.mark.parametrize("what", DAMAGED)
@pytest.mark.parametrize("mmap", [False, True])
def test_damaged_file_is_named_and_never_unpickled(store: Store, what: str, mmap: bool) -> None:
    path = store.path(CLIP)
    write_atomically(path, DAMAGED[what])
    with pytest.raises(DataError, match=r"damaged cache file .*aa11.npy.*delete it and run again"):
        store.load(CLIP, mmap=mmap)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 127), value=st.integers(0, 255))
def test_any_byte_of_the_header_may_be_wrong(tmp_path_factory: pytest.TempPathFactory, at: int, value: int) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "fuzz")
    data = bytearray(valid_file())
    data[at] = value
    write_atomically(store.path(CLIP), bytes(data))
    with suppress(DataError):
        assert isinstance(store.load(CLIP), np.ndarray)


def test_folder_in_place_of_a_file_is_damage_too(store: Store) -> None:
    store.path(CLIP).mkdir(parents=True)
    with pytest.raises(DataError, match="damaged"):
        store.load(CLIP)


def test_settings_separate_folders_and_say_which_is_which(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    one, two = cache.store("v", layers=[6, 12], model="m"), cache.store("v", layers=[6, 11], model="m")
    same = cache.store("v", model="m", layers=(6, 12))
    other = cache.store("w", layers=[6, 12], model="m")
    assert one.folder == same.folder
    assert len({one.folder, two.folder, other.folder}) == 3
    assert json.loads((one.folder / "settings.json").read_text()) == {"name": "v", "layers": [6, 12], "model": "m"}
    one.save(CLIP, np.zeros(2))
    assert one.has(CLIP)
    assert not two.has(CLIP)


def test_parts_of_a_clip_are_kept_apart(store: Store) -> None:
    store.save(CLIP, np.zeros(1), "left")
    store.save(CLIP, np.ones(1), "right")
    assert store.load(CLIP, "right")[0] == 1
    assert not store.has(CLIP)
    assert files(store.folder) == {"aa11-left.npy", "aa11-right.npy"}


def test_missing_clips_are_given_once_per_content(store: Store) -> None:
    clips = [Clip("c1", content="a"), Clip("c2", content="b"), Clip("c3", content="a"), Clip("c4", content="c")]
    assert [clip.content for clip in store.missing(clips)] == ["a", "b", "c"]
    store.save(clips[1], np.zeros(1))
    assert [clip.content for clip in store.missing(clips)] == ["a", "c"]
    store.save(clips[2], np.zeros(1))
    assert [clip.id for clip in store.missing(clips)] == ["c4"]
    assert store.load(clips[0]).shape == (1,)


json_facts = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans(), max_size=5)


@pytest.mark.slow
@settings(deadline=None)
@given(json_facts, json_facts)
def test_digest_tells_facts_apart_whatever_their_order(one: dict[str, object], two: dict[str, object]) -> None:
    assert digest_of(one) == digest_of(dict(reversed(one.items())))
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert (digest_of(one) == digest_of(two)) == same


@pytest.mark.parametrize("mmap", [False, True])
def test_a_file_that_cannot_be_read_is_not_called_damaged(
    store: Store, mmap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(CLIP, np.zeros(3))

    def exhausted(*_given: object, **_settings: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "open", exhausted)
    monkeypatch.setattr(np.lib.format, "open_memmap", exhausted)
    with pytest.raises(DataError, match=r"cannot read cache file .*aa11\.npy \(Too many open files\)$"):
        store.load(CLIP, mmap=mmap)
