"""How frames become the input of a network: resize, crop, normalise, on the device and in batches.

The constants are the released ones (checked against the libraries' own image processors in the tests), written out:
defaults of processor classes differ from the released files, and change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Triple = tuple[float, float, float]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class PictureRule:
    """How frames of any size become squares.

    Attributes:
        mean, std: of each channel, for values from 0 to 1.
        filter: for resizing.
        zoom: numerator and denominator: the shorter side is resized to this times the square's side, and the centre is
            cropped; None squashes the whole frame into the square.
        antialias: filter when shrinking, as Pillow does.
        rounded: round resized values to whole grey levels, as pipelines do that resize bytes.
        even: where the centre falls between two pixels, crop at the even one, as torchvision does; else at the upper
            and left one, as transformers does.
        swapped: exchange red and blue.
    """

    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    filter: Literal["bilinear", "bicubic"] = "bilinear"
    zoom: tuple[int, int] | None = (1, 1)
    antialias: bool = True
    rounded: bool = True
    even: bool = False
    swapped: bool = False

    def resized(self, height: int, width: int, side: int) -> tuple[int, int]:
        """Return the size before cropping: the longer side is cut to a whole pixel, as torchvision does."""
        if self.zoom is None:
            return side, side
        short = side * self.zoom[0] // self.zoom[1]
        return (short, short * width // height) if height <= width else (short * height // width, short)


def fit(frames: Tensor, rule: PictureRule, side: int) -> Tensor:
    """Make squares of frames.

    Args:
        frames: uint8 (N, height, width, 3), RGB, on any device.
        rule: how.
        side: of the squares, in pixels.

    Returns:
        float32 (N, 3, side, side), grey levels from 0 to 255.
    """
    from torch.nn import functional

    pictures = frames.permute(0, 3, 1, 2).float()
    height, width = rule.resized(pictures.shape[2], pictures.shape[3], side)
    if pictures.shape[2:] != (height, width):
        pictures = functional.interpolate(
            pictures, (height, width), mode=rule.filter, align_corners=False, antialias=rule.antialias
        ).clamp_(0, 255)
    if rule.rounded:
        pictures = pictures.round_()
    top, left = (round(over / 2) if rule.even else over // 2 for over in (height - side, width - side))
    pictures = pictures[:, :, top : top + side, left : left + side]
    return pictures.flip(1) if rule.swapped else pictures


def normalise(pictures: Tensor, rule: PictureRule) -> Tensor:
    """Turn grey levels, float32 (N, 3, side, side), into the values that the network was trained on."""
    mean = pictures.new_tensor(rule.mean).view(3, 1, 1)
    std = pictures.new_tensor(rule.std).view(3, 1, 1)
    return (pictures / 255 - mean) / std
