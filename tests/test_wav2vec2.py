"""The wav2vec2 encoder on tiny networks in the released layouts, against the whole network and literal formulas."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import statistics
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from blemore_harness.clips import Clip, Clips  # noqa: E402
from blemore_harness.errors import DataError, ExtraMissing, InvalidOption, MediaError, WeightsMissing  # noqa: E402
from blemore_harness.media.audio import read_audio  # noqa: E402
from blemore_harness.networks import fitting_threads  # noqa: E402
from blemore_harness.options import build_options  # noqa: E402
from blemore_harness.pooling import pool_statistics  # noqa: E402
from blemore_plugins.hub import quiet_transformers  # noqa: E402
from blemore_plugins.speech import Wav2Vec2Encoder, extraction, inputs, network, recipe  # noqa: E402
from blemore_plugins.speech import encoder as encoder_module  # noqa: E402
from blemore_plugins.speech import released as released_module  # noqa: E402
from blemore_plugins.speech.encoder import describe_frames  # noqa: E402
from blemore_plugins.speech.options import Wav2Vec2Options, parse_layers  # noqa: E402
from fakes import make_context, make_fold  # noqa: E402
from media_files import clip_of, gradient_frames, sine, write_media  # noqa: E402

pytestmark = pytest.mark.encoders

DEPTH = 5
WIDTH = 16
COMMON = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
    "num_codevectors_per_group": 4,
}
LAYOUTS = {
    # facebook/wav2vec2-large: a pickled file with the old names of weight normalisation
    "group": {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False},
    # facebook/wav2vec2-large-lv60, -robust, xlsr: layer norm in the extractor and before each block
    "stable": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
}


def save_released(folder: Path, layout: str, **changes: object) -> Path:
    """Save a pre-training checkpoint as it was released, with its quantizer and projections."""
    config = transformers.Wav2Vec2Config(**(COMMON | LAYOUTS[layout] | changes))
    torch.manual_seed(3)
    model = transformers.Wav2Vec2ForPreTraining(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with quiet_transformers():
        model.save_pretrained(folder)
    if layout == "group":
        new = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
        weights = {}
        for name, tensor in model.state_dict().items():
            for here, there in new.items():
                name = name.replace(here, there)
            weights[name] = tensor
        assert any(name.endswith("weight_g") for name in weights)
        torch.save(weights, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture(scope="module", params=list(LAYOUTS))
def released(request, tmp_path_factory) -> Path:
    return save_released(tmp_path_factory.mktemp(request.param), request.param)


def whole_network(folder: Path):
    with quiet_transformers():
        return transformers.Wav2Vec2Model.from_pretrained(folder, local_files_only=True).eval()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def options_for(folder: Path, **changes: object) -> Wav2Vec2Options:
    return Wav2Vec2Options(model=str(folder), **({"layers": "2-4"} | changes))


def settled(options: Wav2Vec2Options) -> recipe.Recipe:
    return recipe.settle_recipe("wav2vec2", "wav2vec2", options, always_normalise=True)


def built(options: Wav2Vec2Options) -> network.Frozen:
    return network.build_network(settled(options), "cpu")


def small(layers: str) -> network.Frozen:
    return built(Wav2Vec2Options(model="random-small", layers=layers))


# Layers and truncation


@pytest.mark.parametrize("depth", range(DEPTH + 1))
def test_hidden_states_of_the_cut_network_are_bit_equal_to_the_whole_networks(released, depth):
    waves, whole = noise(2, 4000), whole_network(released)
    with torch.no_grad(), fitting_threads(whole):
        expected = whole(torch.from_numpy(waves), output_hidden_states=True).hidden_states
    cut = built(options_for(released, layers=str(depth)))
    # One block stays in any case: layer 0 is taken from what enters it.
    assert len(cut.trunk.encoder.layers) == max(depth, 1)
    np.testing.assert_array_equal(cut.run(waves)[0], expected[depth].numpy())


@pytest.mark.parametrize("layers", ["0", "1-3", "2,4", "5"])
def test_layer_k_is_what_leaves_block_k_and_layer_0_what_enters_the_first(released, layers):
    whole, seen = whole_network(released), {}
    whole.encoder.layers[0].register_forward_pre_hook(lambda block, given: seen.update({0: given[0].clone()}))
    for number, block in enumerate(whole.encoder.layers, start=1):
        block.register_forward_hook(lambda block, given, out, number=number: seen.update({number: out.clone()}))
    waves = noise(1, 4000)
    with torch.no_grad(), fitting_threads(whole):
        whole(torch.from_numpy(waves))
    found, _ = built(options_for(released, layers=layers)).run(waves)
    expected = torch.stack([seen[layer] for layer in parse_layers(layers)]).mean(dim=0)
    np.testing.assert_array_equal(found, expected.numpy())


def test_layers_are_inclusive_indices():
    assert parse_layers(Wav2Vec2Options().layers) == tuple(range(13))[6:13]
    assert parse_layers("6") == (6,)
    assert parse_layers(" 8, 1-3 ") == (1, 2, 3, 8)
    assert parse_layers("last") is None


@pytest.mark.parametrize("text", ["", "a", "6-", "-6", "3-1", "1,,2", "1-3,2", "1.5", "½"])
def test_other_texts_for_layers_are_refused(text):
    with pytest.raises(InvalidOption, match="wav2vec2: layers: "):
        build_options("wav2vec2", Wav2Vec2Options, {"layers": text})


@pytest.mark.parametrize("wrong", [{"segments": 0}, {"pooling": "mean"}, {"model": " "}, {"revision": ""}])
def test_other_wrong_options_are_refused(wrong):
    with pytest.raises(InvalidOption):
        build_options("wav2vec2", Wav2Vec2Options, wrong)


def test_more_layers_than_the_model_has_are_refused(released):
    with pytest.raises(InvalidOption, match=r"layers 0 to 5.* 12"):
        built(options_for(released, layers="6-12"))


def test_a_large_model_gives_7168_numbers_and_is_cut_in_half():
    config = transformers.Wav2Vec2Config(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    )
    with torch.device("meta"):
        whole = transformers.Wav2Vec2Model(config)
        config.num_hidden_layers = 12
        half = transformers.Wav2Vec2Model(config)
    # 315.4 and 164.3 million: what the released file and its lower half hold.
    assert round(sum(p.numel() for p in whole.parameters()) / 1e6, 1) == 315.4
    assert round(sum(p.numel() for p in half.parameters()) / 1e6, 1) == 164.3
    assert pool_statistics(np.zeros((9, config.hidden_size), np.float32), 3).shape == (7168,)


# Strict loading


def damage(folder: Path, change) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


BLOCK = "wav2vec2.encoder.layers.1.feed_forward.output_dense.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop(BLOCK), r"1 missing key \(first: 'encoder.layers.1.feed_forward"),
        (lambda weights: weights.update(extra=torch.zeros(2)), r"1 unexpected key \(first: 'extra'\)"),
        (lambda weights: weights.update({BLOCK: torch.zeros(3, 3)}), "mismatched key|cannot be loaded"),
    ],
)
def test_a_key_that_differs_is_an_error(tmp_path, change, message):
    folder = save_released(tmp_path, "stable")
    damage(folder, change)
    with pytest.raises(DataError, match=message):
        built(options_for(folder))


@pytest.mark.parametrize(("layout", "name"), [("stable", "model.safetensors"), ("group", "pytorch_model.bin")])
def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path, layout, name):
    folder = save_released(tmp_path, layout)
    (folder / name).write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match="cannot be loaded") as caught:
        built(options_for(folder))
    assert "\n" not in str(caught.value)


def test_a_model_of_another_kind_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clap"}))
    with pytest.raises(InvalidOption, match=r"wav2vec2, .*'clap'"):
        settled(options_for(tmp_path))
    for damaged in ("[1", "[1]"):
        (tmp_path / "config.json").write_text(damaged)
        with pytest.raises(DataError, match=r"config\.json"):
            settled(options_for(tmp_path))


def test_loading_says_nothing_and_leaves_the_random_state_alone(released, capfd):
    state = torch.get_rng_state()
    built(options_for(released))
    small("0-3")
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")


def test_the_small_network_is_the_same_for_every_depth():
    waves = noise(1, 3000)
    shallow, deep = small("2"), small("2,12")
    assert (len(shallow.trunk.encoder.layers), len(deep.trunk.encoder.layers)) == (2, 12)
    np.testing.assert_array_equal(shallow.run(waves)[0], dataclasses.replace(deep, layers=(2,)).run(waves)[0])
    assert deep.trunk.config.feat_extract_norm == "group"
    assert not deep.trunk.config.do_stable_layer_norm


# Statistics


def literal_percentile(values: list[float], percent: int) -> float:
    """The value at `percent` of the way from the smallest to the largest, linear between neighbours."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def literal_statistics(frames: np.ndarray) -> np.ndarray:
    """Seven statistics of each dimension in plain Python, statistic after statistic."""
    columns = [[float(value) for value in frames[:, d]] for d in range(frames.shape[1])]
    found = [statistics.fmean(column) for column in columns] + [statistics.pstdev(column) for column in columns]
    for percent in (10, 25, 50, 75, 90):
        found += [literal_percentile(column, percent) for column in columns]
    return np.array(found)


def test_seven_statistics_in_their_order():
    frames = noise(23, 5)
    np.testing.assert_allclose(pool_statistics(frames, 1), literal_statistics(frames), rtol=1e-6, atol=1e-7)
    parts = [literal_statistics(part) for part in (frames[:8], frames[8:16], frames[16:])]
    np.testing.assert_allclose(pool_statistics(frames, 3), np.mean(parts, axis=0), rtol=1e-6, atol=1e-7)


def test_fewer_frames_than_parts_make_one_part_each():
    frames = noise(2, 4)
    np.testing.assert_allclose(pool_statistics(frames, 3), pool_statistics(frames, 2))
    one = pool_statistics(frames[:1], 3).reshape(7, 4)
    np.testing.assert_array_equal(one[1], 0)
    np.testing.assert_array_equal(np.delete(one, 1, axis=0), np.tile(frames[0], (6, 1)))


# Audio


def test_waves_are_normalised_as_the_released_extractor_does():
    wave = 0.3 * noise(5000) + 0.1
    expected = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)(wave, sampling_rate=16_000).input_values[0]
    np.testing.assert_allclose(inputs.normalise(wave, recipe.HUB_FLOOR), expected, atol=2e-6)
    np.testing.assert_array_equal(inputs.normalise(np.zeros(500, np.float32), recipe.HUB_FLOOR), 0)


@pytest.mark.parametrize(("samples", "frames"), [(399, 0), (400, 1), (719, 1), (720, 2), (16_000, 49), (5, 0)])
def test_frames_of_a_wave(samples, frames):
    trunk = small("1").trunk
    assert network.count_frames(trunk.config, samples) == frames
    if frames:
        assert int(trunk._get_feat_extract_output_lengths(samples)) == frames


def test_padding_would_change_what_is_heard(tmp_path):
    """The reason for batches of exactly one length: group-norm models see the zeros, mask or no mask."""
    folder = save_released(tmp_path, "group")
    cut = built(options_for(folder))
    wave = noise(1, 6000)
    padded = np.concatenate([wave, np.zeros((1, 3000), np.float32)], axis=1)
    alone, _ = cut.run(wave)
    among_zeros = cut.run(padded)[0][:, : alone.shape[1]]
    # Far from the end, where no frame and no positional convolution sees the zeros themselves.
    assert np.abs(among_zeros[:, :5] - alone[:, :5]).max() > 1e-3 * np.abs(alone).max()


# The encoder


@pytest.fixture
def sounds(monkeypatch) -> dict[str, np.ndarray]:
    """Clips without files: their audio by id."""
    held: dict[str, np.ndarray] = {}
    monkeypatch.setattr(extraction, "read_audio", lambda clip, rate, cache: held[clip.id])
    for module in (encoder_module, released_module):
        monkeypatch.setattr(module, "warn_of_silence", lambda clips, context: None)
    return held


def add_clips(sounds: dict[str, np.ndarray], lengths: list[int]) -> Clips:
    for number, length in enumerate(lengths):
        sounds[f"k{number}"] = noise(length, seed=number)
    return Clips(tuple(Clip(f"k{number}", content=f"{number:02x}") for number in range(len(lengths))))


def test_bucketing_gives_what_one_clip_at_a_time_gives(released, sounds, tmp_path, monkeypatch):
    clips = add_clips(sounds, [4000, 5000, 4000, 4000, 4001, 4000, 4000])
    shapes, real = [], network.Frozen.run

    def watched(frozen, inputs, *more):
        shapes.append(inputs.shape)
        return real(frozen, inputs, *more)

    monkeypatch.setattr(network.Frozen, "run", watched)
    encoder, options, context = Wav2Vec2Encoder(), options_for(released), make_context(tmp_path)
    encoder.prepare(clips, options, context)
    assert shapes == [(1, 4000)] * 5 + [(1, 4001), (1, 5000)]
    alone = encoder.embed(clips, options, context)
    assert alone.values.shape == (7, 7 * WIDTH)
    cut = built(options)
    for clip, vector in zip(clips, alone.values, strict=True):
        frames = real(cut, inputs.normalise(sounds[clip.id], recipe.HUB_FLOOR)[None])[0][0]
        np.testing.assert_array_equal(vector, pool_statistics(frames, 3))
    # As on a GPU.
    monkeypatch.setitem(extraction.BATCH_SECONDS, "cpu", 1)
    shapes.clear()
    other = make_context(tmp_path / "other")
    encoder.prepare(clips, options, other)
    assert shapes == [(4, 4000), (1, 4000), (1, 4001), (1, 5000)]
    np.testing.assert_allclose(encoder.embed(clips, options, other).values, alone.values, rtol=1e-4, atol=1e-5)


def test_a_killed_extraction_goes_on_where_it_stopped(released, sounds, tmp_path, monkeypatch):
    clips = add_clips(sounds, [3000, 3100, 3200, 200])
    encoder, options, context = Wav2Vec2Encoder(), options_for(released), make_context(tmp_path)
    with pytest.raises(MediaError, match=r"clip k3: expected audio for one frame of 25 ms, found 0.0125 s") as caught:
        encoder.prepare(clips, options, context)
    assert caught.value.clip == "k3"
    sounds["k3"] = noise(3300)
    again = make_context(tmp_path)
    encoder.prepare(clips, options, again)
    assert again.reporter.notes["extracted"]["clips"] == 1
    assert again.reporter.done == 1
    third = make_context(tmp_path)
    encoder.prepare(clips, options, third)
    assert "extracted" not in third.reporter.notes
    assert len(encoder.embed(clips.take([3, 0]), options, third).ids) == 2


def test_vectors_are_kept_under_what_they_were_made_from(released, sounds, tmp_path):
    clips = add_clips(sounds, [3000])
    encoder, options = Wav2Vec2Encoder(), options_for(released)
    context = make_context(tmp_path)
    encoder.prepare(clips, options, context)
    encoder.embed(clips, dataclasses.replace(options, hidden="512", epochs=3), context)
    for changed in ({"layers": "2-3"}, {"pooling": "clip"}, {"pooling": "moments"}, {"segments": 2}):
        with pytest.raises(DataError, match="run `prepare` first"):
            encoder.embed(clips, dataclasses.replace(options, **changed), context)
    with pytest.raises(WeightsMissing, match=r"no weights at '.*absent'.*--set wav2vec2\.model="):
        encoder.prepare(clips, dataclasses.replace(options, model=str(tmp_path / "absent")), context)


def test_moments_are_those_of_each_part_and_the_mean_of_the_clip():
    frames = np.random.default_rng(4).normal(size=(7, 3)).astype(np.float32)
    options = Wav2Vec2Options(pooling="moments")
    expected = []
    for first, end in ((0, 3), (3, 5), (5, 7)):
        for column in range(3):
            expected.append(statistics.fmean(frames[first:end, column].tolist()))
        for column in range(3):
            expected.append(statistics.pstdev(frames[first:end, column].tolist()))
    expected += [statistics.fmean(frames[:, column].tolist()) for column in range(3)]
    given = describe_frames(frames, options)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, expected, atol=1e-6)
    brief = describe_frames(frames[:2], options)
    np.testing.assert_allclose(brief.reshape(7, 3)[[2, 4]], [frames[1], frames[1]])
    np.testing.assert_allclose(brief[-3:], frames[:2].mean(axis=0), rtol=1e-6)


def test_other_weights_in_the_same_folder_are_other_vectors(sounds, tmp_path):
    clips = add_clips(sounds, [3000])
    folder = save_released(tmp_path / "model", "stable")
    encoder, options, context = Wav2Vec2Encoder(), options_for(folder), make_context(tmp_path)
    encoder.prepare(clips, options, context)
    damage(folder, lambda weights: weights[BLOCK].add_(1))
    with pytest.raises(DataError, match="run `prepare` first"):
        encoder.embed(clips, options, context)


def test_from_real_files_to_a_trained_head(tmp_path):
    """The demo's path: audio decoded from files, the small network, the harness's head."""
    files = []
    for k in range(8):
        sound = sine(0.3 + 0.04 * (k % 2), 44_100, 200 + 90 * k)
        files.append(clip_of(write_media(tmp_path / f"{k}.mov", gradient_frames(5), sound), f"t{k}"))
    fold = make_fold(8, 0, actors=4)
    train = Clips(tuple(files), fold.train.actors, fold.train.truth)
    fold = dataclasses.replace(fold, train=train, held_out=Clips(()))
    encoder, context = Wav2Vec2Encoder(), make_context(tmp_path)
    given = dict(encoder.demo_options) | {"hidden": "8", "epochs": 3}
    options = build_options("wav2vec2", encoder.Options, given)
    assert encoder.caveat(options) == "untrained small encoders"
    assert encoder.caveat(Wav2Vec2Options()) is None
    encoder.prepare(train.unlabelled(), options, context)
    model = encoder.fit(fold, options, context)
    rows = model.predict(train.unlabelled(), context)
    assert rows.aligned(train.ids).values.shape == (8, 6)
    np.testing.assert_allclose(rows.values.sum(axis=1), 1, atol=1e-12)
    assert read_audio(files[0]).size > 4000


@pytest.mark.parametrize("gone", ["torch", "transformers"])
def test_missing_packages_are_named(sounds, tmp_path, monkeypatch, gone):
    clips = add_clips(sounds, [3000])
    monkeypatch.delitem(sys.modules, "blemore_plugins.speech.network")
    monkeypatch.delitem(sys.modules, "blemore_plugins.speech.inputs")
    monkeypatch.setitem(sys.modules, gone, None)
    with pytest.raises(ExtraMissing, match=r"wav2vec2 .*torch.*pip install"):
        Wav2Vec2Encoder().prepare(clips, Wav2Vec2Options(model="random-small"), make_context(tmp_path))


def test_packages_that_are_not_installed_at_all_are_named(tmp_path, monkeypatch):
    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(recipe, "version", absent)
    with pytest.raises(ExtraMissing, match=r"wav2vec2 .*torch.*pip install"):
        Wav2Vec2Encoder().prepare(Clips(()), Wav2Vec2Options(model="random-small"), make_context(tmp_path))


def test_the_encoder_says_what_it_is():
    encoder = Wav2Vec2Encoder()
    assert (encoder.name, encoder.modality) == ("wav2vec2", "audio")
    assert encoder.Options().model == "facebook/wav2vec2-large"
    assert re.fullmatch(r"[a-z0-9-]+", encoder.name)
