"""What is cut out of a clip before it is sent."""

from __future__ import annotations

import hashlib
import io
import wave
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

import av

from blemore_harness.clips import Clip
from blemore_harness.errors import MediaError
from blemore_plugins.gemini import clipping
from blemore_plugins.gemini.clipping import Window, cut_sound, cut_video
from gemini_service import turn, with_cover, write_colours, write_video
from media_files import drifting_blocks, printed_with_other_memory, write_media

pytestmark = pytest.mark.encoders


def frames_of(source):
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def clip_of(path):
    return Clip("c", path, {}, "0")


def test_a_whole_clip_is_copied_without_loss_sound_or_tags(tmp_path):
    path = write_video(tmp_path / "A1_ang_int1_ver1.mov", 1, 1.0, sound=True)
    data = cut_video(clip_of(path), Window(0, 0))
    assert all(np.array_equal(a, b) for a, b in zip(frames_of(data), frames_of(path), strict=True))
    with av.open(io.BytesIO(data)) as file:
        assert [stream.type for stream in file.streams] == ["video"]
    assert b"A1_ang" not in data


def test_a_cut_between_frames_that_need_no_later_one_is_exact_and_without_loss(tmp_path):
    path = write_video(tmp_path / "a.mov", 1, 3.0, bf="0")
    found = frames_of(cut_video(clip_of(path), Window(0, 2.0)))
    assert len(found) == 20
    assert all(np.array_equal(a, b) for a, b in zip(found, frames_of(path), strict=False))


@pytest.mark.parametrize(
    ("start", "seconds", "expected"), [(0, 2.0, slice(0, 20)), (0.5, 1.0, slice(5, 15)), (2.5, 0, slice(25, 30))]
)
def test_a_cut_that_needs_encoding_is_exact_and_looks_the_same(tmp_path, start, seconds, expected):
    path = write_video(tmp_path / "a.mov", 1, 3.0, bf="3", g="30")
    found, original = frames_of(cut_video(clip_of(path), Window(start, seconds))), frames_of(path)[expected]
    assert len(found) == len(original)
    errors = [np.abs(a.astype(int) - b).mean() for a, b in zip(found, original, strict=True)]
    assert max(errors) < 6


def test_frames_keep_their_times(tmp_path):
    path = write_video(tmp_path / "a.mov", 1, 3.0)
    with av.open(io.BytesIO(cut_video(clip_of(path), Window(0.5, 1.0)))) as file:
        assert [round(frame.time, 3) for frame in file.decode(video=0)] == [round(k / 10, 3) for k in range(10)]


@pytest.mark.slow
def test_the_same_clip_gives_the_same_bytes(tmp_path):
    """Also where fresh memory holds other things, which x264's macroblock tree would let into its choices."""
    path = write_media(tmp_path / "a.mov", drifting_blocks(176))
    code = "import sys; from test_gemini_clipping import *; print(digest_of_cut(sys.argv[1]))"
    assert printed_with_other_memory(code, str(path)) == {digest_of_cut(str(path))}


def digest_of_cut(path):
    return hashlib.sha256(cut_video(clip_of(Path(path)), Window(0, 2.0))).hexdigest()


def test_a_picture_that_is_stored_turned_is_sent_upright(tmp_path):
    path = write_video(tmp_path / "a.mov", 1, 0.5)
    upright = frames_of(path)[0]
    turn(path)
    with av.open(str(path)) as file:
        assert abs(next(file.decode(video=0)).rotation) == 90
    found = frames_of(cut_video(clip_of(path), Window(0, 2)))[0]
    assert np.abs(found.astype(int) - np.rot90(upright, -1)).mean() < 6


def test_too_big_a_video_is_encoded_again_or_refused(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mov", 1, 1.0, crf="1")
    whole = cut_video(clip_of(path), Window(0, 0))
    monkeypatch.setattr(clipping, "MAX_BYTES", len(whole) - 1)
    assert len(cut_video(clip_of(path), Window(0, 0))) < len(whole)
    monkeypatch.setattr(clipping, "MAX_BYTES", 100)
    with pytest.raises(MediaError, match="shorter window"):
        cut_video(clip_of(path), Window(0, 0))


def test_sound_is_the_same_window(tmp_path):
    path = write_video(tmp_path / "a.mov", 1, 3.0, sound=True)
    with wave.open(io.BytesIO(cut_sound(clip_of(path), Window(0.5, 1.5)))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (1, 16000, 2)
        assert file.getnframes() == 24000
        samples = np.frombuffer(file.readframes(24000), "<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert abs(spectrum.argmax() / 1.5 - 0.11 / (2 * np.pi) * 16000) < 2


@pytest.mark.parametrize("window", [Window(0, 2.0), Window(0.5, 1.0)])
@pytest.mark.parametrize(
    ("codec", "shape", "space", "full"),
    [
        ("libx264", "yuvj420p", "", True), ("libx264", "yuvj420p", "bt709", True),
        ("libx264", "yuv420p", "bt709", False), ("libx264", "yuv420p", "bt2020", False),
        ("libx264", "yuv420p", "bt470bg", False), ("libx265", "yuvj420p", "", True), ("mjpeg", "yuvj420p", "", True),
        ("png", "rgb24", "", True), ("prores_ks", "yuv422p10le", "", False),
    ],
)  # fmt: skip
def test_what_is_sent_looks_like_the_original(tmp_path, codec, shape, space, full, window):
    path = write_colours(tmp_path / "a.mov", codec, shape, space, full)
    original = frames_of(path)[round(window.start * 10) : round(window.end * 10)]
    found = frames_of(cut_video(clip_of(path), window))
    assert len(found) == len(original)
    shown, sent = np.stack(original).astype(int), np.stack(found).astype(int)
    assert np.abs(sent - shown).mean() < 3
    for part in (shown < 24, shown > 224):
        assert abs((sent - shown)[part].mean()) < 4


def test_full_range_that_is_turned_looks_like_the_original(tmp_path):
    path = write_colours(tmp_path / "a.mov", "libx264", "yuvj420p", "bt709")
    upright = frames_of(path)[0]
    turn(path)
    found = frames_of(cut_video(clip_of(path), Window(0, 2)))[0]
    assert np.abs(found.astype(int) - np.rot90(upright, -1)).mean() < 3


@pytest.mark.parametrize(
    ("ending", "codec", "attached"), [("mp4", "mjpeg", True), ("mp4", "png", True), ("mov", "png", False)]
)
@pytest.mark.parametrize("window", [Window(0, 2.0), Window(0.5, 1.0)])
def test_the_film_is_sent_and_not_its_cover(tmp_path, ending, codec, attached, window):
    film = write_video(tmp_path / "film.mov", 1, 3.0, bf="0")
    path = with_cover(tmp_path / f"a.{ending}", film, codec, attached)
    found, original = frames_of(cut_video(clip_of(path), window)), frames_of(film)
    assert len(found) == window.seconds * 10
    assert np.abs(found[0].astype(int) - original[round(window.start * 10)]).mean() < 6


def test_frames_that_share_a_time_are_all_sent(tmp_path):
    path = write_video(tmp_path / "a.mov", 1, 2.0, bf="0")
    with av.open(str(path)) as given, av.open(str(tmp_path / "b.mov"), "w") as file:
        copy = file.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                pts = packet.pts // 2 // 512 * 1024 if packet.pts else 0
                packet.stream, packet.pts, packet.dts = copy, pts, pts
                file.mux(packet)
    expected = [frame for frame, at in zip(*frames_and_times(tmp_path / "b.mov"), strict=True) if at < 0.5]
    found = frames_of(cut_video(clip_of(tmp_path / "b.mov"), Window(0, 0.5)))
    assert len(found) == len(expected) == 5
    assert max(np.abs(one.astype(int) - other).mean() for one, other in zip(found, expected, strict=True)) < 6


def frames_and_times(path):
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
        return [frame.to_ndarray(format="rgb24") for frame in frames], [frame.time for frame in frames]


@pytest.mark.parametrize("name", ["gemini-full-range/h264_full.mov", "gemini-full-range/hevc_full.mov"])
def test_the_shared_full_range(name):
    path = Path(__file__).parents[2] / "shared" / "cases" / "media" / name
    if not path.exists():
        pytest.skip(f"no {path}")
    found, original = frames_of(cut_video(clip_of(path), Window(0.48, 1.0))), frames_of(path)[12:37]
    assert len(found) == 25
    assert max(np.abs(one.astype(int) - other).mean() for one, other in zip(found, original, strict=True)) < 2


def test_what_cannot_be_cut_is_named(tmp_path):
    silent = write_video(tmp_path / "a.mov", 1, 1.0)
    broken = tmp_path / "b.mov"
    broken.write_bytes(b"nothing")
    for cut, path, window, said in (
        (cut_video, silent, Window(1.5, 1), "smaller start"),
        (cut_video, broken, Window(0, 1), "clip c: "),
        (cut_video, tmp_path / "none.mov", Window(0, 1), "does not exist"),
        (cut_sound, silent, Window(0, 1), "no audio track"),
        (cut_sound, broken, Window(0, 1), "clip c: "),
    ):
        with pytest.raises(MediaError, match=said) as caught:
            cut(clip_of(path), window)
        assert caught.value.clip == "c"


def test_a_clip_that_the_service_would_cut_off_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(clipping, "MAX_VIDEO_SECONDS", 0.8)
    with pytest.raises(MediaError, match="set a window"):
        cut_video(clip_of(write_video(tmp_path / "a.mov", 1, 1.0)), Window(0, 0))
