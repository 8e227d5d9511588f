"""The frame that is asked for is the frame that comes: numbers drawn into frames, in all codecs that FFmpeg writes.

The truth is what the `ffmpeg` command itself decodes, frame for frame and pixel for pixel.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from blemore_harness.clips import Clip
from blemore_harness.errors import MediaError
from blemore_harness.media.frame_cache import open_frames
from blemore_harness.media.frames import iter_frames, read_frames, uniform_indices, video_info
from fakes import make_context
from media_files import clip_of

av = pytest.importorskip("av")
pytestmark = [
    pytest.mark.encoders,
    # Where CI is set, a missing ffmpeg is a failure and no reason to skip.
    pytest.mark.skipif(
        shutil.which("ffmpeg") is None and not os.environ.get("CI"), reason="the ffmpeg command is not installed"
    ),
]

CASES = Path(__file__).parents[2] / "shared" / "cases" / "media"
"""Files that were reported; the tests make their own as well."""

WIDTH, HEIGHT, COUNT = 96, 64, 40
BARS, BAR_ROWS = 10, 16

X264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "12"]
X265 = ["-c:v", "libx265", "-preset", "fast", "-crf", "12", "-x265-params"]
STRUCTURES: dict[str, list[str]] = {
    "h264": [*X264, "-g", "12"],
    "h264-open": [*X264, "-x264-params", "open-gop=1:keyint=12:min-keyint=4:bframes=3:b-pyramid=normal"],
    "h264-intra-refresh": [*X264, "-x264-params", "intra-refresh=1:keyint=12:bframes=0"],
    "h264-interlaced": [*X264, "-flags", "+ildct+ilme", "-x264-params", "tff=1:keyint=12:open-gop=1"],
    "h264-full-range": [*X264, "-pix_fmt", "yuvj420p", "-colorspace", "bt709", "-color_range", "pc"],
    "h264-422-10": [*X264, "-pix_fmt", "yuv422p10le"],
    "h264-trimmed": [*X264, "-g", "12"],
    "h264-uneven": [*X264, "-g", "12", "-vsync", "vfr", "-vf", "setpts=(N*N+3*N)/(25*TB*8)"],
    "hevc": [*X265, "log-level=none:keyint=12:min-keyint=12"],
    "hevc-closed-pyramid": [*X265, "log-level=none:open-gop=0:keyint=12:bframes=4:b-pyramid=1"],
    "hevc-10": [*X265, "log-level=none:keyint=12:min-keyint=12", "-pix_fmt", "yuv420p10le"],
    "mpeg2": ["-c:v", "mpeg2video", "-q:v", "2", "-bf", "2", "-g", "12"],
    "mpeg2-interlaced": ["-c:v", "mpeg2video", "-q:v", "2", "-bf", "2", "-g", "12", "-flags", "+ildct+ilme"],
    "mpeg4": ["-c:v", "mpeg4", "-q:v", "2", "-bf", "2", "-g", "12"],
    "vp9": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-crf", "12", "-b:v", "0", "-g", "12"],
    "av1": ["-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-crf", "12", "-b:v", "0", "-g", "12"],
    "prores": ["-c:v", "prores_ks"],
    "mjpeg": ["-c:v", "mjpeg", "-q:v", "2"],
}
"""What is written, with key frames so close that skipping over them would begin in many places."""


def numbered_frames(count: int) -> np.ndarray:
    """Frames that show their number: ten bars in the top rows, the lowest bit first; below, a pattern that moves."""
    across, down = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    frames = np.empty((count, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for number, frame in enumerate(frames):
        wave = 128 + 60 * np.sin((across + 3 * number) / 9 + down / 7)
        frame[...] = np.stack([wave, np.roll(wave, 11, axis=1), 255 - wave], axis=-1)
        frame[:BAR_ROWS] = 0
        bits = number >> np.arange(BARS) & 1
        width = WIDTH // 12
        frame[:BAR_ROWS, : BARS * width] = np.repeat(255 * bits, width)[None, :, None]
    return frames


def numbers_in(frames: np.ndarray) -> list[int]:
    """Read the numbers that frames (T, height, width, 3) show."""
    width = frames.shape[2] // 12
    bars = frames[:, 4 : BAR_ROWS - 4, : BARS * width].mean(axis=(1, 3)).reshape(len(frames), BARS, width)
    bits = bars[:, :, width // 4 : -(width // 4)].mean(axis=2) > 127
    return (bits << np.arange(BARS)).sum(axis=1).tolist()


def run_ffmpeg(*arguments: str, data: bytes = b"") -> bytes:
    done = subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments], input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def decode_with_ffmpeg(path: Path, height: int, width: int) -> np.ndarray:
    out = run_ffmpeg("-i", str(path), "-an", "-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(out, dtype=np.uint8).reshape(-1, height, width, 3)


def write(path: Path, structure: str) -> Clip:
    """Write numbered frames with one encoder's arguments; formats that this encoder lacks are converted to 4:2:0."""
    arguments = STRUCTURES[structure]
    shape = [] if "-pix_fmt" in arguments or structure == "prores" else ["-pix_fmt", "yuv420p"]
    size = f"{WIDTH}x{HEIGHT}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", "25", "-i", "-"]
    run_ffmpeg(*source, *arguments, *shape, str(path), data=numbered_frames(COUNT).tobytes())
    if structure == "h264-trimmed":  # an edit list leaves out frames that others are decoded from
        whole = path.rename(path.with_name("whole.mov"))
        run_ffmpeg("-ss", "0.7", "-i", str(whole), "-c", "copy", str(path))
    return clip_of(path, structure)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clip]:
    """Every structure as a file, written when first asked for."""
    folder = tmp_path_factory.mktemp("structures")

    class Written(dict[str, Clip]):
        def __missing__(self, structure: str) -> Clip:
            encoder = STRUCTURES[structure][1]
            if encoder not in run_ffmpeg("-hide_banner", "-encoders").decode():
                pytest.skip(f"this ffmpeg has no {encoder}")
            ending = "mp4" if structure in ("vp9", "av1") else "mov"
            self[structure] = write(folder / f"{structure}.{ending}", structure)
            return self[structure]

    return Written()


def check_identity(clip: Clip, expected: np.ndarray) -> None:
    """Hold every way of reading a clip against the frames that FFmpeg gives."""
    count = len(expected)
    np.testing.assert_array_equal(np.stack(list(iter_frames(clip))), expected)
    for stride in range(2, 6):
        np.testing.assert_array_equal(np.stack(list(iter_frames(clip, stride))), expected[::stride])
    draws = np.random.default_rng(count).integers(0, count, 9)
    for indices in (uniform_indices(count, 16), np.arange(count)[::-1], draws, [count - 1], [0], []):
        wanted = np.asarray(indices, dtype=int)
        np.testing.assert_array_equal(read_frames(clip, indices), expected[wanted])
    info = video_info(clip)
    assert (info.frames, info.height, info.width) == expected.shape[:3]
    with pytest.raises(MediaError, match=f"{count} frames, frame {count} "):
        read_frames(clip, [0, count])


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_way_of_reading_gives_the_frames_of_ffmpeg(clips: dict[str, Clip], structure: str) -> None:
    clip = clips[structure]
    expected = decode_with_ffmpeg(clip.video, HEIGHT, WIDTH)
    shown = numbers_in(expected)
    assert shown == list(range(COUNT - len(shown), COUNT))
    assert len(shown) == COUNT or structure == "h264-trimmed"
    check_identity(clip, expected)


@pytest.mark.parametrize("structure", ["h264-open", "hevc", "mpeg2"])
def test_the_shared_cache_holds_the_same_frames(tmp_path: Path, clips: dict[str, Clip], structure: str) -> None:
    cache = open_frames(make_context(tmp_path).cache)
    for _ in range(2):
        assert numbers_in(cache.read(clips[structure], range(0, COUNT, 2))) == list(range(0, COUNT, 2))


def test_frames_of_equal_times_are_told_apart(tmp_path: Path, clips: dict[str, Clip]) -> None:
    path = tmp_path / "pairs.mov"
    with av.open(str(clips["h264"].video)) as source, av.open(str(path), "w") as target:
        copied = target.add_stream_from_template(source.streams.video[0])
        ticks = int(1 / (25 * source.streams.video[0].time_base))
        for packet in source.demux(video=0):
            if packet.pts is not None:
                packet.pts += (4 - packet.pts // ticks % 2) * ticks  # none before its time of decoding
                packet.stream = copied
                target.mux(packet)
    clip = clip_of(path)
    with av.open(str(path)) as container:
        times = [frame.pts for frame in container.decode(video=0)]
    assert len(set(times)) < COUNT == len(times)
    for _ in range(3):
        assert numbers_in(np.stack(list(iter_frames(clip, 3)))) == list(range(0, COUNT, 3))
    check_identity(clip, decode_with_ffmpeg(path, HEIGHT, WIDTH))


@pytest.mark.parametrize("values", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (0, 1, 1, 0)])
def test_turned_and_mirrored_frames_stand_as_ffmpeg_shows_them(
    tmp_path: Path, clips: dict[str, Clip], values: tuple[int, ...]
) -> None:
    a, b, c, d = (value << 16 for value in values)
    data = bytearray(clips["h264"].video.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path = tmp_path / "turned.mov"
    path.write_bytes(data)
    sides = (HEIGHT, WIDTH) if a else (WIDTH, HEIGHT)
    found = np.stack(list(iter_frames(clip_of(path))))
    # Chroma is turned before it is made larger there, and afterwards here.
    assert np.abs(found.astype(int) - decode_with_ffmpeg(path, *sides)).mean() < 1


@pytest.mark.parametrize("structure", ["h264", "hevc", "mpeg4", "av1"])
def test_a_damaged_packet_is_refused_in_plain_words_or_decoded(
    tmp_path: Path, clips: dict[str, Clip], structure: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with av.open(str(clips[structure].video)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(clips[structure].video.read_bytes())
    start, size = places[COUNT // 2]
    data[start : start + size] = np.random.default_rng(0).bytes(size)
    path = tmp_path / f"damaged-{structure}.mov"
    path.write_bytes(data)
    clip = clip_of(path, "q9")
    said = []
    for read in (video_info, read_frames, lambda clip: list(iter_frames(clip, 2))):
        try:
            read(clip)
            said.append("")
        except MediaError as error:
            said.append(str(error))
    assert len(set(said)) == 1
    if structure == "h264":
        assert re.match(r"clip q9: .*damaged near frame \d", said[0])
    assert not any(word in said[0] for word in ("avcodec", "Invalid data", ".c:", str(tmp_path)))
    assert capfd.readouterr() == ("", "")


def reported() -> list[Path]:
    return sorted(path for path in CASES.glob("*/*.m*") if path.parent.name not in ("damaged-packet",))


@pytest.mark.skipif(not CASES.is_dir(), reason="the reported files are not here")
@pytest.mark.parametrize("path", reported(), ids=lambda path: path.name)
def test_reported_files(path: Path) -> None:
    clip = clip_of(path)
    info = video_info(clip)
    check_identity(clip, decode_with_ffmpeg(path, info.height, info.width))


@pytest.mark.skipif(not CASES.is_dir(), reason="the reported files are not here")
def test_a_reported_damaged_file() -> None:
    clip = clip_of(CASES / "damaged-packet" / "one_bad_picture_packet.mov")
    with pytest.raises(MediaError, match=r"clip k7.*damaged near frame \d"):
        read_frames(clip)
    whole = clip_of(CASES / "damaged-packet" / "one_bad_sound_packet.mov")
    check_identity(whole, decode_with_ffmpeg(whole.video, 192, 192))
