"""What all frozen visual encoders do the same way: frames from the shared cache to features, one clip after another."""

from __future__ import annotations

import dataclasses
import importlib
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("torchvision")

import vision_files as files  # noqa: E402
from blemore_harness.clips import Clips, Fold  # noqa: E402
from blemore_harness.errors import ExtraMissing, InvalidOption, MediaError  # noqa: E402
from blemore_harness.media.ahead import read_ahead  # noqa: E402
from blemore_harness.options import build_options  # noqa: E402
from blemore_plugins import vision  # noqa: E402
from blemore_plugins.vision import extraction, running  # noqa: E402
from blemore_plugins.vision.pictures import PictureRule, fit, normalise  # noqa: E402
from blemore_plugins.vision.running import Network, run_clip  # noqa: E402
from fakes import LABELS, make_context  # noqa: E402
from media_files import clip_of  # noqa: E402

pytestmark = pytest.mark.encoders

ENCODERS = {encoder.name: encoder for encoder in vision.blemore_encoders()}
PICTURES = ("clip", "dinov2", "dinov3", "imagebind")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return Clips(tuple(files.write_clips(tmp_path_factory.mktemp("clips"), (21, 40, 9, 17, 12, 18))))


def small(name, **changes):
    encoder = ENCODERS[name]
    return encoder, build_options(name, encoder.Options, {**encoder.demo_options, "source": "media"} | changes)


def extracted(name, clips, context, **changes):
    encoder, options = small(name, **changes)
    encoder.prepare(clips, options, context)
    return {clip.id: encoder.frame_features(clip, options, context) for clip in clips}


# All families


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_it_trains_and_predicts_and_a_row_is_its_clips_alone(tmp_path, clips, name):
    encoder, options = small(name, epochs=2, hidden="8")
    learn = Clips(clips.items[:4], ("A", "A", "B", "B"), LABELS[:4])
    fold = Fold(0, learn, clips.take([4, 5]))
    context = make_context(tmp_path)
    encoder.prepare(clips, options, context)
    model = encoder.fit(fold, options, context)
    rows = model.predict(fold.held_out, context)
    assert rows.ids == ("v4", "v5")
    np.testing.assert_allclose(rows.values.sum(axis=1), 1)
    assert encoder.caveat(options) == "untrained small encoders"
    # Alone, in a fresh cache: bit for bit the same features.
    alone = make_context(tmp_path / "alone")
    encoder.prepare(clips.take([5]), options, alone)
    clip = clips.items[5]
    np.testing.assert_array_equal(
        encoder.frame_features(clip, options, alone), encoder.frame_features(clip, options, context)
    )


@pytest.mark.parametrize(
    ("name", "lengths"),
    [("clip", (6, 10, 3)), ("videomaev2", (2, 3, 1)), ("videoswin", (1, 2, 1)), ("vjepa2", (11, 20, 5))],
)
def test_features_have_one_row_per_position(tmp_path, clips, name, lengths):
    found = extracted(name, clips.take([0, 1, 2]), make_context(tmp_path))
    assert tuple(len(array) for array in found.values()) == lengths


def test_they_are_what_they_say():
    feature_sets = {
        name: (encoder.store, encoder.statistics_store, encoder.width) for name, encoder in ENCODERS.items()
    }
    assert feature_sets == {
        "clip": ("CLIP", "clip_static_features", None),
        "dinov2": ("DINOv2", "dinov2_static_features", None),
        "dinov3": ("DINOv3", "dinov3_static_features", None),
        "imagebind": ("ImageBind", "imagebind_static_features", 1024),
        "videomaev2": ("VideoMAEv2", "videomae_static_features", 1408),
        "videoswin": ("VideoSwin", "videoswintransformer_static_features", None),
        "vjepa2": ("", "", None),
        "xclip": ("", "", None),
        "videoprism": ("", "", None),
        "frames": ("", "", None),
        "empathic-face": ("", "", None),
        "expression": ("", "", None),
    }
    assert {encoder.modality for encoder in ENCODERS.values()} == {"video"}


@pytest.mark.parametrize("name", PICTURES)
def test_frames_are_decoded_once_for_all(tmp_path, clips, name, monkeypatch):
    from blemore_harness.media import frame_cache as frames

    context = make_context(tmp_path)
    frames.open_frames(context.cache).prepare(clips, context)
    monkeypatch.setattr(frames, "iter_frames", lambda clip: pytest.fail("decoded again"))
    assert len(extracted(name, clips, context)) == len(clips)


# Resuming


def test_an_interrupted_extraction_goes_on_where_it_stopped(tmp_path, clips, monkeypatch):
    context = make_context(tmp_path)
    seen = []

    def breaking(network, rule, zeros, frames, device):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(len(frames))
        return run_clip(network, rule, zeros, frames, device)

    monkeypatch.setattr(running, "run_clip", breaking)
    with pytest.raises(KeyboardInterrupt):
        extracted("clip", clips, context)
    monkeypatch.setattr(running, "run_clip", run_clip)
    context.reporter.bars.clear()
    resumed = extracted("clip", clips, context)
    assert ("clip: frames to features", len(clips) - 2) in context.reporter.bars
    for name, array in extracted("clip", clips, make_context(tmp_path / "fresh")).items():
        np.testing.assert_array_equal(array, resumed[name])


def test_a_damaged_clip_is_named_and_those_before_it_are_kept(tmp_path, clips):
    bad = tmp_path / "bad.mov"
    bad.write_bytes(b"not a video")
    context = make_context(tmp_path)
    encoder, options = small("dinov2")
    with pytest.raises(MediaError, match="bad9"):
        encoder.prepare(Clips((*clips.items[:2], clip_of(bad, "bad9"), clips.items[2])), options, context)
    store = encoder.extractor.open_store(options, context)
    assert [store.has(clip) for clip in clips.items[:2]] == [True, True]


# Options and keys


def test_what_changes_features_changes_the_key(tmp_path):
    context = make_context(tmp_path)
    folders = []
    for name, changes in [
        ("clip", {}), ("clip", {"stride": 1}), ("clip", {"frames": "full"}), ("clip", {"precision": "bf16"}),
        ("dinov2", {}), ("videomaev2", {}), ("videomaev2", {"compat": True}),
    ]:  # fmt: skip
        encoder, options = small(name, **changes)
        folders.append(encoder.extractor.open_store(options, context).folder)
    assert len(set(folders)) == len(folders)
    encoder, options = small("clip", precision="fp32")
    assert encoder.extractor.open_store(options, context).folder == folders[0]
    encoder, options = small("clip", precision="tf32")
    assert encoder.extractor.open_store(options, context).folder == folders[0], "a CPU has no tf32"
    assert options.precision_on("cuda") == "tf32"
    assert small("clip")[1].precision_on("cuda:1") == "tf32"


def test_a_stride_takes_every_so_manyth_frame(tmp_path, clips):
    one = clips.take([0])
    every = extracted("clip", one, make_context(tmp_path), stride=1)["v0"]
    fifth = extracted("clip", one, make_context(tmp_path), stride=5)["v0"]
    full = extracted("clip", one, make_context(tmp_path), stride=5, frames="full")["v0"]
    np.testing.assert_allclose(fifth, every[::5], atol=1e-5)
    # These clips are small enough to be kept without loss.
    np.testing.assert_allclose(full, fifth, atol=1e-5)


def test_half_precision_is_close(tmp_path, clips):
    one = clips.take([0])
    for name in ("clip", "videomaev2", "vjepa2"):
        exact = extracted(name, one, make_context(tmp_path))["v0"]
        half = extracted(name, one, make_context(tmp_path), precision="bf16")["v0"]
        difference = np.abs(half - exact).max() / np.abs(exact).max()
        assert 0 < difference < 0.02


def test_values_that_options_cannot_have_are_refused():
    for changes in ({"stride": "0"}, {"model": " "}, {"precision": "fp8"}):
        with pytest.raises(InvalidOption):
            small("clip", **changes)


def test_videoswin_says_that_the_released_features_are_others(tmp_path, clips):
    context = make_context(tmp_path)
    extracted("videoswin", clips.take([2]), context)
    assert [line for line in context.reporter.warnings if "was not released" in line] == context.reporter.warnings
    assert len(context.reporter.warnings) == 1


def test_packages_that_are_not_installed_are_named(tmp_path, clips, monkeypatch):
    def absent(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(extraction, "version", absent)
    with pytest.raises(ExtraMissing, match=r"dinov3 needs torch, transformers, timm .*pip install"):
        extracted("dinov3", clips, make_context(tmp_path))


def test_weights_that_only_torch_can_find_name_it_where_it_is_not_installed(tmp_path, clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.hub", None)
    monkeypatch.delattr(torch, "hub")
    encoder = ENCODERS["videoswin"]
    with pytest.raises(ExtraMissing, match=r"videoswin needs torch, torchvision .*pip install"):
        encoder.prepare(clips, encoder.Options(source="media"), make_context(tmp_path))


# Windows and pictures


def sums(windows):
    """A network that shows what it sees: the mean grey level of each frame of a window."""
    return windows.mean(dim=(2, 3, 4))[:, None]


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (31, 1), (32, 1), (33, 2), (48, 2), (49, 3)])
def test_windows_cover_every_frame(count, expected):
    assert len(Network(None, sums, 8, 32, 16, 32).starts(count)) == expected


@pytest.mark.parametrize("zeros", [False, True])
def test_the_last_window_is_filled_up(zeros):
    frames = np.arange(1, 7, dtype=np.uint8)[:, None, None, None] * np.ones((6, 8, 8, 3), np.uint8)
    rule = PictureRule(mean=(0.0,) * 3, std=(1 / 255,) * 3)
    found = run_clip(Network(None, sums, 8, 4, 4, 4), rule, zeros, frames, "cpu")
    filler = [0, 0] if zeros else [6, 6]
    np.testing.assert_allclose(found, [[1, 2, 3, 4], [5, 6, *filler]], rtol=1e-5)


def test_positions_that_show_only_filling_are_left_out():
    frames = np.arange(1, 8, dtype=np.uint8)[:, None, None, None] * np.ones((7, 8, 8, 3), np.uint8)
    rule = PictureRule(mean=(0.0,) * 3, std=(1 / 255,) * 3)
    pairs = Network(None, lambda x: x.mean(dim=(2, 3, 4)).unflatten(1, (2, 2)), 8, 4, 4, 2)
    found = run_clip(pairs, rule, False, frames[:5], "cpu")
    np.testing.assert_allclose(found, [[1, 2], [3, 4], [5, 5]], rtol=1e-5)


def test_batches_do_not_change_windows(monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (23, 10, 8, 3), dtype=np.uint8)
    network, rule = Network(None, sums, 8, 6, 4, 6), PictureRule()
    expected = run_clip(network, rule, False, frames, "cpu")
    monkeypatch.setattr(running, "AT_ONCE", {"cpu": 6})
    np.testing.assert_allclose(run_clip(network, rule, False, frames, "cpu"), expected, rtol=1e-5)


def test_pictures_may_be_of_any_shape():
    for height, width in ((7, 30), (30, 7), (8, 8), (300, 200)):
        frames = torch.full((2, height, width, 3), 100, dtype=torch.uint8)
        for rule in (PictureRule(), PictureRule(zoom=(8, 7)), PictureRule(zoom=None, antialias=False)):
            squares = fit(frames, rule, 8)
            assert squares.shape == (2, 3, 8, 8)
            assert (squares.round() == 100).all()


def test_red_and_blue_may_be_exchanged():
    frames = torch.tensor([10, 20, 30], dtype=torch.uint8).expand(1, 8, 8, 3)
    rule = PictureRule(mean=(0, 0, 0), std=(1, 1, 1), swapped=True)
    values = normalise(fit(frames, rule, 8), rule)[0, :, 0, 0] * 255
    assert values.round().tolist() == [30, 20, 10]
    straight = dataclasses.replace(rule, swapped=False)
    assert (normalise(fit(frames, straight, 8), straight)[0, :, 0, 0] * 255).round().tolist() == [10, 20, 30]


def test_clips_are_read_ahead_in_their_order(clips):
    read = []
    taken = []
    for clip, name in read_ahead(lambda clip: read.append(clip.id) or clip.id, clips.items, 3, 3):
        taken.append(clip.id)
        assert clip.id == name.result()
    assert taken == list(clips.ids)
    assert sorted(read) == sorted(taken)
