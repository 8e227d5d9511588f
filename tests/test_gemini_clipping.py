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
from gemini_service import write_video
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
    data = bytearray(path.read_bytes())
    # The display matrix of a track begins 40 bytes into the body of `tkhd` (ISO 14496-12): a quarter turn clockwise.
    at = data.index(b"tkhd") + 4 + 40
    one, minus, w = (
        (1 << 16).to_bytes(4, "big"),
        (-1 << 16).to_bytes(4, "big", signed=True),
        (1 << 30).to_bytes(4, "big"),
    )
    zero = bytes(4)
    data[at : at + 36] = zero + one + zero + minus + zero + zero + zero + zero + w
    path.write_bytes(data)
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


def test_what_cannot_be_cut_is_named(tmp_path):
    silent = write_video(tmp_path / "a.mov", 1, 1.0)
    broken = tmp_path / "b.mov"
    broken.write_bytes(b"nothing")
    for cut, path, window, said in (
        (cut_video, silent, Window(1.5, 1), "smaller start"),
        (cut_video, broken, Window(0, 1), "check the file"),
        (cut_video, tmp_path / "none.mov", Window(0, 1), "check the file"),
        (cut_sound, silent, Window(0, 1), "no sound track"),
        (cut_sound, broken, Window(0, 1), "cannot be opened"),
    ):
        with pytest.raises(MediaError, match=said) as caught:
            cut(clip_of(path), window)
        assert caught.value.clip == "c"


def test_a_clip_that_the_service_would_cut_off_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(clipping, "MAX_VIDEO_SECONDS", 0.8)
    with pytest.raises(MediaError, match="set a window"):
        cut_video(clip_of(write_video(tmp_path / "a.mov", 1, 1.0)), Window(0, 0))
