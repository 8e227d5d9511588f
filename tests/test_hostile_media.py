"""Clips that no camera should have made: each is decoded or reported by name, without noise, and never more memory."""

from __future__ import annotations

import resource
import struct
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from blemore_harness.clips import Clip, Clips
from blemore_harness.errors import BlemoreError, MediaError
from blemore_harness.media import video
from blemore_harness.media.audio import read_audio
from blemore_harness.media.frames import VideoInfo, iter_frames, read_frames, video_info
from fakes import make_context
from media_files import FPS, clip_of, gradient_frames, refusal, sine, write_media

av = pytest.importorskip("av")
pytest.importorskip("torch")
pytestmark = pytest.mark.encoders

READERS: tuple[Callable[[Clip], object], ...] = (
    video_info, read_frames, lambda clip: np.stack(list(iter_frames(clip))), read_audio,
)  # fmt: skip


def outcomes(clip: Clip) -> list[object]:
    """What each reader gives or says; a refusal must be one printable line with the clip's name."""
    found: list[object] = []
    for read in READERS:
        try:
            found.append(read(clip))
        except MediaError as error:
            found.append(refusal(error, clip))
    return found


def write_video(
    path: Path, frames: np.ndarray, codec: str = "libx264", shape: str = "yuv420p", times: list[int] | None = None
) -> Path:
    """Write pictures in any codec and pixel format; `times` in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options={"preset": "ultrafast"} if codec == "libx264" else {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.codec_context.time_base = shape, Fraction(1, 1000)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = times[number] if times else number * 1000 // FPS, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_audio(path: Path, channels: np.ndarray, rate: int, layout: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout=layout)
        samples = np.round(channels.T.reshape(1, -1) * 32767).astype(np.int16)
        block = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "s16", layout)
        block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("index_first", [False, True])
def test_no_cut_goes_unnoticed(tmp_path: Path, capfd: pytest.CaptureFixture[str], index_first: bool) -> None:
    options = {"movflags": "+faststart"} if index_first else {}
    frames = np.random.default_rng(0).integers(0, 255, (FPS, 48, 64, 3), dtype=np.uint8)
    data = write_media(tmp_path / "whole.mov", frames, sine(1, 44_100), **options).read_bytes()
    whole = outcomes(clip_of(tmp_path / "whole.mov"))
    points = [*range(0, 64, 9), *range(64, len(data), len(data) // 24), len(data) - 1]
    for point in points:
        path = tmp_path / f"cut{point}.mov"
        path.write_bytes(data[:point])
        info, read, streamed, sound = outcomes(clip_of(path, f"q{point}"))
        assert isinstance(sound, str), point  # the audio's last block is the end of the file, or the index was there
        if not isinstance(read, str):
            # What is behind the last frame may be lost; a tenth of the frames is within the tolerance.
            assert isinstance(whole[1], np.ndarray)
            assert isinstance(info, VideoInfo)
            assert info.frames == len(read) >= 0.9 * FPS
            np.testing.assert_array_equal(read, whole[1][: len(read)])
            np.testing.assert_array_equal(streamed, read)
    assert capfd.readouterr() == ("", "")


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("clip.mov", b"x" * 2000)


def pictured(path: Path) -> None:
    from PIL import Image

    Image.fromarray(gradient_frames(1)[0]).save(path, "png")


def listed(path: Path) -> None:
    write_media(path.with_name("other.mov"), gradient_frames(3))
    path.write_text("ffconcat version 1.0\nfile other.mov\n")


def streamed(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")


@pytest.mark.parametrize(
    "write",
    [
        Path.touch, zipped, pictured, listed, streamed, Path.mkdir,
        lambda path: path.write_text("not a video\n" * 99),
        lambda path: path.write_bytes(np.random.default_rng(1).bytes(5000)),
        lambda path: path.write_bytes(b"\0\0\0\x18ftypqt  " + b"\0" * 4000),
        lambda path: path.write_bytes(b"RIFF\xff\xff\xff\x7fAVI LIST" + b"\xff" * 500),
    ],
    ids=["empty", "zip", "png", "concat", "hls", "folder", "text", "noise", "only a beginning", "broken avi"],
)  # fmt: skip
def test_what_is_no_clip_is_refused_in_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], write: Callable[[Path], object]
) -> None:
    path = tmp_path / "b.mov"
    write(path)
    assert all(isinstance(found, str) for found in outcomes(Clip("q9", path)))
    assert capfd.readouterr() == ("", "")


def test_lists_of_other_files_are_not_followed(tmp_path: Path) -> None:
    listed(tmp_path / "b.mov")
    with pytest.raises(MediaError, match=r"clip q9.*concat"):
        read_frames(Clip("q9", tmp_path / "b.mov"))


@pytest.mark.parametrize(
    ("height", "width"), [(33, 17), (1, 64), (3, 5), (250, 334), (1, 1), (64, 1), (16, 48), (8, 64)]
)
def test_odd_sizes_are_exact(tmp_path: Path, height: int, width: int) -> None:
    frames = np.random.default_rng(2).integers(0, 255, (3, height, width, 3), dtype=np.uint8)
    clip = clip_of(write_video(tmp_path / "a.mov", frames, "png", "rgb24"))
    np.testing.assert_array_equal(read_frames(clip), frames)
    np.testing.assert_array_equal(np.stack(list(iter_frames(clip))), frames)


def test_one_frame_and_hardly_any_sound(tmp_path: Path) -> None:
    info, frames, streamed_frames, sound = outcomes(
        clip_of(write_media(tmp_path / "a.mov", gradient_frames(1), sine(0.0005, 44_100), codec="pcm_s16le"))
    )
    assert isinstance(info, VideoInfo)
    assert (info.frames, len(frames), len(streamed_frames)) == (1, 1, 1)  # type: ignore[arg-type]
    assert 0 < len(sound) < 100  # type: ignore[arg-type]  # a resampler's filter is longer than this sound


def test_frames_at_uneven_times_are_all_given_once(tmp_path: Path) -> None:
    frames = gradient_frames(8, 32, 64)
    path = write_video(tmp_path / "a.mov", frames, "png", "rgb24", [0, 40, 80, 500, 510, 900, 2000, 2040])
    np.testing.assert_array_equal(read_frames(clip_of(path)), frames)
    np.testing.assert_array_equal(read_frames(clip_of(path), [7, 0, 3]), frames[[7, 0, 3]])


@pytest.mark.parametrize(
    ("matrix", "turns"), [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1), ((1, 0, 0, 1), 0)]
)
def test_frames_come_upright(tmp_path: Path, matrix: tuple[int, ...], turns: int) -> None:
    """As players show them: cameras that are turned write a matrix and leave the pixels as they fell."""
    path = write_media(tmp_path / "a.mov", gradient_frames(3, 64, 128))
    lying = read_frames(clip_of(path))
    a, b, c, d = (number << 16 for number in matrix)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    expected = np.rot90(lying, turns, axes=(1, 2))
    np.testing.assert_array_equal(read_frames(clip_of(path)), expected)
    info = video_info(clip_of(path))
    assert (info.height, info.width) == expected.shape[1:3]


def test_ten_bits_are_eight(tmp_path: Path) -> None:
    frames = gradient_frames(4, 64, 64)
    found = read_frames(clip_of(write_video(tmp_path / "a.mov", frames, "prores_ks", "yuv422p10le")))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - frames).max() <= 10


def test_six_channels_count_alike_and_old_telephones_are_heard(tmp_path: Path) -> None:
    levels = np.array([0.6, 0.3, 0.2, 0.1, 0.0, -0.3], dtype=np.float32)[:, None]
    surround = clip_of(write_audio(tmp_path / "a.mov", levels * sine(0.2, 16_000, level=1), 16_000, "5.1"))
    np.testing.assert_allclose(read_audio(surround), sine(0.2, 16_000, level=0.15), atol=2e-4)
    phone = clip_of(write_audio(tmp_path / "b.mov", sine(0.5, 8_000)[None], 8_000, "mono"))
    np.testing.assert_allclose(read_audio(phone)[100:7900], sine(0.5, 16_000)[100:7900], atol=0.01)


def memory_growth(work: Callable[[], object]) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def test_small_and_very_large_frames_are_decoded_in_fewer_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)))
    sizes = ((192, 192), (1280, 720), (3840, 2160), (8192, 4320), (0, 0))
    assert [video._threads(width * height) for width, height in sizes] == [1, 4, 4, 1, 1]


def test_frames_that_nobody_films_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mov", np.zeros((1, 8, 64, 3), dtype=np.uint8), "png", "rgb24")
    data = path.read_bytes().replace(struct.pack(">HH", 64, 8), struct.pack(">HH", 60_000, 60_000))
    data = data.replace(struct.pack(">II", 64, 8), struct.pack(">II", 60_000, 60_000))  # in the png's own header
    path.write_bytes(data)
    with pytest.raises(MediaError, match="clip k7"):
        read_frames(clip_of(path))


def test_an_hour_of_picture_streams_and_an_hour_of_sound_is_refused(tmp_path: Path) -> None:
    times = [10_000 * number for number in range(361)]
    path = write_video(tmp_path / "a.mov", gradient_frames(361, 36, 64), times=times)
    count = [0]
    grown = memory_growth(lambda: count.__setitem__(0, sum(1 for _ in iter_frames(clip_of(path)))))
    assert (count[0], grown < 50_000) == (361, True)
    quiet = tmp_path / "b.mov"
    with av.open(str(quiet), "w") as container:
        stream = container.add_stream("pcm_u8", rate=1000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.full((1, 3_600_000), 128, dtype=np.uint8), "u8", "mono")
        block.sample_rate, block.pts, block.time_base = 1000, 0, Fraction(1, 1000)
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match=r"clip k7.* 60 minutes.* 10 minutes"):
        read_audio(clip_of(quiet))


@pytest.mark.parametrize("name", ["a b c.mov", "ümläut é 😀.mov", "-i.mov", "a%d'\"$(x);.mov", "file:a.mov"])
def test_names_are_only_names(tmp_path: Path, name: str) -> None:
    path = write_media(tmp_path / "a.mov", gradient_frames(3), sine(0.2, 44_100)).rename(tmp_path / name)
    assert len(read_frames(clip_of(path))) == 3
    assert len(read_audio(clip_of(path)))


def bad_clips(folder: Path) -> Iterator[Path]:
    """One of each kind that encoders meet."""
    whole = write_media(folder / "whole.mov", gradient_frames(12, 48, 64), sine(0.5, 44_100), movflags="+faststart")
    (folder / "cut.mov").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (folder / "empty.mov").touch()
    zipped(folder / "zip.mov")
    write_media(folder / "mute.mov", gradient_frames(3))
    write_media(folder / "blind.mov", None, sine(0.3, 44_100))
    write_media(folder / "short.mov", gradient_frames(1), sine(0.001, 44_100), codec="pcm_s16le")
    write_video(folder / "dot.mov", gradient_frames(2, 1, 1), "png", "rgb24")
    yield from (folder / f"{name}.mov" for name in ("cut", "empty", "zip", "mute", "blind", "short", "dot"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prosody", "wav2vec2", "clip", "s4d"])
def test_every_kind_of_encoder_gives_a_result_or_names_the_clip(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    from blemore_harness.options import build_options
    from blemore_harness.systems.plugins import load_plugins

    for package in {"prosody": ["librosa"], "s4d": ["facenet_pytorch"]}.get(name, ["transformers"]):
        pytest.importorskip(package)
    encoder = load_plugins().encoder(name).system
    options = encoder.resolve_options(build_options(name, encoder.Options, encoder.demo_options), frozenset())  # type: ignore[union-attr]
    said = {}
    for path in bad_clips(tmp_path):
        clip = clip_of(path, f"q-{path.stem}")
        try:
            encoder.prepare(Clips((clip,)), options, make_context(tmp_path))  # type: ignore[union-attr]
            said[path.stem] = ""
        except BlemoreError as error:
            said[path.stem] = refusal(error, clip)
    sound = name in ("prosody", "wav2vec2")
    assert all(said[kind] for kind in ("cut", "empty", "zip", "mute" if sound else "blind"))
    assert not said["blind" if sound else "mute"]
    assert capfd.readouterr() == ("", "")
