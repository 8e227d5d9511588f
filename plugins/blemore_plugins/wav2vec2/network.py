"""The frozen network: loaded or made, cut after the last layer that is used, and run without rounding."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Wav2Vec2Config, Wav2Vec2Model

from blemore_harness.errors import DataError, InvalidOption
from blemore_harness.networks import fitting_threads, seeded
from blemore_plugins.hub import load_strictly
from blemore_plugins.wav2vec2.options import RANDOM_SMALL, SMALL, SMALL_SEED, Wav2Vec2Options

LEFT_OUT = r"(quantizer|project_q|project_hid|lm_head|classifier|projector)\..*|(wav2vec2\.)?masked_spec_embed"
"""What only pre-training, recognition or classification needs, and the vector that stands for masked frames."""


def build_network(options: Wav2Vec2Options, folder: Path | None, device: str) -> Wav2Vec2Model:
    """Load the network, or make the small random one, without the blocks above the last layer that is used.

    Args:
        options: which model and layers.
        folder: where its files are; None for the random one.
        device: where to put it.

    Returns:
        The network in eval mode, float32. Its hidden states up to the cut are bit-equal to the whole network's.

    Raises:
        DataError: weights that do not fit.
        InvalidOption: a model of another kind, or with fewer blocks than asked for.
    """
    # One block stays in any case: transformers takes layer 0 from what enters the first.
    depth = max(options.layer_indices[-1], 1)
    if folder is None:
        network = make_small(depth)
    else:
        config = read_config(folder)
        _check_depth(options, config.num_hidden_layers)
        upper = "|".join(map(str, range(depth, config.num_hidden_layers))) or "none"
        allowed = re.compile(rf"{LEFT_OUT}|(wav2vec2\.)?encoder\.layers\.({upper})\..*")
        network = load_strictly(
            Wav2Vec2Model, folder, allowed, num_hidden_layers=depth, dtype=torch.float32, attn_implementation="sdpa"
        )
    if network.config.do_stable_layer_norm:
        # It would follow block `depth` now, where the whole network has no norm; and it costs what nobody reads.
        network.encoder.layer_norm = torch.nn.Identity()
    return network.eval().requires_grad_(False).to(device)


def make_small(depth: int) -> Wav2Vec2Model:
    """Make the small random network with its first `depth` blocks; the blocks are the same for every depth."""
    _check_depth(Wav2Vec2Options(model=RANDOM_SMALL, layers=str(depth)), SMALL["num_hidden_layers"])
    with seeded(SMALL_SEED):
        network = Wav2Vec2Model(Wav2Vec2Config(**SMALL, attn_implementation="sdpa"))
    network.encoder.layers = network.encoder.layers[:depth]
    network.config.num_hidden_layers = depth
    return network


def read_config(folder: Path) -> Wav2Vec2Config:
    """Read the configuration of a model.

    Raises:
        DataError: not JSON.
        InvalidOption: not a wav2vec2 model.
    """
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise DataError(f"{folder / 'config.json'} is not a model's configuration ({error}): fetch it again") from error
    if kind != "wav2vec2":
        raise InvalidOption(f"model: expected a model of type wav2vec2, found '{kind}' in {folder}")
    return Wav2Vec2Config.from_pretrained(folder)


def average_layers(network: Wav2Vec2Model, waves: NDArray[np.float32], layers: tuple[int, ...]) -> NDArray[np.float32]:
    """Run waves of one length, float32 (B, N), and average hidden states: float32 (B, T, D).

    No mask and no padding: zeros at the end of a wave change what group-norm models such as wav2vec2-large make of all
    of it, with and without a mask.
    """
    with torch.inference_mode(), exact_products(), fitting_threads(network):
        inputs = torch.from_numpy(waves).to(network.device)
        states = network(inputs, output_hidden_states=list(layers)).hidden_states
        mean = torch.stack([states[layer] for layer in layers]).mean(dim=0)
    return np.asarray(mean.cpu().numpy())


def count_frames(network: Wav2Vec2Model, samples: int) -> int:
    """Say how many frames the network makes of a wave; 0 for one that is shorter than its field."""
    for kernel, stride in zip(network.config.conv_kernel, network.config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1 if samples >= kernel else 0
    return samples


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Keep a GPU from rounding products to TF32 (or less) and from choosing convolutions by speed."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _check_depth(options: Wav2Vec2Options, blocks: int) -> None:
    if options.layer_indices[-1] > blocks:
        raise InvalidOption(f"layers: {options.model} has layers 0 to {blocks}, found '{options.layers}'")
