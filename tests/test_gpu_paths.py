"""What encoders and heads do on a GPU, gone through on a fake one: nothing lies on the wrong device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("torchvision")

from blemore_harness.clips import Clip, Clips  # noqa: E402
from blemore_harness.context import Context  # noqa: E402
from blemore_harness.estimators import TorchEncoder  # noqa: E402
from blemore_harness.heads.models import Rows, _predict_rows  # noqa: E402
from blemore_harness.heads.options import HeadOptions  # noqa: E402
from blemore_harness.heads.training import Task, train_heads  # noqa: E402
from blemore_harness.training import epochs, fitting  # noqa: E402
from blemore_harness.training.batches import TrainingBatches  # noqa: E402
from blemore_plugins import finetuning, hicmae, s4d, speech, vision  # noqa: E402
from blemore_plugins.finetuning import model, sound, video  # noqa: E402
from blemore_plugins.finetuning.groups import merge_lora  # noqa: E402
from blemore_plugins.hicmae.running import Chunks, build_network, embed_chunks  # noqa: E402
from blemore_plugins.hicmae.shape import CHUNK, MEL_BANDS, SOUND_FRAMES  # noqa: E402
from blemore_plugins.s4d import model as s4d_model  # noqa: E402
from blemore_plugins.s4d.batches import CropSource  # noqa: E402
from blemore_plugins.s4d.faces import open_crops  # noqa: E402
from blemore_plugins.speech.building import build as build_audio  # noqa: E402
from blemore_plugins.speech.inputs import InputMaker  # noqa: E402
from blemore_plugins.speech.network import build_network as build_speech  # noqa: E402
from blemore_plugins.speech.recipe import settle_recipe  # noqa: E402
from blemore_plugins.vision.running import computing, run_clip  # noqa: E402
from fake_gpu import fake_gpu  # noqa: E402
from fakes import make_context, make_fold  # noqa: E402

pytestmark = pytest.mark.encoders

CLIPS = tuple(Clip(f"c{number}", content=f"{number:04x}") for number in range(5))
TARGETS = np.full((len(CLIPS), 6), 1 / 6, dtype=np.float32)
VISION = {encoder.name: encoder for encoder in vision.blemore_encoders()}
SPEECH = {encoder.name: encoder for encoder in speech.blemore_encoders()}
TRAINED = {encoder.name: encoder for encoder in finetuning.blemore_encoders()}


@pytest.fixture(autouse=True)
def fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "has_bfloat16", lambda: True)


def on_gpu(tmp_path: Path) -> Context:
    return replace(make_context(tmp_path), device="cuda")


def test_the_fake_finds_what_lies_in_the_wrong_place() -> None:
    layer = torch.nn.Linear(3, 2)
    with fake_gpu():
        layer.to("cuda")
        inside = torch.zeros(1, 3).to("cuda")
        assert layer(inside).device.type == "cuda"
        with pytest.raises(RuntimeError, match="same device"):
            layer(torch.zeros(1, 3))
        with pytest.raises(TypeError, match="found one on cuda"):
            inside.numpy()
        with torch.autocast("cuda", torch.bfloat16):
            assert layer(inside).dtype == torch.bfloat16


@pytest.mark.parametrize(("name", "precision"), [*((name, "bf16") for name in VISION), ("imagebind", "tf32")])
def test_frozen_visual_encoders(name: str, precision: str) -> None:
    encoder = VISION[name]
    options = encoder.Options(**{**encoder.demo_options, "precision": precision})
    network = encoder.extractor.build(options, None)
    frames = np.zeros((70, 40, 48, 3), dtype=np.uint8)
    with fake_gpu():
        network.module.requires_grad_(False).to("cuda")
        with computing(precision, "cuda"):
            for zeros in (False, True):
                rule = network.rule or encoder.extractor.rule_of(options)
                features = run_clip(network, rule, zeros, frames, "cuda")
    assert features.ndim == 2
    assert features.dtype == np.float32


@pytest.mark.parametrize("name", ["wav2vec2", "wavlm", "audio", "audeering-dim"])
def test_frozen_audio_encoders(name: str) -> None:
    encoder = SPEECH[name]
    options = replace(encoder.Options(), **encoder.demo_options)
    small = encoder.extractor.small if name == "wavlm" else encoder.small
    recipe = settle_recipe(name, small, options, always_normalise=True, outputs=name == "audeering-dim")
    with fake_gpu():
        frozen = build_speech(recipe, "cuda")
        shape = (3, 4000) if recipe.kind.input == "wave" else (3, 50, 160)
        frames, outputs = frozen.run(np.zeros(shape, dtype=np.float32))
    assert frames.shape[0] == 3
    assert outputs.shape == (3, 3 if recipe.outputs else 0)


@pytest.mark.parametrize("name", ["whisper", "clap", "imagebind-audio", "qwen2-audio", "empathic-voice"])
def test_frozen_audio_encoders_with_outputs(name: str, tmp_path: Path) -> None:
    encoder = SPEECH[name]
    recipe = encoder.extractor.settle(encoder.Options(**encoder.demo_options), on_gpu(tmp_path))
    assert recipe.precision == ("bf16" if name == "qwen2-audio" else "fp32")
    with fake_gpu():
        frozen = build_audio(recipe, "cuda")
        made = InputMaker(recipe, frozen)(np.ones(20_000, dtype=np.float32))
        frames, outputs = frozen.run(made.inputs, [*[None] * (len(made.inputs) - 1), made.frames])
    assert frames.dtype == outputs.dtype == np.float32
    assert len(frames) == len(outputs) == len(made.inputs)
    assert (outputs.shape[1] > 0) == recipe.outputs == (name != "whisper")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_hicmae(precision: str) -> None:
    [encoder] = hicmae.blemore_encoders()
    options = encoder.Options(**{**encoder.demo_options, "precision": precision})
    chunks = Chunks(
        np.zeros((9, CHUNK, 32, 32, 3), dtype=np.uint8), (16,) * 8 + (3,),
        np.zeros((9, SOUND_FRAMES, MEL_BANDS), dtype=np.float32),
    )  # fmt: skip
    with fake_gpu():
        network, _ = build_network(options, None, "cuda")
        assert embed_chunks(network, chunks, precision).shape == (9, network.shape.features)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["adapters", "all"])
@pytest.mark.parametrize("when", ["off", "always"])
def test_s4d(tmp_path: Path, part: str, when: str) -> None:
    [encoder] = s4d.blemore_encoders()
    changed = {"crop": 0.8, "epochs": 1, "warmup": 0, "balance": 1e-3, "batch_size": 2}
    options = encoder.Options(**{**encoder.demo_options, **changed, "route_noise": when, "drop_tokens": when})
    object.__setattr__(options, "train", part)  # which options refuse for weights that were never trained
    context = on_gpu(tmp_path)
    store = open_crops(options, context)
    for clip in CLIPS:
        store.save(clip, np.zeros((30, 32, 32, 3), dtype=np.uint8))
    with fake_gpu():
        network = s4d_model.build(options, context).to("cuda")
        given = TrainingBatches(CLIPS, TARGETS, CropSource(store, options), 2, "cuda")
        assert s4d_model.train(network, given, options, context, None) == 1
        rows = s4d_model.predict_rows(network, CLIPS[:2], options, context)
    assert rows.shape == (2, 6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed", [{"gradient_checkpointing": True}, {"lora": 2, "ema": 0.9, "schedule": "cosine", "layer_decay": 0.7}]
)
@pytest.mark.parametrize("name", TRAINED)
def test_encoders_that_are_trained_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, changed: dict[str, object]
) -> None:
    encoder, context = TRAINED[name], on_gpu(tmp_path)
    options = encoder.Options(**{**encoder.demo_options, "epochs": 1, "warmup": 0, "batch_size": 2, **changed})
    if name == "wav2vec2-finetuned":
        build, source, frames = sound.build_sound, sound.SoundSource(None, options), None
    else:
        build = {"videomae": video.build_videomae, "timesformer": video.build_timesformer}[name]
        source, frames = video.VideoSource(None, options, video.IMAGENET), options.frames
    shown = torch.zeros(9600) if frames is None else torch.zeros((frames, 54, 96, 3), dtype=torch.uint8)
    monkeypatch.setattr(type(source), "read", lambda _self, _clip, _draw: shown)
    with fake_gpu():
        fresh = model.prepare_network(build, options, context)
        given = TrainingBatches(CLIPS, TARGETS, source, 2, "cuda")
        course = fitting.Course("all", fresh, given, 1, None)
        assert fitting.train(course, options, context) == 1
        merge_lora(fresh.network)
        rows = fitting.predict_rows(fresh.network, Clips(CLIPS[:2]), source, options, context)
    assert rows.shape == (2, 6)


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_torch_modules_of_users(tmp_path: Path, precision: str) -> None:
    seen: list[tuple[str, torch.dtype]] = []

    class Watched(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            logits = super().forward(inputs)
            seen.append((logits.device.type, logits.dtype))
            return logits

    fold, context = make_fold(6, 2), on_gpu(tmp_path)
    settings = {"epochs": 2, "batch_size": 3, "precision": precision}
    encoder = TorchEncoder("toy", lambda: Watched(4, 6), lambda clip: np.ones(4), **settings)
    options = encoder.resolve_options(encoder.Options(), frozenset())
    encoder.prepare(Clips((*fold.train, *fold.held_out)), options, context)
    with fake_gpu():
        model = encoder.fit(fold, options, context)
        assert model.predict(fold.held_out, context).values.shape == (2, 6)
    assert set(seen) == {("cuda", torch.bfloat16 if precision == "auto" else torch.float32)}
    assert {tensor.dtype for tensor in model.network.parameters()} == {torch.float32}


@pytest.mark.parametrize("head", ["mlp-1024-512", "mlp-512"])
def test_heads_of_several_folds(tmp_path: Path, head: str) -> None:
    options, context = HeadOptions(head=head, epochs=2, batch_size=8), on_gpu(tmp_path)
    with fake_gpu():
        inputs, targets = torch.zeros(20, 16).to("cuda"), torch.zeros(20, 6).to("cuda")

        rows = Rows(np.zeros((20, 16), dtype=np.float32), np.ones(20, dtype=np.int64))

        def judge(network: torch.nn.Module) -> tuple[float]:
            return (float(_predict_rows(network, inputs, rows).sum()),)

        trained = train_heads([Task(inputs, targets, options, context, judge) for _ in range(3)])
        assert {next(each.network.parameters()).device.type for each in trained} == {"cuda"}
