"""Streams within a clip: covers, several pictures, formats, rates and times that no camera writes."""

from __future__ import annotations

import struct
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from blemore_harness.errors import MediaError
from blemore_harness.media.audio import read_audio
from blemore_harness.media.frames import iter_frames, read_frames, video_info
from media_files import FPS, clip_of, gradient_frames, refusal, sine, write_media

av = pytest.importorskip("av")
pytest.importorskip("torch")
pytestmark = pytest.mark.encoders

GREY, LIGHT = 90, 170


def plain(count: int, level: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((count, height, width, 3), level, dtype=np.uint8)


def encode(container: object, stream: object, pictures: np.ndarray, rate: int = FPS, start: int = 0) -> None:
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = start + number, Fraction(1, rate)
        container.mux(stream.encode(frame))  # type: ignore[attr-defined]
    container.mux(stream.encode(None))  # type: ignore[attr-defined]


def add_video(container: object, codec: str, shape: str, pictures: np.ndarray, rate: int = FPS) -> object:
    quiet = {"libx265": {"x265-params": "log-level=none"}}.get(codec, {})
    stream = container.add_stream(codec, rate=rate, options=quiet)  # type: ignore[attr-defined]
    stream.height, stream.width = pictures.shape[1:3]
    stream.pix_fmt = shape
    return stream


def add_sound(container: object, rate: int = 44_100) -> object:
    return container.add_stream("aac", rate=rate, layout="mono")  # type: ignore[attr-defined]


def encode_sound(container: object, stream: object, values: np.ndarray, start: float = 0.0, rate: int = 44_100) -> None:
    block = av.AudioFrame.from_ndarray(np.ascontiguousarray(values[None]), "fltp", "mono")
    block.sample_rate, block.pts, block.time_base = rate, round(start * rate), Fraction(1, rate)
    container.mux(stream.encode(block))  # type: ignore[attr-defined]
    container.mux(stream.encode(None))  # type: ignore[attr-defined]


def levels(path: Path) -> list[int]:
    """Mean brightness of each frame, read in both ways."""
    clip = clip_of(path)
    frames = read_frames(clip)
    np.testing.assert_array_equal(np.stack(list(iter_frames(clip))), frames)
    assert video_info(clip).frames == len(frames)
    return [round(float(frame.mean())) for frame in frames]


def with_cover(path: Path, video: bool) -> Path:
    with av.open(str(path), "w", format="mp4") as container:
        cover = add_video(container, "mjpeg", "yuvj420p", plain(1, GREY, 200, 300), 1)
        cover.disposition = av.stream.Disposition.attached_pic  # type: ignore[attr-defined]
        pictures = add_video(container, "libx264", "yuv420p", plain(FPS, LIGHT)) if video else None
        sound = add_sound(container)
        encode(container, cover, plain(1, GREY, 200, 300), 1)
        if pictures is not None:
            encode(container, pictures, plain(FPS, LIGHT))
        encode_sound(container, sound, sine(1, 44_100))
    return path


def test_a_cover_is_no_picture_of_a_clip(tmp_path: Path) -> None:
    alone = clip_of(with_cover(tmp_path / "song.m4a", video=False))
    for read in (video_info, read_frames):
        with pytest.raises(MediaError) as caught:
            read(alone)
        assert "cover" in refusal(caught.value, alone)
    assert len(read_audio(alone)) >= 16_000
    found = levels(with_cover(tmp_path / "film.mp4", video=True))
    assert len(found) == FPS
    assert set(found) <= set(range(LIGHT - 3, LIGHT + 4))


@pytest.mark.parametrize("first", ["small", "large"])
def test_of_two_pictures_one_is_decoded_and_always_the_same(tmp_path: Path, first: str) -> None:
    kinds = {"small": plain(10, GREY), "large": plain(10, LIGHT, 96, 128)}
    with av.open(str(tmp_path / "two.mp4"), "w") as container:
        order = sorted(kinds, key=lambda name: name != first)
        streams = [add_video(container, "libx264", "yuv420p", kinds[name]) for name in order]
        for name, stream in zip(order, streams, strict=True):
            encode(container, stream, kinds[name])
    found = levels(tmp_path / "two.mp4")
    assert len(found) == 10
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("codec", "ending", "shape"),
    [
        ("libx265", "mp4", "yuv420p"), ("libx265", "mov", "yuv420p10le"), ("libvpx-vp9", "webm", "yuv420p"),
        ("libvpx-vp9", "mp4", "yuv420p"), ("prores_ks", "mov", "yuv422p10le"), ("prores_ks", "mov", "yuva444p10le"),
        ("mjpeg", "mov", "yuvj422p"), ("mpeg4", "mov", "yuv420p"), ("libx264", "mov", "yuv444p"),
        ("png", "mov", "rgba"),
    ],
)  # fmt: skip
def test_what_cameras_and_editors_write_is_decoded(tmp_path: Path, codec: str, ending: str, shape: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    pictures, path = gradient_frames(12, 64, 64), tmp_path / f"clip.{ending}"
    with av.open(str(path), "w") as container:
        encode(container, add_video(container, codec, shape, pictures), pictures)
    frames = read_frames(clip_of(path))
    assert frames.shape == pictures.shape
    assert np.abs(frames.astype(int) - pictures).mean() < 6


@pytest.mark.parametrize(("rate", "count"), [(1, 3), (240, 120)])
def test_slow_and_fast_frames(tmp_path: Path, rate: int, count: int) -> None:
    pictures, path = gradient_frames(count), tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        encode(container, add_video(container, "libx264", "yuv420p", pictures, rate), pictures, rate)
    info = video_info(clip_of(path))
    assert (info.frames, info.fps) == (count, rate)
    assert len(levels(path)) == count


def test_sound_that_is_shorter_or_begins_late_is_what_it_is(tmp_path: Path) -> None:
    short = clip_of(write_media(tmp_path / "short.mp4", gradient_frames(2 * FPS), sine(0.2, 44_100)))
    assert 0.2 <= len(read_audio(short)) / 16_000 < 0.26
    assert video_info(short).frames == 2 * FPS
    with av.open(str(tmp_path / "late.mp4"), "w") as container:
        pictures = add_video(container, "libx264", "yuv420p", gradient_frames(1))
        sound = add_sound(container)
        encode(container, pictures, gradient_frames(2 * FPS))
        encode_sound(container, sound, sine(1, 44_100), start=1.0)
    assert 1 <= len(read_audio(clip_of(tmp_path / "late.mp4"))) / 16_000 < 1.1


def damaged(path: Path, box: bytes, offset: int, layout: str, *values: int) -> Path:
    """A good file whose numbers in a box are others."""
    data = bytearray(write_media(path, gradient_frames(FPS), sine(1, 44_100)).read_bytes())
    at, count = data.find(box), 0
    while at >= 0:
        struct.pack_into(layout, data, at + offset, *values)
        at, count = data.find(box, at + 1), count + 1
    assert count
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("box", "offset", "layout", "values"),
    [
        (b"mdhd", 16, ">I", (0,)), (b"mdhd", 16, ">I", (2**32 - 1,)), (b"stts", 16, ">I", (2**31 - 1,)),
        (b"stts", 8, ">I", (2**32 - 1,)), (b"stsz", 12, ">I", (2**31 - 1,)), (b"stsz", 8, ">II", (1000, 10**8)),
        (b"avc1", 0, ">I", (0x7A7A7A7A,)), (b"elst", 16, ">i", (-100_000,)),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], box: bytes, offset: int, layout: str, values: tuple[int, ...]
) -> None:
    clip = clip_of(damaged(tmp_path / "clip.mp4", box, offset, layout, *values))
    readers: tuple[Callable[[object], object], ...] = (video_info, read_frames)  # type: ignore[assignment]
    for read in readers:
        with pytest.raises(MediaError) as caught:
            read(clip)
        said = refusal(caught.value, clip)
        assert "DECORD_" not in said
        assert "Check failed: st_nb" not in said
    assert capfd.readouterr() == ("", "")


def lying(path: Path, offset: int, layout: str, value: int) -> Path:
    """A second of a tone as a WAV file whose header says something else."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((sine(1, 16_000) * 32767).astype("<i2").tobytes())
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, offset, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [0, 64_000, 2**32 - 1])
def test_a_wav_that_lies_about_its_size_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    assert read_audio(clip_of(lying(tmp_path / "a.wav", 40, "<I", size))).shape == (16_000,)


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [(24, "<I", 0), (24, "<I", 1), (24, "<I", 2**31 - 1), (22, "<H", 0), (22, "<H", 65_535), (20, "<H", 0x7FFF)],
)
def test_a_wav_that_cannot_be_is_refused_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], offset: int, layout: str, value: int
) -> None:
    clip = clip_of(lying(tmp_path / "a.wav", offset, layout, value))
    with pytest.raises(MediaError) as caught:
        read_audio(clip)
    refusal(caught.value, clip)
    assert capfd.readouterr() == ("", "")


def test_samples_that_are_no_numbers_are_refused_without_a_warning(tmp_path: Path) -> None:
    values = np.zeros((2, 8000), dtype="<f4")
    values[0, 100], values[1, 100], values[0, 200] = np.inf, -np.inf, np.nan
    data = values.T.tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 2, 16_000, 128_000, 8, 32)
    head = struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE") + form + struct.pack("<4sI", b"data", len(data))
    (tmp_path / "a.wav").write_bytes(head + data)
    with pytest.raises(MediaError, match="NaN"):
        read_audio(clip_of(tmp_path / "a.wav"))
