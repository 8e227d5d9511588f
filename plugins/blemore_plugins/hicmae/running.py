"""The frozen network: loaded or made, and run over the chunks of one clip."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from blemore_harness.networks import fitting_threads, seeded
from blemore_plugins.hicmae.checkpoint import Loaded, load_network
from blemore_plugins.hicmae.network import HiCMAE
from blemore_plugins.hicmae.options import SMALL, SMALL_SEED, HiCMAEOptions
from blemore_plugins.hicmae.shape import CHUNK
from blemore_plugins.hub import Weights
from blemore_plugins.s4d.batches import normalise

BATCH = 8
"""Chunks run at once, of one clip only: what a clip gives can then not depend on others, to the last bit."""


@dataclass(frozen=True)
class Chunks:
    """What the network is shown of a clip.

    Attributes:
        pictures: uint8 (chunks, CHUNK, size, size, 3).
        real: how many pictures of each chunk there are; those after them are filled up with the mean colour.
        audio: float32 (chunks, SOUND_FRAMES, MEL_BANDS), normalised.
    """

    pictures: NDArray[np.uint8]
    real: tuple[int, ...]
    sound: NDArray[np.float32]


def build_network(options: HiCMAEOptions, weights: Weights | None, device: str) -> tuple[HiCMAE, Loaded | None]:
    """Load the network, or make the small random one.

    Args:
        options: size of the pictures.
        weights: None for the random one.
        device: where to put it.

    Returns:
        The network in eval mode, float32; and what the checkpoint was.

    Raises:
        DataError: weights that do not fit.
    """
    loaded = None
    if weights is None:
        with seeded(SMALL_SEED):
            network = HiCMAE(replace(SMALL, image=options.size)).eval()
            for parameter in network.parameters():
                # Torch's own weights are so small that blocks would hardly change what passes through them.
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    else:
        network, loaded = load_network(weights.files[0], options.size)
    return network.requires_grad_(False).to(device), loaded


def embed_chunks(network: HiCMAE, chunks: Chunks, precision: str = "float32") -> NDArray[np.float32]:
    """Return the features of one clip's chunks, float32 (chunks, 4 x dim).

    A chunk's own, not of the clips beside it.
    """
    device = network.fc_norm.weight.device
    parts = []
    with torch.inference_mode(), fitting_threads(network), _computing(device.type, precision):
        for start in range(0, len(chunks.pictures), BATCH):
            part = slice(start, start + BATCH)
            pictures = normalise(torch.from_numpy(chunks.pictures[part]).to(device))
            for picture, real in zip(pictures, chunks.real[part], strict=True):
                picture[:, real:CHUNK] = 0
            sound = torch.from_numpy(chunks.sound[part]).to(device)[:, None]
            parts.append(network.embed(pictures, sound).float().cpu())
    return np.asarray(torch.cat(parts).numpy())


@contextlib.contextmanager
def _computing(device: str, precision: str) -> Iterator[None]:
    """Round to bfloat16 where asked for; else keep a GPU from rounding products to TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
