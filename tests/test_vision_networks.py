"""Tiny checkpoints in the released layouts through the real path, against the libraries' processors and models.

Frames are decoded at full size for this, so that no JPEG stands between the two ways.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("torchvision")

from PIL import Image  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import vision_files as files  # noqa: E402
from blemore_harness.clips import Clips  # noqa: E402
from blemore_harness.errors import DataError, InvalidOption, WeightsMissing  # noqa: E402
from blemore_harness.media.frames import read_frames  # noqa: E402
from blemore_harness.networks import fitting_threads  # noqa: E402
from blemore_plugins import vision  # noqa: E402
from blemore_plugins.vision import families  # noqa: E402
from fakes import make_context  # noqa: E402

pytestmark = pytest.mark.encoders

ENCODERS = {encoder.name: encoder for encoder in vision.blemore_encoders()}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return files.write_clips(tmp_path_factory.mktemp("clips"))


def features(name, folder, clips, tmp_path, **changes):
    """What an encoder makes of clips with the weights in a folder or file."""
    encoder = ENCODERS[name]
    options = encoder.Options(**{"model": str(folder), "source": "media", "frames": "full"} | changes)
    context = make_context(tmp_path)
    encoder.prepare(Clips(tuple(clips)), options, context)
    found = [encoder.frame_features(clip, options, context) for clip in clips]
    assert all(array.dtype == np.float32 and array.ndim == 2 for array in found)
    return found


def close(found, expected, tolerance=1e-4):
    """Within a share of the size of the values: resizing in other libraries moves some pixels by a grey level."""
    expected = torch.as_tensor(np.asarray(expected))
    assert found.shape == tuple(expected.shape)
    assert np.abs(found - expected.numpy()).max() < tolerance * expected.abs().max()
    assert float((expected[0] - expected[-1]).abs().max()) > 3 * tolerance * float(expected.abs().max())


def processed(processor, frames):
    return processor(images=[Image.fromarray(frame) for frame in frames], return_tensors="pt")["pixel_values"]


@pytest.mark.slow
def test_clip_gives_the_projected_vector_of_every_frame(tmp_path, clips):
    whole = files.save_clip(tmp_path / "clip")
    # The released preprocessor_config.json, with the size of this small model.
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}, resample=3,
        image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711],
    )  # fmt: skip
    for clip, found in zip(clips, features("clip", tmp_path / "clip", clips, tmp_path), strict=True):
        with torch.no_grad():
            pixels = processed(processor, read_frames(clip))
            expected = whole.get_image_features(pixel_values=pixels).pooler_output
        close(found, expected, 0.01)
        # Not normalised to length 1.
        assert np.linalg.norm(found, axis=1).std() > 1e-3


def test_dinov2_gives_the_class_token_at_224_pixels(tmp_path, clips):
    model = files.save_dinov2(tmp_path / "dinov2")
    processor = transformers.BitImageProcessor(
        size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, resample=3,
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    )  # fmt: skip
    (found,) = features("dinov2", tmp_path / "dinov2", clips[2:], tmp_path)
    with torch.no_grad():
        expected = model(processed(processor, read_frames(clips[2]))).last_hidden_state[:, 0]
    close(found, expected, 0.01)


def test_dinov3_gives_the_class_token_of_squashed_frames(tmp_path, clips):
    model = files.save_dinov3(tmp_path / "dinov3")
    processor = transformers.DINOv3ViTImageProcessor(
        size={"height": 224, "width": 224},
        resample=2,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    (found,) = features("dinov3", tmp_path / "dinov3", clips[2:], tmp_path)
    with torch.no_grad():
        expected = model(processed(processor, read_frames(clips[2]))).last_hidden_state[:, 0]
    close(found, expected, 0.01)


def test_dinov3_may_come_in_timms_layout(tmp_path, clips):
    pytest.importorskip("timm")
    model = files.save_timm_dinov3(tmp_path / "timm")
    (found,) = features("dinov3", tmp_path / "timm", clips[2:], tmp_path)
    pixels = torch.from_numpy(read_frames(clips[2])).permute(0, 3, 1, 2) / 255
    pixels = F.interpolate(pixels, (224, 224), mode="bilinear", antialias=True)
    pixels = (pixels - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    with torch.no_grad():
        tokens = model.forward_features(pixels)
    close(found, tokens[:, 0])


def test_a_network_that_this_timm_has_not_is_named(tmp_path, clips):
    pytest.importorskip("timm")
    files.save_timm_dinov3(tmp_path / "timm")
    path = tmp_path / "timm" / "config.json"
    path.write_text(path.read_text().replace("vit_small_patch16_dinov3", "vit_grand_patch16_dinov3"))
    with pytest.raises(DataError, match=r"timm \d.* cannot make 'vit_grand_patch16_dinov3' .*from 1\.0\.20 on; pip"):
        features("dinov3", tmp_path / "timm", clips[2:], tmp_path)


def windows_of(frames, length, step, filler):
    """Cut (T, ...) into windows; the last one is filled up."""
    starts, start = [0], 0
    while start + length < len(frames):
        start += step
        starts.append(start)
    for start in starts:
        part = frames[start : start + length]
        yield torch.cat([part, *[filler(part)] * (length - len(part))])


def test_vjepa2_gives_a_vector_per_two_frames(tmp_path, clips):
    model = files.save_vjepa2(tmp_path / "vjepa2")
    processor = transformers.VJEPA2VideoProcessor(crop_size=64)
    for clip, found in zip(clips[:2], features("vjepa2", tmp_path / "vjepa2", clips[:2], tmp_path), strict=True):
        frames = read_frames(clip)
        pixels = processor(list(frames), return_tensors="pt")["pixel_values_videos"][0]
        rows = []
        for window in windows_of(pixels, 8, 8, lambda part: part[-1:]):
            with torch.no_grad():
                tokens = model(window[None]).last_hidden_state[0]
            # Time outermost: 4 pairs of frames of 4 x 4 patches.
            rows.append(tokens.reshape(4, 16, -1).mean(dim=1))
        close(found, torch.cat(rows)[: -(-len(frames) // 2)], 0.01)


def test_videoswin_gives_what_enters_the_head(tmp_path, clips, monkeypatch):
    from torchvision.models.video import Swin3D_B_Weights

    from blemore_plugins.vision import videoswin

    released = Swin3D_B_Weights.KINETICS400_V1.transforms()
    assert (released.crop_size, released.resize_size) == ([224, 224], [256])
    assert (videoswin.SIDE, videoswin.LENGTH, videoswin.STEP) == (224, 32, 16)
    monkeypatch.setattr(videoswin, "SIDE", 56)
    smaller = Swin3D_B_Weights.KINETICS400_V1.transforms(crop_size=(56, 56), resize_size=(64,))
    model = files.save_videoswin(tmp_path / "swin.pth")
    seen = []
    model.head.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    (found,) = features("videoswin", tmp_path / "swin.pth", clips[1:2], tmp_path)
    frames = torch.from_numpy(read_frames(clips[1])).permute(0, 3, 1, 2)
    windows = windows_of(frames, 32, 16, lambda part: part[-1:])
    with torch.no_grad(), fitting_threads(model):
        for window in windows:
            model(smaller(window)[None])
    close(found, torch.cat(seen), 0.001)
    assert found.shape == (2, 16)


def run_videomae(tensors, chunk):
    """The published network in plain arithmetic: chunk (16, 3, 224, 224) to (dim,)."""
    get = tensors.get
    x = F.conv3d(
        chunk.permute(1, 0, 2, 3)[None], get("patch_embed.proj.weight"), get("patch_embed.proj.bias"), (2, 14, 14)
    )
    x = x.flatten(2).transpose(1, 2)[0].double()
    count, dim = x.shape
    angles = np.array([[p / 10000 ** (2 * (j // 2) / dim) for j in range(dim)] for p in range(count)])
    angles[:, 0::2], angles[:, 1::2] = np.sin(angles[:, 0::2]), np.cos(angles[:, 1::2])
    x = x + torch.from_numpy(angles)

    def norm(y, name):
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return y * get(f"{name}.weight").double() + get(f"{name}.bias").double()

    n = 0
    while f"blocks.{n}.norm1.weight" in tensors:
        block = {k.removeprefix(f"blocks.{n}."): v.double() for k, v in tensors.items() if k.startswith(f"blocks.{n}.")}
        q, k, v = (norm(x, f"blocks.{n}.norm1") @ block["attn.qkv.weight"].T).chunk(3, dim=1)
        q, v = q + block["attn.q_bias"], v + block["attn.v_bias"]
        mixed = torch.cat(
            [
                torch.softmax(q[:, h : h + 64] @ k[:, h : h + 64].T / 8, dim=1) @ v[:, h : h + 64]
                for h in range(0, dim, 64)
            ],
            dim=1,
        )
        x = x + mixed @ block["attn.proj.weight"].T + block["attn.proj.bias"]
        y = norm(x, f"blocks.{n}.norm2") @ block["mlp.fc1.weight"].T + block["mlp.fc1.bias"]
        x = x + F.gelu(y) @ block["mlp.fc2.weight"].T + block["mlp.fc2.bias"]
        n += 1
    return norm(x.mean(dim=0), "fc_norm")


@pytest.mark.slow
def test_videomaev2_reads_the_released_layout(tmp_path, clips):
    tensors = files.videomae_tensors(dim=128, depth=1)
    contents = {"module": {"module": tensors}, "model": {"model": tensors, "epoch": 3}, "bare": tensors}
    three = []
    for name, content in contents.items():
        torch.save(content, tmp_path / f"{name}.pth")
        three += features("videomaev2", tmp_path / f"{name}.pth", clips[:1], tmp_path)
    found = three[0]
    assert all(np.array_equal(found, other) for other in three)
    frames = read_frames(clips[0])
    squares = []
    for frame in frames:
        # Shorter side to 224 by Pillow, centre cropped, normalised as in training: torchvision's own steps.
        from torchvision import transforms

        steps = transforms.Compose(
            [
                transforms.Resize(224), transforms.CenterCrop(224), transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )  # fmt: skip
        squares.append(steps(Image.fromarray(frame)))
    chunks = list(windows_of(torch.stack(squares), 16, 16, lambda part: part[-1:]))
    assert len(chunks) == 2
    close(found, torch.stack([run_videomae(tensors, chunk) for chunk in chunks]), 0.01)


@pytest.mark.slow
def test_compat_makes_features_as_the_organisers_did(tmp_path, clips):
    tensors = files.videomae_tensors()
    torch.save({"module": tensors}, tmp_path / "g.pth")
    (found,) = features("videomaev2", tmp_path / "g.pth", clips[:1], tmp_path, compat=True, frames="shared")
    blue_first = read_frames(clips[0])[..., ::-1].copy()
    pixels = F.interpolate(torch.from_numpy(blue_first).permute(0, 3, 1, 2).float() / 255, (224, 224), mode="bilinear")
    chunks = list(windows_of(pixels, 16, 16, lambda part: torch.zeros_like(part[:1])))
    assert not chunks[1][5:].any()
    close(found, torch.stack([run_videomae(tensors, chunk) for chunk in chunks]))
    clean = features("videomaev2", tmp_path / "g.pth", clips[:1], tmp_path)[0]
    assert np.abs(clean - found).max() > 0.1


def run_imagebind(tensors, pixels, heads=16):
    """The published network in plain arithmetic: pixels (N, 3, 56, 56) to (N, width)."""
    before, trunk, head = (f"modality_{part}.vision." for part in ("preprocessors", "trunks", "heads"))
    twice = torch.stack([pixels, pixels], dim=2)
    x = F.conv3d(twice, tensors[before + "rgbt_stem.proj.1.weight"], stride=(2, 14, 14)).flatten(2).transpose(1, 2)
    x = torch.cat([tensors[before + "cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = x + tensors[before + "pos_embedding_helper.pos_embed"]

    def norm(y, name):
        return F.layer_norm(y, y.shape[-1:], tensors[name + ".weight"], tensors[name + ".bias"], 1e-6)

    x = norm(x, trunk + "pre_transformer_layer.0")
    for n in range(2):
        name = f"{trunk}blocks.{n}."
        joint = norm(x, name + "norm_1") @ tensors[name + "attn.in_proj_weight"].T + tensors[name + "attn.in_proj_bias"]
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in joint.chunk(3, dim=-1))
        mixed = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1) @ v
        mixed = mixed.transpose(1, 2).flatten(2)
        x = x + mixed @ tensors[name + "attn.out_proj.weight"].T + tensors[name + "attn.out_proj.bias"]
        y = F.gelu(norm(x, name + "norm_2") @ tensors[name + "mlp.fc1.weight"].T + tensors[name + "mlp.fc1.bias"])
        x = x + y @ tensors[name + "mlp.fc2.weight"].T + tensors[name + "mlp.fc2.bias"]
    y = norm(x, head + "0")[:, 0] @ tensors[head + "2.weight"].T
    return y / y.norm(dim=1, keepdim=True)


def test_imagebind_reads_the_released_layout(tmp_path, clips):
    from torchvision import transforms

    tensors = files.imagebind_tensors()
    torch.save(tensors, tmp_path / "imagebind_huge.pth")
    (found,) = features("imagebind", tmp_path, clips[2:], tmp_path)
    steps = transforms.Compose(
        [
            transforms.Resize(56, interpolation=transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(56),
            transforms.ToTensor(),
            transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )  # fmt: skip
    pixels = torch.stack([steps(Image.fromarray(frame)) for frame in read_frames(clips[2])])
    close(found, run_imagebind(tensors, pixels), 0.01)


# What must not pass


CHECKPOINTS = {
    "videomaev2": lambda path: torch.save({"module": files.videomae_tensors(depth=1)}, path),
    "imagebind": lambda path: torch.save(files.imagebind_tensors(), path),
    "videoswin": files.save_videoswin,
}


def tensors_of(path):
    held = torch.load(path, weights_only=True)
    return held.get("module", held)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_names_may_begin_as_wrappers_make_them_begin(tmp_path, clips, name):
    path = tmp_path / "plain.pth"
    CHECKPOINTS[name](path)
    tensors = tensors_of(path)
    expected = features(name, path, clips[2:], tmp_path)[0]
    # DataParallel; a trainer or a class of the hub that holds the network as `model`, the whole file in a container.
    for number, begin in enumerate(("module.", "model.", "module.model.")):
        wrapped = tmp_path / f"{number}.pth"
        torch.save({"state_dict": {begin + key: tensor for key, tensor in tensors.items()}, "epoch": 3}, wrapped)
        np.testing.assert_array_equal(features(name, wrapped, clips[2:], tmp_path)[0], expected)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_that_differs_by_one_tensor_is_refused(tmp_path, clips, name):
    path = tmp_path / "weights.pth"
    CHECKPOINTS[name](path)
    held = tensors_of(path)
    key = next(key for key in held if key.endswith(("fc1.bias", "mlp.0.bias")))
    others = {k: v for k, v in held.items() if k != key}
    for changed, what in (
        (others, "missing 1 tensor"),
        ({**held, "blocks.0.extra": torch.ones(1)}, "unexpected 1 tensor"),
        ({**others, key: torch.ones(3)}, "mis-shaped 1 tensor"),
    ):
        torch.save(changed, path)
        with pytest.raises(DataError, match=what):
            features(name, path, clips[2:], tmp_path)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_damaged_or_foreign_file_is_named(tmp_path, clips, name):
    path = tmp_path / "weights.pth"
    CHECKPOINTS[name](path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"weights\.pth"):
        features(name, path, clips[2:], tmp_path)
    torch.save({"something": torch.ones(2)}, path)
    with pytest.raises(DataError, match=r"does not hold weights of .*expected"):
        features(name, path, clips[2:], tmp_path)


def test_weights_in_half_precision_are_computed_with_in_float32(tmp_path, clips):
    from safetensors.torch import load_file, save_file

    files.save_dinov2(tmp_path / "half")
    path = tmp_path / "half" / "model.safetensors"
    weights = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    (half,) = features("dinov2", tmp_path / "half", clips[2:], tmp_path)
    save_file({name: tensor.float() for name, tensor in weights.items()}, path, metadata={"format": "pt"})
    (exact,) = features("dinov2", tmp_path / "half", clips[2:], tmp_path)
    np.testing.assert_array_equal(half, exact)


@pytest.mark.parametrize(("name", "save"), [("clip", files.save_clip), ("dinov2", files.save_dinov2)])
def test_a_folder_of_the_hub_is_read_strictly(tmp_path, clips, name, save):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / name
    save(folder)
    weights = load_file(folder / "model.safetensors")
    key = next(key for key in weights if ("layernorm" in key and "vision" in key) or key == "layernorm.weight")
    del weights[key]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="1 missing key"):
        features(name, folder, clips[2:], tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InvalidOption, match="found 'bert'"):
        features(name, folder, clips[2:], tmp_path)


def test_gated_weights_say_how_to_get_them(tmp_path, clips, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsMissing, match=r"gated: ask for access .*timm/vit_base_patch16_dinov3"):
        features("dinov3", tmp_path / "empty", clips[2:], tmp_path)
    with pytest.raises(WeightsMissing, match=r"imagebind_huge\.pth .*imagebind\.model"):
        features("imagebind", tmp_path / "empty", clips[2:], tmp_path)
    with pytest.raises(WeightsMissing, match=r"vit_g_hybrid_pt_1200e_k710_ft\.pth .*MODEL_ZOO\.md .*videomaev2\.model"):
        features("videomaev2", tmp_path / "empty", clips[2:], tmp_path)


@pytest.mark.slow
def test_torchvisions_weights_are_fetched_once_or_named(tmp_path, clips, monkeypatch, capfd):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setattr(families, "TORCHVISION", served.as_uri())
    files.save_videoswin(served / "tiny.pth")
    name = f"swin3d_t-{hashlib.sha256((served / 'tiny.pth').read_bytes()).hexdigest()[:8]}.pth"
    with pytest.raises(WeightsMissing, match=rf"No such file .*fetch {served.as_uri()}/{name} .*videoswin\.model=FILE"):
        features("videoswin", name, clips[2:], tmp_path)
    with pytest.raises(WeightsMissing, match=r"expected a \.pth file"):
        features("videoswin", "swin", clips[2:], tmp_path)
    (served / "tiny.pth").rename(served / name)
    assert features("videoswin", name, clips[2:], tmp_path)[0].shape == (1, 16)
    assert capfd.readouterr().err == ""
    (served / name).unlink()
    assert features("videoswin", name, clips[2:], tmp_path)[0].shape == (1, 16)
    (served / "swin3d_b-00000000.pth").write_bytes(b"a page that says sorry")
    with pytest.raises(WeightsMissing, match="its SHA-256 begins with"):
        features("videoswin", "swin3d_b-00000000.pth", clips[2:], tmp_path)
    assert [path.name for path in (tmp_path / "torch" / "checkpoints").iterdir()] == [name]


def test_features_that_are_not_finite_are_refused(tmp_path, clips):
    tensors = files.videomae_tensors(depth=1)
    tensors["fc_norm.weight"][:] = 3e38  # fits float32, and what comes of it does not
    torch.save(tensors, tmp_path / "g.pth")
    with pytest.raises(DataError, match="NaN or infinite features for clip v2"):
        features("videomaev2", tmp_path / "g.pth", clips[2:], tmp_path)
