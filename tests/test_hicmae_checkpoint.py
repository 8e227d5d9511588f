"""HiCMAE checkpoints in their released layouts, small, saved here and loaded by the real path."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")


from blemore_harness.errors import DataError, WeightsMissing  # noqa: E402
from blemore_harness.networks import seeded  # noqa: E402
from blemore_plugins.hicmae.checkpoint import load_network  # noqa: E402
from blemore_plugins.hicmae.extraction import find  # noqa: E402
from blemore_plugins.hicmae.options import HiCMAEOptions  # noqa: E402
from hicmae_files import FRESH, TINY, draw_weights, pretrained_weights, save  # noqa: E402

pytestmark = pytest.mark.encoders


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
