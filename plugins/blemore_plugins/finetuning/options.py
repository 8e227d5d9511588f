"""What users can set of the encoders that are trained whole, each value checked; no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from blemore_harness.options import demand, incidental, searched
from blemore_harness.training.options import TrainingOptions

RANDOM = ("random", "random-small")
"""Values of `model` for fresh weights: at the released size, and at a size for trying things out."""


@dataclass(frozen=True)
class FinetuningOptions(TrainingOptions):
    """How a network is trained whole. Rates, epochs and patience are the UZH paper's (arXiv 2603.23650), the rest ours.

    Attributes:
        learning_rate: of the pretrained layers (with `lora`, which needs about ten times as much, of its matrices).
        weight_decay: AdamW's; none on biases, norms and position tables.
        save_every: epochs between checkpoints that an interrupted fit goes on from (1 to 2 GB for a base network).
        model: hub id, or local folder with `config.json` and the weights; or one of `RANDOM`, which are untrained.
        revision: branch, tag or commit of a hub id.
        head_rate: of the layers that start fresh.
        layer_decay: each layer learns by this factor slower than the one above it; 1 for none. .65 to .75 is usual with
            a `learning_rate` of 1e-4 or more.
        lora: rank of the low-rank matrices that are trained in place of the pretrained layers, on the queries and
            values of every attention; 0 trains the layers themselves.
        head_dropout: share of the head's inputs dropped in training.
        gradient_checkpointing: compute activations twice to save memory; changes no result.
    """

    learning_rate: float = searched(1e-5, 1e-6, 1e-4, log=True)
    model: str = field(kw_only=True)
    revision: str = "main"
    head_rate: float = 1e-3
    layer_decay: float = searched(1.0, 0.65, 1.0)
    lora: int = 0
    head_dropout: float = searched(0.0, 0.0, 0.5)
    gradient_checkpointing: bool = incidental(False)

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(bool(self.model.strip()), "model", "a hub id, a folder, random or random-small", self.model)
        demand(bool(self.revision.strip()), "revision", "a branch, tag or commit", self.revision)
        demand(0 < self.head_rate < 1, "head_rate", "between 0 and 1", self.head_rate)
        demand(0 < self.layer_decay <= 1, "layer_decay", "above 0, at most 1", self.layer_decay)
        demand(self.lora >= 0, "lora", "a rank, or 0", self.lora)
        demand(0 <= self.head_dropout < 1, "head_dropout", "from 0 to below 1", self.head_dropout)


@dataclass(frozen=True)
class VideoOptions(FinetuningOptions):
    """Options of a video transformer on whole frames, besides those of training.

    Frames are spread evenly over the clip, one from each of `frames` equal parts. The picture is scaled so that its
    shorter side is `size`, and its middle square is taken.

    Attributes:
        frames: of a clip that the network sees.
        size: height and width of its input, pixels.
        jitter: in training, take a frame from anywhere in its part of the clip, and not from the middle.
        crop: smallest area of a random square in training, as a share of the middle square; 1 for the square itself.
        flip: mirror half of the training clips.
        samplings: how often a clip is sampled at prediction, each time over its whole length, at interleaved frames.
        mirror: predict the mirror images as well. Probabilities are averaged over all views of a clip.
    """

    frames: int = 16
    size: int = 224
    jitter: bool = True
    crop: float = 0.8
    flip: bool = True
    samplings: int = 1
    mirror: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(self.frames >= 1, "frames", "at least 1", self.frames)
        demand(self.size >= 16 and self.size % 16 == 0, "size", "a multiple of 16", self.size)
        demand(0.1 <= self.crop <= 1, "crop", "from 0.1 to 1", self.crop)
        demand(self.samplings >= 1, "samplings", "at least 1", self.samplings)

    @property
    def short_side(self) -> int:
        """Shorter side of the decoded frames that are kept: 256 for 224, which all encoders share."""
        return self.size * 8 // 7


@dataclass(frozen=True)
class VideoMAEOptions(VideoOptions):
    """Options of `videomae`; see `VideoOptions`."""

    model: str = "MCG-NJU/videomae-base-finetuned-kinetics"

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(self.frames % 2 == 0, "frames", "even: two make a token", self.frames)


@dataclass(frozen=True)
class TimeSformerOptions(VideoOptions):
    """Options of `timesformer`; see `VideoOptions`."""

    model: str = "facebook/timesformer-base-finetuned-k600"
    frames: int = 8


@dataclass(frozen=True)
class SoundOptions(FinetuningOptions):
    """Options of `wav2vec2-finetuned`, besides those of training.

    Training takes a window of equal length from every clip (a shorter clip is repeated), because zeros at the end
    change what group-norm models make of all of a clip; prediction takes each whole clip by itself.

    Attributes:
        seconds: length of the window.
        pooling: how frames become one vector: `attention` is their mean and standard deviation, both weighted by a
            small trained network which begins with equal weights; `mean` is the plain mean and standard deviation.
        front_end: whether the convolutions below the transformer are trained as well.
        mask: share of the frames masked in training, in spans (SpecAugment over time); 0 for none.
        mask_length: frames of a span, 20 ms each.
        layerdrop: share of the blocks left out of a training step; 0 for none.
    """

    model: str = "facebook/wav2vec2-base"
    seconds: float = 5.0
    pooling: Literal["attention", "mean"] = "attention"
    front_end: bool = False
    mask: float = 0.0
    mask_length: int = 10
    layerdrop: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(0.1 <= self.seconds <= 60, "seconds", "from 0.1 to 60", self.seconds)
        demand(0 <= self.mask < 1, "mask", "from 0 to below 1", self.mask)
        demand(self.mask_length >= 1, "mask_length", "at least 1", self.mask_length)
        demand(0 <= self.layerdrop < 1, "layerdrop", "from 0 to below 1", self.layerdrop)
