"""Whole frames through VideoMAE or TimeSformer: pixels, building the network, and what it is fed with."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from blemore_harness.clips import Clip
from blemore_harness.context import Context
from blemore_harness.errors import DataError
from blemore_harness.media.frame_cache import FrameCache, open_frames
from blemore_harness.media.frames import uniform_indices
from blemore_harness.networks import seeded
from blemore_plugins.finetuning.groups import NOTHING, Anatomy, Built
from blemore_plugins.finetuning.loading import (
    check_values,
    checkpoint_activations,
    find_model,
    make_head,
    read_config,
    refuse_faulty_transformers,
)
from blemore_plugins.finetuning.options import VideoOptions
from blemore_plugins.hub import load_strictly


@dataclass(frozen=True)
class Look:
    """How a network was shown its pictures.

    Attributes:
        mean, std: of the channels, on the scale from 0 to 1.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def normalise(self, pictures: Tensor) -> Tensor:
        """Map grey levels 0 to 255, float32 (..., 3, height, width), to what the network takes."""
        mean, std = (
            torch.tensor(values, device=pictures.device).view(3, 1, 1) * 255 for values in (self.mean, self.std)
        )
        return (pictures - mean) / std


def fit_middle(frames: Tensor, size: int) -> Tensor:
    """Scale frames so that their shorter side is `size` and take the middle square.

    Bilinear with antialiasing; the longer side is rounded down, and the square begins on a whole pixel, as in the
    networks' released preprocessing.

    Args:
        frames: uint8 (T, height, width, 3).
        size: of the square.

    Returns:
        float32 (T, 3, size, size), still on the scale from 0 to 255.
    """
    height, width = frames.shape[1:3]
    short = min(height, width)
    down, across = height * size // short, width * size // short
    pictures = _resize(frames, (down, across))
    top, left = (down - size) // 2, (across - size) // 2
    return pictures[..., top : top + size, left : left + size]


def cut_square(frames: Tensor, size: int, smallest: float, draws: Sequence[float]) -> Tensor:
    """Cut a random square out of the middle square, the same from all frames, and scale it to `size`.

    Args:
        frames: uint8 (T, height, width, 3).
        size: of the result.
        smallest: least area, as a share of the middle square.
        draws: three numbers from 0 to 1: area, place across, place down.

    Returns:
        float32 (T, 3, size, size), on the scale from 0 to 255.
    """
    height, width = frames.shape[1:3]
    short = min(height, width)
    side = max(1, round(short * math.sqrt(1 - (1 - smallest) * draws[0])))
    top, left = (
        (whole - short) // 2 + min(int(draw * (short - side + 1)), short - side)
        for whole, draw in ((height, draws[2]), (width, draws[1]))
    )
    return _resize(frames[:, top : top + side, left : left + side], (size, size))


def _resize(frames: Tensor, size: tuple[int, int]) -> Tensor:
    pictures = frames.permute(0, 3, 1, 2).float()
    return F.interpolate(pictures, size, mode="bilinear", antialias=True, align_corners=False)


IMAGENET = Look((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What VideoMAE was trained with, by the released `preprocessor_config.json` (the class's own default is another)."""

TIMESFORMER = Look((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
"""What TimeSformer was trained with, likewise."""

BLOCK = re.compile(r".*encoder\.layer\.(\d+)\..*")
HEAD = re.compile(r"head\..*")
FRESH_NORM = re.compile(r"head\..*|trunk\.fc_norm\..*")

ONLY_PRETRAINING = re.compile(r"decoder\..*|encoder_to_decoder\..*|mask_token|videomae\.layernorm\..*")
"""What a VideoMAE file has before any fine-tuning; its last norm is not the norm after pooling, which starts fresh."""

FRESH_AFTER_PRETRAINING = re.compile(rf"classifier\..*|fc_norm\..*|{ONLY_PRETRAINING.pattern}")

SMALL: Mapping[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "patch_size": 8,
    "initializer_range": 0.1,
}
"""A thin network of the same class; so thin a one needs larger fresh weights for its blocks to do anything."""


class VideoClassifier(nn.Module):
    """A video transformer under a head of six outputs.

    Args:
        trunk: of transformers, with its own classifier.
        dropout: of the head.
    """

    def __init__(self, trunk: Any, dropout: float) -> None:
        super().__init__()
        trunk.classifier = nn.Identity()
        self.trunk = trunk
        self.head = make_head(trunk.config.hidden_size, dropout)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (B, 6) of clips (B, frames, 3, size, size)."""
        return self.head(self.trunk(pixel_values=pixels).logits)


def build_videomae(options: VideoOptions, context: Context) -> Built:
    """Load VideoMAE, fine-tuned or only pre-trained, with a fresh head; or make one with fresh weights.

    Its position table is computed and not in the file, so that other numbers of frames and other sizes fit as well.

    Raises:
        DataError: weights that do not fit.
        WeightsMissing, InvalidOption: none there, or of another model.
        ExtraMissing: a release of transformers that may load it wrongly.
    """
    refuse_faulty_transformers()
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    settings: dict[str, Any] = {"num_frames": options.frames, "image_size": options.size, "use_mean_pooling": True}
    weights = find_model("videomae", options)
    head = HEAD
    if weights is None:
        small = SMALL if options.model == "random-small" else {}
        trunk = _fresh(VideoMAEForVideoClassification, VideoMAEConfig(**settings, **small), context.seed)
    else:
        config = read_config(weights.folder, "videomae")
        if "VideoMAEForPreTraining" in (config.get("architectures") or ()):
            head, allowed, ignored = FRESH_NORM, FRESH_AFTER_PRETRAINING, ONLY_PRETRAINING
        else:
            allowed = ignored = NOTHING
            del settings["use_mean_pooling"]  # as the file has it
        trunk = load_strictly(VideoMAEForVideoClassification, weights.folder, allowed, dtype=torch.float32, **settings)
        check_values(trunk, weights.files[1], ignored)
    attention = re.compile(r".*encoder\.layer\.\d+\.attention\.attention\.(query|value)")
    above = re.compile(r"trunk\.fc_norm\..*|trunk\.videomae\.layernorm\..*")
    return _finish(trunk, options, context, Anatomy(_depth(trunk), BLOCK, above, head, attention))


def build_timesformer(options: VideoOptions, context: Context) -> Built:
    """Load TimeSformer with a fresh head, or make one with fresh weights.

    For another number of frames, or another size, the network itself stretches its tables to the nearest entries.

    Raises:
        DataError: weights that do not fit.
        WeightsMissing, InvalidOption: none there, or of another model.
    """
    from transformers import TimesformerConfig, TimesformerForVideoClassification

    weights = find_model("timesformer", options)
    if weights is None:
        small = SMALL if options.model == "random-small" else {}
        config = TimesformerConfig(num_frames=options.frames, image_size=options.size, **small)
        trunk = _fresh(TimesformerForVideoClassification, config, context.seed)
    else:
        read_config(weights.folder, "timesformer")
        trunk = load_strictly(TimesformerForVideoClassification, weights.folder, NOTHING, dtype=torch.float32)
        check_values(trunk, weights.files[1], NOTHING)
    # The blocks read the shape of their tokens off the configuration that they share.
    trunk.config.num_frames, trunk.config.image_size = options.frames, options.size
    attention = re.compile(r".*encoder\.layer\.\d+\.(temporal_)?attention\.attention\.qkv")
    above = re.compile(r"trunk\.timesformer\.layernorm\..*")
    return _finish(trunk, options, context, Anatomy(_depth(trunk), BLOCK, above, HEAD, attention, fused=True))


class VideoSource:
    """Feeds a network with frames from the harness's cache, resized and normalised on the device.

    Args:
        frames: decoded.
        options: frames, size, augmentation, views.
        look: of the pictures.
    """

    def __init__(self, frames: FrameCache, options: VideoOptions, look: Look) -> None:
        self._frames, self._options, self._look = frames, options, look
        self.draws = options.frames + 4

    def read(self, clip: Clip, draw: Tensor | None) -> Tensor:
        """Read frames, uint8 (T, height, width, 3); for prediction, one sampling after the other."""
        options = self._options

        def choose(count: int) -> NDArray[np.int64]:
            if draw is None:
                indices = uniform_indices(count, options.frames * options.samplings)
                return indices.reshape(options.frames, options.samplings).T.reshape(-1)
            if options.jitter:
                places = (torch.arange(options.frames) + draw[: options.frames].double()) * count / options.frames
                return places.long().clamp(max=count - 1).numpy()
            return uniform_indices(count, options.frames)

        return torch.from_numpy(self._frames.read(clip, choose))

    def join(self, held: Sequence[Tensor], draws: Tensor) -> Tensor:
        """Cut a random square from each clip, mirror half of them: (B, frames, 3, size, size)."""
        options = self._options
        clips = []
        for frames, draw in zip(held, draws[:, options.frames :].tolist(), strict=True):
            pictures = cut_square(frames, options.size, options.crop, draw[1:])
            clips.append(pictures.flip(-1) if options.flip and draw[0] < 0.5 else pictures)
        return self._look.normalise(torch.stack(clips))

    def views(self, held: Tensor) -> Tensor:
        """Return the middle squares of all samplings, then their mirror images: (V, frames, 3, size, size)."""
        pictures = self._look.normalise(fit_middle(held, self._options.size))
        views = pictures.unflatten(0, (self._options.samplings, self._options.frames))
        return torch.cat([views, views.flip(-1)]) if self._options.mirror else views


def open_video(options: VideoOptions, look: Look, context: Context) -> VideoSource:
    """Open the decoded frames of all clips as a network takes them."""
    return VideoSource(open_frames(context.cache, options.short_side), options, look)


def _fresh(kind: Any, config: Any, seed: int) -> Any:
    with seeded(seed):
        return kind(config)


def _finish(trunk: Any, options: VideoOptions, context: Context, anatomy: Anatomy) -> Built:
    if options.gradient_checkpointing:
        checkpoint_activations(trunk)
    with seeded(context.seed):
        network = VideoClassifier(trunk, options.head_dropout)
    return Built(network.to(context.device), anatomy)


def _depth(trunk: Any) -> int:
    depth = int(trunk.config.num_hidden_layers)
    if depth < 1:
        raise DataError(f"expected a network of at least one block, found {depth}")
    return depth
