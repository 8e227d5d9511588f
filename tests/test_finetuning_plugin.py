"""The encoders that are trained whole as the harness uses them: options, clips, training, resuming, prediction."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from blemore_harness.cache import Cache
from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import BlemoreError, DataError, InvalidOption, MediaError, WeightsMissing
from blemore_harness.hookspecs import Encoder
from blemore_harness.protocol.rules import Scores
from blemore_plugins.finetuning import SoundEncoder, TimeSformerEncoder, VideoMAEEncoder, blemore_encoders
from blemore_plugins.finetuning.options import SoundOptions, TimeSformerOptions, VideoMAEOptions
from fakes import LABELS, make_context
from media_files import clip_of, gradient_frames, sine, write_media


def test_importing_loads_no_torch():
    code = (
        "import sys, blemore_plugins.finetuning; "
        "print([m for m in ('torch', 'transformers', 'PIL', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_they_are_offered_and_marked():
    offered = {encoder.name: encoder for encoder in blemore_encoders()}
    assert {name: encoder.modality for name, encoder in offered.items()} == {
        "videomae": "video", "timesformer": "video", "wav2vec2-finetuned": "audio",
    }  # fmt: skip
    for encoder in offered.values():
        assert encoder.caveat(encoder.Options()) is None
        assert encoder.caveat(encoder.Options(model="random")) == "untrained encoders"
        assert encoder.caveat(encoder.Options(**encoder.demo_options)) == "untrained small encoders"
        assert encoder.identify(encoder.Options()) == {"model": encoder.Options().model}


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (VideoMAEOptions, {"model": " "}),
        (VideoMAEOptions, {"epochs": 0}),
        (VideoMAEOptions, {"learning_rate": 0.0}),
        (VideoMAEOptions, {"layer_decay": 1.1}),
        (VideoMAEOptions, {"warmup": 30.0}),
        (VideoMAEOptions, {"ema": 1.0}),
        (VideoMAEOptions, {"lora": -1}),
        (VideoMAEOptions, {"head_dropout": 1.0}),
        (VideoMAEOptions, {"frames": 15}),
        (VideoMAEOptions, {"size": 100}),
        (TimeSformerOptions, {"crop": 0.0}),
        (TimeSformerOptions, {"samplings": 0}),
        (SoundOptions, {"seconds": 0.0}),
        (SoundOptions, {"mask": 1.0}),
        (SoundOptions, {"layerdrop": 1.0}),
    ],
)
def test_impossible_options_are_refused(kind: type, wrong: dict[str, object]):
    with pytest.raises(InvalidOption, match=next(iter(wrong))):
        kind(**wrong)


torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("av")
encoders = pytest.mark.encoders

from blemore_harness.media.frame_cache import open_frames  # noqa: E402
from blemore_harness.training import fitting  # noqa: E402
from blemore_harness.training.batches import TrainingBatches, read_views  # noqa: E402
from blemore_harness.training.epochs import autocast  # noqa: E402
from blemore_plugins.finetuning import sound, video  # noqa: E402
from blemore_plugins.finetuning.video import Look, cut_square, fit_middle  # noqa: E402

FAST = {
    "model": "random-small", "epochs": 3, "batch_size": 4, "learning_rate": 1e-3, "head_rate": 1e-2, "save_every": 1,
    "workers": 2,
}  # fmt: skip
SYSTEMS: dict[str, tuple[Encoder, type, dict[str, object]]] = {
    "videomae": (VideoMAEEncoder(), VideoMAEOptions, FAST | {"frames": 2, "size": 16}),
    "timesformer": (TimeSformerEncoder(), TimeSformerOptions, FAST | {"frames": 2, "size": 16}),
    "sound": (SoundEncoder(), SoundOptions, FAST | {"seconds": 0.2}),
}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fold, Path]:
    """A fold of real files, of different lengths and shapes, decoded into a cache."""
    folder = tmp_path_factory.mktemp("clips")
    clips = []
    for number in range(11):
        frames = gradient_frames(4 + number % 3, 48 + 16 * (number % 2), 64)
        frames = np.roll(frames, 7 * number, axis=2)
        wave = sine(0.15 + 0.02 * number, 16_000, 300 + 70 * number)
        clips.append(clip_of(write_media(folder / f"{number}.mp4", frames, wave, 16_000), f"k{number}"))
    truth = LABELS[np.arange(8) % len(LABELS)]
    fold = Fold(0, Clips(tuple(clips[:8]), tuple("abcd" * 2), truth), Clips(tuple(clips[8:])))
    for encoder, kind, settings in SYSTEMS.values():
        encoder.prepare(Clips(tuple(clips)), kind(**settings), make_context(folder))
    return fold, folder


def at(folder: Path, tmp_path: Path, **changes: object) -> Context:
    """A context with the cache of `folder` and a workspace of its own."""
    return dataclasses.replace(make_context(folder, **changes), workspace=tmp_path / "work")


@encoders
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_seed_gives_the_same_rows_and_other_seeds_others(material, tmp_path: Path, system: str):
    (fold, folder), (encoder, kind, settings) = material, SYSTEMS[system]
    options, context = kind(**settings, selection="last", head_dropout=0.2), at(folder, tmp_path)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = encoder.fit(fold, options, context).predict(fold.held_out, context)
    torch.manual_seed(2)
    again = encoder.fit(fold, dataclasses.replace(options, workers=1), context).predict(fold.held_out, context)
    np.testing.assert_array_equal(one.values, again.values)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), before)
    other = at(folder, tmp_path, seed=8)
    assert not np.array_equal(encoder.fit(fold, options, other).predict(fold.held_out, other).values, one.values)
    assert context.reporter.notes["epochs"] == 3
    weights = context.reporter.notes["weights trained"]
    assert 0 < weights["trained"] <= weights["total"]


@encoders
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_row_depends_on_its_own_clip_only(material, tmp_path: Path, system: str):
    (fold, folder), (encoder, kind, settings) = material, SYSTEMS[system]
    options, context = kind(**settings | {"epochs": 1}, selection="last"), at(folder, tmp_path)
    fitted = encoder.fit(fold, options, context)
    everything = fitted.predict(fold.held_out, context)
    assert everything.ids == fold.held_out.ids
    for place in (2, 0, 1):
        alone = fitted.predict(fold.held_out.take([place]), context)
        np.testing.assert_array_equal(alone.values[0], everything.values[place])
    assert fitted.predict(Clips(()), context).values.shape == (0, 6)


SECOND_TRAINING = 8
"""In the choice there are three epochs of two steps; the eighth step is the end of an epoch of the second training."""

AVERAGED = {"selection": "inner", "ema": 0.9, "warmup": 1, "schedule": "cosine", "layer_decay": 0.7}
RECIPES = [
    ("videomae", AVERAGED, 4),
    ("videomae", AVERAGED, SECOND_TRAINING),
    ("timesformer", {"selection": "inner", "lora": 2, "refit": False, "learning_rate": 1e-2}, 4),
    ("sound", {"selection": "last", "mask": 0.3, "mask_length": 2, "layerdrop": 0.3, "front_end": True}, 4),
]


@encoders
@pytest.mark.parametrize(("system", "recipe", "stop"), RECIPES)
def test_an_interrupted_fit_goes_on_to_the_same_bits(
    material, tmp_path: Path, monkeypatch, system: str, recipe: dict[str, object], stop: int
):
    (fold, folder), (encoder, kind, settings) = material, SYSTEMS[system]
    options = kind(**settings | recipe)
    context, other = at(folder, tmp_path / "a"), at(folder, tmp_path / "b")
    calls: list[str] = []
    step = fitting.soft_label_loss
    expected = encoder.fit(fold, options, context)

    def interrupted(logits, targets):
        calls.append("step")
        if len(calls) == stop:
            raise KeyboardInterrupt
        return step(logits, targets)

    monkeypatch.setattr(fitting, "soft_label_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encoder.fit(fold, options, other)
    assert (other.workspace / fitting.CHOSEN).exists() == (stop == SECOND_TRAINING)
    done = len(calls)
    found = encoder.fit(fold, options, other)
    # Of the interrupted epoch (two steps) only one is done twice; what was finished is not done again.
    again = len(calls) - done
    encoder.fit(fold, options, other)
    assert again == len(calls) - done - again - (stop - 2)
    assert found.epochs == expected.epochs
    state = expected.network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.network.state_dict().items())
    assert not list(other.workspace.glob("*.pt"))


@encoders
def test_folds_do_not_depend_on_their_order(material, tmp_path: Path):
    (fold, folder), (encoder, kind, settings) = material, SYSTEMS["videomae"]
    options = kind(**settings | {"epochs": 1}, selection="last")
    first, second = at(folder, tmp_path / "a", seed=1), at(folder, tmp_path / "b", seed=2)

    def rows(context: Context) -> np.ndarray:
        return encoder.fit(fold, options, context).predict(fold.held_out, context).values

    there = [rows(first), rows(second)]
    back = [rows(second), rows(first)][::-1]
    np.testing.assert_array_equal(there, back)


@encoders
def test_checkpointing_activations_changes_nothing(material, tmp_path: Path):
    (fold, folder), (encoder, kind, settings) = material, SYSTEMS["timesformer"]
    options, context = kind(**settings | {"epochs": 1}, selection="last"), at(folder, tmp_path)
    plain = encoder.fit(fold, options, context).predict(fold.held_out, context)
    saving = encoder.fit(fold, dataclasses.replace(options, gradient_checkpointing=True), context)
    np.testing.assert_array_equal(saving.predict(fold.held_out, context).values, plain.values)


@encoders
@pytest.mark.parametrize("system", SYSTEMS)
def test_bfloat16_is_near_float32(material, tmp_path: Path, system: str):
    """As on a GPU, with everything switched on; weights and rows stay what they are."""
    (fold, folder), (encoder, kind, settings) = material, SYSTEMS[system]
    options, context = kind(**settings | {"epochs": 1}, selection="last", lora=2, ema=0.5), at(folder, tmp_path)
    exact = encoder.fit(fold, options, context).predict(fold.held_out, context).values
    rounded = encoder.fit(fold, dataclasses.replace(options, precision="bfloat16"), context)
    assert all(tensor.dtype == torch.float32 for tensor in rounded.network.state_dict().values())
    found = rounded.predict(fold.held_out, context).values
    np.testing.assert_allclose(found, exact, atol=0.02)
    assert not np.array_equal(found, exact)


@encoders
@pytest.mark.parametrize(
    ("native", "asked", "expected"),
    [(True, "auto", True), (False, "auto", False), (True, "float32", False), (False, "bfloat16", True)],
)
def test_a_gpu_without_bfloat16_is_not_made_to_imitate_it(monkeypatch, native: bool, asked: str, expected: bool):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    monkeypatch.setattr(torch, "autocast", lambda *given: given)
    assert (autocast("cuda", asked) == ("cuda", torch.bfloat16)) is expected


@pytest.mark.slow
def test_training_fits_the_labels(material, tmp_path: Path):
    (fold, folder), (encoder, kind, settings) = material, SYSTEMS["sound"]
    changed = {"epochs": 25, "front_end": True, "learning_rate": 2e-3, "ema": 0.5}
    context = at(folder, tmp_path)
    fitted = encoder.fit(fold, kind(**settings | changed, selection="last"), context)
    rows = fitted.predict(fold.train.unlabelled(), context).values
    truth = fold.train.targets
    surprise = -(truth * np.log(rows)).sum(axis=1).mean()
    blind = truth.mean(axis=0)
    assert surprise < 0.7 * -(truth @ np.log(blind + 1e-9)).mean()


@encoders
def test_the_best_epoch_is_asked_for_and_patience_ends_it(material, tmp_path: Path):
    (fold, folder), (encoder, kind, settings) = material, SYSTEMS["videomae"]
    answers = iter([0.2, 0.5, 0.3, 0.5, 0.9])
    shown: list[np.ndarray] = []

    def score(probabilities):
        assert probabilities.ids == fold.held_out.ids
        shown.append(probabilities.values)
        return Scores(next(answers), 0.0)

    options = kind(**settings | {"epochs": 8}, selection="held-out", patience=2)
    context = at(folder, tmp_path, score=score)
    fitted = encoder.fit(fold, options, context)
    assert len(shown) == 4, "the second epoch was best, and two more were no better"
    assert fitted.epochs == context.reporter.notes["epochs"] == 2
    np.testing.assert_array_equal(fitted.predict(fold.held_out, context).values, shown[1])
    # On the final fit nobody can be asked.
    final = at(folder, tmp_path, final=True)
    assert encoder.fit(dataclasses.replace(fold, index=None), options, final).epochs <= 8


@encoders
def test_an_inner_choice_is_trained_again_on_all_clips(material, tmp_path: Path, monkeypatch):
    (fold, folder), (encoder, kind, settings) = material, SYSTEMS["videomae"]
    seen: list[tuple[str, int, int]] = []
    train = fitting.train

    def watch(course, options, context):
        seen.append((course.name, course.batches.steps, course.epochs))
        return train(course, options, context)

    monkeypatch.setattr(fitting, "train", watch)
    context = at(folder, tmp_path)
    fitted = encoder.fit(fold, kind(**settings | {"batch_size": 1}), context)
    learn, _ = fold.train.inner_split(context.seed)
    assert seen == [("choosing", len(learn), 3), ("all clips", len(fold.train), fitted.epochs)]
    assert not (context.workspace / fitting.CHOSEN).exists()


@encoders
def test_damage_and_divergence_are_named(material, tmp_path: Path, monkeypatch):
    (fold, folder), (encoder, kind, settings) = material, SYSTEMS["videomae"]
    context = at(folder, tmp_path)
    context.workspace.mkdir(parents=True)
    (context.workspace / "all epochs.pt").write_bytes(b"half")
    with pytest.raises(DataError, match=r"damaged checkpoint .*delete it"):
        encoder.fit(fold, kind(**settings, selection="last"), context)
    (context.workspace / "chosen.json").write_text("{}")
    with pytest.raises(DataError, match=r"chosen\.json"):
        encoder.fit(fold, kind(**settings), context)
    with pytest.raises(DataError, match="at least one training clip"):
        encoder.fit(Fold(0, Clips((), (), np.empty((0, 6), np.int8)), fold.held_out), kind(**settings), context)
    monkeypatch.setattr(fitting, "soft_label_loss", lambda logits, targets: logits.sum() * float("nan"))
    with pytest.raises(BlemoreError, match="epoch 1 is not a number"):
        encoder.fit(fold, kind(**settings, selection="last"), at(folder, tmp_path / "new"))


@encoders
def test_missing_weights_and_unusable_clips_are_named(material, tmp_path: Path):
    fold, _ = material
    with pytest.raises(WeightsMissing, match=r"videomae\.model"):
        VideoMAEEncoder().prepare(fold.held_out, VideoMAEOptions(model=str(tmp_path)), make_context(tmp_path))
    silent = clip_of(write_media(tmp_path / "s.mp4", gradient_frames(3)), "quiet")
    with pytest.raises(MediaError, match="quiet"):
        SoundEncoder().prepare(Clips((silent,)), SoundOptions(model="random-small"), make_context(tmp_path))
    short = clip_of(write_media(tmp_path / "t.wav", None, sine(0.02, 16_000), 16_000, "pcm_s16le"), "brief")
    with pytest.raises(MediaError, match=r"25 ms, found 0\.0200 s"):
        SoundEncoder().prepare(Clips((short,)), SoundOptions(model="random-small"), make_context(tmp_path))


class Counting:
    """A source whose clips are their own numbers."""

    draws = 2

    def read(self, clip: Clip, draw):
        return torch.tensor([float(clip.id)] if draw is None else [float(clip.id), *draw.tolist()])

    def join(self, held, draws):
        assert torch.equal(torch.stack(held)[:, 1:], draws)
        return torch.stack(held)[:, 0]

    def views(self, held):
        return held


@encoders
def test_sound_that_cannot_be_used_does_not_wait_for_all_other_clips(tmp_path: Path, monkeypatch):
    asked: list[str] = []

    def read(clip: Clip, rate: int, cache: Cache) -> np.ndarray:
        asked.append(clip.id)
        if len(asked) == 3:
            raise MediaError(f"clip {clip.id} has no audio track", clip.id)
        return np.ones(rate, dtype=np.float32)

    monkeypatch.setattr(sound, "read_audio", read)
    clips = Clips(tuple(Clip(f"c{number}", content=f"{number:04x}") for number in range(400)))
    with pytest.raises(MediaError, match="has no audio track"):
        sound.prepare_waves(clips, make_context(tmp_path))
    assert len(asked) < 100


def test_batches_hold_every_clip_once_with_its_target():
    seeded = torch.Generator().manual_seed
    clips = [Clip(str(number)) for number in range(10)]
    targets = np.arange(60).reshape(10, 6)
    batches = TrainingBatches(clips, targets, Counting(), 4, "cpu", workers=3)
    assert batches.steps == 3
    first = list(batches.epoch(seeded(1)))
    assert [len(inputs) for inputs, _ in first] == [4, 3, 3]
    order = torch.cat([inputs for inputs, _ in first])
    assert sorted(order.tolist()) == list(range(10))
    assert torch.equal(torch.cat([t for _, t in first])[:, 0], 6 * order)
    assert torch.equal(torch.cat([inputs for inputs, _ in batches.epoch(seeded(1))]), order)
    assert not torch.equal(torch.cat([inputs for inputs, _ in batches.epoch(seeded(2))]), order)
    assert batches.given == 30
    assert 0 <= batches.waited <= batches.seconds
    assert [float(blinded) for blinded in read_views(clips, Counting(), "cpu", 3)] == list(range(10))


@encoders
@pytest.mark.parametrize(("height", "width"), [(60, 90), (101, 64), (64, 64), (40, 31)])
def test_pictures_are_prepared_as_the_released_processor_does(height: int, width: int):
    """Against transformers' own processor with the released settings; it rounds to grey levels, twice."""
    from transformers import VideoMAEImageProcessor

    for look in (video.IMAGENET, video.TIMESFORMER):
        processor = VideoMAEImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, resample=2, image_mean=list(look.mean),
            image_std=list(look.std), do_resize=True, do_center_crop=True, do_rescale=True, do_normalize=True,
        )  # fmt: skip
        frames = gradient_frames(3, height, width)
        expected = processor(list(frames), return_tensors="pt")["pixel_values"][0]
        found = look.normalise(fit_middle(torch.from_numpy(frames), 32))
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1.6 / 255 / min(look.std)


@encoders
def test_squares_lie_in_the_middle_and_vary():
    frames = torch.zeros(2, 40, 60, 3, dtype=torch.uint8)
    frames[:, :, :10] = frames[:, :, 50:] = 255
    for draw in ([0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [1.0, 0.999, 0.5], [0.5, 1.0, 1.0]):
        square = cut_square(frames, 16, 0.5, draw)
        assert square.shape == (2, 3, 16, 16)
        assert square.max() == 0, "never beyond the middle square"
    ramp = torch.arange(40, dtype=torch.uint8)[None, None, :, None].expand(1, 40, 40, 3)
    whole, part = cut_square(ramp, 40, 0.5, [0, 0, 0]), cut_square(ramp, 40, 0.25, [1, 1, 0])
    assert torch.equal(whole[0, 0, 0], torch.arange(40.0))
    assert part[0, 0, 0, 0] == pytest.approx(20, abs=0.3)


@encoders
def test_frames_are_spread_over_the_clip_and_views_mirrored(material, tmp_path: Path):
    fold, folder = material
    clip = fold.train.items[2]  # 6 frames of 48 x 64
    options = VideoMAEOptions(model="random-small", frames=2, size=16, samplings=3)
    frames = open_frames(make_context(folder).cache, options.short_side)
    source = video.VideoSource(frames, options, Look((0, 0, 0), (1, 1, 1)))
    everything = torch.from_numpy(frames.read(clip))
    held = source.read(clip, None)
    assert torch.equal(held, everything[[0, 3, 1, 4, 2, 5]]), "three samplings, each over the whole clip"
    views = source.views(held)
    assert views.shape == (6, 2, 3, 16, 16)
    assert torch.equal(views[3:], views[:3].flip(-1))
    early, late = torch.zeros(source.draws), torch.full((source.draws,), 0.9999999)
    assert torch.equal(source.read(clip, early), everything[[0, 3]])
    assert torch.equal(source.read(clip, late), everything[[2, 5]])
    still = video.VideoSource(frames, dataclasses.replace(options, jitter=False), Look((0, 0, 0), (1, 1, 1)))
    assert torch.equal(still.read(clip, early), everything[[1, 4]])
    draws = torch.tensor([[0.5, 0.5, 0.1, 0, 0.5, 0.5], [0.5, 0.5, 0.9, 0, 0.5, 0.5]])
    mirrored, plain = source.join([held[:2], held[:2]], draws)
    assert torch.equal(mirrored, plain.flip(-1))


@encoders
def test_windows_are_cut_or_repeated():
    wave = torch.arange(10.0)
    assert sound.cut_window(wave, 4, 0.0).tolist() == [0, 1, 2, 3]
    assert sound.cut_window(wave, 4, 0.9999).tolist() == [6, 7, 8, 9]
    assert sound.cut_window(wave, 10, 0.7).tolist() == wave.tolist()
    assert sound.cut_window(wave[:3], 7, 0.5).tolist() == [1, 2, 0, 1, 2, 0, 1]
    level = sound.normalise(3 + 2 * torch.randn(1000, generator=torch.Generator().manual_seed(0)))
    assert float(level.mean()) == pytest.approx(0, abs=1e-6)
    assert float(level.var(correction=0)) == pytest.approx(1, abs=1e-5)
    assert torch.equal(sound.normalise(torch.full((50,), 0.25)), torch.zeros(50))
