"""Sizes of HiCMAE; numbers only, no torch."""

from __future__ import annotations

from dataclasses import dataclass

HEAD_WIDTH = 64
"""Width of an attention head in all released sizes."""

CHUNK = 16
"""Frames that the network sees at a time."""

SOUND_FRAMES, MEL_BANDS = 256, 128
"""Size of the audio that goes with them: frames of 10 ms and mel bands."""

PARTS = 4
"""Embeddings that are joined to the features: video and audio alone, video and audio after fusion."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; the defaults are the released base model `avit_dim512_patch16_160_a256`.

    Attributes:
        dim: width of all blocks, a multiple of `HEAD_WIDTH`.
        depth: blocks of the video encoder, and of the audio encoder.
        fusion: layers of the fusion encoder.
        mlp: width of a block's hidden layer in units of `dim`.
        image: height and width of a frame in pixels, a multiple of `patch`.
        patch, tubelet: pixels and frames of one token of the video.
        sound_patch: frames and mel bands of one token of the audio.
        classes: outputs of the head; 0 for none, as after pre-training.
    """

    dim: int = 512
    depth: int = 10
    fusion: int = 2
    mlp: int = 4
    image: int = 160
    patch: int = 16
    tubelet: int = 2
    sound_patch: int = 16
    classes: int = 0

    @property
    def heads(self) -> int:
        """Attention heads of a block."""
        return self.dim // HEAD_WIDTH

    @property
    def video_tokens(self) -> int:
        """Tokens of a chunk's pictures, 800 in the base model."""
        return CHUNK // self.tubelet * (self.image // self.patch) ** 2

    @property
    def audio_tokens(self) -> int:
        """Tokens of a chunk's audio, 128 in the base model."""
        return (SOUND_FRAMES // self.sound_patch) * (MEL_BANDS // self.sound_patch)

    @property
    def features(self) -> int:
        """Width of a chunk's features, 2048 in the base model."""
        return PARTS * self.dim
