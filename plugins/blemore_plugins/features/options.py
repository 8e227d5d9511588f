"""Options of all encoders of released or extracted features."""

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
        source: source of the features: `released` reads the organisers' folder, `statistics` their aggregated
            `<encoder>_static_features.npz`, `media` extracts them from the clips; `auto` uses the first of these that
            the dataset has.
        rows: training examples of the head: `clips` uses seven statistics per clip, `embeddings` every embedding of
            every clip as an example, with a clip's logits averaged (the organisers' subsampled variant, whose head is
            `mlp-512-subsampled`); this requires frame-level features, so not `statistics`.
    """

    source: Source = "auto"
    rows: Literal["clips", "embeddings"] = "clips"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.needs_frames and self.source == "statistics":
            raise InvalidOption(
                f"{self.needs_frames} requires all embeddings of a clip, but the aggregated file of source=statistics "
                "has statistics per clip: expected source released or media, or rows=clips and queries=0"
            )
        if self.rows == "embeddings" and self.queries:
            raise InvalidOption(f"queries: {self.queries} pool the embeddings of a clip: expected rows=clips")

    @property
    def needs_frames(self) -> str:
        """The option that requires frame-level features, in words; empty if statistics are enough."""
        if self.rows == "embeddings":
            return "rows: 'embeddings'"
        return f"queries: {self.queries}" if self.queries else ""
