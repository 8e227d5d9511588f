"""What users can set of the face encoder, each value checked; no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from blemore_harness.errors import InvalidOption
from blemore_harness.options import demand, incidental, searched
from blemore_plugins.s4d.shape import Routing, Shape

HUB_ID = "cyinen/S4D"
HUB_FILE = "vit_base_voxceleb2+affectnet_100.pt"
"""The released pre-trained weights: masked autoencoding of VoxCeleb2 and AffectNet, 100 epochs."""

WEIGHT_FILES = (HUB_FILE, "model.safetensors", "pytorch_model.bin")
"""Names that weights may have in a folder or repository, whole or in shards, the best first."""

RANDOM = ("random", "random-small")
"""Values of `weights` for fresh weights: at the released size, and at a size for trying things out."""

When = Literal["off", "training", "always"]


@dataclass(frozen=True)
class S4DOptions:
    """Options of `s4d`. Defaults are the challenge paper's where it says, else those of the released S4D.

    Of the released recipe this leaves out what is meant for training the whole network on other data: slower lower
    layers (decay .75), mixup and cutmix, smoothed labels, RandAugment and random erasing, crops from 8 % of the area
    on, joint training on AffectNet; and its rule for the rate, 1e-5 for every 8 clips of a batch.

    Attributes:
        weights: hub id, a local `.pt`, `.pth` or `.safetensors` file, or one of `RANDOM`.
        scale: side of the crop in units of the detected face's longer side; 1.0 tight, 1.7 loose. The released code
            has no margin for its fine-tuning data and loose crops for pre-training; 1.3 lies between.
        align: rotate crops so that the eyes are level.
        size: height and width of crops and of the network's input, pixels.
        step: every `step`-th video frame is stored as a crop. 2 allows 15 starting points a second at 30 frames a
            second and takes 7 MB for a clip of 6 s (21 GB for 3,050 of them); 1 twice that.
        detect_every: video frames between searches for faces, a multiple of `step`. Up to 32, up to three stored
            frames between two searches are looked at where the face is expected; squares in between are interpolated.
        detect_size: frames are shrunk to this length of their longer side for the detector.
        smallest_face: smallest face to look for, as a share of the frame's shorter side; rounded to the nearest size
            of facenet-pytorch's pyramid: 20 pixels of the video, 28, 40, 56, 79 and so on.
        smooth: length in stored frames of the mean over the track, odd; 1 for none.
        frames: frames of a clip that the network sees, even.
        stride: video frames between them, a multiple of `step`.
        train: what is trained besides the norm after pooling and the head: `adapters` the experts, `upper` all of the
            blocks that have experts, `all` everything. The paper's counts fit neither of the first two.
        epochs, batch_size, learning_rate: the paper's. The rate rises for `warmup` epochs, then falls as a cosine.
        weight_decay: none on biases and norms.
        warmup: epochs, 5 in the released scripts.
        flip: mirror half of the training clips.
        crop: smallest area of a random square crop in training, as a share of the frame; 1 for none.
        route_noise: when noise is added to the router. The released code adds it always; then predictions depend on
            the seed.
        drop_tokens: when experts have a capacity, `capacity`. The released code has it always; then predictions for a
            clip depend on the clips beside it.
        capacity: room of an expert in units of an even share, 1.0 in the released recipe.
        balance: weight of the load-balance loss; 0 because the released code never applies it (1e-3 was meant).
        segments: windows over time at prediction, evenly spaced.
        views: 2 adds the mirror image of each window. The released code has two spatial crops that turn out identical.
        selection: which epoch is kept: `last`, `inner` the best on held-back actors of the training clips, `held-out`
            the best by score on the held-out clips, as papers do (never on the final fit, where it means `last`).
        check_every: epochs between looks for `selection`.
        save_every: epochs between checkpoints that an interrupted fit goes on from.
    """

    weights: str = HUB_ID
    scale: float = 1.3
    align: bool = True
    size: int = 160
    step: int = 2
    detect_every: int = 8
    detect_size: int = 512
    smallest_face: float = 0.1
    smooth: int = 5
    frames: int = 16
    stride: int = 4
    train: Literal["adapters", "upper", "all"] = "adapters"
    epochs: int = 100
    batch_size: int = 16
    learning_rate: float = searched(1e-4, 1e-5, 1e-3, log=True)
    weight_decay: float = searched(0.05, 1e-3, 0.2, log=True)
    warmup: int = 5
    flip: bool = True
    crop: float = 0.8
    route_noise: When = "training"
    drop_tokens: When = "training"
    capacity: float = 1.0
    balance: float = 0.0
    segments: int = 2
    views: Literal[1, 2] = 2
    selection: Literal["last", "inner", "held-out"] = "last"
    check_every: int = 5
    save_every: int = incidental(5)

    def __post_init__(self) -> None:
        positive = ("step", "detect_every", "epochs", "batch_size", "segments", "check_every", "save_every", "stride")
        for name in positive:
            demand(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        demand(bool(self.weights), "weights", "a hub id, a file, random or random-small", self.weights)
        demand(0.5 <= self.scale <= 3, "scale", "from 0.5 to 3", self.scale)
        demand(self.size >= 32 and self.size % 16 == 0, "size", "a multiple of 16, at least 32", self.size)
        demand(self.stride % self.step == 0, "stride", f"a multiple of step ({self.step})", self.stride)
        demand(
            self.detect_every % self.step == 0, "detect_every", f"a multiple of step ({self.step})", self.detect_every
        )
        demand(self.detect_size >= 64, "detect_size", "at least 64", self.detect_size)
        demand(0 < self.smallest_face <= 1, "smallest_face", "above 0, at most 1", self.smallest_face)
        demand(self.smooth >= 1 and self.smooth % 2 == 1, "smooth", "odd", self.smooth)
        demand(self.frames >= 2 and self.frames % 2 == 0, "frames", "even, at least 2", self.frames)
        demand(0 < self.learning_rate < 1, "learning_rate", "between 0 and 1", self.learning_rate)
        demand(self.weight_decay >= 0, "weight_decay", "at least 0", self.weight_decay)
        demand(0 <= self.warmup < self.epochs, "warmup", f"from 0, below epochs ({self.epochs})", self.warmup)
        demand(0.1 <= self.crop <= 1, "crop", "from 0.1 to 1", self.crop)
        demand(self.capacity > 0, "capacity", "above 0 (drop_tokens=off for no limit)", self.capacity)
        demand(self.balance >= 0, "balance", "at least 0", self.balance)
        if self.weights in RANDOM and self.train != "all":
            raise InvalidOption(
                f"train={self.train} freezes parts that weights={self.weights} leaves untrained: set train=all"
            )

    @property
    def rate(self) -> int:
        """Stored frames between the frames that the network sees."""
        return self.stride // self.step

    def crop_facts(self) -> dict[str, object]:
        """Return every option that changes a crop, for the key of the cache."""
        names = ("scale", "align", "size", "step", "detect_every", "detect_size", "smallest_face", "smooth")
        return {name: getattr(self, name) for name in names}

    def shape(self) -> Shape:
        """Return the network's sizes as far as options know them; weights on disk know better."""
        if self.weights == "random-small":
            small = Shape(dim=128, depth=2, first_expert=1, patch=8, mlp=1, adapter=32, routing=Routing(experts=4))
            return replace(small, image=self.size, frames=self.frames)
        return Shape(image=self.size, frames=self.frames)

    def routing(self, base: Routing, training: bool) -> Routing:
        """Return noise and capacity for training or for prediction, with the experts of `base`."""

        def applies(when: When) -> bool:
            return when == "always" or (training and when == "training")

        capacity = self.capacity if applies(self.drop_tokens) else 0.0
        return Routing(base.experts, base.top, applies(self.route_noise), capacity)
