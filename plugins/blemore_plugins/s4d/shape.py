"""Sizes of the network and how its tokens find their experts; numbers only, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

HEAD_WIDTH = 64
"""Width of an attention head, the same in the small, base and large models of the family."""

ADAPTER_RATIO = 4
"""An expert's bottleneck is the width divided by this."""


@dataclass(frozen=True)
class Routing:
    """How tokens find their experts.

    Attributes:
        experts: number of experts, 8 in the released recipe.
        top: experts per token, 2 in the released recipe.
        noise: add learned Gaussian noise to the router's logits. Upstream does so in training and in evaluation alike.
        capacity: an expert serves at most `int(tokens * top / experts * capacity)` tokens of a batch, the first ones;
            0 for no limit. Upstream has 1.0 in training and in evaluation alike, which makes the output of a clip
            depend on the clips beside it.
    """

    experts: int = 8
    top: int = 2
    noise: bool = False
    capacity: float = 0.0


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; the defaults are the released `vitmoe_base_patch16_160`.

    Attributes:
        dim: width, a multiple of `HEAD_WIDTH`.
        depth: number of blocks.
        first_expert: index of the first block with experts; all later ones have them.
        image: height and width of a frame in pixels, a multiple of `patch`.
        frames: frames of a clip, a multiple of `tubelet`.
        patch, tubelet: pixels and frames of one token.
        mlp: width of a block's dense hidden layer in units of `dim`.
        adapter: width of an expert's bottleneck.
        video_classes, image_classes: outputs of the two heads; the second one is AffectNet-7's.
        routing: of all experts.
    """

    dim: int = 768
    depth: int = 12
    first_expert: int = 6
    image: int = 160
    frames: int = 16
    patch: int = 16
    tubelet: int = 2
    mlp: int = 4
    adapter: int = 192
    video_classes: int = 6
    image_classes: int = 7
    routing: Routing = field(default_factory=Routing)

    @property
    def heads(self) -> int:
        """Attention heads of a block."""
        return self.dim // HEAD_WIDTH

    @property
    def tokens(self) -> int:
        """Tokens of a clip, 800 in the base model."""
        return self.frames // self.tubelet * (self.image // self.patch) ** 2
