"""Audio against what was written and against FFmpeg: its times, its tracks, its kinds, and clips without any."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from audio_files import BLOCK, RATE, WAVE, in_order, write_times
from blemore_harness.cli import cli
from blemore_harness.clips import Clip, Clips
from blemore_harness.errors import MediaError
from blemore_harness.media import audio
from blemore_harness.media.audio import audio_facts, decode_facts, read_audio, warn_of_silence
from blemore_harness.media.audio_tracks import GAP, Track, find_steps
from builders import write_download
from fakes import make_context
from media_files import clip_of, gradient_frames, sine, write_media

av = pytest.importorskip("av")
pytestmark = pytest.mark.encoders

CASES = Path(__file__).parents[2] / "shared" / "cases" / "media"


def case(name: str) -> Clip:
    path = CASES / name
    if not path.exists():
        pytest.skip(f"no {path}")
    return clip_of(path)


@pytest.mark.parametrize("seconds", [0.02, 0.06, 0.2, 3.0])
def test_a_gap_is_silence_to_the_sample(tmp_path: Path, seconds: float) -> None:
    gap = round(seconds * RATE)
    clip = write_times(tmp_path / "a.nut", in_order((40, gap)))
    expected = np.concatenate([WAVE[: 40 * BLOCK], np.zeros(gap, np.float32), WAVE[40 * BLOCK :]])
    np.testing.assert_array_equal(read_audio(clip), expected)
    assert decode_facts(clip).moved == seconds


def test_several_gaps_and_a_late_start(tmp_path: Path) -> None:
    starts = [start + 5 * RATE for start in in_order((10, 800), (60, 1600))]
    parts = [WAVE[:3200], np.zeros(800), WAVE[3200:19200], np.zeros(1600), WAVE[19200:]]
    clip = write_times(tmp_path / "a.nut", starts)
    np.testing.assert_array_equal(read_audio(clip), np.concatenate(parts).astype(np.float32))


class Packets:
    """Decoded blocks of `WAVE` with any times, as a container gives them: muxers refuse times that go back."""

    def __init__(self, starts: Iterable[int]) -> None:
        self.starts = starts
        self.audio = [self]
        self.streams = self
        self.duration = None

    def decode(self, _stream: Packets) -> Iterable[object]:
        for number, start in enumerate(self.starts):
            part = WAVE[number * BLOCK : (number + 1) * BLOCK]
            frame = av.AudioFrame.from_ndarray(part[None], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            yield frame


def in_time(starts: Iterable[int]) -> np.ndarray:
    track, packets = Track(RATE), Packets(starts)
    track.decode(packets, packets, Clip("k7"))
    return track.in_time(Clip("k7"))[0]


def test_of_packets_that_overlap_the_beginning_of_the_later_one_is_left_out() -> None:
    expected = np.concatenate([WAVE[: 40 * BLOCK], WAVE[40 * BLOCK + 800 :]])
    np.testing.assert_array_equal(in_time(in_order((40, -800))), expected)


def test_times_that_begin_anew_and_single_late_packets_change_nothing() -> None:
    np.testing.assert_array_equal(in_time(in_order((90, -90 * BLOCK))), WAVE)
    rng = np.random.default_rng(1)
    late = [start + (rng.integers(2, 3 * BLOCK) if number % 9 == 5 else 0) for number, start in enumerate(in_order())]
    np.testing.assert_array_equal(in_time(late), WAVE)


def test_hours_of_silence_are_refused() -> None:
    with pytest.raises(MediaError, match=r"clip k7.* 60 minutes"):
        in_time(in_order((40, 3600 * RATE)))


def test_a_clock_that_is_rounded_or_a_little_slow_changes_nothing() -> None:
    places = np.arange(0, 10 * RATE, 1024.0)
    rounded = np.round(places / RATE, 3)
    assert find_steps(places, rounded, RATE) == []
    assert find_steps(places, places / RATE * (1 + 0.9 * GAP / 10), RATE) == []
    assert find_steps(places, np.full(len(places), np.nan), RATE) == []


@pytest.mark.parametrize(
    ("codec", "ending"),
    [("aac", "mov"), ("aac", "mkv"), ("libmp3lame", "mp3"), ("libopus", "webm"), ("flac", "mkv"), ("ac3", "mov")],
)
def test_ordinary_files_are_not_moved(tmp_path: Path, codec: str, ending: str) -> None:
    """Priming, pre-skip and times in milliseconds are no gaps."""
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    require_ffmpeg()
    path = tmp_path / f"a.{ending}"
    run_ffmpeg("-f", "lavfi", "-i", "sine=f=440:d=3:r=48000", "-c:a", codec, str(path))
    clip = clip_of(path)
    assert decode_facts(clip).moved == 0
    same_as_ffmpeg(clip, "anull")


def require_ffmpeg() -> None:
    if not shutil.which("ffmpeg"):
        assert "CI" not in os.environ, "CI installs ffmpeg"
        pytest.skip("the command ffmpeg is not installed")


def run_ffmpeg(*words: str) -> bytes:
    return subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *words], capture_output=True, check=True).stdout


def same_as_ffmpeg(clip: Clip, filters: str = "aresample=async=1", error: float = 2e-3) -> None:
    """Mono audio is FFmpeg's own, within what two resamplers differ by."""
    raw = run_ffmpeg("-i", str(clip.video), "-vn", "-af", filters, "-ac", "1", "-ar", str(RATE), "-f", "f32le", "-")
    expected, found = np.frombuffer(raw, np.float32), read_audio(clip)
    assert abs(len(found) - len(expected)) <= 2
    count = min(len(found), len(expected))
    assert np.abs(found[:count] - expected[:count]).mean() < error


def without_packets(source: Path, path: Path, first: int, last: int) -> Clip:
    """Copy a file without some of its audio packets, whose times stay."""
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        stream = given.streams.audio[0]
        copy = made.add_stream_from_template(stream)
        for number, packet in enumerate(given.demux(stream)):
            if packet.dts is not None and not first <= number < last:
                packet.stream = copy
                made.mux(packet)
    return clip_of(path)


@pytest.mark.parametrize(("ending", "lost"), [("mov", 10), ("mkv", 10), ("mov", 60), ("mov", 1)])
def test_lost_packets_leave_what_follows_in_time(tmp_path: Path, ending: str, lost: int) -> None:
    require_ffmpeg()
    sweep = np.sin(np.cumsum(np.linspace(0.01, 0.06, 3 * 48_000))).astype(np.float32) / 2
    plain = write_media(tmp_path / "plain.mov", None, sweep, rate=48_000)
    whole = tmp_path / f"whole.{ending}"
    run_ffmpeg("-i", str(plain), "-c:a", "aac", str(whole))
    clip = without_packets(whole, tmp_path / f"a.{ending}", 50, 50 + lost)
    found, expected = read_audio(clip), read_audio(clip_of(whole))
    assert abs(len(found) - len(expected)) <= 16  # a millisecond, to which Matroska rounds
    late, reach = slice(round((52 + lost) * 1024 / 3), 46_000), 400
    likeness = np.correlate(found[late], expected[late][reach:-reach])
    assert abs(int(likeness.argmax()) - reach) <= (1 if ending == "mov" else 16)
    if ending == "mov":  # silence is whole samples here and in FFmpeg, of 16 and of 48 kHz
        same_as_ffmpeg(clip, "aresample=async=1:min_hard_comp=0.015", 0.012)


def test_the_shared_gap() -> None:
    clip = case("sound-gap/gap_0.2s.mov")
    assert len(read_audio(clip)) / RATE == pytest.approx(4.211, abs=5e-4)
    require_ffmpeg()
    same_as_ffmpeg(clip)


def raw_ac3(layout: str, rate: int, seconds: float, path: Path) -> bytes:
    """AC-3 packets without a container; they may follow one another. The same tone on all channels."""
    with av.open(str(path), "w", format="ac3") as container:
        stream = container.add_stream("ac3", rate=rate, layout=layout)
        count = av.AudioLayout(layout).nb_channels
        wave = np.tile(sine(seconds, rate), (count, 1))
        for start in range(0, wave.shape[1] - 1535, 1536):
            block = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, start : start + 1536]), "fltp", layout)
            block.sample_rate, block.pts, block.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("second", [("5.1", 48_000), ("mono", 48_000), ("stereo", 32_000)])
def test_another_layout_or_rate_in_the_middle_is_decoded(tmp_path: Path, second: tuple[str, int]) -> None:
    layout, rate = second
    one = raw_ac3("stereo", 48_000, 1.28, tmp_path / "a.ac3")
    other = raw_ac3(layout, rate, 1.536, tmp_path / "b.ac3")
    (tmp_path / "both.ac3").write_bytes(one + other)
    with av.open(str(tmp_path / "both.ac3")) as given, av.open(str(tmp_path / "both.mov"), "w") as made:
        copy, end = made.add_stream_from_template(given.streams.audio[0]), 0
        for packet in given.demux(audio=0):
            if packet.size:
                packet.stream, packet.time_base, packet.pts, packet.dts = copy, Fraction(1, 48_000), end, end
                packet.duration = 1536 if end < 1.28 * 48_000 else 1536 * 48_000 // rate
                end += packet.duration
                made.mux(packet)
    found = read_audio(clip_of(tmp_path / "both.mov"))
    alone = [len(read_audio(clip_of(tmp_path / name))) for name in ("a.ac3", "b.ac3")]
    assert abs(len(found) - sum(alone)) <= 32
    for part in (found[2000:18_000], found[24_000:40_000]):  # as loud before as after
        assert np.sqrt((part**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_the_shared_change_of_layout() -> None:
    assert len(read_audio(case("sound-layout-changes/ac3_stereo_then_5_1.mov"))) == 38_896


def write_tracks(path: Path, kinds: Iterable[tuple[int, bool, str]]) -> Path:
    """Write tones, a track each: hertz, whether it is the default one, its layout."""
    with av.open(str(path), "w") as container:
        streams = []
        for hertz, default, layout in kinds:
            stream = container.add_stream("pcm_s16le", rate=RATE, layout=layout)
            stream.disposition = av.stream.Disposition.default if default else av.stream.Disposition(0)
            streams.append((stream, hertz, layout))
        for stream, hertz, layout in streams:
            count = av.AudioLayout(layout).nb_channels
            samples = np.repeat(np.round(sine(1, RATE, hertz) * 32767).astype(np.int16), count)[None]
            block = av.AudioFrame.from_ndarray(samples, "s16", layout)
            block.sample_rate, block.pts, block.time_base = RATE, 0, Fraction(1, RATE)
            container.mux(stream.encode(block))
            container.mux(stream.encode(None))
    return path


def pitch(wave: np.ndarray) -> int:
    return round(float(np.abs(np.fft.rfft(wave)).argmax()) * RATE / len(wave))


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([(300, False, "mono"), (500, True, "mono")], 500),
        ([(300, True, "mono"), (500, False, "stereo")], 300),
        ([(300, True, "mono"), (500, True, "mono")], 300),
        ([(300, False, "mono"), (500, False, "stereo")], 500),
    ],
)
def test_of_several_tracks_ffmpegs_is_decoded(tmp_path: Path, kinds: list, expected: int) -> None:
    path = write_tracks(tmp_path / "a.mkv", kinds)
    assert pitch(read_audio(clip_of(path))) == expected
    require_ffmpeg()
    raw = run_ffmpeg("-i", str(path), "-ac", "1", "-f", "f32le", "-")
    assert pitch(np.frombuffer(raw, np.float32)) == expected


def test_a_track_that_cannot_be_decoded_hides_none_that_can(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", [(300, True, "mono"), (500, False, "mono")])
    data = path.read_bytes()
    at = data.index(b"A_PCM/INT/LIT")
    path.write_bytes(data[:at] + b"A_UNKNOWN/XYZ" + data[at + 13 :])
    clip = clip_of(path)
    assert pitch(read_audio(clip)) == 500
    assert decode_facts(clip).track == 1
    only = write_tracks(tmp_path / "b.mkv", [(300, True, "mono")])
    only.write_bytes(only.read_bytes().replace(b"A_PCM/INT/LIT", b"A_UNKNOWN/XYZ"))
    with pytest.raises(MediaError, match=r"clip k7.*format.*audio track"):
        read_audio(clip_of(only))


def damage_packet(path: Path, number: int) -> Clip:
    """Overwrite one AAC packet with ones."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(audio=0) if packet.size][number]
        at, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[at : at + size] = b"\xff" * size
    path.write_bytes(data)
    return clip_of(path)


def test_a_damaged_packet_is_named_in_plain_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clip = damage_packet(write_media(tmp_path / "a.mov", None, sine(2, 48_000), rate=48_000), 60)
    with pytest.raises(MediaError) as caught:
        read_audio(clip)
    assert caught.value.clip == clip.id
    said = str(caught.value)
    assert said.startswith("clip k7: ")
    assert "1.3 s" in said
    assert not any(word in said for word in ("rrno", "avcodec", str(tmp_path), ".c:"))
    assert capfd.readouterr() == ("", "")


def test_the_shared_damaged_packet() -> None:
    with pytest.raises(MediaError, match=r"clip k7.*damaged"):
        read_audio(case("damaged-packet/one_bad_sound_packet.mov"))


NOISE = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
QUIET = {
    "silent": np.zeros((1, 32_000), np.float32),
    "dither": np.random.default_rng(1).choice([-1, 0, 1], (1, 32_000)).astype(np.float32) / 32767,
    "constant": np.full((1, 32_000), 0.25, np.float32),
    "antiphase": np.stack([NOISE, -NOISE]),
    "constant antiphase": np.stack([NOISE + 0.1, -NOISE + 0.1]),
}
HEARD = {
    "mono": NOISE[None],
    "one side": np.stack([NOISE, 0 * NOISE]),
    "faint": NOISE[None] / 50,
    "two speakers": np.stack([NOISE, NOISE[::-1]]),
    "one short audio": np.where(np.abs(np.arange(32_000) - 16_000) < 800, NOISE, 0)[None].astype(np.float32),
    "loud constant": NOISE[None] / 50 + 0.5,
}


@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
@pytest.mark.parametrize("kind", [*QUIET, *HEARD])
def test_clips_without_anything_to_hear_are_known(tmp_path: Path, kind: str, codec: str) -> None:
    wave = (QUIET | HEARD)[kind]
    clip = clip_of(write_media(tmp_path / "a.mov", None, wave, rate=RATE, codec=codec))
    assert decode_facts(clip).silent == (kind in QUIET)


def test_the_shared_antiphase() -> None:
    assert decode_facts(case("silent-unreported/antiphase.mov")).silent


def test_silence_is_warned_of_by_name_and_again_without_decoding(tmp_path: Path, monkeypatch) -> None:
    waves = [NOISE, 0 * NOISE, NOISE, 0 * NOISE + 0.3]
    clips = [
        clip_of(write_media(tmp_path / f"{k}.mov", None, wave, rate=RATE, codec="pcm_s16le"), f"k{k}")
        for k, wave in enumerate(waves)
    ]
    context = make_context(tmp_path)
    read_audio(clips[0], 24_000, context.cache)
    for _ in range(2):
        warn_of_silence(clips, context)
        monkeypatch.setattr(audio, "decode_audio", None)
    assert context.reporter.notes["silent clips"] == ["k1", "k3"]
    (said,) = set(context.reporter.warnings)
    assert "2 of 4 clips" in said
    assert "k1, k3" in said
    assert audio_facts(clips[0], context.cache).share == pytest.approx(1, abs=1e-5)
    context = make_context(tmp_path)
    warn_of_silence(clips[::2], context)
    assert not context.reporter.warnings


AUDIO_ENCODERS = {
    "prosody": "librosa",
    "wav2vec2": "transformers",
    "wavlm": "transformers",
    "audio": "transformers",
    "hicmae": "torchaudio",
    "wav2vec2-finetuned": "transformers",
}


@pytest.mark.parametrize("name", AUDIO_ENCODERS)
def test_every_encoder_that_hears_names_silence_and_keeps_nothing_of_other_decoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from blemore_harness.options import build_options
    from blemore_harness.systems.plugins import load_plugins

    for package in {AUDIO_ENCODERS[name], "torch", "facenet_pytorch"}:
        pytest.importorskip(package)
    encoder = load_plugins().encoder(name).system
    given = dict(encoder.demo_options)
    options = encoder.resolve_options(build_options(name, encoder.Options, given), frozenset())
    waves = {"heard": NOISE[:16_000], "quiet": 0 * NOISE[:16_000]}
    frames = gradient_frames(25, 64, 64)
    clips = Clips(
        tuple(clip_of(write_media(tmp_path / f"{key}.mov", frames, wave, RATE), key) for key, wave in waves.items())
    )
    found = []
    for number in (audio.AUDIO_VERSION, audio.AUDIO_VERSION, audio.AUDIO_VERSION + 1):
        monkeypatch.setattr(audio, "AUDIO_VERSION", number)
        context = make_context(tmp_path)
        encoder.prepare(clips, options, context)
        assert context.reporter.notes["silent clips"] == ["quiet"]
        assert sum("quiet" in line for line in context.reporter.warnings) == 1
        found.append(set((tmp_path / "cache").rglob("*.npy")))
    assert found[0] == found[1]
    made = [path.relative_to(tmp_path / "cache").parts[0] for path in found[2] - found[1]]
    assert {"audio-facts"} < set(made)


def test_the_command_line_says_it_once_for_all_encoders(capsys: pytest.CaptureFixture[str]) -> None:
    from blemore_harness.cli.terminal import open_reporter

    reporter = open_reporter()
    for line in ("silent audio in 1 of 2 clips", "silent audio in 1 of 2 clips", "another"):
        reporter.warn(line)
    assert capsys.readouterr().err.count("silent audio") == 1


def test_data_check_lists_silent_clips(tmp_path: Path) -> None:
    data = write_download(tmp_path / "data")
    for number, path in enumerate(sorted(data.rglob("A1_*.mov"))):
        path.unlink()
        if number < 3:
            write_media(path, None, NOISE if number else 0 * NOISE, RATE)
    names = sorted(path.stem for path in data.rglob("A1_*.mov"))
    for path in data.rglob("*.mov"):
        if path.stem not in names[:2]:
            path.unlink()
    ran = CliRunner().invoke(cli, ["data", "check", str(data), "--audio", "--json"])
    assert json.loads(ran.stdout)["audio"] == {"silent": names[:1], "unusable": {}}
    path = next(data.rglob(f"{names[1]}.mov"))
    path.write_bytes(b"no video")
    said = CliRunner().invoke(cli, ["data", "check", str(data), "--audio"]).stdout
    assert f"audio      1 silent: {names[0]}; 1 unusable" in said
    assert f"clip {names[1]}: " in said
    assert "audio" not in CliRunner().invoke(cli, ["data", "check", str(data)]).stdout
