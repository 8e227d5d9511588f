"""What HiCMAE is shown: chunks against literal code of the organisers' rules, spectra against Kaldi's formulas."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemore_harness.errors import ExtraMissing
from blemore_plugins.hicmae.inputs import cut_windows

# Chunks


def literal_chunks(count: int, stride: int) -> list[tuple[list[int], float, float]]:
    """The organisers' chunks: pictures, and begin and end of the audio as shares of the clip."""
    indices = list(range(0, count, stride))
    while len(indices) < 16:
        indices.append(indices[-1])
    chunks = []
    for number in range(math.ceil(len(indices) / 16)):
        part = indices[16 * number : 16 * number + 16]
        length = count - 1 if count > 1 else 1
        chunks.append((part, part[0] / length, min(part[-1] + 4, count - 1) / length))
    return chunks


@given(count=st.integers(1, 700), stride=st.sampled_from([2, 4, 8]))
@settings(max_examples=200, deadline=None)
def test_chunks_are_the_organisers(count: int, stride: int):
    expected = literal_chunks(count, stride)
    compat, ours = cut_windows(count, stride, compat=True), cut_windows(count, stride, compat=False)
    assert [(list(window.frames), window.start, window.stop) for window in compat] == expected
    # Ours differ in the last one only, which is full and ends with the clip.
    assert ours[:-1] == compat[:-1]
    assert len(ours[-1].frames) == 16
    assert ours[-1].frames[-1] == compat[-1].frames[-1]
    if len(compat[-1].frames) == 16:
        assert ours == compat


def test_chunks_by_hand():
    # 90 frames: 0, 4, ... 88 are 23 pictures.
    first, last = cut_windows(90, 4, compat=True)
    assert first.frames == tuple(range(0, 64, 4))
    assert last.frames == tuple(range(64, 90, 4))
    # Of 8,900 samples 100 belong to a frame: 0 to 64, and 64 to the end.
    assert (first.samples(8900), last.samples(8900)) == (slice(0, 6400), slice(6400, 8900))
    _, moved = cut_windows(90, 4, compat=False)
    assert moved.frames == tuple(range(28, 90, 4))
    assert moved.samples(8900) == slice(2800, 8900)
    # Nine frames make three pictures, and the last of them is repeated.
    (short,) = cut_windows(9, 4, compat=True)
    assert short.frames == (0, 4, *[8] * 14)
    assert short.samples(80) == slice(0, 80)
    (single,) = cut_windows(1, 4, compat=False)
    assert (single.frames, single.samples(500)) == ((0,) * 16, slice(0, 0))


# Audio

pytest.importorskip("torch")
pytest.importorskip("torchaudio")

from blemore_plugins.hicmae.inputs import log_mel  # noqa: E402

encoders = pytest.mark.encoders


def literal_mel(wave: np.ndarray) -> np.ndarray:
    """Kaldi's log mel spectrum, normalised: float64, frame by frame and triangle by triangle."""
    wave = wave.astype(np.float64)
    if len(wave) <= 1024:
        wave = np.concatenate([wave, np.zeros(1025 - len(wave))])
    wave = wave - wave.mean()

    def mel(hertz: float) -> float:
        return 1127 * math.log(1 + hertz / 700)

    step = (mel(8000) - mel(20)) / 129
    triangles = np.zeros((128, 257))
    for band in range(128):
        left = mel(20) + band * step
        for line in range(256):
            here = mel(line * 16000 / 512)
            triangles[band, line] = max(0.0, min((here - left) / step, (left + 2 * step - here) / step))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
    rows = []
    for start in range(0, len(wave) - 400 + 1, 160):
        frame = wave[start : start + 400]
        frame = frame - frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * window, 512)) ** 2
        rows.append(np.log(np.maximum(triangles @ power, np.finfo(np.float32).eps)))
    rows = rows[:256] + [np.zeros(128)] * (256 - len(rows))
    return (np.stack(rows) + 4.2677393) / (2 * 4.5689974)


@encoders
@pytest.mark.parametrize("samples", [40_960, 60_000, 16_000, 1025, 1024, 100, 0])
def test_spectra_are_kaldis(samples: int):
    noise = np.random.default_rng(samples).standard_normal(samples)
    tone = np.sin(np.arange(samples) * 0.3)
    wave = (0.05 * noise + 0.3 * tone + 0.1).astype(np.float32)
    found = log_mel(wave)
    assert (found.shape, found.dtype) == ((256, 128), np.float32)
    np.testing.assert_allclose(found, literal_mel(wave), rtol=0, atol=2e-4)


@encoders
def test_a_window_of_64_frames_fills_254_rows_and_the_rest_is_constant():
    wave = np.random.default_rng(0).standard_normal(40_960).astype(np.float32)
    found = log_mel(wave)
    assert found[254:] == pytest.approx(4.2677393 / (2 * 4.5689974))
    assert abs(found[253] - found[254]).max() > 0.1
    # Twice the amplitude is four times the power; the fourth band lies between two lines and hears nothing.
    louder = np.delete(log_mel(2 * wave) - found, 3, axis=1)[:254]
    np.testing.assert_allclose(louder, math.log(4) / (2 * 4.5689974), atol=1e-4)
    np.testing.assert_array_equal(log_mel(wave), found)


@encoders
def test_silence_is_finite():
    found = log_mel(np.zeros(16_000, dtype=np.float32))
    assert np.isfinite(found).all()
    assert found[0, 0] == pytest.approx((math.log(np.finfo(np.float32).eps) + 4.2677393) / (2 * 4.5689974))


@encoders
def test_a_torchaudio_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchaudio.compliance", None)
    with pytest.raises(ExtraMissing, match=r"torchaudio .*encoders"):
        log_mel(np.zeros(16_000, dtype=np.float32))
