"""The audio encoder of ImageBind, in the layout of the released `imagebind_huge.pth`, without the other modalities.

Written from a description of the published network, as the image encoder in `vision.imagebind`; names and shapes of all
parameters are those of the file.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from blemore_harness.errors import DataError
from blemore_harness.networks import seeded
from blemore_plugins.hicmae.inputs import kaldi_spectrum
from blemore_plugins.speech.kinds import SMALL, SMALL_SEED
from blemore_plugins.speech.recipe import Recipe
from blemore_plugins.vision.imagebind import NORM_EPS, Block
from blemore_plugins.vision.loading import count_blocks, load_exactly, read_weights

RATE = 16_000
"""Sampling rate in Hz."""

WINDOW_SECONDS = 2
WINDOWS = 3
"""Windows of a clip and their length: the defaults of the released `load_and_transform_audio_data`, as those below."""

BANDS = 128
COLUMNS = 204
"""Mel bands and columns of a spectrogram; a window has 198 columns, the rest is 0 before it is normalised."""

MEAN = -4.268
SPREAD = 9.138
"""Subtracted from spectrograms, which are then divided by the spread."""

PATCH = 16
STRIDE = 10
"""Size and distance of patches."""

HEADS = 12
"""Of the huge network, the only one that was released."""

LARGEST_SCALE = 100.0
"""Upper limit of the factor of embeddings."""

STEM = "modality_preprocessors.audio.rgbt_stem.proj.weight"
PROJECTION = "modality_heads.audio.2.weight"

OTHER_SENSES = re.compile(r"modality_\w+\.(text|vision|depth|thermal|imu)\..*")
"""What the file has for other inputs."""


class Stem(nn.Module):
    """Divides spectrograms into overlapping patches."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, dim, PATCH, stride=STRIDE, bias=False)
        self.norm_layer = nn.LayerNorm(dim)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Map (B, 1, bands, columns) to (B, patches, dim)."""
        return self.norm_layer(self.proj(spectrograms).flatten(2).transpose(1, 2))


class Scale(nn.Module):
    """A fixed factor, kept as its logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_logit_scale", torch.tensor(20.0).log())


class ImageBindAudio(nn.Module):
    """Spectrograms of windows in, embeddings in the joint space out.

    Args:
        dim, depth, heads: of the transformer.
        width: of the joint space.
    """

    config = None

    def __init__(self, dim: int, depth: int, heads: int, width: int) -> None:
        super().__init__()
        tokens = ((BANDS - PATCH) // STRIDE + 1) * ((COLUMNS - PATCH) // STRIDE + 1) + 1
        before = nn.Module()
        before.cls_token = nn.Parameter(torch.randn(1, 1, dim) * dim**-0.5)
        before.rgbt_stem = Stem(dim)
        before.pos_embedding_helper = nn.Module()
        before.pos_embedding_helper.pos_embed = nn.Parameter(torch.randn(1, tokens, dim) * dim**-0.5)
        trunk = nn.Module()
        trunk.blocks = nn.Sequential(*[Block(dim, heads, add_bias_kv=True) for _ in range(depth)])
        head = nn.Sequential(nn.LayerNorm(dim, eps=NORM_EPS), nn.Identity(), nn.Linear(dim, width, bias=False))
        self.modality_preprocessors = nn.ModuleDict({"audio": before})
        self.modality_trunks = nn.ModuleDict({"audio": trunk})
        self.modality_heads = nn.ModuleDict({"audio": head})
        self.modality_postprocessors = nn.ModuleDict({"audio": nn.Sequential(nn.Identity(), Scale())})

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.modality_preprocessors["audio"].cls_token.device

    def forward(self, windows: Tensor) -> SimpleNamespace:
        """Map windows (B, 1, bands, columns) to `last_hidden_state`: one embedding each, (B, 1, width)."""
        before = self.modality_preprocessors["audio"]
        patches = before.rgbt_stem(windows)
        tokens = torch.cat([before.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        tokens = self.modality_trunks["audio"].blocks(tokens + before.pos_embedding_helper.pos_embed)
        found = functional.normalize(self.modality_heads["audio"](tokens[:, :1]), dim=-1)
        scale = self.modality_postprocessors["audio"][1].log_logit_scale.exp().clamp(max=LARGEST_SCALE)
        return SimpleNamespace(last_hidden_state=found * scale)


def make_windows(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return normalised spectrograms of a clip's windows, float32 (3, 1, bands, columns).

    The windows begin after 0, 1/3 and 2/3 of the time by which the clip is longer than a window. All windows of a
    shorter clip are the whole clip.

    Args:
        wave: float32 (N,), N at least 400, of 16 kHz.

    Raises:
        ExtraMissing: torchaudio is not installed or does not fit torch.
    """
    step = Fraction(max(len(wave) / RATE - WINDOW_SECONDS, 0)) / WINDOWS
    made = np.zeros((WINDOWS, 1, BANDS, COLUMNS), dtype=np.float32)
    for number in range(WINDOWS):
        start = step * number
        part = wave[int(start * RATE) : int((start + WINDOW_SECONDS) * RATE)]
        spectrogram = kaldi_spectrum(part, BANDS, "imagebind-audio")[:COLUMNS].T
        made[number, 0, :, : spectrogram.shape[1]] = spectrogram
    return (made - np.float32(MEAN)) / np.float32(SPREAD)


def build_imagebind_audio(recipe: Recipe) -> ImageBindAudio:
    """Load the network from the released file; without one, make the small random one.

    Raises:
        DataError: a file that is damaged, or not of this layout.
    """
    if recipe.weights is None:
        with seeded(SMALL_SEED):
            return ImageBindAudio(**SMALL[recipe.small][1]).eval()
    path: Path = recipe.weights.files[0]
    tensors = read_weights(path, {STEM: 4, PROJECTION: 2}, "ImageBind with audio")
    dim = tensors[STEM].shape[0]
    if dim % HEADS:
        raise DataError(f"{path}: expected an audio network of a width that {HEADS} heads divide, found {dim}")
    depth = count_blocks(tensors, "modality_trunks.audio.blocks.#.norm_1.weight")
    with torch.device("meta"):
        empty = ImageBindAudio(dim, depth, HEADS, tensors[PROJECTION].shape[0])
    return load_exactly(empty, tensors, str(path), OTHER_SENSES)
