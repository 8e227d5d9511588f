"""`omni`: a small model saved by sentence-transformers, compared with its own `encode` and its own forward pass."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import vision_files as files  # noqa: E402
from blemore_harness.clips import Clips, Fold  # noqa: E402
from blemore_harness.errors import DataError, ExtraMissing, InvalidOption, MediaError, WeightsMissing  # noqa: E402
from blemore_harness.media.audio import read_audio  # noqa: E402
from blemore_harness.media.frames import read_frames  # noqa: E402
from blemore_plugins import omni  # noqa: E402
from blemore_plugins.cards import CARDS  # noqa: E402
from blemore_plugins.omni import extraction  # noqa: E402
from blemore_plugins.omni.model import SmallOmni, audio_input, choose_calls, load_embedder, video_input  # noqa: E402
from blemore_plugins.omni.presets import PRESETS  # noqa: E402
from fakes import LABELS, make_context  # noqa: E402
from media_files import clip_of, write_media  # noqa: E402

pytestmark = pytest.mark.encoders

[ENCODER] = omni.blemore_encoders()


def tone(seconds, pitch):
    return np.sin(np.arange(int(16000 * seconds)) * pitch * 2 * np.pi / 16000).astype(np.float32) * 0.4


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    made = []
    for n, count in enumerate((25, 40, 3, 30, 20, 26)):
        frames = files.textured_frames(count, *((60, 84), (96, 64))[n % 2], seed=n)
        path = write_media(folder / f"{n}.mov", frames, sound=tone(count / 25, 200 + 40 * n), rate=16000)
        made.append(clip_of(path, f"v{n}"))
    return Clips(tuple(made))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("sentence_transformers", minversion="6", reason="needs the extra omni")
    pytest.importorskip("transformers.models.embedding_gemma2", reason="needs a transformers with EmbeddingGemma 2")
    import omni_files

    return omni_files.save_omni(tmp_path_factory.mktemp("model") / "omni")


def embed(clips, context, **changes):
    options = ENCODER.Options(**{"source": "media", "frames": 4} | changes)
    ENCODER.prepare(clips, options, context)
    return ENCODER.embed(clips, options, context).values


def given(clip, indices):
    """What `encode` gets, written out."""
    frames = read_frames(clip, indices)
    seconds = len(read_frames(clip)) / 25
    metadata = {"fps": 4 / seconds, "total_num_frames": 4, "duration": seconds, "frames_indices": [0, 1, 2, 3]}
    return {
        "video": {"array": frames.transpose(0, 3, 1, 2), "video_metadata": metadata},
        "audio": {"array": read_audio(clip, 16000), "sampling_rate": 16000},
    }


# A model of sentence-transformers


def test_audio_and_video_are_embedded_together(tmp_path, clips, model):
    from sentence_transformers import SentenceTransformer

    found = embed(clips.take([0, 1]), make_context(tmp_path), model=str(model))
    assert found.shape == (2, 24)
    own = SentenceTransformer(str(model), local_files_only=True)
    for row, clip, indices in zip(found, clips, ([3, 9, 15, 21], [5, 15, 25, 35]), strict=False):
        inputs = given(clip, indices)
        expected = own.encode([inputs], processing_kwargs={"video": {"do_sample_frames": False}})[0]
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_the_embedding_is_the_normalised_mean_of_the_networks_states(tmp_path, clips, model):
    options = ENCODER.Options(model=str(model), frames=4)
    embedder = load_embedder(options, omni.extraction.find(options), "cpu")
    assert (embedder.calls, embedder.rate, embedder.prompt) == ((("video", "audio"),), 16000, None)
    inputs = given(clips.items[0], [3, 9, 15, 21])
    found = embedder.embed(inputs)
    processor, network = embedder.model.processor, embedder.model[0].model
    with torch.inference_mode():
        made = processor(
            text=["<|video|><audio><eos>"], videos=[torch.from_numpy(inputs["video"]["array"])],
            audio=[inputs["audio"]["array"]], sampling_rate=16000, do_sample_frames=False, return_tensors="pt",
            video_metadata=[inputs["video"]["video_metadata"]],
        )  # fmt: skip
        made = {name: value for name, value in made.items() if name != "video_metadata"}
        states = network(**made).last_hidden_state[0].double()
    mean = states.mean(dim=0)
    np.testing.assert_allclose(found, (mean / mean.norm()).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inputs", ["audio", "video"])
def test_either_can_be_left_out(tmp_path, clips, model, inputs):
    both = embed(clips.take([0]), make_context(tmp_path), model=str(model))
    one = embed(clips.take([0]), make_context(tmp_path), model=str(model), inputs=inputs)
    assert np.abs(both - one).max() > 1e-3


def test_what_is_not_taken_is_not_read(tmp_path, clips, model):
    mute = Clips((clip_of(write_media(tmp_path / "s.mov", files.textured_frames(9, 60, 84)), "mute"),))
    wave = write_media(tmp_path / "a.wav", sound=tone(1, 300), rate=16000, codec="pcm_s16le")
    heard = Clips((clip_of(wave, "heard"),))
    for some, inputs in ((mute, "video"), (heard, "audio")):
        assert embed(some, make_context(tmp_path), model=str(model), inputs=inputs).shape == (1, 24)
        with pytest.raises(MediaError, match=some.ids[0]):
            embed(some, make_context(tmp_path), model=str(model))


@pytest.mark.parametrize(("inputs", "warned"), [("auto", True), ("audio", True), ("video", False)])
def test_silence_is_warned_of_where_audio_is_taken(tmp_path, clips, inputs, warned):
    """Only the model says what it takes where nothing is set; from the cache as well."""
    quiet = write_media(tmp_path / "q.mov", files.textured_frames(9, 60, 84), sound=0 * tone(1, 300), rate=16000)
    some = Clips((clips.items[0], clip_of(quiet, "quiet")))
    for _ in range(2):
        context = make_context(tmp_path)
        embed(some, context, model="random-small", inputs=inputs)
        assert context.reporter.notes.get("silent clips") == (["quiet"] if warned else None)


def test_a_prompt_changes_embeddings(tmp_path, clips, model):
    plain = embed(clips.take([0]), make_context(tmp_path), model=str(model))
    asked = embed(clips.take([0]), make_context(tmp_path), model=str(model), prompt="task: classification")
    assert np.abs(plain - asked).max() > 1e-4


def test_two_embeddings_are_concatenated_where_a_model_does_not_combine(tmp_path, clips, model):
    import omni_files

    apart = omni_files.save_omni(tmp_path / "apart", template=None)
    context = make_context(tmp_path)
    both = embed(clips.take([0]), context, model=str(apart))
    assert both.shape == (1, 48)
    alone = [embed(clips.take([0]), context, model=str(apart), inputs=name) for name in ("video", "audio")]
    np.testing.assert_array_equal(both, np.concatenate(alone, axis=1))


def test_embeddings_do_not_depend_on_other_clips(tmp_path, clips, model):
    together = embed(clips.take([0, 1, 2]), make_context(tmp_path / "a"), model=str(model))
    alone = embed(clips.take([2]), make_context(tmp_path / "b"), model=str(model))
    np.testing.assert_array_equal(together[2], alone[0])


def test_what_changes_embeddings_changes_key_and_identity(tmp_path, model):
    context, extractor = make_context(tmp_path), ENCODER.extractor
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    changes = [{}, {"frames": 8}, {"inputs": "audio"}, {"prompt": "query"}, {"precision": "bf16"}]
    options = [ENCODER.Options(**{"model": str(copy), **change}) for change in changes]
    folders = {extractor.open_store(one, context).folder for one in options}
    assert len(folders) == len(changes)
    assert extractor.open_store(ENCODER.Options(model=str(model)), context).folder in folders, "the place is no matter"
    before = extractor.identify(options[0])
    assert before == extractor.identify(ENCODER.Options(model=str(model)))
    (copy / "1_Pooling" / "config.json").write_text(
        (copy / "1_Pooling" / "config.json").read_text().replace('"mean"', '"max"')
    )
    assert extractor.identify(options[0]) != before
    assert extractor.open_store(options[0], make_context(tmp_path)).folder not in folders


def test_bfloat16_is_close(tmp_path, clips, model):
    exact = embed(clips.take([0]), make_context(tmp_path), model=str(model))
    half = embed(clips.take([0]), make_context(tmp_path), model=str(model), precision="bf16")
    assert 0 < np.abs(exact - half).max() < 0.05


def test_code_of_a_repository_is_not_run(tmp_path, clips, model):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["type"] = "pooling_own.Pooling"
    (copy / "pooling_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InvalidOption, match=r"pooling_own\.Pooling.* not run.*omni\.code=true"):
        embed(clips.take([0]), make_context(tmp_path), model=str(copy))
    assert not (tmp_path / "ran").exists()


def test_code_is_refused_for_unknown_types_only(tmp_path, clips, model):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "modeling_own.Own"}}))
    assert embed(clips.take([0]), make_context(tmp_path), model=str(copy)).shape == (1, 24)
    content = {**config, "model_type": "own", "auto_map": {"AutoModel": "modeling_own.Own"}}
    (copy / "config.json").write_text(json.dumps(content))
    with pytest.raises(InvalidOption, match=r"modeling_own\.Own.* not run"):
        embed(clips.take([0]), make_context(tmp_path), model=str(copy))


def test_folders_that_are_no_such_model_are_named(tmp_path, clips, model):
    context = make_context(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"cannot load the model in .*copy"):
        embed(clips.take([0]), context, model=str(copy))
    (copy / "modules.json").unlink()
    with pytest.raises(WeightsMissing, match=r"no modules\.json in .*omni\.model"):
        embed(clips.take([0]), context, model=str(copy))


def test_inputs_that_a_model_does_not_take_are_refused(tmp_path, model):
    class OnlyVideo:
        modalities = ("text", "video")

        def supports(self, modality):
            return modality in self.modalities

    assert choose_calls(OnlyVideo(), ENCODER.Options(model="a/b")) == (("video",),)
    for inputs in ("audio", "audio+video"):
        with pytest.raises(InvalidOption, match="does not take audio, it takes: text, video"):
            choose_calls(OnlyVideo(), ENCODER.Options(model="a/b", inputs=inputs))


# Presets and versions


def test_presets_have_cards_with_their_licence():
    assert set(PRESETS) == {
        "bidirlm-omni", "lco-omni-3b", "e5-omni", "omniembed", "qwen3-vl-2b", "qwen3-vl-8b", "embeddinggemma-2",
    }  # fmt: skip
    for name, preset in PRESETS.items():
        options = ENCODER.Options(model=name, source="media")
        card = ENCODER.card(options)
        assert card == CARDS[preset.id]
        assert card.weights_licence == preset.licence
        assert options.taken() == preset.inputs
    assert ENCODER.Options(model="qwen3-vl-2b").taken() == "video"
    assert ENCODER.Options(model="embeddinggemma-2").given_prompt() == "task: classification | query: "
    assert ENCODER.Options(model="embeddinggemma-2", prompt="x").given_prompt() == "x"


@pytest.mark.parametrize(("name", "hint"), [("omniembed", "LoRA adapter"), ("bidirlm-omni", r"omni\.code=true")])
def test_what_a_preset_asks_for_is_said_where_it_is_missing(tmp_path, clips, monkeypatch, name, hint):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(extraction, "version", lambda package: "6.2.0")
    with pytest.raises(WeightsMissing, match=rf"{PRESETS[name].id}.*{hint}"):
        embed(clips.take([0]), make_context(tmp_path), model=name)


def test_an_old_or_missing_sentence_transformers_is_named(tmp_path, clips, monkeypatch):
    monkeypatch.setattr(extraction, "version", lambda package: "5.4.1")
    with pytest.raises(ExtraMissing, match=r"6 or newer.*found 5\.4\.1.*blemore-harness\[omni\]"):
        embed(clips.take([0]), make_context(tmp_path))

    def absent(package):
        raise extraction.PackageNotFoundError(package)

    monkeypatch.setattr(extraction, "version", absent)
    with pytest.raises(ExtraMissing, match=r'omni needs sentence-transformers: pip install "blemore-harness\[omni\]"'):
        embed(clips.take([0]), make_context(tmp_path))


@pytest.mark.parametrize("wrong", [{"model": " "}, {"frames": 0}, {"revision": ""}])
def test_values_that_options_cannot_have_are_refused(wrong):
    with pytest.raises(InvalidOption):
        ENCODER.Options(**wrong)


# The small network of the demo, which needs no sentence-transformers


def test_the_small_network_trains_and_predicts(tmp_path, clips):
    options = ENCODER.Options(**{**ENCODER.demo_options, "epochs": 2, "hidden": "8", "source": "media"})
    context = make_context(tmp_path)
    assert ENCODER.caveat(options) == "untrained small encoders"
    assert ENCODER.requirements(options) == ()
    ENCODER.prepare(clips, options, context)
    learn = Clips(clips.items[:4], ("A", "A", "B", "B"), LABELS[:4])
    fold = Fold(0, learn, clips.take([4, 5]))
    rows = ENCODER.fit(fold, options, context).predict(fold.held_out, context)
    np.testing.assert_allclose(rows.values.sum(axis=1), 1, rtol=1e-6)


def test_the_small_network_uses_both_inputs():
    network = SmallOmni()
    frames = files.textured_frames(4, 40, 50)
    inputs = {"video": video_input(frames, 1.0), "audio": audio_input(tone(0.5, 300), 16000)}
    both = network.encode([inputs])
    for name in ("audio", "video"):
        assert network.supports(name)
        assert np.abs(network.encode([{name: inputs[name]}]) - both).max() > 1e-3


def test_an_interrupted_extraction_goes_on_where_it_stopped(tmp_path, clips, monkeypatch):
    context = make_context(tmp_path)
    options = ENCODER.Options(**{**ENCODER.demo_options, "source": "media"})
    seen = []
    encode = SmallOmni.encode

    def breaking(self, inputs, **settings):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(inputs)
        return encode(self, inputs, **settings)

    monkeypatch.setattr(SmallOmni, "encode", breaking)
    with pytest.raises(KeyboardInterrupt):
        ENCODER.prepare(clips, options, context)
    monkeypatch.setattr(SmallOmni, "encode", encode)
    context.reporter.bars.clear()
    ENCODER.prepare(clips, options, context)
    assert ("omni: audio and video to embeddings", len(clips) - 2) in context.reporter.bars
