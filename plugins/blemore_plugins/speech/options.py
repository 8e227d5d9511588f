"""The settings of the frozen audio encoders: which network, which of its layers, how they become one vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blemore_harness.errors import InvalidOption
from blemore_harness.heads.options import HeadOptions
from blemore_plugins.features.options import FeatureOptions

RANDOM_SMALL = "random-small"
"""Value of `model` that builds a small network with random weights, for the demo dataset."""

LAST = "last"
"""Value of `layers` for what the network itself gives last, after its final norm where it has one."""


@dataclass(frozen=True)
class AudioOptions(HeadOptions):
    """Options of `audio`, besides those of its head.

    Attributes:
        model: hub id, or local folder with `config.json`, the weights and `preprocessor_config.json`; or
            `random-small`, which is untrained.
        revision: branch, tag or commit of a hub id.
        layers: which hidden states are averaged, inclusive: `6-12`, `6`, `6,8,10`. Index 0 is what enters the first
            block, index k what leaves block k; blocks above the highest one are never computed. Or `last`: what the
            network itself gives last, after its final norm where it has one.
        pooling: `segments` averages the seven statistics of equal parts of the clip; `clip` takes them over the whole
            of it; `moments` joins mean and standard deviation of each part and the mean of the whole clip, which for 3
            parts makes 7 numbers per dimension too. The UZH paper says "over 3 segments" and gives that width.
        segments: how many parts; a clip with fewer frames than that has one part per frame.
    """

    model: str = "facebook/w2v-bert-2.0"
    revision: str = "main"
    layers: str = LAST
    pooling: Literal["segments", "clip", "moments"] = "segments"
    segments: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_source(self.model, self.revision)
        if self.segments < 1:
            raise InvalidOption(f"segments: expected at least 1, found {self.segments}")
        parse_layers(self.layers)

    @property
    def parts(self) -> int:
        """Into how many parts a clip is cut for its statistics."""
        return 1 if self.pooling == "clip" else self.segments


@dataclass(frozen=True)
class Wav2Vec2Options(AudioOptions):
    """Options of `wav2vec2`: those of `audio`; the defaults are the UZH paper's.

    Attributes:
        model: as of `audio`; a model of type wav2vec2 needs no `preprocessor_config.json`.
        layers: as of `audio`.
    """

    model: str = "facebook/wav2vec2-large"
    layers: str = "6-12"


@dataclass(frozen=True)
class Wav2Vec2NarrowOptions(Wav2Vec2Options):
    """Options of `wav2vec2-512`: those of `wav2vec2`.

    Attributes:
        hidden: widths of the head's hidden layers.
    """

    hidden: str = "512"


@dataclass(frozen=True)
class Voc2vecOptions(AudioOptions):
    """Options of `voc2vec`: those of `audio`.

    Attributes:
        model: as of `audio`; a model of type wav2vec2 needs no `preprocessor_config.json`.
        layers: as of `audio`; the default is the upper half of 12.
    """

    model: str = "alkiskoudounas/voc2vec"
    layers: str = "6-12"


@dataclass(frozen=True)
class AudeeringOptions(AudioOptions):
    """Options of `audeering-dim`: those of `audio`.

    Attributes:
        model: as of `audio`; a model of type wav2vec2 needs no `preprocessor_config.json`.
        layers: as of `audio`; the default is the upper half of 12.
        outputs: append the model's own three outputs, arousal, dominance and valence, to the vector.
    """

    model: str = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
    layers: str = "6-12"
    outputs: bool = False


@dataclass(frozen=True)
class SpeechFeatureOptions(FeatureOptions):
    """Options of speech frame-level features that are released or extracted.

    Attributes:
        model: hub id or local folder, as of `audio`; or `random-small`, which is untrained. Only extraction looks at it
            and at the next three.
        revision: branch, tag or commit of a hub id.
        layers: as of `audio`; `last` is the released layout.
        compat: extract as the organisers did, as far as that is known; see the encoder.
    """

    model: str = ""
    revision: str = "main"
    layers: str = LAST
    compat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_source(self.model, self.revision)
        if parse_layers(self.layers) is not None and self.compat:
            raise InvalidOption(f"layers: compat copies the released layout, which is '{LAST}'; found '{self.layers}'")


@dataclass(frozen=True)
class WavLMOptions(SpeechFeatureOptions):
    """Options of `wavlm`.

    Attributes:
        model: hub id or local folder; or `random-small`.
    """

    model: str = "microsoft/wavlm-large"


@dataclass(frozen=True)
class HubertOptions(SpeechFeatureOptions):
    """Options of `hubert`.

    Attributes:
        model: hub id or local folder; or `random-small`.
    """

    model: str = "facebook/hubert-large-ll60k"


def check_source(model: str, revision: str) -> None:
    """Refuse a model or a revision without a name.

    Raises:
        InvalidOption: an empty text.
    """
    if not model.strip() or not revision.strip():
        raise InvalidOption("model and revision: expected a hub id or a folder, and a branch; found an empty text")


def parse_layers(text: str) -> tuple[int, ...] | None:
    """Read indices and inclusive ranges, joined by commas; None for `last`.

    Raises:
        InvalidOption: anything else, an empty range, or an index that is named twice.

    >>> parse_layers("6-12")
    (6, 7, 8, 9, 10, 11, 12)
    >>> parse_layers("6,8,10")
    (6, 8, 10)
    """
    if text.strip() == LAST:
        return None
    wrong = InvalidOption(f"layers: expected indices such as 6-12, 6 or 6,8,10, each once, or last; found '{text}'")
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
