"""What happens to pixels: crops of frames, normalised and augmented batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes import make_context, make_fold

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from blemore_harness.training.batches import TrainingBatches  # noqa: E402
from blemore_plugins.s4d.batches import CropSource, normalise, training_indices  # noqa: E402
from blemore_plugins.s4d.options import S4DOptions  # noqa: E402
from blemore_plugins.s4d.tracking import crop_square, shrink  # noqa: E402

pytestmark = pytest.mark.encoders


def ramp(height: int = 60, width: int = 80) -> np.ndarray:
    """A picture whose red is the column and whose green is the row."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.arange(width)
    picture[..., 1] = np.arange(height)[:, None]
    return picture


def test_a_whole_square_comes_out_as_it_is():
    crop = crop_square(ramp(), (40, 30), 20, 20)
    np.testing.assert_array_equal(crop, ramp()[20:40, 30:50])


def test_what_lies_outside_repeats_the_edge():
    crop = crop_square(ramp(), (0, 0), 20, 20)
    np.testing.assert_array_equal(crop[10:, 10:], ramp()[:10, :10])
    assert not crop[:10, :10].any()
    beyond = crop_square(ramp(), (500, 500), 20, 20)
    assert (beyond == ramp()[-1, -1]).all()


def test_fractions_of_pixels_count():
    crop = crop_square(ramp(), (40.5, 30), 20, 20)
    np.testing.assert_allclose(crop[..., 0].mean(axis=0), np.arange(30.5, 50.5), atol=0.51)
    larger = crop_square(ramp(), (40, 30), 20, 40)
    np.testing.assert_allclose(larger[20, 1:-1, 0], np.arange(30.25, 49.25, 0.5), atol=0.6)


def test_a_tilted_face_comes_out_upright():
    picture = np.zeros((101, 101, 3), np.uint8)
    # Two eyes, the one on the right 30 degrees lower.
    for side in (-1, 1):
        x = round(50 + side * 20 * np.cos(np.radians(30)))
        y = round(50 + side * 20 * np.sin(np.radians(30)))
        picture[y - 2 : y + 3, x - 2 : x + 3] = 255
    crop = crop_square(picture, (50.5, 50.5), 60, 60, angle=30)
    rows, columns = np.nonzero(crop[..., 0] > 128)
    assert abs(rows - 29.5).max() <= 3.5
    assert abs(abs(columns - 29.5) - 20).max() <= 3.5


def test_shrinking_keeps_proportions_and_small_frames():
    assert shrink(ramp(60, 80), 40).shape == (30, 40, 3)
    assert shrink(ramp(60, 80), 80).shape == (60, 80, 3)


def test_normalising_is_imagenets():
    crops = torch.randint(0, 256, (2, 4, 6, 5, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    inputs = normalise(crops)
    assert inputs.shape == (2, 3, 4, 6, 5)
    expected = (crops[1, 2, 3, 4].numpy() / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(inputs[1, :, 2, 3, 4], expected, rtol=1e-5)


@pytest.fixture
def crops(tmp_path: Path):
    """A fold whose clips have random crops in the store."""
    fold, context = make_fold(7, 2), make_context(tmp_path)
    store = context.cache.store("crops")
    draw = np.random.default_rng(3)
    for clip in (*fold.train, *fold.held_out):
        store.save(clip, draw.integers(0, 256, (draw.integers(6, 30), 32, 32, 3), dtype=np.uint8))
    return fold, store


SMALL = S4DOptions(weights="random-small", train="all", size=32, frames=4, batch_size=3, flip=False, crop=1.0)


def batches_of(fold, store, options: S4DOptions) -> TrainingBatches:
    source = CropSource(store, options)
    return TrainingBatches(fold.train.items, fold.train.targets, source, options.batch_size, "cpu")


def test_batches_give_every_clip_once_with_its_target(crops):
    fold, store = crops
    batches = batches_of(fold, store, SMALL)
    generator, same = (torch.Generator().manual_seed(5) for _ in range(2))
    epoch, again = list(batches.epoch(generator)), list(batches.epoch(same))
    assert [len(inputs) for inputs, _ in epoch] == [3, 2, 2]
    order = torch.randperm(7, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(torch.cat([t for _, t in epoch]), torch.from_numpy(fold.train.targets)[order])
    for (one, _), (other, _) in zip(epoch, again, strict=True):
        assert torch.equal(one, other)
    clip = fold.train.items[int(order[0])]
    frames = store.load(clip)
    possible = [normalise(torch.from_numpy(frames[training_indices(len(frames), 4, 2, draw)])[None])[0]
                for draw in np.linspace(0, 1, 200, endpoint=False)]  # fmt: skip
    assert any(torch.equal(epoch[0][0][0], window) for window in possible)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted as Linux shows them")
def test_an_epoch_over_thousands_of_clips_needs_few_open_files(tmp_path: Path):
    fold, context = make_fold(60, 0), make_context(tmp_path)
    store = context.cache.store("crops")
    for clip in fold.train:
        store.save(clip, np.zeros((20, 32, 32, 3), dtype=np.uint8))
    before = len(list(Path("/proc/self/fd").iterdir()))
    batches = batches_of(fold, store, replace(SMALL, batch_size=2))
    for _ in batches.epoch(torch.Generator()):
        assert len(list(Path("/proc/self/fd").iterdir())) < before + 20


def test_mirroring_and_cropping_treat_all_frames_of_a_clip_alike(crops):
    fold, store = crops
    options = S4DOptions(weights="random-small", train="all", size=32, frames=4, batch_size=7, flip=True, crop=0.5)
    still = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    for clip in fold.train:
        store.save(clip, np.repeat(still, 9, axis=0))
    batches = batches_of(fold, store, options)
    ((inputs, _),) = batches.epoch(torch.Generator().manual_seed(1))
    for clip in inputs:
        assert torch.equal(clip[:, :1].expand_as(clip), clip)
    assert len({clip.sum().item() for clip in inputs}) == 7


def test_a_whole_crop_that_is_only_mirrored_is_exact(crops):
    fold, store = crops
    options = S4DOptions(weights="random-small", train="all", size=32, frames=4, batch_size=7, flip=True, crop=1.0)
    plain, mirrored = (
        next(batches_of(fold, store, o).epoch(torch.Generator().manual_seed(2)))
        for o in (
            S4DOptions(weights="random-small", train="all", size=32, frames=4, batch_size=7, flip=False, crop=1.0),
            options,
        )
    )
    kinds = set()
    for one, other in zip(plain[0], mirrored[0], strict=True):
        straight = torch.equal(one, other)
        kinds.add(straight)
        assert straight or torch.equal(one.flip(-1), other)
    assert kinds == {True, False}


def test_views_are_windows_and_their_mirror_images(crops):
    fold, store = crops
    source = CropSource(store, SMALL)
    views = source.views(source.read(fold.train.items[0], None))
    assert views.shape == (4, 3, 4, 32, 32)
    assert torch.equal(views[2:], views[:2].flip(-1))
