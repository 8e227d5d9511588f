"""HiCMAE checkpoints in their released layouts, small, saved here and loaded by the real path."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from blemore_harness.errors import DataError, WeightsMissing  # noqa: E402
from blemore_harness.networks import seeded  # noqa: E402
from blemore_plugins.hicmae.checkpoint import load_network  # noqa: E402
from blemore_plugins.hicmae.extraction import find  # noqa: E402
from blemore_plugins.hicmae.network import HiCMAE  # noqa: E402
from blemore_plugins.hicmae.options import HiCMAEOptions  # noqa: E402
from blemore_plugins.hicmae.shape import Shape  # noqa: E402

pytestmark = pytest.mark.encoders

TINY = Shape(dim=64, depth=2, fusion=1, mlp=2, image=32, patch=8, sound_patch=32, classes=6)
FRESH = ("video_layer_weights", "audio_layer_weights", "fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")


def draw_weights(shape: Shape = TINY) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {
        name: torch.randn(tensor.shape, generator=generator) * 0.3
        for name, tensor in HiCMAE(shape).state_dict().items()
    }


def pretrained_weights() -> dict[str, Tensor]:
    """What pre-training leaves: no layer weights, last norm or head, but mask tokens and two decoders."""
    tensors = {name: tensor for name, tensor in draw_weights().items() if name not in FRESH}
    for which in ("", "_audio"):
        tensors[f"mask_token{which}"] = torch.zeros(1, 1, 48)
        tensors[f"encoder_to_decoder{which}.weight"] = torch.zeros(48, 64)
        tensors[f"decoder{which}.blocks.0.norm1.weight"] = torch.zeros(48)
        tensors[f"decoder{which}.blocks.1.cross_attn.kv.weight"] = torch.zeros(96, 48)
        tensors[f"decoder{which}.norm.bias"] = torch.zeros(48)
        tensors[f"decoder{which}.head.weight"] = torch.zeros(99, 48)
    return tensors


def save(path: Path, tensors: dict[str, Tensor]) -> Path:
    """As the released trainer saves: optimiser, scaler and command line beside the weights."""
    arguments = argparse.Namespace(model="pretrain_hicmae", mask_ratio=0.9, data_path=None)
    optimizer = {"state": {0: {"step": 5, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 3e-4, "params": [0]}]}
    held = {"model": tensors, "optimizer": optimizer, "epoch": 99, "scaler": {"scale": 1.0}, "args": arguments}
    torch.save(held, path)
    return path


def test_a_pretrained_checkpoint_is_taken_whole_and_the_rest_starts_even(tmp_path: Path):
    tensors = pretrained_weights()
    before = torch.get_rng_state()
    network, loaded = load_network(save(tmp_path / "checkpoint-99.pth", tensors), 32)
    assert torch.equal(torch.get_rng_state(), before)
    own = network.state_dict()
    used = {name for name, tensor in tensors.items() if name in own and torch.equal(own[name], tensor)}
    assert used == set(own) - set(FRESH[:4])
    assert set(tensors) - used == {name for name in tensors if "decoder" in name or "mask_token" in name}
    assert torch.equal(own["video_layer_weights"], torch.full((2,), 0.5))
    assert torch.equal(own["fc_norm.weight"], torch.ones(256))
    assert torch.equal(own["fc_norm.bias"], torch.zeros(256))
    assert not network.training
    assert (loaded.kind, loaded.tensors, loaded.ignored) == ("pre-trained", len(used), 12)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("container", ["model", "module", None])
def test_a_fine_tuned_checkpoint_is_taken_to_the_last_tensor(tmp_path: Path, prefix: str, container: str | None):
    tensors = draw_weights()
    renamed = {prefix + name: tensor for name, tensor in tensors.items()}
    torch.save({container: renamed} if container else renamed, tmp_path / "best.pth")
    network, loaded = load_network(tmp_path / "best.pth", 32)
    own = network.state_dict()
    assert own.keys() == tensors.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in tensors.items())
    assert (loaded.kind, loaded.tensors, loaded.ignored) == ("fine-tuned", len(tensors), 0)
    assert network.shape == TINY


def test_safetensors_are_read_too(tmp_path: Path):
    safetensors = pytest.importorskip("safetensors.torch")
    tensors = draw_weights()
    safetensors.save_file(tensors, tmp_path / "best.safetensors")
    own = load_network(tmp_path / "best.safetensors", 32)[0].state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    "name",
    [
        "encoder.blocks.1.attn.q_bias",
        "encoder_audio.norm.weight",
        "encoder_fusion.blocks_audio.0.cross_attn.kv.weight",
    ],
)
def test_a_missing_tensor_is_named(tmp_path: Path, name: str):
    for tensors in (pretrained_weights(), draw_weights()):
        del tensors[name]
        with pytest.raises(DataError, match=rf"missing 1 tensor \(first: '{re.escape(name)}'\)"):
            load_network(save(tmp_path / "x.pth", tensors), 32)


@pytest.mark.parametrize("name", FRESH)
def test_a_fine_tuned_checkpoint_must_be_complete(tmp_path: Path, name: str):
    tensors = draw_weights()
    del tensors[name]
    if name == "head.weight":
        # Without it there is no head, and its bias belongs nowhere.
        with pytest.raises(DataError, match=r"unexpected 1 tensor \(first: 'head.bias'\)"):
            load_network(save(tmp_path / "x.pth", tensors), 32)
    else:
        with pytest.raises(DataError, match=rf"missing 1 tensor \(first: '{re.escape(name)}'\)"):
            load_network(save(tmp_path / "x.pth", tensors), 32)


def test_unexpected_and_mis_shaped_tensors_are_named(tmp_path: Path):
    tensors = {**pretrained_weights(), "encoder.blocks.0.gamma": torch.zeros(64)}
    with pytest.raises(DataError, match=r"unexpected 1 tensor \(first: 'encoder\.blocks\.0\.gamma'\)"):
        load_network(save(tmp_path / "x.pth", tensors), 32)
    # A decoder beside a head is of no released file.
    tensors = {**draw_weights(), "decoder.norm.bias": torch.zeros(48)}
    with pytest.raises(DataError, match=r"unexpected 1 tensor \(first: 'decoder\.norm\.bias'\)"):
        load_network(save(tmp_path / "x.pth", tensors), 32)
    tensors = {**draw_weights(), "encoder.norm.weight": torch.zeros(65)}
    with pytest.raises(DataError, match=r"mis-shaped 1 tensor .*encoder\.norm\.weight: \(65,\) instead of \(64,\)"):
        load_network(save(tmp_path / "x.pth", tensors), 32)


class Malicious:
    """Would run when unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("ran"),))


def test_what_is_no_checkpoint_of_hicmae_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"patch_embed.proj.weight": torch.zeros(64, 3, 2, 8, 8)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"other\.pth holds no weights of HiCMAE: expected .*found 1 tensor"):
        load_network(tmp_path / "other.pth", 32)
    with pytest.raises(DataError, match="patches of 8 pixels: set size to a multiple, found 36"):
        load_network(save(tmp_path / "x.pth", draw_weights()), 36)
    whole = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.pth"):
        load_network(tmp_path / "cut.pth", 32)
    torch.save({"model": draw_weights(), "args": Malicious()}, tmp_path / "bad.pth")
    with pytest.raises(DataError, match="it was not opened"):
        load_network(tmp_path / "bad.pth", 32)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("source", ["checkpoint-99.pth", "weights/checkpoint-99.pth", "nowhere"])
def test_missing_weights_say_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsMissing, match=r"SharePoint .*README of github\.com/sunlicai/HiCMAE.*hicmae\.weights="):
        find(HiCMAEOptions(weights=source), download=True)


def test_weights_are_found_as_a_file_and_in_a_folder(tmp_path: Path):
    file = save(tmp_path / "checkpoint-99.pth", pretrained_weights())
    for source in (file, tmp_path):
        found = find(HiCMAEOptions(weights=str(source)))
        assert found is not None
        assert found.files == (file,)


def test_other_draws_are_not_disturbed(tmp_path: Path):
    path = save(tmp_path / "x.pth", pretrained_weights())
    with seeded(3):
        expected = torch.rand(3)
    with seeded(3):
        load_network(path, 32)
        assert torch.equal(torch.rand(3), expected)
