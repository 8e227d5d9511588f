"""What users can set of HiCMAE, each value checked; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blemore_harness.errors import InvalidOption
from blemore_plugins.features.options import FeatureOptions
from blemore_plugins.hicmae.shape import Shape
from blemore_plugins.s4d.options import S4DOptions

RELEASED = "checkpoint-99.pth"
"""Name of the released pre-trained weights: base model, VoxCeleb2, 100 epochs."""

WEIGHT_FILES = (RELEASED, "model.safetensors", "pytorch_model.bin")
"""Names that weights may have in a folder or repository, whole or in shards, the best first."""

RANDOM_SMALL = "random-small"
"""Value of `weights` that builds a small network with random weights, for the demo dataset."""

SMALL = Shape(dim=64, depth=3, fusion=1, mlp=2, patch=8, sound_patch=32)
"""The layout of HiCMAE, thin: for trying the whole path without weights."""

SMALL_SEED = 0
"""The small network is the same in every run."""


@dataclass(frozen=True)
class HiCMAEOptions(FeatureOptions):
    """Options of `hicmae`, besides those of all encoders of features and of its head.

    All below matter only where features are made from the clips (`source=media`).

    Attributes:
        weights: local file (`.pth`, `.pt`, `.safetensors`), pre-trained or fine-tuned; a folder or hub id with one
            of `WEIGHT_FILES`; or `random-small`, which is untrained. Upstream hands `checkpoint-99.pth` out by a
            SharePoint link: it is looked for in the current folder. A fine-tuned file must come from other data
            (CREMA-D and MAFW are linked there): one made on BLEMORE has seen the clips that it would be scored on.
        compat: cut clips as the organisers' extraction does: the last chunk holds what is left over, be it one frame,
            and is filled up with the mean colour and with silence. Features then follow the released ones in their
            statistics, such padded chunks included. Without it the last chunk begins earlier and is a full one; both
            give as many chunks. In either case the audio's level stays as it is, where the organisers draw a random
            gain of 0.5 to 1.5 for every chunk.
        stride: video frames between the frames that the network sees, a multiple of `step`; upstream has 4 for
            videos of 25 frames a second, and a chunk then lasts 2.56 s, as long as the audio that fits beside it.
        scale, align, size, step, detect_every, detect_size, smallest_face, smooth: how faces are cut out, see `s4d`,
            which shares crops of equal settings. Upstream has OpenFace do it, with a scale that nothing records for
            BLEMORE: about 1.0 at OpenFace's defaults, about 1.6 in the VoxCeleb2 crops of pre-training; 1.3 lies
            between.
        precision: of the network on any device; bfloat16 is faster on a GPU and changes features by about 1 %.
    """

    weights: str = RELEASED
    compat: bool = False
    stride: int = 4
    scale: float = 1.3
    align: bool = True
    size: int = 160
    step: int = 2
    detect_every: int = 8
    detect_size: int = 512
    smallest_face: float = 0.1
    smooth: int = 5
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weights.strip():
            raise InvalidOption(f"weights: expected a file, a folder, a hub id or {RANDOM_SMALL}, found an empty text")
        if self.stride < 1:
            raise InvalidOption(f"stride must be at least 1, found {self.stride}")
        self.crops()

    def crops(self) -> S4DOptions:
        """Return the settings of the face crops in the words of `s4d`, which makes them.

        Raises:
            InvalidOption: a value that crops cannot have.
        """
        return S4DOptions(
            scale=self.scale,
            align=self.align,
            size=self.size,
            step=self.step,
            detect_every=self.detect_every,
            detect_size=self.detect_size,
            smallest_face=self.smallest_face,
            smooth=self.smooth,
            stride=self.stride,
        )
