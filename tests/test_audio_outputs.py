"""Audio encoders of 2026 on tiny networks in the released layouts, against the libraries' whole pipelines."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("torchaudio")

import torch.nn.functional as F  # noqa: E402
from torchaudio.compliance import kaldi  # noqa: E402

import audio_models as files  # noqa: E402
from audio_models import CLAP_SECONDS, STATES, TOKENS  # noqa: E402
from blemore_harness.clips import Clip, Clips  # noqa: E402
from blemore_harness.errors import DataError, InvalidOption, MediaError, WeightsMissing  # noqa: E402
from blemore_harness.options import build_options  # noqa: E402
from blemore_harness.pooling import pool_statistics  # noqa: E402
from blemore_plugins import speech  # noqa: E402
from blemore_plugins.cards import AUDIO_OF_IMAGEBIND, CARDS  # noqa: E402
from blemore_plugins.hub import quiet_transformers  # noqa: E402
from blemore_plugins.speech import extraction  # noqa: E402
from blemore_plugins.speech import released as released_module  # noqa: E402
from blemore_plugins.speech.imagebind import ImageBindAudio  # noqa: E402
from blemore_plugins.speech.options import EMOTIONS  # noqa: E402
from blemore_plugins.speech.regressors import Regressor  # noqa: E402
from fakes import make_context  # noqa: E402
from speech_models import SECONDS, WIDTH, change_weights, save_model, whole_model  # noqa: E402

pytestmark = pytest.mark.encoders

ENCODERS = {encoder.name: encoder for encoder in speech.blemore_encoders()}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
FILM = Path("film.mov")
"""Of clips whose audio is handed in: nobody opens it."""

Listen = Callable[..., tuple[list[np.ndarray], np.ndarray]]


def noise(seconds: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    samples = round(seconds * rate)
    wave = np.random.default_rng(seed).standard_normal(samples)
    return (0.02 + 0.1 * wave * np.linspace(0.2, 1, samples)).astype(np.float32)


@pytest.fixture
def listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listen:
    """Prepare an encoder on waves and return the frames and the embeddings of their clips."""
    held: dict[str, np.ndarray] = {}
    rates: set[int] = set()

    def read(clip: Clip, rate: int, cache: object) -> np.ndarray:
        rates.add(rate)
        return held[clip.id]

    monkeypatch.setattr(extraction, "read_audio", read)
    monkeypatch.setattr(released_module, "warn_of_silence", lambda clips, context: None)

    def run(name: str, *waves: np.ndarray, **given: object) -> tuple[list[np.ndarray], np.ndarray]:
        clips = []
        for wave in waves:
            clips.append(Clip(f"k{len(clips)}", FILM, content=f"{zlib.crc32(wave.tobytes()):08x}"))
            held[clips[-1].id] = wave
        encoder, context, together = ENCODERS[name], make_context(tmp_path), Clips(tuple(clips))
        options = build_options(name, encoder.Options, {key: str(value) for key, value in given.items()})
        options = encoder.resolve_options(options, frozenset())
        rates.clear()
        encoder.prepare(together, options, context)
        assert rates <= {48_000 if name == "clap" else 16_000}
        frames = [encoder.frame_features(clip, options, context) for clip in together]
        return frames, encoder.embed(together, options, context).values

    return run


def load(kind: str, folder: Path) -> Any:
    with quiet_transformers():
        return getattr(transformers, kind).from_pretrained(folder, local_files_only=True).eval()


# Whisper


def test_whisper_gives_the_states_of_the_clip_without_padding(tmp_path: Path, listen: Listen) -> None:
    folder = save_model(tmp_path / "model", "whisper")
    model, extractor = whole_model(folder, "whisper"), transformers.WhisperFeatureExtractor.from_pretrained(folder)
    short, long = noise(0.7), noise(2 * SECONDS + 0.5, seed=1)
    frames, embeddings = listen("whisper", short, long, model=folder)
    parts = np.split(long, [16_000 * SECONDS, 32_000 * SECONDS])
    states = []
    for wave in (short, *parts):
        with torch.no_grad():
            given = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features
            states.append(model.get_encoder()(given).last_hidden_state[0, : -(-len(wave) // 320)].numpy())
    assert [len(part) for part in states] == [35, STATES, STATES, 25]
    np.testing.assert_allclose(frames[0], states[0], **CLOSE)
    np.testing.assert_allclose(frames[1], np.concatenate(states[1:]), **CLOSE)
    np.testing.assert_array_equal(embeddings, [pool_statistics(part) for part in frames])


@pytest.mark.parametrize(("layers", "chosen"), [("weighted", [0, 1, 2, 3]), ("weighted:0,2", [0, 2])])
def test_whisper_keeps_each_layer_normalised_for_a_weighted_sum(
    layers: str, chosen: list[int], tmp_path: Path, listen: Listen
) -> None:
    folder, short, long = save_model(tmp_path / "model", "whisper"), noise(0.7), noise(SECONDS + 0.5, seed=1)
    model, extractor = whole_model(folder, "whisper"), transformers.WhisperFeatureExtractor.from_pretrained(folder)
    assert model.config.encoder_layers == 3
    noted: list[torch.Tensor] = []
    encoder = model.get_encoder()
    encoder.layers[0].register_forward_pre_hook(lambda _block, given: noted.append(given[0]))
    for block in encoder.layers:
        block.register_forward_hook(lambda _block, _given, out: noted.append(out[0] if isinstance(out, tuple) else out))

    def expected(wave: np.ndarray) -> np.ndarray:
        noted.clear()
        with torch.no_grad():
            encoder(extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features)
        states = [noted[layer][0, : -(-len(wave) // 320)].numpy() for layer in chosen]
        normalised = [
            (state - state.mean(1, keepdims=True)) / np.sqrt(state.var(1, keepdims=True) + 1e-5) for state in states
        ]
        return np.mean(normalised, axis=0)

    frames, embeddings = listen("whisper", short, long, model=folder, layers=layers)
    parts = [expected(part) for part in np.split(long, [16_000 * SECONDS])]  # longer than the input of the network
    assert [len(part) for part in parts] == [STATES, 25]
    np.testing.assert_allclose(frames[0], expected(short), atol=2e-3, rtol=0)  # kept as float16
    np.testing.assert_allclose(frames[1], np.concatenate(parts), atol=2e-3, rtol=0)
    np.testing.assert_array_equal(embeddings, [pool_statistics(part) for part in frames])


def test_outputs_and_a_weighted_sum_of_layers_exclude_each_other(listen: Listen) -> None:
    for name in ("qwen2-audio", "empathic-voice"):
        with pytest.raises(InvalidOption, match="embedding: expected statistics"):
            listen(name, noise(1), model="random-small", layers="weighted", embedding="both")
        [frames], embeddings = listen(name, noise(1), model="random-small", layers="weighted", embedding="statistics")
        np.testing.assert_array_equal(embeddings[0], pool_statistics(frames))


def test_whisper_and_clap_want_models_of_their_own_kind(tmp_path: Path, listen: Listen) -> None:
    folder = save_model(tmp_path / "model", "wavlm")
    for name, wanted in (("whisper", "whisper"), ("clap", "clap"), ("qwen2-audio", "qwen2_audio")):
        (folder / "tokenizer.json").write_text("{}")
        with pytest.raises(InvalidOption, match=rf"type {wanted}; found 'wavlm'"):
            listen(name, noise(1), model=folder)


def test_audio_names_the_encoder_of_models_that_it_does_not_run(tmp_path: Path, listen: Listen) -> None:
    for folder, name in ((files.save_clap(tmp_path / "a"), "clap"), (files.save_qwen(tmp_path / "b"), "qwen2-audio")):
        with pytest.raises(InvalidOption, match=rf"one of the types .* the encoder {name}$"):
            listen("audio", noise(1), model=folder)


# CLAP


def test_clap_gives_the_projected_embedding_and_its_last_map(tmp_path: Path, listen: Listen) -> None:
    folder = files.save_clap(tmp_path / "model")
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    model, trunk = load("ClapModel", folder), load("ClapAudioModelWithProjection", folder)
    short, long = noise(0.3, 48_000), noise(2 * CLAP_SECONDS + 0.25, 48_000, seed=1)
    frames, embeddings = listen("clap", short, long, model=folder, embedding="both")
    parts = np.split(long, [48_000, 96_000])
    embedded, maps = [], []
    for wave in (short, *parts):
        with torch.no_grad():
            given = extractor(wave, sampling_rate=48_000, return_tensors="pt")
            embedded.append(trunk(**given).audio_embeds[0].numpy())
            maps.append(trunk(**given).last_hidden_state[0].mean(dim=1).T.numpy())
            # The whole model gives the same embedding, of length 1.
            whole = model.get_audio_features(**given)
            whole = getattr(whole, "pooler_output", whole)[0].numpy()
        np.testing.assert_allclose(whole / np.linalg.norm(whole), embedded[-1] / np.linalg.norm(embedded[-1]), **CLOSE)
    assert maps[0].shape == (32, 32)
    np.testing.assert_allclose(frames[0], maps[0][:10], **CLOSE)
    np.testing.assert_allclose(frames[1], np.concatenate([maps[1], maps[2], maps[3][:8]]), **CLOSE)
    np.testing.assert_allclose(embeddings[0], np.concatenate([pool_statistics(frames[0]), embedded[0]]), **CLOSE)
    np.testing.assert_allclose(embeddings[1][-12:], np.mean(embedded[1:], axis=0), **CLOSE)
    alone = listen("clap", short, long, model=folder)[1]
    np.testing.assert_array_equal(alone, embeddings[:, -12:])


def test_the_frames_of_clap_follow_one_another_in_time(tmp_path: Path, listen: Listen) -> None:
    folder, wave = files.save_clap(tmp_path / "model"), noise(CLAP_SECONDS, 48_000)
    for start in range(0, 48_000, 12_000):
        other = wave.copy()
        other[start : start + 12_000] *= np.float32(0.01)
        (before, after), _ = listen("clap", wave, other, model=folder, embedding="statistics")
        change = np.abs(after - before).mean(axis=1).reshape(4, 8).mean(axis=1)
        assert change.argmax() == start // 12_000


def test_clap_with_feature_fusion_is_refused(tmp_path: Path, listen: Listen) -> None:
    folder = files.save_clap(tmp_path / "model", fusion=True)
    with pytest.raises(InvalidOption, match="without feature fusion"):
        listen("clap", noise(1, 48_000), model=folder)


# Qwen2-Audio


def hear_qwen(folder: Path, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the audio encoder's states and the language model's last one, by the whole model."""
    model = load("Qwen2AudioForConditionalGeneration", folder)
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    processor = transformers.Qwen2AudioProcessor(feature_extractor=extractor, tokenizer=tokenizer)
    text = "<|audio_bos|><|AUDIO|><|audio_eos|>"
    given = processor(text=text, audio=wave, sampling_rate=16_000, return_tensors="pt")
    given.pop("token_type_ids", None)
    count = int((given["input_ids"] == TOKENS["<|AUDIO|>"]).sum())
    assert given["input_ids"][0, [0, -1]].tolist() == [TOKENS["<|audio_bos|>"], TOKENS["<|audio_eos|>"]]
    kept = []
    model.model.audio_tower.register_forward_hook(lambda *call: kept.append(call[-1].last_hidden_state))
    with torch.no_grad():
        found = model(**given, output_hidden_states=True)
    return kept[0][0, :count].numpy(), found.hidden_states[-1][0, -1].numpy()


def test_qwen2_audio_gives_the_states_of_the_whole_model(tmp_path: Path, listen: Listen) -> None:
    folder = files.save_qwen(tmp_path / "model")
    waves = [noise(0.7), noise(SECONDS, seed=1), noise(0.03, seed=2)]
    frames, embeddings = listen("qwen2-audio", *waves, model=folder)
    for wave, found, embedding in zip(waves, frames, embeddings, strict=True):
        states, last = hear_qwen(folder, wave)
        np.testing.assert_allclose(found, states, **CLOSE)
        np.testing.assert_allclose(embedding[:-24], pool_statistics(found), **CLOSE)
        np.testing.assert_allclose(embedding[-24:], last, **CLOSE)
    assert [len(part) for part in frames] == [17, STATES // 2, 1]


def test_qwen2_audio_splits_long_clips(tmp_path: Path, listen: Listen) -> None:
    folder, wave = files.save_qwen(tmp_path / "model"), noise(SECONDS + 0.5)
    (found,), (embedding,) = listen("qwen2-audio", wave, model=folder)
    heard = [hear_qwen(folder, part) for part in np.split(wave, [16_000 * SECONDS])]
    np.testing.assert_allclose(found, np.concatenate([states for states, _ in heard]), **CLOSE)
    np.testing.assert_allclose(embedding[-24:], np.mean([last for _, last in heard], axis=0), **CLOSE)


def test_qwen2_audio_without_its_language_model(tmp_path: Path, listen: Listen) -> None:
    folder, wave = files.save_qwen(tmp_path / "model"), noise(0.7)
    (whole,), _ = listen("qwen2-audio", wave, model=folder)
    (folder / "tokenizer.json").unlink()
    (alone,), (embedding,) = listen("qwen2-audio", wave, model=folder, embedding="statistics")
    np.testing.assert_array_equal(alone, whole)
    np.testing.assert_array_equal(embedding, pool_statistics(alone))
    (layer,), _ = listen("qwen2-audio", wave, model=folder, embedding="statistics", layers="1")
    assert layer.shape == (35, WIDTH)
    with pytest.raises(InvalidOption, match="layers 0 to 3, found 4"):
        listen("qwen2-audio", wave, model=folder, embedding="statistics", layers="4")
    with pytest.raises(WeightsMissing, match=r"tokenizer\.json"):
        listen("qwen2-audio", wave, model=folder)


def test_the_layers_of_qwen2_audio_are_the_same_with_and_without_the_language_model(
    tmp_path: Path, listen: Listen
) -> None:
    folder, wave = files.save_qwen(tmp_path / "model"), noise(0.7)
    both, alone = (
        listen("qwen2-audio", wave, model=folder, layers="1-2", embedding=part)[0][0] for part in ("both", "statistics")
    )
    np.testing.assert_array_equal(both, alone)


def test_qwen2_audio_in_bf16_is_near(tmp_path: Path, listen: Listen) -> None:
    folder, wave = files.save_qwen(tmp_path / "model"), noise(0.7)
    (exact,), _ = listen("qwen2-audio", wave, model=folder)
    (rounded,), (embedding,) = listen("qwen2-audio", wave, model=folder, precision="bf16")
    assert rounded.dtype == embedding.dtype == np.float32
    assert 0 < np.abs(rounded - exact).mean() < 0.05 * np.abs(exact).mean()
    options = ENCODERS["qwen2-audio"].Options()
    assert (options.precision_on("cuda"), options.precision_on("cpu")) == ("bf16", "fp32")


@pytest.mark.parametrize("embedding", ["both", "statistics"])
def test_qwen2_audio_of_another_layout_is_refused(tmp_path: Path, listen: Listen, embedding: str) -> None:
    folder = files.save_qwen(tmp_path / "model", shards=1)
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model-00001-of-00001.safetensors").rename(folder / "model.safetensors")
    listen("qwen2-audio", noise(0.7), model=folder, embedding=embedding)
    change_weights(folder, lambda found: found.pop("audio_tower.layers.2.fc1.weight"))
    with pytest.raises(DataError, match=r"1 missing key \(first: '.*layers.2.fc1.weight'\)"):
        listen("qwen2-audio", noise(0.8), model=folder, embedding=embedding)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, listen: Listen) -> None:
    folder = files.save_qwen(tmp_path / "model")
    for text, wrong in (("[]", "does not name the tokens"), (None, "numbers tokens 10 and 99, but the model has 12")):
        added = [{"id": 10, "content": "<|audio_bos|>"}, {"id": 99, "content": "<|audio_eos|>"}]
        (folder / "tokenizer.json").write_text(text or json.dumps({"added_tokens": added}))
        with pytest.raises(DataError, match=wrong):
            listen("qwen2-audio", noise(0.7), model=folder)


# ImageBind


def run_imagebind(tensors: dict[str, Any], windows: Any) -> np.ndarray:
    """Compute the published network in plain arithmetic: windows (N, 1, 128, 204) to (N, width)."""
    before, trunk, head = (f"modality_{part}.audio." for part in ("preprocessors", "trunks", "heads"))

    def norm(y: Any, name: str, eps: float = 1e-6) -> Any:
        return F.layer_norm(y, y.shape[-1:], tensors[name + ".weight"], tensors[name + ".bias"], eps)

    x = F.conv2d(windows, tensors[before + "rgbt_stem.proj.weight"], stride=10).flatten(2).transpose(1, 2)
    x = norm(x, before + "rgbt_stem.norm_layer", 1e-5)
    x = torch.cat([tensors[before + "cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = x + tensors[before + "pos_embedding_helper.pos_embed"]
    for number in range(2):
        name = f"{trunk}blocks.{number}."
        joint = norm(x, name + "norm_1") @ tensors[name + "attn.in_proj_weight"].T + tensors[name + "attn.in_proj_bias"]
        q, k, v = joint.chunk(3, dim=-1)
        k, v = (
            torch.cat([part, tensors[f"{name}attn.bias_{sort}"].expand(len(x), 1, -1)], dim=1)
            for part, sort in ((k, "k"), (v, "v"))
        )
        q, k, v = (part.unflatten(-1, (files.HEADS, -1)).transpose(1, 2) for part in (q, k, v))
        mixed = (torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1) @ v).transpose(1, 2).flatten(2)
        x = x + mixed @ tensors[name + "attn.out_proj.weight"].T + tensors[name + "attn.out_proj.bias"]
        y = F.gelu(norm(x, name + "norm_2") @ tensors[name + "mlp.fc1.weight"].T + tensors[name + "mlp.fc1.bias"])
        x = x + y @ tensors[name + "mlp.fc2.weight"].T + tensors[name + "mlp.fc2.bias"]
    y = norm(x, head + "0")[:, 0] @ tensors[head + "2.weight"].T
    scale = min(tensors["modality_postprocessors.audio.1.log_logit_scale"].exp().item(), 100)
    return (scale * y / y.norm(dim=1, keepdim=True)).numpy()


def spectrogram(part: np.ndarray) -> Any:
    """Compute a window as the released code does, by torchaudio."""
    wave = torch.from_numpy(part - part.mean())[None]
    found = kaldi.fbank(
        wave, htk_compat=True, sample_frequency=16_000, use_energy=False, window_type="hanning", num_mel_bins=128,
        dither=0.0, frame_length=25, frame_shift=10,
    )  # fmt: skip
    return (F.pad(found.T, (0, 204 - len(found))) + 4.268) / 9.138


def test_imagebind_audio_reads_the_released_layout(tmp_path: Path, listen: Listen) -> None:
    tensors = files.imagebind_tensors()
    torch.save(tensors, tmp_path / "imagebind_huge.pth")
    long, short = noise(5), noise(0.4, seed=1)
    frames, embeddings = listen("imagebind-audio", long, short, model=tmp_path / "imagebind_huge.pth")
    windows = [spectrogram(long[start : start + 32_000]) for start in (0, 16_000, 32_000)]
    expected = run_imagebind(tensors, torch.stack(windows)[:, None])
    np.testing.assert_allclose(frames[0], expected, **CLOSE)
    np.testing.assert_allclose(embeddings[0], expected.mean(axis=0), **CLOSE)
    expected = run_imagebind(tensors, spectrogram(short)[None, None])
    np.testing.assert_allclose(frames[1], np.repeat(expected, 3, axis=0), **CLOSE)


def test_imagebind_audio_refuses_other_files(tmp_path: Path, listen: Listen) -> None:
    path = tmp_path / "imagebind_huge.pth"
    with pytest.raises(WeightsMissing, match=r"imagebind_huge\.pth .*imagebind-audio\.model"):
        listen("imagebind-audio", noise(1), model=tmp_path)
    tensors = files.imagebind_tensors()
    torch.save(tensors | {"modality_trunks.audio.blocks.1.surprise": torch.zeros(2)}, path)
    with pytest.raises(DataError, match="unexpected 1 tensor"):
        listen("imagebind-audio", noise(1), model=path)
    torch.save(files.imagebind_tensors(dim=20), path)
    with pytest.raises(DataError, match=r"12 heads.* found 20"):
        listen("imagebind-audio", noise(1), model=path)
    vision_only = {name: tensor for name, tensor in tensors.items() if ".vision." in name}
    torch.save(vision_only, path)
    with pytest.raises(DataError, match=r"ImageBind with audio.*rgbt_stem\.proj\.weight"):
        listen("imagebind-audio", noise(1), model=path)


# Empathic-Insight-Voice


def test_empathic_voice_gives_the_intensities_of_the_regressors(tmp_path: Path, listen: Listen) -> None:
    folder, regressors = save_model(tmp_path / "whisper", "whisper"), files.save_regressors(tmp_path / "regressors")
    model, extractor = whole_model(folder, "whisper"), transformers.WhisperFeatureExtractor.from_pretrained(folder)
    short, long = noise(0.7), noise(SECONDS + 0.5, seed=1)
    given: dict[str, object] = {"model": folder, "regressors": regressors}
    frames, embeddings = listen("empathic-voice", short, long, **given)
    scores = []
    for wave in (short, *np.split(long, [16_000 * SECONDS])):
        with torch.no_grad():
            mel = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features
            states = model.get_encoder()(mel).last_hidden_state
        scores.append([])
        for emotion in EMOTIONS:
            weights = torch.load(regressors / f"model_{emotion}_best.pth", weights_only=True)
            weights = {name.removeprefix("_orig_mod."): tensor for name, tensor in weights.items()}
            y = weights["proj.weight"] @ states.flatten() + weights["proj.bias"]
            for layer in ("mlp.2", "mlp.5", "mlp.8", "mlp.11"):
                y = weights[layer + ".weight"] @ y.relu() + weights[layer + ".bias"]
            scores[-1].append(y.item())
    assert embeddings.shape == (2, 40)
    np.testing.assert_allclose(embeddings[0], scores[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(embeddings[1], np.mean(scores[1:], axis=0), rtol=1e-4, atol=1e-5)
    plain, _ = listen("whisper", short, model=folder)
    np.testing.assert_array_equal(frames[0], plain[0])


def test_regressors_that_do_not_fit_are_refused(tmp_path: Path, listen: Listen) -> None:
    folder, regressors = (
        save_model(tmp_path / "whisper", "whisper"),
        files.save_regressors(tmp_path / "regressors", inputs=64),
    )
    with pytest.raises(DataError, match=rf"model_Affection_best.*{STATES * WIDTH} numbers.* found 64"):
        listen("empathic-voice", noise(1), model=folder, regressors=regressors)
    files.save_regressors(regressors)
    (regressors / "model_Awe_best.pth").unlink()
    with pytest.raises(WeightsMissing, match=r"model_Awe_best\.pth .*empathic-voice\.regressors"):
        listen("empathic-voice", noise(1), model=folder, regressors=regressors)
    _, (embedding,) = listen("empathic-voice", noise(1), model=folder, regressors=regressors, embedding="statistics")
    assert embedding.shape == (7 * WIDTH,)


# All


@pytest.mark.parametrize("name", ["clap", "imagebind-audio", "qwen2-audio", "empathic-voice"])
def test_clips_run_together_give_what_each_gives_alone(
    name: str, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = 48_000 if name == "clap" else 16_000
    waves = [noise(seconds, rate, seed) for seed, seconds in enumerate((0.4, 1.1, 2.3))]
    alone = [listen(name, wave, model="random-small", embedding="both") for wave in waves]
    monkeypatch.setitem(extraction.BATCH_SECONDS, "cpu", 120)
    monkeypatch.setattr(released_module, "open_states", lambda recipe, context: context.cache.store("together"))
    frames, embeddings = listen(name, *waves, model="random-small", embedding="both")
    for number, ((single,), (embedding,)) in enumerate(alone):
        np.testing.assert_allclose(frames[number], single, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(embeddings[number], embedding, rtol=1e-4, atol=1e-5)


def test_cards_count_the_weights_of_the_networks() -> None:
    sizes = {"tiny": (384, 4, 80), "small": (768, 12, 80), "medium": (1024, 24, 80), "large-v3": (1280, 32, 128)}
    text = {
        "model_type": "qwen2", "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 156_032,
    }  # fmt: skip
    with torch.device("meta"):
        networks = {
            f"openai/whisper-{name}": transformers.WhisperModel(
                transformers.WhisperConfig(
                    d_model=width, encoder_layers=depth, encoder_attention_heads=width // 64, decoder_layers=0,
                    encoder_ffn_dim=4 * width, num_mel_bins=bands,
                )
            ).encoder
            for name, (width, depth, bands) in sizes.items()
        }  # fmt: skip
        networks |= {
            "laion/clap-htsat-unfused": transformers.ClapAudioModelWithProjection(transformers.ClapAudioConfig()),
            "Qwen/Qwen2-Audio-7B": transformers.Qwen2AudioModel(transformers.Qwen2AudioConfig(text_config=text)),
            AUDIO_OF_IMAGEBIND: ImageBindAudio(768, 12, files.HEADS, 1024),
        }
        regressors = [networks["openai/whisper-small"], *(Regressor(1500 * 768, (64, 64, 32, 16)) for _ in EMOTIONS)]
    counts = {name: sum(weight.numel() for weight in network.parameters()) for name, network in networks.items()}
    assert {name: CARDS[name].parameters for name in counts} == counts
    regressors = sum(weight.numel() for network in regressors for weight in network.parameters())
    assert CARDS["laion/Empathic-Insight-Voice-Small"].parameters == regressors


def test_outputs_are_no_frame_level_features() -> None:
    for given, found in (({"rows": "embeddings"}, "rows=embeddings"), ({"source": "released"}, "source=released")):
        with pytest.raises(InvalidOption, match=rf"{found} expects embedding=statistics"):
            build_options("clap", ENCODERS["clap"].Options, given)
        build_options("clap", ENCODERS["clap"].Options, given | {"embedding": "statistics"})


@pytest.mark.parametrize("name", ["whisper", "clap", "imagebind-audio", "qwen2-audio", "empathic-voice"])
def test_exported_features_are_read_where_no_outputs_are_wanted(name: str) -> None:
    encoder = ENCODERS[name]
    has_outputs = name != "whisper"
    there = frozenset({encoder.store})
    plain = {"embedding": "statistics"} if has_outputs else {}
    assert encoder.resolve_options(encoder.Options(), there).source == ("media" if has_outputs else "released")
    assert encoder.resolve_options(encoder.Options(**plain), there).source == "released"
    assert encoder.resolve_options(encoder.Options(**plain), frozenset()).source == "media"


@pytest.mark.parametrize("name", ["whisper", "clap", "imagebind-audio", "qwen2-audio", "empathic-voice"])
def test_an_interrupted_extraction_goes_on_by_clip(name: str, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = 48_000 if name == "clap" else 16_000
    waves = [noise(0.5, rate, seed) for seed in range(3)]
    with pytest.raises(MediaError, match="k2"):
        listen(name, *waves[:2], noise(0.005, rate), model="random-small")
    counted: list[int] = []
    real = extraction.extract
    monkeypatch.setattr(
        released_module, "extract", lambda clips, *rest: counted.append(len(clips)) or real(clips, *rest)
    )
    _, embeddings = listen(name, *waves, model="random-small")
    assert counted == [1]
    assert np.isfinite(embeddings).all()
    assert np.ptp(embeddings, axis=0).max() > 0
