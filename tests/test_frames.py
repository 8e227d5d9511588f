"""The shared cache of decoded frames against the decoder itself, Pillow's JPEG and a clock."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

from blemore_harness.cache import Cache  # noqa: E402
from blemore_harness.errors import ConfigError, DataError, MediaError  # noqa: E402
from blemore_harness.media import frame_cache as frames  # noqa: E402
from blemore_harness.media import frame_files  # noqa: E402
from blemore_harness.media import frames as media  # noqa: E402
from blemore_harness.media.frame_cache import FrameCache, open_frames, shrunk_size  # noqa: E402
from blemore_harness.media.frames import read_frames, resize  # noqa: E402
from fakes import make_context  # noqa: E402
from media_files import clip_of, gradient_frames, write_media  # noqa: E402

pytestmark = pytest.mark.encoders


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return [
        clip_of(write_media(folder / f"{n}.mov", gradient_frames(20 + n, 96 + 8 * n, 128)), f"c{n}") for n in range(4)
    ]


@pytest.fixture
def jpeg(monkeypatch):
    """Have the small clips of these tests kept as JPEG, as large ones are."""
    monkeypatch.setattr(frame_files, "RAW_BYTES", 100_000)


def files(cache: FrameCache) -> list:
    return sorted(cache.store.folder.parent.glob("*/*.npy"))


def through_pillow(picture: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95, subsampling="4:4:4")
    return np.asarray(Image.open(file).convert("RGB"))


def test_a_small_clip_is_kept_as_it_is_decoded(tmp_path, clips):
    cache = open_frames(Cache(tmp_path))
    expected = read_frames(clips[0])
    for _ in range(2):
        np.testing.assert_array_equal(cache.read(clips[0]), expected)
        np.testing.assert_array_equal(cache.read(clips[0], [3, 0, 3, 19]), expected[[3, 0, 3, 19]])
        np.testing.assert_array_equal(cache.read(clips[0], lambda count: range(0, count, 3)), expected[::3])
    assert cache.count(clips[0]) == len(expected) == 20
    assert cache.read(clips[0], []).shape == (0, 96, 128, 3)


def test_frames_are_the_callers_own(tmp_path, clips):
    cache = open_frames(Cache(tmp_path))
    cache.read(clips[0])[:] = 0
    cache.read(clips[0], [1])[:] = 0
    assert cache.read(clips[0], [1]).max() > 0


def test_larger_frames_are_shrunk_with_their_aspect_kept(tmp_path, clips):
    found = open_frames(Cache(tmp_path), 48).read(clips[1])
    np.testing.assert_array_equal(found, resize(read_frames(clips[1]), (48, 59)))
    assert shrunk_size(1080, 1920, 256) == (256, 455)
    assert shrunk_size(1920, 1080, 256) == (455, 256)
    assert shrunk_size(100, 200, 256) == (100, 200)


def test_a_larger_clip_is_kept_as_jpeg_of_each_frame(tmp_path, clips, jpeg):
    cache = open_frames(Cache(tmp_path))
    decoded = read_frames(clips[2])
    expected = np.stack([through_pillow(picture) for picture in decoded])
    np.testing.assert_array_equal(cache.read(clips[2]), expected)
    np.testing.assert_array_equal(cache.read(clips[2], [7, 2]), expected[[7, 2]])
    assert abs(expected.astype(int) - decoded).mean() < 1
    assert files(cache)[0].stat().st_size < decoded.nbytes / 5


def test_preparing_decodes_what_is_missing_and_says_how_far_it_is(tmp_path, clips):
    context = make_context(tmp_path)
    cache = open_frames(context.cache)
    cache.read(clips[0])
    cache.prepare(clips, context)
    assert (context.reporter.bars, context.reporter.done) == ([("frames: decoding", 3)], 3)
    assert len(files(cache)) == 4
    cache.prepare(clips, context)
    assert len(context.reporter.bars) == 1


def test_a_damaged_clip_is_named_and_those_before_it_are_kept(tmp_path, clips):
    bad = tmp_path / "bad.mov"
    bad.write_bytes(b"not a video")
    cache = open_frames(Cache(tmp_path))
    with pytest.raises(MediaError, match="bad9") as caught:
        cache.prepare([*clips[:2], clip_of(bad, "bad9"), clips[2]], make_context(tmp_path))
    assert caught.value.clip == "bad9"
    assert not cache.store.missing(clips[:2])


def test_the_least_recently_used_files_go_and_nothing_changes(tmp_path, clips, jpeg, monkeypatch):
    free = open_frames(Cache(tmp_path / "free"))
    expected = [free.read(clip) for clip in clips]
    together = sum(free.store.path(clip).stat().st_size for clip in clips[:3])
    monkeypatch.setenv("BLEMORE_FRAMES_GB", str((together - 1) / 1e9))
    cache = open_frames(Cache(tmp_path / "small"))
    for age, clip in enumerate(clips[:2]):
        cache.read(clip)
        os.utime(cache.store.path(clip), (age, age))
    cache.read(clips[0], [0])
    cache.read(clips[2])
    assert [cache.store.has(clip) for clip in clips] == [True, False, True, False]
    for clip, frames_ in zip(clips, expected, strict=True):
        np.testing.assert_array_equal(cache.read(clip), frames_)
        assert cache.count(clip) == len(frames_)
    assert sum(path.stat().st_size for path in files(cache)) <= cache.limit


def test_going_through_the_clips_again_finds_those_that_fitted(tmp_path, clips, jpeg, monkeypatch):
    free = open_frames(Cache(tmp_path / "free"))
    together = sum((free.read(clip), free.store.path(clip).stat().st_size)[1] for clip in clips[:3])
    monkeypatch.setenv("BLEMORE_FRAMES_GB", str((together + 100) / 1e9))
    decoded = []
    whole = frames.iter_frames
    monkeypatch.setattr(frames, "iter_frames", lambda clip: decoded.append(clip.id) or whole(clip))
    context = make_context(tmp_path / "small")
    cache = open_frames(context.cache)
    for _ in range(3):
        for clip in clips:
            cache.read(clip)
    assert decoded == ["c0", "c1", "c2", "c3", "c3", "c3"]
    cache.prepare(clips, context)
    assert "1 of 4 clips" in context.reporter.warnings[0]


def test_a_lower_limit_is_kept_whatever_is_in_use(tmp_path, clips, jpeg, monkeypatch):
    cache = open_frames(Cache(tmp_path))
    sizes = [(cache.read(clip), cache.store.path(clip).stat().st_size)[1] for clip in clips[:3]]
    monkeypatch.setenv("BLEMORE_FRAMES_GB", str((sizes[2] + 100) / 1e9))
    cache = open_frames(Cache(tmp_path))
    cache.read(clips[3])
    assert sum(path.stat().st_size for path in files(cache)) <= cache.limit


def test_other_sizes_count_for_the_limit_too(tmp_path, clips, monkeypatch):
    open_frames(Cache(tmp_path)).read(clips[0])
    monkeypatch.setenv("BLEMORE_FRAMES_GB", "0.0005")
    small = open_frames(Cache(tmp_path), 48)
    small.read(clips[1])
    assert [path.parent for path in files(small)] == [small.store.folder]


def test_without_room_every_read_decodes(tmp_path, clips, monkeypatch):
    monkeypatch.setenv("BLEMORE_FRAMES_GB", "0")
    context = make_context(tmp_path)
    cache = open_frames(context.cache)
    cache.prepare(clips[:1], context)
    assert "BLEMORE_FRAMES_GB" in context.reporter.warnings[0]
    np.testing.assert_array_equal(cache.read(clips[0]), read_frames(clips[0]))
    assert files(cache) == []


@pytest.mark.parametrize("text", ["lots", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(tmp_path, text, monkeypatch):
    monkeypatch.setenv("BLEMORE_FRAMES_GB", text)
    with pytest.raises(ConfigError, match="BLEMORE_FRAMES_GB"):
        open_frames(Cache(tmp_path))


def test_many_threads_and_processes_may_read_and_remove_at_once(tmp_path, clips, jpeg, monkeypatch):
    reference = open_frames(Cache(tmp_path / "reference"))
    expected = [reference.read(clip, [5]) for clip in clips]
    monkeypatch.setenv("BLEMORE_FRAMES_GB", "0.0002")
    cache = open_frames(Cache(tmp_path / "busy"))

    def read(number: int) -> bool:
        return bool((cache.read(clips[number % 4], [5]) == expected[number % 4]).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(24)))
    code = (
        "import pathlib, sys; from blemore_harness.cache import Cache; from blemore_harness.clips import Clip; "
        "from blemore_harness.media.frame_cache import open_frames; "
        "print(open_frames(Cache(pathlib.Path(sys.argv[1]))).read(Clip('c', pathlib.Path(sys.argv[2]), "
        "content=sys.argv[3])).sum())"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "other"), str(clips[0].video), clips[0].content]
    processes = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sums = {int(process.communicate()[0]) for process in processes}
    assert sums == {int(read_frames(clips[0]).sum(dtype=np.uint64))}


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"cut"])
def test_a_damaged_file_of_the_cache_is_named(tmp_path, clips, damage):
    cache = open_frames(Cache(tmp_path))
    cache.read(clips[0])
    path = cache.store.path(clips[0])
    path.write_bytes(path.read_bytes()[:-100] if damage == b"cut" else damage)
    with pytest.raises(DataError, match=path.name):
        cache.read(clips[0])
    np.save(path, np.zeros(500, np.uint8))
    with pytest.raises(DataError, match=r"damaged .*delete it"):
        cache.count(clips[0])


def test_a_damaged_picture_is_named(tmp_path, clips, jpeg):
    cache = open_frames(Cache(tmp_path))
    cache.read(clips[0])
    array = np.load(cache.store.path(clips[0]))
    array[8 * 25 : 8 * 25 + 400] = 0
    np.save(cache.store.path(clips[0]), array)
    with pytest.raises(DataError, match="damaged"):
        cache.read(clips[0], [0])


def test_a_frame_outside_the_clip_is_refused(tmp_path, clips):
    with pytest.raises(MediaError, match="20 frames, frame 20"):
        open_frames(Cache(tmp_path)).read(clips[0], [0, 20])


def test_the_key_names_sizes_and_libraries(tmp_path, monkeypatch):
    cache = Cache(tmp_path)
    first = open_frames(cache).store.folder
    assert open_frames(cache, 255).store.folder != first
    monkeypatch.setattr(media, "version", lambda package: "0")
    assert open_frames(cache).store.folder != first
