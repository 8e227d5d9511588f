"""Pretrained networks and their parts: loaded to the last number, groups and rates by name, LoRA, averages, pooling."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from blemore_harness.errors import DataError, ExtraMissing, InvalidOption
from blemore_plugins.finetuning.options import SoundOptions, TimeSformerOptions, VideoMAEOptions
from fakes import make_context
from finetuning_files import SOUND, THIN, save, scramble

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.encoders

from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import (  # noqa: E402
    TimesformerConfig,
    TimesformerForVideoClassification,
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    Wav2Vec2Config,
    Wav2Vec2ForPreTraining,
)

from blemore_harness.training.epochs import average_weights, soft_label_loss  # noqa: E402
from blemore_harness.training.fitting import rate_factor  # noqa: E402
from blemore_plugins.finetuning import loading  # noqa: E402
from blemore_plugins.finetuning.groups import (  # noqa: E402
    LowRank,
    attach_lora,
    make_groups,
    merge_lora,
)
from blemore_plugins.finetuning.sound import Pooling, build_sound, count_frames, draw_spans  # noqa: E402
from blemore_plugins.finetuning.video import build_timesformer, build_videomae  # noqa: E402


@pytest.fixture
def videomae(tmp_path: Path) -> Path:
    config = VideoMAEConfig(**THIN, image_size=16, num_frames=4, num_labels=9)
    return save(VideoMAEForVideoClassification(config), tmp_path / "videomae")


@pytest.fixture
def timesformer(tmp_path: Path) -> Path:
    config = TimesformerConfig(**THIN, image_size=16, num_frames=4, num_labels=9)
    return save(TimesformerForVideoClassification(config), tmp_path / "timesformer")


@pytest.fixture
def wav2vec2(tmp_path: Path) -> Path:
    return save(Wav2Vec2ForPreTraining(Wav2Vec2Config(**SOUND)), tmp_path / "wav2vec2")


def video_options(kind: type, folder: Path, **changes: object):
    return kind(**({"model": str(folder), "frames": 4, "size": 16} | changes))


VIDEO = [("videomae", VideoMAEOptions, build_videomae), ("timesformer", TimeSformerOptions, build_timesformer)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "build"), VIDEO)
def test_every_tensor_of_the_file_is_used(request, tmp_path: Path, name: str, kind: type, build):
    """Change one tensor of the file after the other, under the names that it has there: the logits must change."""
    folder = request.getfixturevalue(name)
    options, context = video_options(kind, folder), make_context(tmp_path)
    file = folder / "model.safetensors"
    saved = load_file(file)
    if name == "videomae":
        assert {"videomae.encoder.layer.0.attention.attention.q_bias"} <= saved.keys(), "the released names"
    clip = torch.randn(1, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1))

    def run() -> torch.Tensor:
        network = build(options, context).network.eval()
        with torch.no_grad():
            return network.head(network.trunk(pixel_values=clip).logits)

    before = run()
    torch.testing.assert_close(run(), before, rtol=0, atol=0)
    unused = []
    for tensor in saved:
        if tensor.startswith("classifier."):
            continue
        changed = saved | {tensor: saved[tensor] + 0.5 * torch.randn_like(saved[tensor])}
        save_file(changed, file, {"format": "pt"})
        if torch.equal(run(), before):
            unused.append(tensor)
    assert unused == []


@pytest.mark.parametrize(("name", "kind", "build"), VIDEO)
def test_logits_are_those_of_the_saved_network(request, tmp_path: Path, name: str, kind: type, build):
    """The saving network itself is the reference: same trunk, with the new head on what its classifier sees."""
    folder = request.getfixturevalue(name)
    cls = VideoMAEForVideoClassification if name == "videomae" else TimesformerForVideoClassification
    config = cls.config_class(**THIN, image_size=16, num_frames=4, num_labels=9)
    original = cls(config)
    scramble(original)
    network = build(video_options(kind, folder), make_context(tmp_path)).network.eval()
    seen: list[torch.Tensor] = []
    original.eval().classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    clip = torch.randn(2, 4, 3, 16, 16)
    with torch.no_grad():
        original(pixel_values=clip)
        torch.testing.assert_close(network(clip), network.head[1](seen[0]))


def test_old_files_are_read_as_well(timesformer: Path, tmp_path: Path):
    """The released TimeSformer is a file of `torch.save`."""
    options, context = video_options(TimeSformerOptions, timesformer), make_context(tmp_path)
    expected = build_timesformer(options, context).network.state_dict()
    file = timesformer / "model.safetensors"
    torch.save(load_file(file), timesformer / "pytorch_model.bin")
    file.unlink()
    found = build_timesformer(options, context).network.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_a_network_that_differs_from_its_file_is_refused(videomae: Path):
    network = VideoMAEForVideoClassification.from_pretrained(videomae)
    file = videomae / "model.safetensors"
    loading.check_values(network, file, re.compile("(?!)"))
    with torch.no_grad():
        network.videomae.encoder.layer[1].attention.attention.value.bias.zero_()
    with pytest.raises(DataError, match=r"1 tensor.*layer\.1\.attention\.attention\.v_bias"):
        loading.check_values(network, file, re.compile("(?!)"))


@pytest.mark.parametrize(("found", "fine"), [("5.17.0", False), ("4.57.1", False), ("5.18.0", True), ("6.0", True)])
def test_releases_that_load_zeros_are_refused(monkeypatch, found: str, fine: bool):
    monkeypatch.setattr(loading, "version", lambda package: found)
    if fine:
        loading.refuse_faulty_transformers()
    else:
        with pytest.raises(ExtraMissing, match=re.escape(found)):
            loading.refuse_faulty_transformers()


def test_a_pretrained_videomae_starts_with_a_fresh_norm_and_without_its_own(tmp_path: Path):
    config = VideoMAEConfig(
        **THIN, image_size=16, num_frames=4, use_mean_pooling=False, decoder_hidden_size=8, decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2, decoder_intermediate_size=8,
    )  # fmt: skip
    folder = save(VideoMAEForPreTraining(config), tmp_path / "ssl")
    options, context = video_options(VideoMAEOptions, folder), make_context(tmp_path)
    built = build_videomae(options, context)
    assert built.network.trunk.config.use_mean_pooling
    assert built.network.trunk.videomae.layernorm is None
    assert torch.equal(built.network.trunk.fc_norm.weight, torch.ones(16))
    saved = load_file(folder / "model.safetensors")
    own = built.network.trunk.state_dict()
    name = "videomae.encoder.layer.1.attention.attention."
    assert torch.equal(own[f"{name}value.bias"], saved[f"{name}v_bias"])
    fresh = [n for n, _ in built.network.named_parameters() if built.anatomy.layer_of(n) is None]
    assert fresh == ["trunk.fc_norm.weight", "trunk.fc_norm.bias", "head.1.weight", "head.1.bias"]
    # A classifier's file must be whole: without its norm it is not taken for a pretrained one.
    (tmp_path / "cut").mkdir()
    described = json.loads((folder / "config.json").read_text())
    described["architectures"] = ["VideoMAEForVideoClassification"]
    (tmp_path / "cut" / "config.json").write_text(json.dumps(described))
    (tmp_path / "cut" / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(DataError, match="classifier"):
        build_videomae(video_options(VideoMAEOptions, tmp_path / "cut"), context)


def test_damage_and_other_models_are_named(videomae: Path, timesformer: Path, wav2vec2: Path, tmp_path: Path):
    context = make_context(tmp_path)
    with pytest.raises(InvalidOption, match="type videomae, found 'timesformer'"):
        build_videomae(video_options(VideoMAEOptions, timesformer), context)
    with pytest.raises(InvalidOption, match="type wav2vec2, found 'videomae'"):
        build_sound(SoundOptions(model=str(videomae)), context)
    file = timesformer / "model.safetensors"
    tensors = load_file(file)
    del tensors["timesformer.encoder.layer.0.temporal_dense.bias"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(DataError, match=r"temporal_dense\.bias"):
        build_timesformer(video_options(TimeSformerOptions, timesformer), context)
    file.write_bytes(b"no weights")
    with pytest.raises(DataError, match="cannot be loaded"):
        build_timesformer(video_options(TimeSformerOptions, timesformer), context)
    (videomae / "config.json").write_text("{")
    with pytest.raises(DataError, match="not a model's configuration"):
        build_videomae(video_options(VideoMAEOptions, videomae), context)


@pytest.mark.parametrize(("name", "kind", "build"), VIDEO)
def test_other_frames_and_sizes_fit(request, tmp_path: Path, name: str, kind: type, build):
    options = video_options(kind, request.getfixturevalue(name), frames=6, size=32)
    network = build(options, make_context(tmp_path)).network.eval()
    assert network(torch.randn(1, 6, 3, 32, 32)).shape == (1, 6)


def test_wav2vec2_is_loaded_and_pooled_by_hand(wav2vec2: Path, tmp_path: Path):
    options = SoundOptions(model=str(wav2vec2), pooling="attention", seconds=1)
    network = build_sound(options, make_context(tmp_path)).network.eval()
    original = Wav2Vec2ForPreTraining.from_pretrained(wav2vec2).eval()
    wave = torch.randn(1, 5_000)
    assert count_frames(network.trunk.config, 5_000) == 15
    with torch.no_grad():
        frames = original.wav2vec2(wave).last_hidden_state[0].numpy()
        found = network.pool(network.trunk(wave).last_hidden_state)[0].numpy()
    # Before any training all frames weigh the same.
    expected = np.concatenate([frames.mean(0), np.sqrt(frames.var(0) + 1e-6)])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    own = network.trunk.state_dict()
    for tensor, saved in load_file(wav2vec2 / "model.safetensors").items():
        if (short := tensor.removeprefix("wav2vec2.")) != tensor and "parametrizations" not in short:
            assert torch.equal(own[short], saved), tensor


def test_attention_weighs_frames():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        pool = Pooling(4, attentive=True)
        torch.nn.init.normal_(pool.score[2].weight)
        frames = torch.randn(2, 5, 4)
        got = pool(frames).detach().numpy()
        scores = pool.score(frames).detach().numpy()[..., 0]
    for clip in range(2):
        weights = np.exp(scores[clip]) / np.exp(scores[clip]).sum()
        mean = sum(w * f for w, f in zip(weights, frames[clip].numpy(), strict=True))
        spread = sum(w * (f - mean) ** 2 for w, f in zip(weights, frames[clip].numpy(), strict=True))
        np.testing.assert_allclose(got[clip], [*mean, *np.sqrt(spread + 1e-6)], rtol=1e-4, atol=1e-5)


def test_masked_spans_have_their_length_and_share():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        masked = draw_spans(50, 100, 0.2, 10)
    assert masked.shape == (50, 100)
    assert (masked.sum(1) <= 20).all()
    assert (masked.sum(1) >= 10).all()
    assert masked.float().mean() > 0.15
    assert draw_spans(2, 3, 0.5, 10).all(), "a span longer than the clip is the clip"


def rates(built, options) -> dict[str, tuple[float, float]]:
    groups = make_groups(built.network, built.anatomy, options)
    return {name: (g["peak"], g["weight_decay"]) for g in groups for name in g["names"]}


@pytest.mark.parametrize(("name", "kind", "build"), VIDEO)
def test_rates_fall_with_the_depth(tmp_path: Path, name: str, kind: type, build, request):
    options = video_options(kind, request.getfixturevalue(name), layer_decay=0.5, learning_rate=0.08, head_rate=0.3)
    built = build(options, make_context(tmp_path))
    found = rates(built, options)
    assert found.keys() == {n for n, _ in built.network.named_parameters()}
    trunk = f"trunk.{name}"
    expected = {
        f"{trunk}.embeddings.patch_embeddings.projection.weight": (0.01, 0.05),
        f"{trunk}.embeddings.patch_embeddings.projection.bias": (0.01, 0),
        f"{trunk}.encoder.layer.0.layernorm_before.weight": (0.02, 0),
        f"{trunk}.encoder.layer.0.intermediate.dense.weight": (0.02, 0.05),
        f"{trunk}.encoder.layer.1.output.dense.weight": (0.04, 0.05),
        "head.1.weight": (0.3, 0.05),
        "head.1.bias": (0.3, 0),
    }
    if name == "timesformer":
        tables = ("cls_token", "position_embeddings", "time_embeddings")
        expected |= {f"{trunk}.embeddings.{table}": (0.01, 0) for table in tables}
        expected[f"{trunk}.layernorm.weight"] = (0.08, 0)
    else:
        expected["trunk.fc_norm.weight"] = (0.08, 0)
    for weight, (rate, decay) in expected.items():
        assert found[weight] == (pytest.approx(rate), decay), weight


@pytest.mark.parametrize("stable", [False, True])
def test_rates_of_wav2vec2(tmp_path: Path, stable: bool):
    folder = save(Wav2Vec2ForPreTraining(Wav2Vec2Config(**SOUND, do_stable_layer_norm=stable)), tmp_path / "model")
    options = SoundOptions(model=str(folder), layer_decay=0.5, learning_rate=0.08, head_rate=0.3)
    built = build_sound(options, make_context(tmp_path))
    found = rates(built, options)
    assert not any("feature_extractor" in name for name in found), "the front end stays as it is"
    assert found["trunk.feature_projection.projection.weight"] == (pytest.approx(0.01), 0.05)
    assert found["trunk.encoder.pos_conv_embed.conv.parametrizations.weight.original0"] == (pytest.approx(0.01), 0)
    assert found["trunk.encoder.layers.1.attention.q_proj.weight"] == (pytest.approx(0.04), 0.05)
    assert found["trunk.encoder.layer_norm.weight"] == (pytest.approx(0.08 if stable else 0.01), 0)
    assert found["pool.score.0.weight"] == (0.3, 0.05)
    whole = dataclasses.replace(options, front_end=True)
    assert "trunk.feature_extractor.conv_layers.0.conv.weight" in rates(
        build_sound(whole, make_context(tmp_path)), whole
    )


def test_lora_begins_as_the_network_and_merges_into_it(videomae: Path, timesformer: Path, tmp_path: Path):
    clip = torch.randn(2, 4, 3, 16, 16)
    for kind, folder, build, layers in (
        (VideoMAEOptions, videomae, build_videomae, 4),
        (TimeSformerOptions, timesformer, build_timesformer, 4),
    ):
        options = video_options(kind, folder, lora=3)
        built = build(options, make_context(tmp_path))
        network = built.network.eval()
        plain = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        with torch.no_grad():
            before = network(clip)
            with torch.random.fork_rng():
                torch.manual_seed(3)
                attach_lora(network, built.anatomy.attention, 3, built.anatomy.fused)
                assert torch.equal(network(clip), before), "up is zero at first"
                added = [module for module in network.modules() if isinstance(module, LowRank)]
                assert len(added) == layers
                for module in added:
                    torch.nn.init.normal_(module.up)
            trained = [name for g in make_groups(network, built.anatomy, options) for name in g["names"]]
            assert all(re.search(r"\.0\.(up|down)$|^head\.", name) for name in trained)
            adapted = network(clip)
            assert not torch.allclose(adapted, before)
            merge_lora(network)
            assert torch.equal(network(clip), adapted)
        merged = network.state_dict()
        assert merged.keys() == plain.keys()
        if not built.anatomy.fused:
            continue
        name = "trunk.timesformer.encoder.layer.0.attention.attention.qkv.weight"
        module, delta = added[0], merged[name] - plain[name]
        for part, rows in ((0, slice(0, 16)), (1, slice(32, 48))):
            torch.testing.assert_close(delta[rows], 2 * module.up[part] @ module.down[part], atol=1e-5, rtol=1e-4)
        assert torch.equal(delta[16:32], torch.zeros(16, 16)), "keys stay as they were"
    with pytest.raises(InvalidOption, match="rank"):
        attach_lora(network, built.anatomy.attention, 17, fused=True)
    with pytest.raises(DataError, match="no layer"):
        attach_lora(network, re.compile("nothing"), 2, fused=False)


def test_the_average_follows_the_literal_loop():
    network = torch.nn.Linear(3, 2)
    average = average_weights(network, 0.9)
    expected = {name: p.detach().numpy().astype(np.float64) for name, p in network.named_parameters()}
    draw = np.random.default_rng(0)
    for step in range(1, 200):
        with torch.no_grad():
            for p in network.parameters():
                p += torch.from_numpy(draw.normal(size=p.shape)).float()
        average.update_parameters(network)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, p in network.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * p.detach().numpy()
    for name, p in average.module.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), expected[name], atol=1e-4)


def test_rates_over_time():
    options = VideoMAEOptions(epochs=4, warmup=1.5, schedule="cosine")
    factors = [rate_factor(step, 10, options) for step in range(40)]
    assert factors[:15] == pytest.approx([(k + 1) / 15 for k in range(15)])
    assert factors[15:] == pytest.approx([0.5 + 0.5 * math.cos(math.pi * k / 25) for k in range(25)])
    flat = dataclasses.replace(options, schedule="constant")
    assert [rate_factor(step, 10, flat) for step in (14, 15, 39)] == [1.0, 1.0, 1.0]
    assert rate_factor(0, 10, dataclasses.replace(flat, warmup=0)) == 1.0


def test_the_loss_is_the_mean_kl_over_clips():
    logits = np.array([[1.0, 2, 0, 0, -1, 0], [0, 0, 3, 0, 0, 1]])
    targets = np.array([[0.7, 0.3, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]])
    expected = 0.0
    for row, target in zip(logits, targets, strict=True):
        p = np.exp(row) / np.exp(row).sum()
        expected += sum(t * (math.log(t) - math.log(q)) for t, q in zip(target, p, strict=True) if t) / 2
    found = soft_label_loss(torch.from_numpy(logits).bfloat16(), torch.from_numpy(targets).float())
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(expected, abs=1e-6)
