"""The settings that every encoder of released or extracted features has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blemore_harness.errors import InvalidOption
from blemore_harness.heads.options import HeadOptions

Source = Literal["auto", "released", "statistics", "media"]


@dataclass(frozen=True)
class FeatureOptions(HeadOptions):
    """Options of an encoder of frame-level features, besides those of its head.

    Attributes:
        source: where features come from: `released` reads the organisers' folder, `statistics` their aggregated
            `<encoder>_static_features.npz`, `media` extracts them from the clips; `auto` takes the first of these that
            the dataset has.
        rows: what the head is trained on: `clips` gives it a row of seven statistics per clip, `embeddings` every
            embedding of every clip as a row of its own, a clip's logits being averaged (the organisers' subsampled
            variant, whose head is `mlp-512-subsampled`); it needs frame-level features, so not `statistics`.
    """

    source: Source = "auto"
    rows: Literal["clips", "embeddings"] = "clips"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows == "embeddings" and self.source == "statistics":
            raise InvalidOption(
                "rows: 'embeddings' needs every embedding of a clip, and the aggregated file of source=statistics has "
                "one row per clip: expected source released or media, or rows=clips"
            )
