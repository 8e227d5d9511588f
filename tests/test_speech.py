"""The frozen audio encoders on tiny networks in the released layouts, against transformers' own whole pipelines."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from blemore_harness.clips import Clip, Clips, Fold  # noqa: E402
from blemore_harness.errors import DataError, InvalidOption, MediaError, WeightsMissing  # noqa: E402
from blemore_harness.options import build_options  # noqa: E402
from blemore_harness.pooling import pool_statistics  # noqa: E402
from blemore_plugins import speech  # noqa: E402
from blemore_plugins.speech import encoder as encoder_module  # noqa: E402
from blemore_plugins.speech import extraction, network, recipe  # noqa: E402
from blemore_plugins.speech import released as released_module  # noqa: E402
from blemore_plugins.speech.inputs import InputMaker  # noqa: E402
from blemore_plugins.speech.kinds import KINDS  # noqa: E402
from blemore_plugins.speech.options import AudeeringOptions, AudioOptions, HubertOptions, WavLMOptions  # noqa: E402
from fakes import make_context, make_fold  # noqa: E402
from speech_models import (  # noqa: E402
    DEPTH,
    RELEASED,
    SECONDS,
    WIDTH,
    change_weights,
    feature_extractor,
    save_emotion_model,
    save_model,
    whole_model,
)

pytestmark = pytest.mark.encoders

RATE = 16_000
FILM = Path("film.mov")
"""Of clips whose audio comes from `sounds`: nobody opens it."""

ENCODERS = {encoder.name: encoder for encoder in speech.blemore_encoders()}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """One folder for each type, written when first asked for."""

    class Folders(dict):
        def __missing__(self, kind: str) -> Path:
            self[kind] = save_model(tmp_path_factory.mktemp(kind), kind)
            return self[kind]

    return Folders()


@pytest.fixture
def sounds(monkeypatch) -> dict[str, np.ndarray]:
    """Clips without files: their audio by id."""
    held: dict[str, np.ndarray] = {}
    monkeypatch.setattr(extraction, "read_audio", lambda clip, rate, cache: held[clip.id])
    for module in (encoder_module, released_module):
        monkeypatch.setattr(module, "warn_of_silence", lambda clips, context: None)
    return held


def noise(samples: int, seed: int = 0) -> np.ndarray:
    wave = np.random.default_rng(seed).standard_normal(samples)
    return (0.05 + 0.1 * wave * np.linspace(0.2, 1, samples)).astype(np.float32)


def add_clips(sounds: dict[str, np.ndarray], lengths: list[int]) -> Clips:
    for number, length in enumerate(lengths):
        sounds[f"k{number}"] = noise(length, seed=number)
    return Clips(tuple(Clip(f"k{number}", FILM, content=f"{number:02x}") for number in range(len(lengths))))


def settled(options: object, **changes: object) -> recipe.Recipe:
    return recipe.settle_recipe("audio", "wav2vec2-bert", options, **({"always_normalise": False} | changes))


def hear(settled_recipe: recipe.Recipe, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames and outputs of one wave by the plugin's own path."""
    frozen = network.build_network(settled_recipe, "cpu")
    [(frames, outputs)] = extraction._run(frozen, [(Clip("x"), InputMaker(settled_recipe, frozen)(wave))])
    return frames, outputs


def literal(folder: Path, kind: str, wave: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Hidden states and the last one of a wave, by the whole model with the whole of its own preprocessing."""
    model, extractor = whole_model(folder, kind), feature_extractor(kind)
    given = extractor(wave, sampling_rate=RATE, return_tensors="pt")
    trunk = model.get_encoder() if kind == "whisper" else getattr(model, model.base_model_prefix, model)
    with torch.no_grad():
        found = trunk(**given, output_hidden_states=True)
    states = [state[0].numpy() for state in found.hidden_states]
    last = found.last_hidden_state[0].numpy()
    keep = slice(None)
    if kind == "whisper":
        keep = slice(-(-len(wave) // 320))
    elif kind == "wav2vec2-bert":
        keep = given["attention_mask"][0].numpy().astype(bool)
    elif kind == "audio-spectrogram-transformer":
        # Columns of 25 ms each 10 ms; patches of 16 columns each 10, along the last axis of the picture.
        real = 1 + (len(wave) - 400) // 160
        across = (60 - 16) // 10 + 1
        keep = [start for start in range(across) if 10 * start < real]
        states, last = ([s[2:].reshape(-1, across, WIDTH).mean(axis=0) for s in part] for part in (states, [last]))
        [last] = last
    return [state if kind.startswith("sew") else state[keep] for state in states], last[keep]


# Every type of model


@pytest.mark.parametrize("kind", list(RELEASED))
def test_features_are_those_of_the_whole_model_of_transformers(models, kind):
    samples = 6000 if kind == "audio-spectrogram-transformer" else 8260
    wave = noise(samples)
    states, last = literal(models[kind], kind, wave)
    settings = settled(AudioOptions(model=str(models[kind])))
    assert settings.kind.type == kind
    frames, outputs = hear(settings, wave)
    assert (frames.dtype, outputs.shape) == (np.float32, (0,))
    np.testing.assert_allclose(frames, last, rtol=1e-4, atol=1e-4)
    for layers in ("0", "1-2"):
        given = settled(AudioOptions(model=str(models[kind]), layers=layers))
        expected = np.mean([states[layer] for layer in given.layers], axis=0)
        np.testing.assert_allclose(hear(given, wave)[0], expected, rtol=1e-4, atol=1e-4)


def test_every_type_that_can_be_run_is_tested():
    assert set(RELEASED) == set(KINDS)


@pytest.mark.parametrize("kind", list(RELEASED))
def test_a_key_too_few_or_too_many_is_an_error(tmp_path, kind):
    folder = save_model(tmp_path, kind)
    weights: dict[str, torch.Tensor] = {}
    change_weights(folder, lambda found: weights.update(found))
    last = re.compile(rf"(?!.*decoder).*encoder\.layers?\.{DEPTH - 1}\..*weight")
    change_weights(folder, lambda found: found.pop(next(filter(last.fullmatch, weights))))
    with pytest.raises(DataError, match="1 missing key"):
        network.build_network(settled(AudioOptions(model=str(folder))), "cpu")
    # What was taken away belongs to a block that is not used now.
    cut = network.build_network(settled(AudioOptions(model=str(folder), layers="1-2")), "cpu")
    assert cut.layers == (1, 2)
    change_weights(folder, lambda found: found.update({"encoder.surprise": torch.zeros(2)}))
    with pytest.raises(DataError, match="1 unexpected key"):
        network.build_network(settled(AudioOptions(model=str(folder), layers="1-2")), "cpu")


@pytest.mark.parametrize("kind", ["hubert", "wavlm", "wav2vec2-conformer"])
def test_pickled_files_with_old_names_are_the_same_model(models, tmp_path, kind):
    """What the hub has of HuBERT and WavLM: `pytorch_model.bin` with `weight_g` and `weight_v`."""
    folder, wave = shutil.copytree(models[kind], tmp_path / "old"), noise(5000)
    weights: dict[str, torch.Tensor] = {}
    change_weights(folder, lambda found: weights.update(found))
    old = {n.replace("parametrizations.weight.original0", "weight_g"): t for n, t in weights.items()}
    old = {n.replace("parametrizations.weight.original1", "weight_v"): t for n, t in old.items()}
    assert sum(name.endswith(("weight_g", "weight_v")) for name in old) == 2
    torch.save(old, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    found, expected = (hear(settled(AudioOptions(model=str(place))), wave)[0] for place in (folder, models[kind]))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["whisper", "audio-spectrogram-transformer"])
def test_networks_of_fixed_length_hear_long_clips_in_pieces(models, kind):
    length = SECONDS * RATE if kind == "whisper" else 59 * 160 + 400
    wave = noise(2 * length + 3000)
    settings = settled(AudioOptions(model=str(models[kind])))
    frames, _ = hear(settings, wave)
    pieces = [literal(models[kind], kind, part)[1] for part in (wave[:length], wave[length:-3000], wave[-3000:])]
    np.testing.assert_allclose(frames, np.concatenate(pieces), rtol=1e-4, atol=1e-4)
    # A rest that is shorter than a field is left out.
    np.testing.assert_array_equal(hear(settings, wave[: length + 300])[0], hear(settings, wave[:length])[0])


@pytest.mark.parametrize("kind", ["sew", "wav2vec2-bert", "whisper", "audio-spectrogram-transformer"])
def test_sound_too_short_for_a_frame_is_named(models, kind, sounds, tmp_path):
    clips = add_clips(sounds, [3000, 380])
    options = AudioOptions(model=str(models[kind]))
    with pytest.raises(MediaError, match=r"clip k1: expected audio for one frame of 25 ms, found 0.0238 s"):
        ENCODERS["audio"].prepare(clips, options, make_context(tmp_path))
    frozen = network.build_network(settled(options), "cpu")
    make_inputs = InputMaker(settled(options), frozen)
    enough = next(count for count in range(380, 1000, 20) if not make_inputs.too_short(noise(count)))
    frames, _ = hear(settled(options), noise(enough))
    assert len(frames) >= 1
    assert np.isfinite(frames).all()


# Settings of the feature extractor


@pytest.mark.parametrize("normal", [True, False])
def test_waves_are_normalised_as_the_checkpoint_says(tmp_path, normal):
    folder, wave = save_model(tmp_path, "hubert", do_normalize=normal), noise(5000)
    settings = settled(AudioOptions(model=str(folder)))
    heard = InputMaker(settings, network.build_network(settings, "cpu"))(wave).inputs
    given = feature_extractor("hubert", do_normalize=normal)(wave, sampling_rate=RATE, return_tensors="np")
    np.testing.assert_allclose(heard, given.input_values, atol=2e-6)
    if not normal:
        np.testing.assert_array_equal(heard[0], wave)


def test_settings_may_stand_inside_those_of_a_processor(tmp_path):
    folder = save_model(tmp_path, "hubert")
    inner = json.loads((folder / "preprocessor_config.json").read_text()) | {"do_normalize": False}
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsMissing, match=r"preprocessor_config\.json or processor_config\.json"):
        settled(AudioOptions(model=str(folder)))
    (folder / "processor_config.json").write_text(json.dumps({"feature_extractor": inner}))
    assert settled(AudioOptions(model=str(folder))).floor is None


def test_what_cannot_work_is_refused(tmp_path, models):
    folder = save_model(tmp_path / "slow", "hubert", sampling_rate=8000)
    with pytest.raises(InvalidOption, match=r"16000 .*8000"):
        settled(AudioOptions(model=str(folder)))
    (folder / "preprocessor_config.json").write_text("no")
    with pytest.raises(DataError, match="feature extractor"):
        settled(AudioOptions(model=str(folder)))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InvalidOption, match=r"wav2vec2, .*whisper.*'bert'"):
        settled(AudioOptions(model=str(folder)))
    with pytest.raises(InvalidOption, match=r"outputs: .*wav2vec2.*'hubert'"):
        settled(AudeeringOptions(model=str(models["hubert"])), outputs=True)
    damaged = save_model(tmp_path / "damaged", "hubert")
    config = json.loads((damaged / "config.json").read_text()) | {"num_hidden_layers": "many"}
    (damaged / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="hubert model"):
        network.build_network(settled(AudioOptions(model=str(damaged))), "cpu")


def test_wav2vec2_runs_models_of_other_types_with_their_own_settings(models):
    given = settled(AudioOptions(model=str(models["wavlm"])), always_normalise=True)
    assert [path.name for path in given.weights.files][-1] == "preprocessor_config.json"
    own = settled(AudioOptions(model=str(models["wav2vec2"])), always_normalise=True)
    assert len(own.weights.files) == 2
    assert own.floor == recipe.HUB_FLOOR


# Emotion dimensions


def test_outputs_are_those_of_the_regression_head(tmp_path):
    folder, wave = save_emotion_model(tmp_path), noise(7000)
    options = AudeeringOptions(model=str(folder), layers="1-2", outputs=True)
    frames, outputs = hear(settled(options, always_normalise=True, outputs=True), wave)
    plain, nothing = hear(settled(options, always_normalise=True), wave)
    np.testing.assert_array_equal(frames, plain)
    assert nothing.shape == (0,)
    weights: dict[str, torch.Tensor] = {}
    change_weights(folder, lambda found: weights.update(found))
    trunk = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config.from_pretrained(folder)).eval()
    trunk.load_state_dict({n.removeprefix("wav2vec2."): t for n, t in weights.items() if n.startswith("wav2vec2.")})
    given = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)(wave, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        pooled = trunk(**given).last_hidden_state.mean(dim=1)[0]
        hidden = torch.tanh(weights["classifier.dense.weight"] @ pooled + weights["classifier.dense.bias"])
        expected = weights["classifier.out_proj.weight"] @ hidden + weights["classifier.out_proj.bias"]
    np.testing.assert_allclose(outputs, expected.numpy(), rtol=1e-4, atol=1e-5)
    change_weights(folder, lambda found: found.pop("classifier.out_proj.bias"))
    with pytest.raises(DataError, match=r"1 missing key \(first: 'classifier.out_proj.bias'\)"):
        hear(settled(options, always_normalise=True, outputs=True), wave)


def test_outputs_stand_at_the_end_of_the_vector(tmp_path, sounds):
    folder, clips = save_emotion_model(tmp_path / "model"), add_clips(sounds, [4000, 5000])
    encoder, context = ENCODERS["audeering-dim"], make_context(tmp_path)
    options = AudeeringOptions(model=str(folder), layers="1-2", outputs=True)
    for given in (options, dataclasses.replace(options, outputs=False)):
        encoder.prepare(clips, given, context)
    long = encoder.embed(clips, options, context).values
    short = encoder.embed(clips, dataclasses.replace(options, outputs=False), context).values
    assert long.shape == (2, 7 * WIDTH + 3)
    np.testing.assert_array_equal(long[:, :-3], short)


# WavLM and HuBERT over time


FEATURES = {"wavlm": WavLMOptions, "hubert": HubertOptions}


@pytest.mark.parametrize("name", list(FEATURES))
def test_features_over_time_are_the_last_hidden_state(models, sounds, tmp_path, name):
    clips = add_clips(sounds, [4000, 5000, 4000])
    encoder, context = ENCODERS[name], make_context(tmp_path)
    options = FEATURES[name](source="media", model=str(models[name]))
    encoder.prepare(clips, options, context)
    vectors = encoder.embed(clips, options, context)
    for clip, vector in zip(clips, vectors.values, strict=True):
        states, last = literal(models[name], name, sounds[clip.id])
        found = encoder.frame_features(clip, options, context)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, last, rtol=1e-4, atol=1e-4)
        # transformers' own list ends before the final norm.
        assert np.abs(states[-1] - last).max() > 0.1
        np.testing.assert_array_equal(vector, pool_statistics(found))
    assert context.reporter.notes["model"]["type"] == name
    assert set(context.reporter.notes["model"]["files"]) == {
        "config.json", "model.safetensors", "preprocessor_config.json"
    }  # fmt: skip
    chosen = dataclasses.replace(options, layers=f"1,{DEPTH}")
    encoder.prepare(clips, chosen, context)
    expected = (states[1] + states[DEPTH]) / 2
    np.testing.assert_allclose(encoder.frame_features(clip, chosen, context), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["hubert", "whisper", "audio-spectrogram-transformer"])
def test_layers_for_a_weighted_sum_are_those_of_the_whole_model_each_normalised(models, kind):
    wave = noise(6000 if kind == "audio-spectrogram-transformer" else 8260)
    states, _ = literal(models[kind], kind, wave)
    some = hear(settled(AudioOptions(model=str(models[kind]), layers="weighted:0-2")), wave)[0]
    expected = [(state - state.mean(axis=1)[:, None]) / (state.std(axis=1)[:, None]) for state in states[:3]]
    np.testing.assert_allclose(some, np.stack(expected, axis=1), rtol=1e-2, atol=2e-2)
    every = hear(settled(AudioOptions(model=str(models[kind]), layers="weighted")), wave)[0]
    assert every.shape == (len(some), len(states), WIDTH)
    np.testing.assert_allclose(every[:, :3], some, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["audio", "wavlm"])
def test_a_weighted_sum_starts_at_the_statistics_of_the_mean_of_the_layers(models, sounds, tmp_path, name):
    clips, encoder, context = add_clips(sounds, [4000, 5000]), ENCODERS[name], make_context(tmp_path)
    options = encoder.Options(model=str(models["wavlm"]), layers="weighted", head="attentive")
    options = encoder.resolve_options(options, frozenset({"WavLM_large"}))
    encoder.prepare(clips, options, context)
    source = encoder.frame_source(options, context)
    assert (source.layers, source.parts) == (True, 3 if name == "audio" else 1)
    for clip, vector in zip(clips, encoder.embed(clips, options, context).values, strict=True):
        layers = source.read(clip)
        assert (layers.dtype, layers.shape[1:]) == (np.float16, (DEPTH + 1, WIDTH))
        frames = layers.astype(np.float32).mean(axis=1)
        np.testing.assert_allclose(encoder.frame_features(clip, options, context), frames, rtol=0, atol=1e-6)
        np.testing.assert_allclose(vector, pool_statistics(frames, source.parts), rtol=0, atol=1e-5)


def test_audio_encoders_keep_the_frames_that_their_statistics_are_of(models, sounds, tmp_path):
    clips, encoder, context = add_clips(sounds, [4000, 5000]), ENCODERS["wav2vec2"], make_context(tmp_path)
    options = encoder.Options(model=str(models["wav2vec2"]), layers="1-2", pooling="clip")
    encoder.prepare(clips, options, context)
    assert encoder.frame_source(options, context) is None
    source = encoder.frame_source(dataclasses.replace(options, queries=2), context)
    for clip, vector in zip(clips, encoder.embed(clips, options, context).values, strict=True):
        frames = source.read(clip)
        np.testing.assert_array_equal(frames, encoder.frame_features(clip, options, context))
        np.testing.assert_array_equal(vector, pool_statistics(frames))


def test_what_a_weighted_sum_cannot_be_combined_with_is_named(models):
    for options, wrong, words in (
        (AudioOptions, {"pooling": "moments"}, "pooling.*moments"),
        (AudioOptions, {"normalise_actors": True}, "normalise_actors"),
        (AudeeringOptions, {"outputs": True}, "outputs"),
        (WavLMOptions, {"compat": True}, "layers: compat.*weighted"),
    ):
        with pytest.raises(InvalidOption, match=words):
            options(layers="weighted", **wrong)
    with pytest.raises(InvalidOption, match=r"layers.*weighted:x"):
        AudioOptions(layers="weighted:x")
    with pytest.raises(InvalidOption, match=r"layers: 'weighted'.*source=released"):
        ENCODERS["wavlm"].resolve_options(WavLMOptions(layers="weighted", source="released"), frozenset())
    with pytest.raises(InvalidOption, match="layers 0 to 3, found 9"):
        hear(settled(AudioOptions(model=str(models["hubert"]), layers="weighted:0,9")), noise(4000))


def test_compat_normalises_as_s3prl_does(models, sounds, tmp_path):
    clips = add_clips(sounds, [4000])
    encoder = ENCODERS["hubert"]
    options, context = HubertOptions(source="media", model=str(models["hubert"]), compat=True), make_context(tmp_path)
    encoder.prepare(clips, options, context)
    model = whole_model(models["hubert"], "hubert")
    wave = torch.from_numpy(sounds["k0"])
    with torch.no_grad():
        expected = model(torch.nn.functional.layer_norm(wave, wave.shape)[None]).last_hidden_state[0]
    np.testing.assert_allclose(
        encoder.frame_features(next(iter(clips)), options, context), expected, rtol=1e-4, atol=1e-5
    )
    with pytest.raises(InvalidOption, match="hubert: layers: compat"):
        build_options("hubert", HubertOptions, {"compat": "true", "layers": "6"})


def test_released_features_come_first():
    for name, folder, table in (
        ("wavlm", "WavLM_large", "wavlm_static_features"),
        ("hubert", "HuBERT_large", "hubert_static_features"),
    ):
        encoder = ENCODERS[name]
        for there, source in (({folder, table}, "released"), ({table}, "statistics"), (set(), "media")):
            options = encoder.resolve_options(encoder.Options(), frozenset(there))
            assert options.source == source
        assert encoder.width == 1024


def test_interrupted_features_go_on_by_clip(models, sounds, tmp_path):
    clips = add_clips(sounds, [3000, 3100, 100, 3200])
    encoder, options = ENCODERS["wavlm"], WavLMOptions(source="media", model=str(models["wavlm"]))
    with pytest.raises(MediaError) as caught:
        encoder.prepare(clips, options, make_context(tmp_path))
    assert caught.value.clip == "k2"
    sounds["k2"] = noise(3300)
    again = make_context(tmp_path)
    encoder.prepare(clips, options, again)
    assert again.reporter.notes["extracted"]["clips"] == 2
    assert encoder.embed(clips, options, again).values.shape == (4, 7 * WIDTH)


@pytest.mark.parametrize("kind", ["wavlm", "wav2vec2-bert", "whisper"])
def test_features_do_not_depend_on_the_company(models, sounds, tmp_path, monkeypatch, kind):
    clips = add_clips(sounds, [5000, 3000, 5000, 5000])
    encoder, options = ENCODERS["audio"], AudioOptions(model=str(models[kind]))
    found = []
    for number, given in enumerate((clips, clips.take([3, 1, 2, 0]), clips)):
        context = make_context(tmp_path / str(number))
        # The last as on a GPU, where clips of one length are run together.
        monkeypatch.setitem(extraction.BATCH_SECONDS, "cpu", 20 if number == 2 else 0)
        encoder.prepare(given, options, context)
        found.append(encoder.embed(clips, options, context).values)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_allclose(found[2], found[0], rtol=1e-4, atol=1e-5)


def test_sound_is_decoded_while_the_network_computes(models, sounds, tmp_path, monkeypatch):
    clips = add_clips(sounds, [3000] * 12)
    later, real, waited = threading.Event(), network.Frozen.run, []

    def read(clip, rate, cache):
        if clip.id == "k11":
            later.set()
        return sounds[clip.id]

    def run(frozen, inputs, lengths):
        waited.append(later.wait(timeout=300))
        return real(frozen, inputs, lengths)

    monkeypatch.setattr(extraction, "WINDOW_BYTES", 0)
    monkeypatch.setattr(extraction, "read_audio", read)
    monkeypatch.setattr(network.Frozen, "run", run)
    context = make_context(tmp_path)
    ENCODERS["audio"].prepare(clips, AudioOptions(model=str(models["hubert"])), context)
    assert waited == [True] * 12
    assert context.reporter.done == 12


# All encoders


def test_the_offer():
    assert sorted(ENCODERS) == [
        "audeering-dim", "audio", "clap", "empathic-voice", "hubert", "imagebind-audio", "qwen2-audio", "voc2vec",
        "wav2vec2", "wav2vec2-512", "wavlm", "whisper",
    ]  # fmt: skip
    assert "non-commercial" in ENCODERS["audeering-dim"].summary
    assert all(encoder.modality == "audio" for encoder in ENCODERS.values())
    narrow = build_options("wav2vec2-512", ENCODERS["wav2vec2-512"].Options, {})
    assert (narrow.widths, narrow.batch_norm, narrow.dropout) == ((512,), True, 0.3)
    assert dataclasses.replace(narrow, hidden="1024-512") == ENCODERS["wav2vec2-512"].Options(hidden="1024-512")


def test_wav2vec2_512_finds_the_vectors_of_wav2vec2(models, sounds, tmp_path):
    clips, context = add_clips(sounds, [3000]), make_context(tmp_path)
    given = {"model": str(models["wav2vec2"]), "layers": "1-2"}
    options = {n: build_options(n, ENCODERS[n].Options, given) for n in ("wav2vec2", "wav2vec2-512")}
    ENCODERS["wav2vec2"].prepare(clips, options["wav2vec2"], context)
    ENCODERS["wav2vec2-512"].prepare(clips, options["wav2vec2-512"], context)
    assert context.reporter.bars == [("wav2vec2: audio to features", 1)]
    one, other = (ENCODERS[name].embed(clips, options[name], context).values for name in options)
    np.testing.assert_array_equal(one, other)


def labelled(sounds: dict[str, np.ndarray]) -> Fold:
    fold = make_fold(6, 1, actors=3, video=FILM)
    for number, name in enumerate((*fold.train.ids, *fold.held_out.ids)):
        sounds[name] = noise(3000 + 500 * (number % 2), seed=number)
    return fold


@pytest.fixture
def fold(sounds) -> Iterator[Fold]:
    return labelled(sounds)


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_each_encoder_learns_and_predicts_without_weights(name, fold, tmp_path):
    encoder, context = ENCODERS[name], make_context(tmp_path)
    given = dict(encoder.demo_options) | {"hidden": "8", "epochs": 2}
    given |= {"outputs": True} if name == "audeering-dim" else {}
    options = encoder.resolve_options(build_options(name, encoder.Options, given), frozenset())
    assert encoder.caveat(options) == "untrained small encoders"
    assert encoder.caveat(dataclasses.replace(options, model="owner/name")) is None
    assert encoder.identify(options) == {}
    named = encoder.identify(dataclasses.replace(options, model="owner/name"))
    regressors = {"experts": "laion/Empathic-Insight-Voice-Small"} if name == "empathic-voice" else {}
    assert named == {"model": "owner/name"} | regressors
    clips = Clips((*fold.train.unlabelled(), *fold.held_out))
    encoder.prepare(clips, options, context)
    rows = encoder.fit(fold, options, context).predict(fold.held_out, context)
    assert rows.ids == fold.held_out.ids
    np.testing.assert_allclose(rows.values.sum(axis=1), 1, atol=1e-12)
