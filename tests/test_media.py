"""Frames and audio against what was written, against PyAV, and against files that no clip should be."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from blemore_harness.clips import Clip
from blemore_harness.errors import ExtraMissing, MediaError
from blemore_harness.media.audio import read_audio
from blemore_harness.media.frames import iter_frames, read_frames, resize, uniform_indices, video_info
from media_files import FPS, clip_of, gradient_frames, sine, write_media

av = pytest.importorskip("av")
pytestmark = pytest.mark.encoders

COUNT = 30


def test_folders_may_have_names_of_any_bytes(clip, tmp_path):
    for name in (b"M\xfcller", "M\u00fcller".encode()):
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        folder.mkdir()
        moved = clip_of(Path(shutil.copy(clip.video, folder)))
        np.testing.assert_array_equal(read_frames(moved), read_frames(clip))
        np.testing.assert_array_equal(read_audio(moved, 16_000), read_audio(clip, 16_000))
        assert video_info(moved) == video_info(clip)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("media")
    sound = np.stack([sine(COUNT / FPS, 44_100), sine(COUNT / FPS, 44_100, level=0.25)])
    return clip_of(write_media(folder / "a.mov", gradient_frames(COUNT), sound))


def decode_with_pyav(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_frames_are_the_ones_written_and_pixel_equal_to_pyav(clip):
    frames = read_frames(clip)
    assert frames.dtype == np.uint8
    assert frames.shape == (COUNT, 48, 64, 3)
    # H.264 in 4:2:0 with 16-235 levels rounds by a few grey levels.
    assert np.abs(frames.astype(int) - gradient_frames(COUNT)).max() <= 10
    np.testing.assert_array_equal(frames, decode_with_pyav(clip.video))


@pytest.mark.parametrize("indices", [[0], [29], [5, 3, 5, 28], [], np.arange(0, 30, 7)])
def test_chosen_frames_equal_those_of_the_whole_clip(clip, indices):
    np.testing.assert_array_equal(read_frames(clip, indices), read_frames(clip)[np.asarray(indices, dtype=int)])


@pytest.mark.parametrize("stride", [1, 2, 4, 29, 100])
def test_streaming_gives_the_same_frames(clip, stride):
    np.testing.assert_array_equal(np.stack(list(iter_frames(clip, stride))), read_frames(clip)[::stride])
    assert next(iter_frames(clip, stride, size=(20, 30))).shape == (20, 30, 3)


def test_streaming_can_be_left_in_the_middle_and_refuses_a_stride_of_zero(clip):
    frames = iter_frames(clip)
    next(frames)
    frames.close()
    with pytest.raises(ValueError, match="at least 1"):
        next(iter_frames(clip, 0))


def test_resizing_is_pillow_bilinear_wherever_it_happens(clip):
    from PIL import Image

    whole = read_frames(clip)
    expected = np.stack([np.asarray(Image.fromarray(f).resize((33, 21), Image.Resampling.BILINEAR)) for f in whole])
    np.testing.assert_array_equal(read_frames(clip, size=(21, 33)), expected)
    np.testing.assert_array_equal(np.stack(list(iter_frames(clip, 3, size=(21, 33)))), expected[::3])
    assert resize(whole, whole.shape[1:3]) is whole


def test_video_info(clip):
    info = video_info(clip)
    assert (info.frames, info.width, info.height) == (COUNT, 64, 48)
    assert (info.fps, info.seconds) == (pytest.approx(FPS), pytest.approx(COUNT / FPS))


def test_an_index_outside_the_clip_is_refused(clip):
    with pytest.raises(MediaError, match=r"k7.* 30 frames.*frame 30"):
        read_frames(clip, [0, 30])


@pytest.mark.parametrize(("frames", "count"), [(1, 1), (7, 3), (3, 7), (100, 16), (16, 16)])
def test_uniform_indices_are_the_middles_of_equal_parts(frames, count):
    indices = uniform_indices(frames, count)
    assert indices.tolist() == [int((i + 0.5) * frames / count) for i in range(count)]
    assert 0 <= indices.min() <= indices.max() < frames


def test_uniform_indices_refuses_nothing_to_choose_from():
    with pytest.raises(ValueError, match=r"1 frame.* 0"):
        uniform_indices(0, 4)


def test_sound_is_the_mean_of_the_channels_at_the_rate_asked_for(clip):
    sound = read_audio(clip)
    assert sound.dtype == np.float32
    assert sound.shape[0] == pytest.approx(COUNT / FPS * 16_000, abs=1024)
    expected = sine(COUNT / FPS, 16_000, level=0.375)[800:18_000]
    np.testing.assert_allclose(sound[800:18_000], expected, atol=0.03)  # AAC is not exact
    assert len(read_audio(clip, 8_000)) == pytest.approx(len(sound) / 2, abs=2)
    np.testing.assert_array_equal(sound, read_audio(clip))


def test_sound_already_at_the_rate_is_given_as_it_is(tmp_path):
    wave = sine(0.5, 16_000)
    clip = clip_of(write_media(tmp_path / "a.mov", None, wave, rate=16_000, codec="pcm_s16le"))
    np.testing.assert_allclose(read_audio(clip), wave, atol=1 / 32767)


def test_two_equal_channels_are_as_loud_as_one(tmp_path):
    """FFmpeg's own mix would make them 3 dB louder."""
    wave = sine(0.5, 16_000)
    clip = clip_of(write_media(tmp_path / "a.mov", None, np.stack([wave, wave]), rate=16_000, codec="pcm_s16le"))
    np.testing.assert_allclose(read_audio(clip), wave, atol=1 / 32767)


def test_the_resampler_is_flushed(tmp_path):
    """Without the flush the last milliseconds would be lost."""
    clip = clip_of(write_media(tmp_path / "a.mov", None, sine(1, 44_100), codec="pcm_s16le"))
    sound = read_audio(clip)
    assert len(sound) == 16_000
    np.testing.assert_allclose(sound[15_000:15_950], sine(1, 16_000)[15_000:15_950], atol=0.01)


def test_decoding_in_threads_gives_the_same(clip):
    alone, together = read_frames(clip), {}
    threads = [threading.Thread(target=lambda k=k: together.update({k: read_frames(clip)})) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(together) == 4
    for frames in together.values():
        np.testing.assert_array_equal(frames, alone)


def broken(kind: str, folder: Path) -> Path:
    path = folder / "b.mov"
    if kind == "text":
        path.write_text("not a video\n" * 40)
    elif kind == "empty":
        path.touch()
    elif kind in ("cut", "cut after its index"):
        options = {"movflags": "+faststart"} if kind == "cut after its index" else {}
        noise = np.random.default_rng(0).integers(0, 255, (COUNT, 48, 64, 3), dtype=np.uint8)
        write_media(path, noise, sine(COUNT / FPS, 44_100), **options)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    return path


READERS = (read_frames, lambda clip: list(iter_frames(clip)), read_audio, video_info)
BROKEN = [(kind, read) for kind in ("text", "empty", "cut", "cut after its index", "absent") for read in READERS]


@pytest.mark.parametrize(("kind", "read"), BROKEN)
def test_a_broken_file_is_one_clear_line_that_names_the_clip(tmp_path, kind, read):
    clip = clip_of(broken(kind, tmp_path), "q9")
    with pytest.raises(MediaError, match="q9") as caught:
        read(clip)
    assert caught.value.clip == "q9"
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_video_makes_no_noise(tmp_path, capfd):
    with pytest.raises(MediaError, match="clip k7"):
        read_frames(clip_of(broken("text", tmp_path)))
    assert capfd.readouterr() == ("", "")


def test_a_missing_track_is_named(tmp_path):
    mute = clip_of(write_media(tmp_path / "mute.mov", gradient_frames(4)), "m1")
    blind = clip_of(write_media(tmp_path / "blind.mov", None, sine(0.3, 44_100)), "b1")
    assert len(read_frames(mute)) == 4
    assert len(read_audio(blind)) > 0
    with pytest.raises(MediaError, match=r"clip m1.*audio"):
        read_audio(mute)
    with pytest.raises(MediaError, match=r"clip b1.*video"):
        read_frames(blind)


def test_missing_decoders_are_named(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for read in READERS:
        with pytest.raises(ExtraMissing, match=r"'av' .*pip install"):
            read(clip)
