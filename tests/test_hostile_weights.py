"""Weights that load and say nothing: NaN, infinite and complex numbers, shapes of another network, lying headers."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

from blemore_harness.errors import DataError  # noqa: E402
from blemore_plugins.hicmae.checkpoint import load_network  # noqa: E402
from blemore_plugins.hub import load_strictly  # noqa: E402
from blemore_plugins.vision.loading import load_exactly  # noqa: E402
from hicmae_files import pretrained_weights, save  # noqa: E402
from s4d_files import load, pretraining_file  # noqa: E402

pytestmark = pytest.mark.encoders

KEY = "encoder.layers.0.attention.k_proj.weight"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as transformers saves it."""
    folder = tmp_path_factory.mktemp("released")
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    network = transformers.Wav2Vec2Model(config)
    config.save_pretrained(folder)
    safetensors.save_file(network.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def load_hub(folder: Path) -> Any:
    return load_strictly(transformers.Wav2Vec2Model, folder, re.compile("x"), dtype=torch.float32)


def copied(released: Path, folder: Path, data: bytes) -> Path:
    (folder / "config.json").write_bytes((released / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes(data)
    return folder


def holed(tensor: Any, value: float) -> Any:
    changed = tensor.clone()
    changed.view(-1)[3] = value
    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensor: holed(tensor, float("nan")), "hold NaN or infinite numbers in 1 tensor (first: '" + KEY),
        (lambda tensor: holed(tensor, float("-inf")), "hold NaN or infinite numbers in 1 tensor"),
        (lambda tensor: holed(tensor.double(), 1e300), "hold NaN or infinite numbers in 1 tensor"),
        (lambda tensor: tensor[:8].contiguous(), "do not fit Wav2Vec2Model: 1 mismatched key (first: '" + KEY),
        (lambda tensor: tensor[:0].contiguous(), "do not fit Wav2Vec2Model: 1 mismatched key"),
    ],
)
def test_numbers_and_shapes_of_a_model_of_the_hub(
    released: Path, tmp_path: Path, change: Callable[[Any], Any], words: str
) -> None:
    weights = safetensors.load_file(released / "model.safetensors")
    data = safetensors.save({**weights, KEY: change(weights[KEY])}, metadata={"format": "pt"})
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        load_hub(copied(released, tmp_path, data))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.5])
def test_what_the_file_may_lack_is_not_checked_for_numbers(released: Path, tmp_path: Path, value: float) -> None:
    """Memory that no file fills may hold anything: some networks of transformers leave it as it was."""

    class Unset(transformers.Wav2Vec2Model):  # type: ignore[name-defined, misc]
        @classmethod
        def from_pretrained(cls, *given: Any, **settings: Any) -> Any:
            model, report = super().from_pretrained(*given, **settings)
            assert report["missing_keys"]
            for name in report["missing_keys"]:
                torch.nn.init.constant_(model.get_parameter(name), value)
            return model, report

    weights = safetensors.load_file(released / "model.safetensors")
    held = {name: tensor for name, tensor in weights.items() if name != "masked_spec_embed"}
    folder = copied(released, tmp_path, safetensors.save(held, metadata={"format": "pt"}))
    model = load_strictly(Unset, folder, re.compile("masked_spec_embed"), dtype=torch.float32)
    assert torch.equal(model.encoder.layer_norm.weight, weights["encoder.layer_norm.weight"])
    with pytest.raises(DataError, match=r"1 missing key \(first: 'masked_spec_embed'\)"):
        load_strictly(Unset, folder, re.compile("x"), dtype=torch.float32)
    held = {name: holed(tensor, value) if name == KEY else tensor for name, tensor in held.items()}
    folder = copied(released, tmp_path, safetensors.save(held, metadata={"format": "pt"}))
    if value != 0.5:
        with pytest.raises(DataError, match=rf"in 1 tensor \(first: '{re.escape(KEY)}'\)"):
            load_strictly(Unset, folder, re.compile("masked_spec_embed"), dtype=torch.float32)


def test_half_precision_is_fine(released: Path, tmp_path: Path) -> None:
    weights = {name: tensor.half() for name, tensor in safetensors.load_file(released / "model.safetensors").items()}
    model = load_hub(copied(released, tmp_path, safetensors.save(weights, metadata={"format": "pt"})))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def reheaded(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


LIES: dict[str, Callable[[bytes], bytes]] = {
    "header without end": lambda data: struct.pack("<Q", 2**63) + data[8:],
    "header of nothing": lambda data: struct.pack("<Q", 0) + data[8:],
    "cut in the header": lambda data: data[:20],
    "cut in the numbers": lambda data: data[:-100],
    "longer than said": lambda data: data + bytes(100),
    "beyond the end": lambda data: reheaded(data, lambda header: header[KEY].update(data_offsets=[0, 10**15])),
    "of another": lambda data: reheaded(data, lambda header: header[KEY].update(data_offsets=[0, 1024])),
    "larger than memory": lambda data: reheaded(data, lambda header: header[KEY].update(shape=[2**40, 2**40])),
    "negative": lambda data: reheaded(data, lambda header: header[KEY].update(shape=[-1, 16])),
    "of no kind": lambda data: reheaded(data, lambda header: header[KEY].update(dtype="F4242")),
    "nested": lambda data: struct.pack("<Q", 100_000) + b"[" * 100_000,
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie_are_one_line(released: Path, tmp_path: Path, lie: str) -> None:
    data = LIES[lie]((released / "model.safetensors").read_bytes())
    with pytest.raises(DataError, match="cannot be loaded") as caught:
        load_hub(copied(released, tmp_path, data))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_in_other_checkpoints(tmp_path: Path, value: float) -> None:
    pretraining_file(tmp_path / "s4d.pth")
    held = torch.load(tmp_path / "s4d.pth", weights_only=True)
    held["model"]["encoder.blocks.0.norm1.weight"] = holed(held["model"]["encoder.blocks.0.norm1.weight"], value)
    torch.save(held, tmp_path / "s4d.pth")
    with pytest.raises(DataError, match=r"weights of s4d\.pth hold NaN or infinite .* 'blocks\.0\.norm1\.weight'"):
        load(tmp_path / "s4d.pth")
    tensors = pretrained_weights()
    tensors["encoder.norm.bias"] = holed(tensors["encoder.norm.bias"], value)
    with pytest.raises(DataError, match=r"weights of hicmae\.pth hold NaN or infinite .* 'encoder\.norm\.bias'"):
        load_network(save(tmp_path / "hicmae.pth", tensors), 32)
    network = torch.nn.Linear(4, 4)
    state = {name: holed(tensor, value) for name, tensor in network.state_dict().items()}
    with pytest.raises(DataError, match=r"weights of a file hold NaN or infinite numbers in 2 tensors"):
        load_exactly(network, state, "a file")
