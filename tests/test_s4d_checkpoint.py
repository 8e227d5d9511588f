"""Checkpoints in the released layouts, small and random, through the real loader."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from blemore_harness.errors import DataError  # noqa: E402
from blemore_plugins.s4d.checkpoint import read_tensors, shape_of  # noqa: E402
from blemore_plugins.s4d.network import build_network  # noqa: E402
from blemore_plugins.s4d.shape import Shape  # noqa: E402
from s4d_files import SMALL, load, pretraining_file  # noqa: E402

pytestmark = pytest.mark.encoders


def finetuned_file(path: Path, classes: int = 6, key: str = "model", prefix: str = "") -> dict[str, torch.Tensor]:
    """Save what the fine-tuning script saves, command line included."""
    shape = dataclasses.replace(SMALL, video_classes=classes)
    draw = torch.Generator().manual_seed(8)
    state = build_network(shape, seed=6).state_dict()
    state = {name: torch.randn(tensor.shape, generator=draw) for name, tensor in state.items()}
    held = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    torch.save({key: held, "optimizer": None, "epoch": 3, "args": argparse.Namespace(lr=1e-3)} if key else held, path)
    return state


@pytest.mark.parametrize("prefix", ["encoder.", "backbone.", "module.encoder.", ""])
def test_pretrained_trunk_loads_and_the_rest_starts_fresh(tmp_path: Path, prefix: str):
    path = tmp_path / "vit_base.pt"
    trunk = pretraining_file(path, prefix)
    network, loaded = load(path)
    state, fresh = network.state_dict(), build_network(SMALL, seed=1).state_dict()
    assert loaded.kind == "pretrained"
    assert loaded.tensors == len(trunk)
    assert loaded.ignored == 8
    assert loaded.fresh == ("experts", "fc_norm", "head.image", "head.video")
    for name, tensor in state.items():
        assert torch.equal(tensor, trunk.get(name, fresh[name])), name


@pytest.mark.parametrize(
    ("key", "prefix"), [("model", ""), ("module", "module."), ("state_dict", "backbone."), ("", "")]
)
def test_finetuned_file_loads_whole(tmp_path: Path, key: str, prefix: str):
    path = tmp_path / "checkpoint-best.pth"
    expected = finetuned_file(path, key=key, prefix=prefix)
    network, loaded = load(path, Shape())
    assert loaded == dataclasses.replace(loaded, kind="fine-tuned", tensors=len(expected), fresh=(), ignored=0)
    assert network.shape.routing.experts == 4
    assert network.shape.first_expert == 1
    assert network.shape.adapter == 16
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_safetensors(tmp_path: Path):
    from safetensors.torch import save_file

    state = finetuned_file(tmp_path / "x.pth")
    save_file(state, tmp_path / "x.safetensors")
    network, _ = load(tmp_path / "x.safetensors")
    assert torch.equal(network.state_dict()["fc_norm.bias"], state["fc_norm.bias"])


def test_a_video_head_for_other_classes_is_replaced_and_said(tmp_path: Path):
    path = tmp_path / "dfew.pth"
    expected = finetuned_file(path, classes=11)
    network, loaded = load(path)
    assert network.head["video"].out_features == 6
    assert loaded.old_classes == 11
    assert loaded.fresh == ("head.video",)
    assert "11 other classes" in loaded.describe()
    assert torch.equal(network.state_dict()["head.image.weight"], expected["head.image.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.1.mlp.fc2.bias"), r"missing 1 tensor \(first: 'blocks.1.mlp.fc2.bias'\)"),
        (
            lambda t: t.update({"blocks.0.gamma_1": torch.ones(64)}),
            r"unexpected 1 tensor \(first: 'blocks.0.gamma_1'\)",
        ),
        (lambda t: t.update({"fc_norm.bias": torch.ones(3)}), r"wrong 1 tensor \(first: 'fc_norm.bias: \(3,\) instead"),
        (lambda t: t.update({"norm.bias": torch.ones(64)}), r"unexpected 1 tensor \(first: 'norm.bias'\)"),
        (lambda t: t.pop("blocks.2.moe_layer.experts.3.fc2.weight"), "missing 1 tensor"),
    ],
)
def test_any_other_difference_is_an_error(tmp_path: Path, change, message: str):
    path = tmp_path / "x.pth"
    state = finetuned_file(path)
    change(state)
    torch.save(state, path)
    with pytest.raises(DataError, match=message):
        load(path)


def test_a_pretrained_file_must_have_the_whole_trunk(tmp_path: Path):
    path = tmp_path / "x.pt"
    trunk = pretraining_file(path)
    trunk.pop("blocks.2.attn.q_bias")
    torch.save({"model": trunk}, path)
    with pytest.raises(DataError, match=r"missing 1 tensor \(first: 'blocks.2.attn.q_bias'\), unexpected 0 tensors"):
        load(path)


def test_files_that_could_run_code_are_not_opened(tmp_path: Path):
    path = tmp_path / "evil.pth"
    torch.save({"model": {"a": torch.zeros(1)}, "args": Path("x")}, path)
    with pytest.raises(DataError, match="more than tensors"):
        read_tensors(path)


def test_files_that_are_no_checkpoints(tmp_path: Path):
    broken, other, text = tmp_path / "broken.pt", tmp_path / "other.pt", tmp_path / "text.safetensors"
    torch.save({"epoch": 3}, other)
    broken.write_bytes(other.read_bytes()[:200])
    text.write_text("hello")
    with pytest.raises(DataError, match="expected weights"):
        read_tensors(other)
    for path in (broken, text):
        with pytest.raises(DataError, match=path.name):
            read_tensors(path)
    with pytest.raises(DataError, match="no file"):
        read_tensors(tmp_path / "nowhere.pt")
    with pytest.raises(DataError, match="not weights of an S4D network"):
        shape_of({"conv.weight": torch.zeros(1)}, SMALL)


def test_one_name_under_two_prefixes_is_refused(tmp_path: Path):
    path = tmp_path / "x.pt"
    torch.save({"encoder.a": torch.zeros(1), "backbone.a": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="'a' twice"):
        read_tensors(path)
