"""The settings of the wav2vec2 encoder: which network, which of its layers, how they become one vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from blemore_harness.errors import InvalidOption
from blemore_harness.heads import HeadOptions

RANDOM_SMALL = "random-small"
"""Value of `model` that builds a small network with random weights, for the demo dataset."""

SMALL: Mapping[str, Any] = {
    "feat_extract_norm": "group",
    "do_stable_layer_norm": False,
    "conv_bias": False,
    "conv_dim": (64,) * 7,
    "hidden_size": 128,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
"""The layout of wav2vec2-large, thin: for trying the whole path without weights."""

SMALL_SEED = 0
"""The small network is the same in every run."""


@dataclass(frozen=True)
class Wav2Vec2Options(HeadOptions):
    """Options of `wav2vec2`, besides those of its head.

    Attributes:
        model: hub id, or local folder with `config.json` and the weights; or `random-small`, which is untrained.
        revision: branch, tag or commit of a hub id.
        layers: which `hidden_states` are averaged, inclusive: `6-12`, `6`, `6,8,10`. Index 0 is what enters the first
            block, index k what leaves block k; blocks above the highest one are never computed.
        pooling: `segments` averages the statistics of equal parts of the clip; `clip` takes them over the whole of it.
            The UZH paper says "over 3 segments" and gives the width of 7 statistics.
        segments: how many parts; a clip with fewer frames than that has one part per frame.
    """

    model: str = "facebook/wav2vec2-large"
    revision: str = "main"
    layers: str = "6-12"
    pooling: Literal["segments", "clip"] = "segments"
    segments: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model.strip() or not self.revision.strip():
            raise InvalidOption("model and revision: expected a hub id or a folder, and a branch; found an empty text")
        if self.segments < 1:
            raise InvalidOption(f"segments: expected at least 1, found {self.segments}")
        parse_layers(self.layers)

    @property
    def layer_indices(self) -> tuple[int, ...]:
        """The layers as ascending indices into `hidden_states`."""
        return parse_layers(self.layers)

    @property
    def parts(self) -> int:
        """Into how many parts a clip is cut for its statistics."""
        return self.segments if self.pooling == "segments" else 1


def parse_layers(text: str) -> tuple[int, ...]:
    """Read indices and inclusive ranges, joined by commas.

    Raises:
        InvalidOption: anything else, an empty range, or an index that is named twice.

    >>> parse_layers("6-12")
    (6, 7, 8, 9, 10, 11, 12)
    >>> parse_layers("6,8,10")
    (6, 8, 10)
    """
    wrong = InvalidOption(f"layers: expected indices such as 6-12, 6 or 6,8,10, each once; found '{text}'")
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        ends = [first, last] if dash else [first, first]
        if not all(end.isascii() and end.isdecimal() for end in ends):
            raise wrong
        span = range(int(ends[0]), int(ends[1]) + 1)
        if not span:
            raise wrong
        found += span
    if len(set(found)) != len(found):
        raise wrong
    return tuple(sorted(found))
