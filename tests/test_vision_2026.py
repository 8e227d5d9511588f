"""X-CLIP, VideoPrism, any image model and Empathic-Insight-Face: small checkpoints in the released layouts.

Their features are compared with the library's own forward pass on the same pixels, and the pixels with those of the
processor that the checkpoint names.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
timm = pytest.importorskip("timm")
pytest.importorskip("torchvision")

from PIL import Image  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import vision_files as files  # noqa: E402
from blemore_harness.clips import Clips  # noqa: E402
from blemore_harness.errors import DataError, InvalidOption, WeightsMissing  # noqa: E402
from blemore_harness.media.frames import read_frames  # noqa: E402
from blemore_plugins import vision  # noqa: E402
from blemore_plugins.vision import empathic  # noqa: E402
from blemore_plugins.vision.pictures import fit, normalise  # noqa: E402
from blemore_plugins.vision.preprocessing import rule_of_processor  # noqa: E402
from fakes import make_context  # noqa: E402

pytestmark = pytest.mark.encoders

ENCODERS = {encoder.name: encoder for encoder in vision.blemore_encoders()}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return files.write_clips(tmp_path_factory.mktemp("clips"), (21, 40, 3))


def features(name, folder, clips, tmp_path, **changes):
    """What an encoder makes of clips with the weights in a folder."""
    encoder = ENCODERS[name]
    options = encoder.Options(**{"model": str(folder), "source": "media", "frames": "full"} | changes)
    context = make_context(tmp_path)
    encoder.prepare(Clips(tuple(clips)), options, context)
    return [encoder.frame_features(clip, options, context) for clip in clips]


def build(name, folder, **changes):
    """The network of an encoder and its options."""
    encoder = ENCODERS[name]
    options = encoder.Options(**{"model": str(folder), "source": "media"} | changes)
    return encoder.extractor.build(options, encoder.extractor.weights(options))


def pixels_of(network, frames):
    return normalise(fit(torch.from_numpy(frames), network.rule, network.side), network.rule)


def same(found, expected):
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def alike(found, expected):
    """Pixels of other libraries: some are off by a grey level or two."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 0.05
    assert float((found - expected).abs().mean()) < 0.005
    assert float(expected.std()) > 0.1


# X-CLIP


def test_xclip_gives_the_video_features_of_eight_frames(tmp_path, clips):
    whole = files.save_xclip(tmp_path / "xclip")
    network = build("xclip", tmp_path / "xclip")
    found = features("xclip", tmp_path / "xclip", clips, tmp_path)
    assert [array.shape for array in found] == [(1, 24)] * 3
    for clip, array, chosen in zip(
        clips, found, ([1, 3, 6, 9, 11, 14, 17, 19], [2, 7, 12, 17, 22, 27, 32, 37], [0, 0, 0, 1, 1, 2, 2, 2]),
        strict=True,
    ):  # fmt: skip
        frames = read_frames(clip, chosen)
        pixels = pixels_of(network, frames)
        with torch.no_grad():
            same(array, whole.get_video_features(pixel_values=pixels[None]).pooler_output)
        processor = transformers.VideoMAEImageProcessor(**files.XCLIP_PROCESSOR)
        alike(pixels, processor(list(frames), return_tensors="pt")["pixel_values"][0])
    assert float(np.abs(found[0] - found[1]).max()) > 1e-3


def test_an_embedding_of_the_whole_clip_is_used_as_it_is(tmp_path, clips):
    encoder = ENCODERS["xclip"]
    options = encoder.Options(**encoder.demo_options, source="media")
    context = make_context(tmp_path)
    encoder.prepare(Clips(tuple(clips)), options, context)
    vectors = encoder.embed(Clips(tuple(clips)), options, context)
    assert vectors.values.shape == (3, 32)
    np.testing.assert_array_equal(vectors.values[1], encoder.frame_features(clips[1], options, context)[0])


def test_shared_frames_are_the_same_ones(tmp_path, clips):
    files.save_xclip(tmp_path / "xclip")
    (full,) = features("xclip", tmp_path / "xclip", clips[:1], tmp_path)
    (shared,) = features("xclip", tmp_path / "xclip", clips[:1], tmp_path, frames="shared")
    np.testing.assert_allclose(shared, full, atol=1e-5)


def test_another_kind_of_model_is_refused(tmp_path, clips):
    files.save_siglip(tmp_path / "siglip")
    with pytest.raises(InvalidOption, match=r"type xclip, found 'siglip'"):
        features("xclip", tmp_path / "siglip", clips, tmp_path)
    (tmp_path / "siglip" / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsMissing, match=r"preprocessor_config\.json"):
        features("xclip", tmp_path / "siglip", clips, tmp_path)


# VideoPrism


def test_videoprism_gives_an_embedding_per_frame(tmp_path, clips):
    model = files.save_videoprism(tmp_path / "prism")
    network = build("videoprism", tmp_path / "prism")
    found = features("videoprism", tmp_path / "prism", clips[:1], tmp_path)[0]
    frames = read_frames(clips[0], [2, 7, 13, 18])
    pixels = pixels_of(network, frames)
    with torch.no_grad():
        tokens = model(pixel_values_videos=pixels[None]).last_hidden_state[0]
    # Frames outermost: 4 of 3 x 3 patches.
    same(found, tokens.reshape(4, 9, 32).mean(dim=1))
    processor = transformers.LlavaOnevisionVideoProcessor(**files.VIDEOPRISM_PROCESSOR)
    alike(pixels, processor(list(frames), return_tensors="pt")["pixel_values_videos"][0])
    assert float(pixels.min()) >= 0
    assert float(pixels.max()) <= 1


# Any image model


@pytest.mark.parametrize(
    ("save", "kind", "own"),
    [
        (files.save_siglip, "SiglipImageProcessor", lambda m, x: m.get_image_features(pixel_values=x).pooler_output),
        (files.save_dinov2, "BitImageProcessor", lambda m, x: m(x).pooler_output),
        (files.save_convnext, "ConvNextImageProcessor", lambda m, x: m(x).pooler_output),
        (files.save_vit_classifier, "ViTImageProcessor", lambda m, x: m.vit(x).last_hidden_state.mean(dim=1)),
    ],
)  # fmt: skip
def test_models_of_transformers_are_pooled_as_they_do_it(tmp_path, clips, save, kind, own):
    model = save(tmp_path / "model")
    place = tmp_path / "model" / "preprocessor_config.json"
    if not place.exists():
        # The released file of DINOv2, at another size.
        content = {**files.XCLIP_PROCESSOR, "image_processor_type": kind, "size": {"shortest_edge": 80}, "resample": 3}
        place.write_text(json.dumps({**content, "crop_size": {"height": 70, "width": 70}}))
    network = build("frames", tmp_path / "model")
    found = features("frames", tmp_path / "model", clips[:1], tmp_path)[0]
    frames = read_frames(clips[0], range(0, 21, 4))
    pixels = pixels_of(network, frames)
    with torch.no_grad():
        same(found, own(model, pixels))
    processor = getattr(transformers, kind)(**json.loads(place.read_text()))
    pictures = [Image.fromarray(frame) for frame in frames]
    alike(pixels, processor(pictures, return_tensors="pt")["pixel_values"])


@pytest.mark.parametrize("architecture", ["test_vit", "test_convnext"])
def test_models_of_timm_are_pooled_as_their_configuration_says(tmp_path, clips, architecture):
    from timm.data import create_transform

    model = files.save_timm(tmp_path / "timm", architecture)
    network = build("frames", tmp_path / "timm")
    found = features("frames", tmp_path / "timm", clips[:1], tmp_path, stride=5)[0]
    frames = read_frames(clips[0], range(0, 21, 5))
    pixels = pixels_of(network, frames)
    with torch.no_grad():
        same(found, model.forward_head(model.forward_features(pixels), pre_logits=True))
    settings = json.loads((tmp_path / "timm" / "config.json").read_text())["pretrained_cfg"]
    own = create_transform(
        input_size=tuple(settings["input_size"]), mean=settings["mean"], std=settings["std"], crop_pct=0.9,
        interpolation="bicubic",
    )  # fmt: skip
    alike(pixels, torch.stack([own(Image.fromarray(frame)) for frame in frames]))


def test_a_model_with_random_parts_is_refused(tmp_path, clips):
    config = transformers.ViTMAEConfig(**files.SMALL, intermediate_size=48, image_size=64, patch_size=16)
    files.save(transformers.ViTMAEModel(config), tmp_path / "mae")
    files.write_json(tmp_path / "mae", "preprocessor_config.json", files.SIGLIP_PROCESSOR)
    with pytest.raises(InvalidOption, match=r"ViTMAEModel .*random parts"):
        features("frames", tmp_path / "mae", clips, tmp_path)


def test_a_model_of_no_images_is_refused(tmp_path, clips):
    config = transformers.BertConfig(**files.SMALL, intermediate_size=48, vocab_size=30)
    files.save(transformers.BertModel(config), tmp_path / "bert")
    files.write_json(tmp_path / "bert", "preprocessor_config.json", files.SIGLIP_PROCESSOR)
    with pytest.raises(InvalidOption, match=r"BertModel .*choose an image model"):
        features("frames", tmp_path / "bert", clips, tmp_path)


def test_missing_weights_of_an_image_model_are_named(tmp_path, clips):
    from safetensors.torch import load_file, save_file

    files.save_siglip(tmp_path / "siglip")
    place = tmp_path / "siglip" / "model.safetensors"
    tensors = load_file(place)
    tensors.pop("vision_model.post_layernorm.weight")
    save_file(tensors, place, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"missing key.*vision_model\.post_layernorm\.weight"):
        features("frames", tmp_path / "siglip", clips, tmp_path)
    files.save_timm(tmp_path / "timm")
    (tmp_path / "timm" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"timm \d.* cannot load the model in .*timm"):
        features("frames", tmp_path / "timm", clips, tmp_path)
    (tmp_path / "timm" / "model.safetensors").rename(tmp_path / "timm" / "a.safetensors")
    content = {"metadata": {}, "weight_map": {"norm.weight": "a.safetensors"}}
    files.write_json(tmp_path / "timm", "model.safetensors.index.json", content)
    with pytest.raises(DataError, match=r"model\.safetensors\.index\.json lists shards"):
        features("frames", tmp_path / "timm", clips, tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"resample": 1}, {"do_resize": False}, {"size": {"height": 64, "width": 32}}, {"size": {"longest_edge": 64}},
     {"rescale_factor": 1.0}, {"do_pad": True}, {"do_center_crop": True, "crop_size": {"height": 32, "width": 32}}],
)  # fmt: skip
def test_other_preprocessing_is_refused(tmp_path, change):
    processor = transformers.SiglipImageProcessor(**files.SIGLIP_PROCESSOR)
    for name, value in change.items():
        setattr(processor, name, value)
    with pytest.raises(InvalidOption, match="the preprocessing in"):
        rule_of_processor(processor, tmp_path)


# Empathic-Insight-Face


def test_empathic_face_gives_forty_intensities_per_frame(tmp_path, clips):
    model = files.save_siglip(tmp_path / "siglip")
    tensors = files.save_regressors(tmp_path / "regressors")
    changes = {"regressors": str(tmp_path / "regressors"), "faces": False}
    network = build("empathic-face", tmp_path / "siglip", **changes)
    (found,) = features("empathic-face", tmp_path / "siglip", clips[:1], tmp_path, **changes)
    (scaled,) = features("empathic-face", tmp_path / "siglip", clips[:1], tmp_path, unit_length=True, **changes)
    pixels = pixels_of(network, read_frames(clips[0], range(0, 21, 4)))
    with torch.no_grad():
        embedding = model.get_image_features(pixel_values=pixels).pooler_output
    for array, given in ((found, embedding), (scaled, embedding / embedding.norm(dim=1, keepdim=True))):
        columns = []
        for name in empathic.EMOTIONS:
            x = given
            for n, layer in enumerate(("layers.0", "layers.3", "layers.6")):
                x = F.linear(x if n == 0 else F.relu(x), *(tensors[name][f"{layer}.{p}"] for p in ("weight", "bias")))
            columns.append(x)
        same(array, torch.cat(columns, dim=1))
    assert found.shape == (6, 40)
    assert len(set(empathic.EMOTIONS)) == 40


def test_regressors_of_another_size_or_layout_are_refused(tmp_path, clips):
    files.save_siglip(tmp_path / "siglip")
    files.save_regressors(tmp_path / "wide", (48, 8, 1))
    with pytest.raises(DataError, match=r"take embeddings of 48 numbers, .*siglip gives 32"):
        features("empathic-face", tmp_path / "siglip", clips, tmp_path, regressors=str(tmp_path / "wide"), faces=False)
    files.save_regressors(tmp_path / "two", (32, 8, 2))
    with pytest.raises(DataError, match=r"model_affection_best\.pth .*one output"):
        features("empathic-face", tmp_path / "siglip", clips, tmp_path, regressors=str(tmp_path / "two"), faces=False)
    (tmp_path / "wide" / "model_pain_best.pth").unlink()
    with pytest.raises(WeightsMissing, match=r"model_pain_best\.pth in .*empathic-face\.regressors"):
        features("empathic-face", tmp_path / "siglip", clips, tmp_path, regressors=str(tmp_path / "wide"), faces=False)


def test_face_crops_are_made_once_and_belong_to_the_key(tmp_path, clips):
    pytest.importorskip("facenet_pytorch")
    files.save_siglip(tmp_path / "siglip")
    given = {"size": 32, "detect_size": 96, "smallest_face": 0.45}
    (crops,) = features("frames", tmp_path / "siglip", clips[:1], tmp_path, faces=True, **given)
    (whole,) = features("frames", tmp_path / "siglip", clips[:1], tmp_path)
    assert crops.shape == whole.shape == (6, 32)
    assert float(np.abs(crops - whole).max()) > 1e-3
    encoder = ENCODERS["frames"]
    stores = {
        encoder.extractor.open_store(
            encoder.Options(model=str(tmp_path / "siglip"), faces=True, **given | change), make_context(tmp_path)
        ).folder
        for change in ({}, {"scale": 2.0}, {"stride": 8})
    }
    assert len(stores) == 3
    with pytest.raises(InvalidOption, match="detect_every"):
        encoder.Options(faces=True, stride=3)


def test_what_changes_intensities_changes_the_key(tmp_path):
    encoder, context = ENCODERS["empathic-face"], make_context(tmp_path)
    files.save_siglip(tmp_path / "siglip")
    folders = set()
    for n, change in enumerate(({}, {}, {"unit_length": True})):
        if n < 2:
            files.save_regressors(tmp_path / f"regressors{n}", (32, 8 + n, 1))
        options = encoder.Options(
            model=str(tmp_path / "siglip"), regressors=str(tmp_path / f"regressors{min(n, 1)}"), faces=False,
            source="media", **change,
        )  # fmt: skip
        folders.add(encoder.extractor.open_store(options, context).folder)
    assert len(folders) == 3
