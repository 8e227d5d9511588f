"""The encoder `hicmae` as the harness uses it, on small clips with drawn faces and audio."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import InvalidOption, MediaError
from blemore_plugins.hicmae import HiCMAEEncoder, blemore_encoders, extraction
from blemore_plugins.hicmae.options import HiCMAEOptions
from blemore_plugins.s4d.options import S4DOptions
from fakes import LABELS, make_context
from media_files import clip_of, sine, write_media

ENCODER = HiCMAEEncoder()
OPTIONS = HiCMAEOptions(source="media", **(dict(ENCODER.demo_options) | {"stride": 4}))


def test_importing_loads_nothing_heavy():
    code = "import sys, blemore_plugins.hicmae; print([m for m in ('torch', 'torchaudio', 'av') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_is_offered_and_marked():
    (encoder,) = blemore_encoders()
    assert (encoder.name, encoder.modality, encoder.store) == ("hicmae", "audiovisual", "HiCMAE")
    assert (ENCODER.statistics_store, ENCODER.width) == ("hicmae_static_features", 2048)
    assert encoder.caveat(OPTIONS) == "untrained small encoders"
    assert encoder.caveat(HiCMAEOptions(source="media")) is None
    # Released features are real whatever the weights would have been.
    assert encoder.caveat(dataclasses.replace(OPTIONS, source="released")) is None
    assert encoder.resolve_options(HiCMAEOptions(), frozenset({"HiCMAE"})).source == "released"
    assert encoder.resolve_options(HiCMAEOptions(), frozenset()).source == "media"


def test_local_weights_are_told_by_content(tmp_path: Path):
    (tmp_path / "one.pth").write_bytes(b"1")
    (tmp_path / "two.pth").write_bytes(b"1")
    (tmp_path / "three.pth").write_bytes(b"2")

    def tell(name: str) -> object:
        return ENCODER.identify(HiCMAEOptions(source="media", weights=str(tmp_path / f"{name}.pth")))["weights"]

    assert tell("one") == tell("two") != tell("three")


@pytest.mark.parametrize(
    "wrong", [{"size": 100}, {"stride": 3}, {"stride": 0}, {"detect_every": 7}, {"scale": 9.0}, {"weights": " "}]
)
def test_impossible_options_are_refused(wrong: dict[str, object]):
    with pytest.raises(InvalidOption, match=next(iter(wrong))):
        HiCMAEOptions(**wrong)


def test_crops_are_those_of_s4d():
    assert HiCMAEOptions().crops().crop_facts() == S4DOptions().crop_facts()
    changes: dict[str, object] = {
        "scale": 2.0, "align": False, "size": 64, "step": 1, "detect_every": 3, "detect_size": 100,
        "smallest_face": 0.3, "smooth": 7,
    }  # fmt: skip
    assert HiCMAEOptions(**changes).crops().crop_facts() == changes


torch = pytest.importorskip("torch")
for package in ("torchaudio", "facenet_pytorch", "av"):
    pytest.importorskip(package)

from blemore_harness.demo.actors import make_actor  # noqa: E402
from blemore_harness.demo.faces import draw_frames, draw_portrait  # noqa: E402
from blemore_harness.demo.performance import play  # noqa: E402
from blemore_harness.demo.plan import make_plan  # noqa: E402
from blemore_harness.media.audio import read_audio  # noqa: E402
from blemore_harness.media.frames import video_info  # noqa: E402
from blemore_harness.pooling import pool_statistics  # noqa: E402
from blemore_plugins.hicmae.inputs import log_mel  # noqa: E402
from blemore_plugins.hicmae.running import Chunks, build_network, embed_chunks  # noqa: E402
from blemore_plugins.s4d.faces import open_crops  # noqa: E402

encoders = pytest.mark.encoders

LENGTHS = {"long": 75, "short": 20, "other": 66}
"""Frames of the clips at 25 a second: 19, 5 and 17 pictures, and so 2, 1 and 2 chunks."""

CHUNKS = {"long": 2, "short": 1, "other": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips with a drawn face and a tone, one without audio."""
    folder = tmp_path_factory.mktemp("clips")
    plan, actor, rng = make_plan(0, 3, 1), make_actor(0, 1), np.random.default_rng(1)
    clip = dataclasses.replace(next(clip for clip in plan.clips if clip.actor == 1), frames=max(LENGTHS.values()))
    face = np.stack(list(draw_frames(draw_portrait(actor, 0), play(clip, actor.style, rng), rng)))
    for number, (name, length) in enumerate(LENGTHS.items()):
        tone = sine(length / 25, 16_000, hertz=300 + 200 * number) * np.linspace(0.1, 1, length * 640)
        write_media(folder / f"{name}.mov", face[:length], tone.astype(np.float32), rate=16_000)
    write_media(folder / "silent.mov", face[:20])
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """Where a context has the features of all clips with audio."""
    place = tmp_path_factory.mktemp("prepared")
    ENCODER.prepare(clips_of(folder), OPTIONS, make_context(place))
    return place


def clips_of(folder: Path, *names: str) -> Clips:
    return Clips(tuple(clip_of(folder / f"{name}.mov", name) for name in names or LENGTHS))


def with_crops(place: Path, folder: Path) -> Context:
    """A context in a new folder that has the faces of another one and no features."""
    shutil.copytree(place / "cache" / "s4d-faces", folder / "cache" / "s4d-faces")
    return make_context(folder)


@pytest.mark.slow
@encoders
def test_a_row_for_every_sixteen_pictures(place: Path, folder: Path):
    context = make_context(place)
    for clip in clips_of(folder):
        features = ENCODER.frame_features(clip, OPTIONS, context)
        assert (features.shape, features.dtype) == ((CHUNKS[clip.id], 4 * 64), np.float32)
        assert np.isfinite(features).all()
        # Two chunks of a clip are not the same, and none is constant.
        assert features.std(axis=1).min() > 0.5
        assert len(np.unique(features, axis=0)) == len(features)
    rows = ENCODER.embed(clips_of(folder), OPTIONS, context)
    assert rows.values.shape == (3, 7 * 256)
    first = ENCODER.frame_features(clips_of(folder).items[0], OPTIONS, context)
    np.testing.assert_array_equal(rows.values[0], pool_statistics(first))


@encoders
def test_features_are_those_of_chunks_cut_by_hand(place: Path, folder: Path):
    (clip,) = clips_of(folder, "long")
    context = make_context(place)
    crops, wave = open_crops(OPTIONS.crops(), context).load(clip), read_audio(clip)
    network, loaded = build_network(OPTIONS, None, "cpu")
    assert loaded is None
    assert len(crops) == 38
    # 75 frames: pictures 0, 4 ... 72, every second crop; the last chunk is moved back to 12 ... 72.
    starts, ends = (0, 12), (64, 74)
    pictures = np.stack([crops[start // 2 : start // 2 + 31 : 2] for start in starts])
    assert pictures.shape == (2, 16, 32, 32, 3)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    inputs = ((pictures / 255 - mean) / std).transpose(0, 4, 1, 2, 3).astype(np.float32)
    sound = [
        log_mel(wave[int(start / 74 * len(wave)) : int(end / 74 * len(wave))])
        for start, end in zip(starts, ends, strict=True)
    ]
    with torch.inference_mode():
        expected = network.embed(torch.from_numpy(inputs), torch.from_numpy(np.stack(sound))[:, None]).numpy()
    np.testing.assert_allclose(ENCODER.frame_features(clip, OPTIONS, context), expected, rtol=0, atol=2e-5)


@encoders
def test_compat_fills_the_last_chunk_with_the_mean_colour(place: Path, folder: Path):
    (clip,) = clips_of(folder, "other")
    options, context = dataclasses.replace(OPTIONS, compat=True), make_context(place)
    ENCODER.prepare(clips_of(folder, "other"), options, context)
    theirs, ours = (ENCODER.frame_features(clip, choice, context) for choice in (options, OPTIONS))
    np.testing.assert_array_equal(theirs[0], ours[0])
    assert abs(theirs[1] - ours[1]).max() > 0.01
    # 66 frames: the 17th picture is frame 64, and its audio lasts to the last frame.
    crops, wave = open_crops(options.crops(), context).load(clip), read_audio(clip)
    network, _ = build_network(options, None, "cpu")
    inputs = torch.zeros(1, 3, 16, 32, 32)
    mean, std = (torch.tensor(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    inputs[0, :, 0] = ((torch.from_numpy(crops[32].copy()) / 255 - mean) / std).permute(2, 0, 1)
    spectrum = log_mel(wave[int(64 / 65 * len(wave)) : len(wave)])
    with torch.inference_mode():
        expected = network.embed(inputs, torch.from_numpy(spectrum)[None, None]).numpy()
    np.testing.assert_allclose(theirs[1:], expected, rtol=0, atol=2e-5)


@encoders
def test_features_do_not_depend_on_the_clips_beside(place: Path, folder: Path, tmp_path: Path):
    for order in (("other", "short"), ("short",)):
        context = with_crops(place, tmp_path / "-".join(order))
        ENCODER.prepare(clips_of(folder, *order), OPTIONS, context)
        for clip in clips_of(folder, *order):
            alone, beside = (ENCODER.frame_features(clip, OPTIONS, there) for there in (context, make_context(place)))
            np.testing.assert_array_equal(alone, beside)


@encoders
def test_chunks_do_not_look_at_each_other():
    network, _ = build_network(OPTIONS, None, "cpu")
    draw = np.random.default_rng(0)
    pictures = draw.integers(0, 256, (11, 16, 32, 32, 3), dtype=np.uint8)
    sound = draw.standard_normal((11, 256, 128)).astype(np.float32)
    everything = embed_chunks(network, Chunks(pictures, (16,) * 10 + (3,), sound))
    for number in range(11):
        real = (16 if number < 10 else 3,)
        alone = embed_chunks(network, Chunks(pictures[number : number + 1], real, sound[number : number + 1]))
        np.testing.assert_allclose(everything[number : number + 1], alone, rtol=0, atol=1e-5)


@encoders
def test_pictures_and_sound_both_count(place: Path, folder: Path):
    network, _ = build_network(OPTIONS, None, "cpu")
    chunks = extraction.read_chunks(
        clips_of(folder, "short").items[0], OPTIONS, open_crops(OPTIONS.crops(), make_context(place))
    )
    normal = embed_chunks(network, chunks)
    blind = embed_chunks(network, dataclasses.replace(chunks, pictures=np.zeros_like(chunks.pictures)))
    deaf = embed_chunks(network, dataclasses.replace(chunks, sound=np.zeros_like(chunks.sound)))
    assert abs(normal - blind).max() > 0.01
    assert abs(normal - deaf).max() > 0.01
    rough = embed_chunks(network, chunks, "bfloat16")
    assert rough.dtype == np.float32
    assert 0 < abs(rough - normal).max() < 0.2


@encoders
def test_an_interrupted_extraction_goes_on_where_it_was(place: Path, folder: Path, tmp_path: Path, monkeypatch):
    done: list[str] = []
    read = extraction.read_ahead

    def stop_after_one(*given: object) -> Iterator[tuple[Clip, Future[Chunks]]]:
        for clip, chunks in read(*given):
            if done == ["long"]:
                raise KeyboardInterrupt
            done.append(clip.id)
            yield clip, chunks

    monkeypatch.setattr(extraction, "read_ahead", stop_after_one)
    context = with_crops(place, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ENCODER.prepare(clips_of(folder), OPTIONS, context)
    done.append("again")
    ENCODER.prepare(clips_of(folder), OPTIONS, context)
    assert done == ["long", "again", "short", "other"]
    assert context.reporter.notes["extracted"] == {"clips": 2, "chunks": 3, "width": 256}
    ENCODER.prepare(clips_of(folder), OPTIONS, context)
    assert done == ["long", "again", "short", "other"]


@encoders
def test_a_clip_without_sound_is_named_and_those_before_it_are_kept(place: Path, folder: Path, tmp_path: Path):
    context, clips = with_crops(place, tmp_path), clips_of(folder, "short", "silent", "other")
    with pytest.raises(MediaError, match="clip silent has no audio track") as caught:
        ENCODER.prepare(clips, OPTIONS, context)
    assert caught.value.clip == "silent"
    store = extraction.HiCMAEExtractor().open_store(OPTIONS, context)
    assert [store.has(clip) for clip in clips] == [True, False, False]


@encoders
def test_frames_are_counted_while_faces_are_cut_out(place: Path, folder: Path, monkeypatch):
    """Videos are decoded once: what follows the crops works without any decoder of frames."""
    crops = open_crops(OPTIONS.crops(), make_context(place))
    for clip in clips_of(folder, "short", "long"):
        assert crops.load(clip, "found")[2] == video_info(clip).frames
    monkeypatch.setattr("blemore_harness.media.frames.open_video", None)
    assert extraction.read_chunks(clip, OPTIONS, crops).real


@encoders
def test_weights_are_part_of_where_features_lie(tmp_path: Path):
    context, extractor = make_context(tmp_path), extraction.HiCMAEExtractor()
    for name in ("one", "two"):
        (tmp_path / f"{name}.pth").write_bytes(name.encode())
    changes: list[dict[str, object]] = [
        {}, {"compat": True}, {"stride": 8}, {"scale": 1.5}, {"precision": "bfloat16"},
        {"weights": str(tmp_path / "one.pth")}, {"weights": str(tmp_path / "two.pth")},
    ]  # fmt: skip
    places = [extractor.open_store(dataclasses.replace(OPTIONS, **change), context).folder for change in changes]
    assert len(set(places)) == len(changes)
    # What only the head is told moves nothing.
    assert extractor.open_store(dataclasses.replace(OPTIONS, epochs=3), context).folder == places[0]


@encoders
def test_a_checkpoint_is_what_computes_the_features(folder: Path, place: Path, tmp_path: Path):
    network, _ = build_network(OPTIONS, None, "cpu")
    torch.save({"model": {**network.state_dict()}}, tmp_path / "best.pth")
    named = dataclasses.replace(OPTIONS, weights=str(tmp_path / "best.pth"))
    clips, context = clips_of(folder, "short"), make_context(place)
    for factor in (1.0, 0.5):
        weights = {name: tensor * (factor if "fc_norm" in name else 1) for name, tensor in network.state_dict().items()}
        weights |= {"head.weight": torch.zeros(6, 256), "head.bias": torch.zeros(6)}
        torch.save({"model": weights}, tmp_path / "best.pth")
        ENCODER.prepare(clips, named, context)
        expected = factor * ENCODER.frame_features(clips.items[0], OPTIONS, context)
        np.testing.assert_allclose(ENCODER.frame_features(clips.items[0], named, context), expected, rtol=0, atol=1e-6)
    assert context.reporter.notes["checkpoint"]["kind"] == "fine-tuned"


@encoders
def test_a_head_learns_from_clips(place: Path, folder: Path):
    items = clips_of(folder).items
    # Three clips with three labels, each of them thrice.
    train = Clips(
        tuple(dataclasses.replace(items[n % 3], id=f"t{n}") for n in range(9)),
        tuple(f"A{n // 3}" for n in range(9)),
        LABELS[np.arange(9) % 3],
    )
    fold, context = Fold(0, train, Clips(items)), make_context(place)
    options = dataclasses.replace(OPTIONS, hidden="16", epochs=40, patience=40, batch_norm=False, dropout=0.0)
    options = dataclasses.replace(options, learning_rate=1e-2)
    model = ENCODER.fit(fold, options, context)
    rows = model.predict(fold.held_out, context)
    loss, even = (
        -(fold.train.targets[:3] * np.log(values)).sum(axis=1).mean()
        for values in (rows.values, np.full((3, 6), 1 / 6))
    )
    assert loss < 0.5 * even
    again = ENCODER.fit(fold, options, context).predict(Clips(items[1:2]), context)
    np.testing.assert_array_equal(again.values[0], rows.values[1])


@encoders
def test_released_features_and_statistics_are_read_in_their_place(tmp_path: Path):
    draw = np.random.default_rng(0)
    features = draw.standard_normal((3, 2048)).astype(np.float32)
    np.save(tmp_path / "one.npy", features)
    np.save(tmp_path / "all.npy", pool_statistics(features))
    clip = Clip("c1", None, {"HiCMAE": tmp_path / "one.npy", "hicmae_static_features": tmp_path / "all.npy"}, "aa")
    clips, context = Clips((clip,)), make_context(tmp_path)
    for source in ("released", "statistics"):
        options = HiCMAEOptions(source=source)
        ENCODER.prepare(clips, options, context)
        np.testing.assert_array_equal(ENCODER.embed(clips, options, context).values[0], pool_statistics(features))
    np.testing.assert_array_equal(ENCODER.frame_features(clip, HiCMAEOptions(source="released"), context), features)
