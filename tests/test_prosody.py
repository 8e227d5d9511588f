"""The prosody encoder on sounds whose pitch, spectrum and rhythm are known by construction."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("librosa")
pytest.importorskip("torch")

from scipy.signal import butter, lfilter, sosfilt

from blemore_harness.cache import Cache
from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.errors import DataError, ExtraMissing, MediaError
from blemore_harness.media.audio import read_audio
from blemore_plugins.prosody import ProsodyEncoder, extraction
from blemore_plugins.prosody.functionals import describe_sound
from blemore_plugins.prosody.pitch import HOP, RATE, track_pitch
from blemore_plugins.prosody.rhythm import list_runs
from blemore_plugins.prosody.vocabulary import (
    DESCRIPTIONS,
    MODULATIONS,
    MOVEMENTS,
    RHYTHM,
    SUMMARIES,
    contour_names,
    describe_features,
    feature_names,
)
from fakes import LABELS, make_context
from media_files import clip_of, gradient_frames, sine, write_media

pytestmark = pytest.mark.encoders

NAMES = feature_names()


def told(wave: np.ndarray) -> dict[str, float]:
    """The numbers of a audio by name."""
    vector = describe_sound(wave.astype(np.float32))
    assert vector.dtype == np.float32
    return dict(zip(NAMES, vector.tolist(), strict=True))


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def voice(hertz: np.ndarray | float, seconds: float = 1.0, slope: float = 1.0) -> np.ndarray:
    """Harmonics up to 7.9 kHz, whose amplitudes fall with the power `slope` of their number."""
    course = np.broadcast_to(np.asarray(hertz, dtype=float), (round(seconds * RATE),))
    phase = 2 * np.pi * np.cumsum(course) / RATE
    count = max(1, int(7900 / course.max()))
    return 0.1 * sum(np.sin(k * phase) / k**slope for k in range(1, count + 1))


def through_tract(wave: np.ndarray) -> np.ndarray:
    """A vowel: three resonances, the first far above the pitch."""
    for place, width in ((700, 90), (1200, 110), (2600, 160)):
        radius = np.exp(-np.pi * width / RATE)
        wave = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * place / RATE), radius**2], wave)
    return 0.1 * wave / np.abs(wave).max()


def off_by(track, hertz: np.ndarray) -> np.ndarray:
    """How far a track lies from the truth, in semitones, where it is voiced; without the ends."""
    truth = hertz[np.minimum(np.arange(len(track.hertz)) * HOP, len(hertz) - 1)]
    inner = np.flatnonzero(track.voiced)
    inner = inner[(inner >= 4) & (inner < len(truth) - 4)]
    return np.abs(12 * np.log2(track.hertz[inner] / truth[inner]))


# Pitch


@pytest.mark.parametrize("hertz", [70, 110, 196.3, 440, 777, 1150])
@pytest.mark.parametrize("kind", ["pure", "harmonic", "vowel", "without fundamental"])
def test_pitch_of_steady_tones(hertz, kind):
    time = np.arange(RATE) / RATE
    wave = {
        "pure": lambda: np.sin(2 * np.pi * hertz * time),
        "harmonic": lambda: voice(hertz),
        "vowel": lambda: through_tract(voice(hertz)),
        "without fundamental": lambda: sum(np.sin(2 * np.pi * k * hertz * time) for k in (2, 3, 4, 5)),
    }[kind]()
    track = track_pitch(wave)
    assert len(track.hertz) == 1 + len(wave) // HOP
    assert track.voiced[4:-4].all()
    assert off_by(track, np.full(RATE, float(hertz))).max() < 0.1


@pytest.mark.parametrize(("low", "high"), [(80, 160), (150, 450), (900, 300)])
def test_pitch_of_glides_in_noise(low, high):
    course = low * (high / low) ** np.linspace(0, 1, RATE)
    wave = voice(course)
    track = track_pitch(wave + 0.2 * wave.std() * np.random.default_rng(1).standard_normal(RATE))
    assert track.voiced.mean() > 0.95
    assert np.median(off_by(track, course)) < 0.1
    assert np.percentile(off_by(track, course), 95) < 0.5


def test_noise_has_no_pitch_and_voicing_follows_the_voice():
    assert not track_pitch(noise(2)).voiced.any()
    wave = np.concatenate([noise(0.5), voice(200, 0.5), np.zeros(RATE // 2), voice(320, 0.5), noise(0.5, 1)])
    runs = list_runs(track_pitch(wave).voiced)
    np.testing.assert_allclose(np.array(runs) * HOP / RATE, [(0.5, 1.0), (1.5, 2.0)], atol=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("decibel", [0, 5, 10, 20])
def test_harmonicity_is_the_ratio_of_voice_to_noise(decibel):
    wave = voice(150)
    level = wave.std() * 10 ** (-decibel / 20)
    wave = wave + level * np.random.default_rng(3).standard_normal(RATE)
    assert told(wave)["harmonicity_p50"] == pytest.approx(decibel, abs=1.5)


def test_tremor_and_glide():
    time = np.arange(2 * RATE) / RATE
    found = told(voice(200 * 2 ** (0.5 / 12 * np.sin(2 * np.pi * 7 * time)), 2))
    assert found["tremor_rate"] == pytest.approx(7, rel=0.1)
    assert found["tremor_depth"] == pytest.approx(0.5 / np.sqrt(2), rel=0.15)
    rising = told(voice(200 * 2 ** (time * 4 / 12), 2))
    for name in ("glide", "pitch_trend", "pitch_rise"):
        assert rising[name] == pytest.approx(4, rel=0.1)
    assert rising["pitch_rising"] > 0.95
    assert rising["pitch_fall"] < 0.1
    assert rising["tremor_depth"] < 0.15


def test_an_octave_moves_pitch_but_not_its_shape():
    course = 120 * 2 ** (0.2 * np.sin(2 * np.pi * np.arange(2 * RATE) / RATE))
    low, high = told(voice(course, 2)), told(voice(2 * course, 2))
    assert high["pitch_p50"] - low["pitch_p50"] == pytest.approx(12, abs=0.1)
    assert low["pitch_p50"] == pytest.approx(12 * np.log2(1.2), abs=0.2)
    for key in SUMMARIES:
        assert high[f"pitch_own_{key}"] == pytest.approx(low[f"pitch_own_{key}"], abs=0.1)


def test_jitter_and_shimmer_of_unsteady_voices():
    rng = np.random.default_rng(5)
    steps = np.repeat(rng.standard_normal(50), RATE // 50)
    steady, shaken = told(voice(200)), told(voice(200 * 2 ** (steps * 0.5 / 12)))
    assert shaken["jitter_mean"] > 5 * steady["jitter_mean"] + 0.02
    weak = told(voice(200) * 10 ** (steps * 3 / 20))
    assert weak["shimmer_p50"] > 5 * steady["shimmer_p50"]


@pytest.mark.parametrize("decibel", [-10, 0, 12])
def test_first_harmonic_over_the_second(decibel):
    time = np.arange(RATE) / RATE
    wave = np.sin(2 * np.pi * 220 * time) + 10 ** (-decibel / 20) * np.sin(2 * np.pi * 440 * time + 1)
    assert told(wave)["harmonics_p50"] == pytest.approx(decibel, abs=1)


# Spectrum


def test_white_noise_has_the_numbers_of_white_noise():
    found = told(noise(3))
    assert found["tilt_mean"] == pytest.approx(0, abs=0.5)
    # Half of the neighbours differ in sign; powers are exponential, whose logarithm's mean is Euler's constant below.
    assert found["crossings_mean"] == pytest.approx(RATE / 2 / 1000, rel=0.02)
    assert found["flatness_mean"] == pytest.approx(-10 / np.log(10) * 0.5772, abs=0.3)
    assert found["rolloff_mean"] == pytest.approx(np.log2(0.85 * 8), abs=0.05)
    assert found["band_4000_mean"] == pytest.approx(10 * np.log10(0.5), abs=0.3)
    assert found["harmonicity_p50"] < -3
    assert found["range"] < 6


def test_tilt_of_a_random_walk_is_six_decibels_per_octave():
    walk = lfilter([1], [1, -0.9999], noise(3))
    assert told(walk)["tilt_mean"] == pytest.approx(-6.02, abs=0.8)


def test_the_first_cepstrum_follows_the_slope():
    flat, fallen = told(noise(3)), told(lfilter([1, 0.6], [1], noise(3)))
    assert fallen["mfcc_1_mean"] > flat["mfcc_1_mean"] + 10
    assert flat["mfcc_1_mean"] == pytest.approx(0, abs=3)


def test_low_and_high_sound_differ_in_the_right_direction():
    low = told(sosfilt(butter(4, 800, fs=RATE, output="sos"), noise(2)))
    high = told(sosfilt(butter(4, 3000, "high", fs=RATE, output="sos"), noise(2)))
    for name in ("tilt_p50", "centroid_p50", "rolloff_p50", "crossings_p50", "band_4000_p50"):
        assert low[name] < high[name] - 0.5, name
    for name in ("alpha_p50", "hammarberg_p50", "mfcc_1_p50", "band_50_p50"):
        assert low[name] > high[name] + 10, name
    assert told(voice(200))["flatness_p50"] < told(noise(1))["flatness_p50"] - 10


@pytest.mark.parametrize("decibel", [-40, -12.3, 0])
def test_level_of_a_tone(decibel):
    found = told(sine(1.0, RATE, 500, 10 ** (decibel / 20)))
    assert found["loudest"] == pytest.approx(decibel - 3.01, abs=0.1)
    assert found["crest"] == pytest.approx(3.01, abs=0.05)
    assert found["level_p50"] == pytest.approx(0, abs=0.1)


# Rhythm


@pytest.mark.parametrize("rate", [2.5, 3, 5, 8])
def test_rhythm_of_noise_that_swells_at_a_known_rate(rate):
    swell = (1 - np.cos(2 * np.pi * rate * np.arange(3 * RATE) / RATE)) / 2
    found = told(noise(3) * swell)
    assert found["syllable_tempo"] == pytest.approx(rate, rel=0.06)
    assert found["syllable_rate"] == pytest.approx(rate, rel=0.15)
    assert found["syllable_irregular"] < 0.15
    assert found["beat_rate"] == pytest.approx(rate, rel=0.08)
    assert found["beat"] > 0.6
    band = next(low for low, high in MODULATIONS if low <= rate < high)
    if rate != 8:  # the border of two octaves
        assert max(MODULATIONS, key=lambda ends: found[f"modulation_{ends[0]:g}"])[0] == band
    assert found["modulation_centre"] == pytest.approx(np.log2(rate / 2), abs=0.35)


def test_irregular_bursts_are_irregular():
    regular, irregular = np.zeros(3 * RATE), np.zeros(3 * RATE)
    for number, late in enumerate((0, 0.1, -0.08, 0.1, -0.1, 0.08, 0)):
        for wave, start in ((regular, 0.2 + 0.4 * number), (irregular, 0.2 + 0.4 * number + late)):
            wave[round(start * RATE) :][: RATE // 10] = noise(0.1, number)
    one, other = told(regular), told(irregular)
    assert other["syllable_irregular"] > one["syllable_irregular"] + 0.2
    assert other["beat"] < one["beat"] - 0.2
    for found in (one, other):
        assert found["burst_rate"] == pytest.approx(7 / 3, rel=0.01)
        assert found["onset_rate"] == pytest.approx(7 / 3, rel=0.01)


@pytest.mark.parametrize("background", [0, 1e-3])
def test_bursts_and_pauses_of_known_length(background):
    lengths, pauses = (0.2, 0.5, 0.1), (0.3, 0.6)
    parts = [np.zeros(RATE // 2)]
    for number, length in enumerate(lengths):
        parts += [noise(length, number), np.zeros(round((*pauses, 0.4)[number] * RATE))]
    wave = np.concatenate(parts)
    found = told(wave + background * np.random.default_rng(9).standard_normal(len(wave)))
    seconds = len(wave) / RATE
    assert found["burst_rate"] == pytest.approx(3 / seconds, rel=0.01)
    assert found["pause_rate"] == pytest.approx(2 / seconds, rel=0.01)
    # A frame of 32 ms hears a burst a little before and after.
    for name, expected in (("burst", lengths), ("pause", pauses)):
        assert found[f"{name}_mean"] == pytest.approx(np.mean(expected), abs=0.04)
        assert found[f"{name}_longest"] == pytest.approx(max(expected), abs=0.04)
        assert found[f"{name}_std"] == pytest.approx(np.std(expected), abs=0.02)
    assert found["sounding"] == pytest.approx(sum(lengths) / seconds, abs=0.04)
    assert found["voiced"] == 0


def test_swelling_and_dying_bursts():
    ramp = np.concatenate([np.zeros(4000), noise(0.5) * np.geomspace(0.03, 1, RATE // 2), np.zeros(4000)])
    grown, died = told(ramp), told(ramp[::-1])
    assert grown["burst_attack"] > 0.8 > 0.3 > died["burst_attack"]
    # 30 dB in half a second
    assert grown["burst_growth"] == pytest.approx(6, rel=0.3)
    assert died["burst_decay"] == pytest.approx(6, rel=0.3)
    assert grown["level_last"] > grown["level_first"]


# What must not matter


def utterance() -> np.ndarray:
    """Voiced bursts with a moving pitch and noise between them; its last sample is the middle of a frame."""
    time = np.arange(2 * RATE + 1) / RATE
    wave = voice(180 * 2 ** (0.3 * np.sin(2 * np.pi * 0.7 * time)), len(time) / RATE, 1.3)
    wave = wave * np.clip(np.sin(2 * np.pi * 1.5 * time), 0, 1) ** 0.7
    return wave + 0.001 * np.random.default_rng(2).standard_normal(len(time))


@pytest.mark.parametrize("gain", [0.02, 4.0, -1.0])
def test_gain_and_polarity_change_nothing_but_the_level(gain):
    before, after = told(utterance()), told(gain * utterance())
    assert after.pop("loudest") - before.pop("loudest") == pytest.approx(20 * np.log10(abs(gain)), abs=0.01)
    changed = [name for name in before if after[name] != pytest.approx(before[name], rel=1e-3, abs=2e-3)]
    assert changed == []


def test_time_reversal_turns_what_has_a_direction():
    forth, back = told(utterance()), told(utterance()[::-1])
    for name, told_of in DESCRIPTIONS.items():
        if name in {"onset", "flux"}:
            continue  # they look at the frame before
        sign = -1 if name.startswith("delta") else 1
        mirrored = {"p10": "p90", "p25": "p75", "p75": "p25", "p90": "p10"} if sign < 0 else {}
        scale = max(abs(forth[f"{name}_{key}"]) for key in SUMMARIES) + forth[f"{name}_std"]
        for key in SUMMARIES:
            turned = back[f"{name}_{mirrored.get(key, key)}"] * (1 if key == "std" else sign)
            assert turned == pytest.approx(forth[f"{name}_{key}"], abs=0.03 * scale + 0.02), (name, key)
        if told_of.moves:
            assert back[f"{name}_trend"] == pytest.approx(-forth[f"{name}_trend"], abs=0.05 * scale), name
            for here, there in (("rise", "fall"), ("first", "last"), ("middle", "middle")):
                assert back[f"{name}_{there}"] == pytest.approx(forth[f"{name}_{here}"], rel=0.1, abs=0.02 * scale)
    for name in ("burst_rate", "burst_mean", "pause_mean", "syllable_tempo", "voiced_mean", "beat", "tremor_depth"):
        assert back[name] == pytest.approx(forth[name], rel=0.05, abs=0.02), name
    assert back["burst_growth"] == pytest.approx(forth["burst_decay"], rel=0.15)
    assert back["glide"] == pytest.approx(-forth["glide"], rel=0.1, abs=0.1)


# Every audio has numbers


def hard_sounds() -> dict[str, np.ndarray]:
    click, late = np.zeros(RATE), np.zeros(RATE)
    click[8000], late[-1] = 1, 0.5
    square = np.sign(np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE))
    return {
        "silence": np.zeros(RATE),
        "constant": np.full(RATE, 0.3),
        "all but silent": 1e-6 * noise(1),
        "one sample": np.array([0.5]),
        "two samples": np.array([0.5, -0.5]),
        "30 ms": noise(0.03),
        "0.2 s of noise": noise(0.2),
        "0.2 s of voice": voice(200, 0.2),
        "0.2 s of silence": np.zeros(3200),
        "noise": noise(1),
        "clipped": np.clip(20 * noise(1), -1, 1),
        "square": square,
        "click": click,
        "last sample": late,
        "highest frequency": np.resize([1.0, -1.0], RATE),
        "rumble": sine(1.0, RATE, 10),
        "far too loud": 1e6 * voice(100),
        "smallest": np.full(RATE, np.finfo(np.float32).tiny) * np.resize([1, -1], RATE),
    }


@pytest.mark.parametrize("kind", hard_sounds())
def test_every_sound_has_finite_numbers_of_a_possible_size(kind):
    wave = hard_sounds()[kind].astype(np.float32)
    vector = describe_sound(wave)
    assert vector.shape == (len(NAMES),)
    assert np.isfinite(vector).all()
    assert np.abs(vector).max() < 5000
    found = dict(zip(NAMES, vector.tolist(), strict=True))
    for name in ("sounding", "voiced", "voiced_sounding", "burst_attack", "beat", "pitch_rising"):
        assert 0 <= found[name] <= 1, name
    np.testing.assert_array_equal(describe_sound(wave), vector)


def test_silence_is_told_as_rest():
    found = told(np.zeros(RATE))
    for name, told_of in DESCRIPTIONS.items():
        assert found[f"{name}_mean"] == found[f"{name}_p50"] == told_of.rest
        assert found[f"{name}_std"] == 0
    assert found["loudest"] == -80
    for name in ("sounding", "voiced", "burst_rate", "syllable_rate", "beat", "tremor_depth", "pause_mean"):
        assert found[name] == 0
    assert all(found[f"level_{key}"] == 0 for key in MOVEMENTS)
    unvoiced = told(noise(1))
    assert unvoiced["pitch_p50"] == DESCRIPTIONS["pitch"].rest
    assert unvoiced["level_p50"] > -5


def test_names_and_meanings():
    meanings = describe_features()
    assert tuple(meanings) == NAMES
    assert len(set(NAMES)) == len(NAMES) == len(describe_sound(np.zeros(100, np.float32)))
    moving = sum(told_of.moves for told_of in DESCRIPTIONS.values())
    assert len(NAMES) == 7 * len(DESCRIPTIONS) + len(MOVEMENTS) * moving + len(RHYTHM) == 396
    assert all(len(text) > 5 for text in meanings.values())
    assert len(set(meanings.values())) == len(NAMES)


# As a plugin


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Clips:
    """Low voices of three actors, then high voices of the same."""
    folder = tmp_path_factory.mktemp("clips")
    items = []
    for number in range(12):
        rng = np.random.default_rng(number)
        course = (110 if number < 6 else 330) * 2 ** (
            rng.uniform(0.1, 0.3) * np.sin(np.linspace(0, rng.uniform(5, 9), 9600))
        )
        sound = voice(course, 0.6, rng.uniform(0.8, 1.5)) * np.hanning(9600) ** rng.uniform(0.3, 1)
        sound = (sound + rng.uniform(0.002, 0.01) * rng.standard_normal(9600)).astype(np.float32)
        path = write_media(folder / f"{number}.mov", None, sound, RATE, "pcm_s16le")
        items.append(clip_of(path, f"c{number}"))
    labels = np.repeat(LABELS[[0, 2]], 6, axis=0)
    return Clips(tuple(items), tuple(f"A{number % 3}" for number in range(12)), labels)


def options_of(**changes: object):
    return ProsodyEncoder.Options(
        **(dict(ProsodyEncoder.demo_options) | {"hidden": "", "epochs": 40, "learning_rate": 1e-2} | changes)
    )


@pytest.mark.slow
def test_it_trains_and_predicts(clips, tmp_path):
    encoder, options, context = ProsodyEncoder(), options_of(), make_context(tmp_path)
    encoder.prepare(clips.unlabelled(), options, context)
    assert context.reporter.bars == [("prosody: audio to embeddings", 12)]
    assert context.reporter.done == 12
    held_out = [2, 5, 8, 11]
    learn = [number for number in range(12) if number not in held_out]
    fold = Fold(0, clips.take(learn), clips.take(held_out).unlabelled())
    rows = encoder.fit(fold, options, context).predict(fold.held_out, context)
    assert rows.values.argmax(axis=1).tolist() == [0, 0, 3, 3]
    again = make_context(tmp_path)
    np.testing.assert_array_equal(encoder.fit(fold, options, again).predict(fold.held_out, again).values, rows.values)


def test_vectors_are_those_of_the_sound_one_per_clip(clips, tmp_path):
    encoder, options, context = ProsodyEncoder(), options_of(), make_context(tmp_path)
    encoder.prepare(clips, options, context)
    vectors = encoder.embed(clips, options, context)
    assert vectors.ids == clips.ids
    for clip, vector in zip(clips, vectors.values, strict=True):
        np.testing.assert_array_equal(vector, describe_sound(read_audio(clip, RATE)))
    assert encoder.embed(Clips(()), options, context).values.shape == (0, len(NAMES))


def test_contours_say_nothing_where_a_descriptor_has_no_meaning(clips, tmp_path):
    encoder, options, context = ProsodyEncoder(), options_of(), make_context(tmp_path)
    encoder.prepare(clips, options, context)
    names, features = contour_names(), encoder.embed(clips, options, context).values
    for clip, vector in zip(clips, features, strict=True):
        contours = encoder.frame_features(clip, options, context)
        assert (contours.dtype, contours.shape[1]) == (np.float32, len(names))
        assert np.isfinite(contours).all()
        for place, (name, description) in enumerate(DESCRIPTIONS.items(), start=2):
            there = {"all": np.ones(len(contours)), "sounding": contours[:, 0], "voiced": contours[:, 1]}
            inside = there[description.where].astype(bool)
            mean = vector[NAMES.index(f"{name}_mean")]
            if inside.any():
                assert contours[inside, place].mean() == pytest.approx(mean, abs=1e-3)
            np.testing.assert_allclose(contours[~inside, place], mean, rtol=0, atol=2e-4)


def test_it_resumes_by_clip(clips, tmp_path, monkeypatch):
    encoder, options, context = ProsodyEncoder(), options_of(), make_context(tmp_path)
    encoder.prepare(clips.take([0, 1, 2]), options, context)
    seen: list[str] = []

    def listen(clip: Clip, rate: int, cache: Cache) -> np.ndarray:
        seen.append(clip.id)
        return read_audio(clip, rate, cache)

    monkeypatch.setattr(extraction, "read_audio", listen)
    encoder.prepare(clips.take([0, 1, 2, 3, 4]), options, context)
    assert sorted(seen) == ["c3", "c4"]
    encoder.prepare(clips.take([0, 1, 2, 3, 4]), options, context)
    assert len(seen) == 2


def test_clips_without_sound_are_named_and_the_others_kept(clips, tmp_path):
    mute = clip_of(write_media(tmp_path / "m.mov", gradient_frames(3)), "mute")
    broken = tmp_path / "b.mov"
    broken.write_bytes(b"no film")
    context, encoder = make_context(tmp_path), ProsodyEncoder()
    with pytest.raises(MediaError, match="clip mute") as one:
        encoder.prepare(Clips((mute, *clips.items[:2])), options_of(), context)
    assert one.value.clip == "mute"
    assert len(encoder.embed(clips.take([0, 1]), options_of(), context).values) == 2
    with pytest.raises(MediaError, match=r"2 clips \(first: 'mute'\)"):
        encoder.prepare(Clips((clips.items[2], mute, clip_of(broken, "torn"))), options_of(), context)
    assert extraction.open_store(context).has(clips.items[2])


def test_what_is_not_or_wrongly_kept_is_said(clips, tmp_path):
    context, encoder = make_context(tmp_path), ProsodyEncoder()
    with pytest.raises(DataError, match="clip c0"):
        encoder.embed(clips.take([0]), options_of(), context)
    extraction.open_store(context).save(clips.items[0], np.zeros(3, np.float32))
    with pytest.raises(DataError, match=r"396 .*\(3,\)"):
        encoder.embed(clips.take([0]), options_of(), context)


def test_a_missing_package_is_named(clips, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(ExtraMissing, match=r"prosody .*av, librosa and scipy .*blemore-harness\[encoders\]"):
        ProsodyEncoder().prepare(clips.take([0]), options_of(), make_context(tmp_path))


def test_listing_it_loads_nothing_heavy():
    code = (
        "import sys, blemore_plugins.prosody as p; p.blemore_encoders()\n"
        "assert not {'librosa', 'numba', 'scipy', 'torch', 'av'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path.cwd(), check=False)
    assert done.returncode == 0, done.stderr
