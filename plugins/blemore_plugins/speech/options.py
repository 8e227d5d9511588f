"""Options of the frozen audio encoders: the model, its layers, and the pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blemore_harness.errors import InvalidOption
from blemore_harness.heads.options import HeadOptions
from blemore_plugins.features.options import FeatureOptions

RANDOM_SMALL = "random-small"
"""Value of `model` for a small network with random weights, for the demo dataset."""

LAST = "last"
"""Value of `layers` for the network's last hidden state, after its final norm if it has one."""

WEIGHTED = "weighted"
"""Value of `layers` for a learned weighted sum of all layers; `weighted:6-12` of some."""


EMOTIONS = (
    "Affection", "Amusement", "Anger", "Astonishment_Surprise", "Awe", "Bitterness", "Concentration", "Confusion",
    "Contemplation", "Contempt", "Contentment", "Disappointment", "Disgust", "Distress", "Doubt", "Elation",
    "Embarrassment", "Emotional_Numbness", "Fatigue_Exhaustion", "Fear", "Helplessness", "Hope_Enthusiasm_Optimism",
    "Impatience_and_Irritability", "Infatuation", "Interest", "Intoxication_Altered_States_of_Consciousness",
    "Jealousy_&_Envy", "Longing", "Malevolence_Malice", "Pain", "Pleasure_Ecstasy", "Pride", "Relief", "Sadness",
    "Sexual_Lust", "Shame", "Sourness", "Teasing", "Thankfulness_Gratitude", "Triumph",
)  # fmt: skip
"""The emotions of Empathic-Insight-Voice, as its files are named, in the order of the intensities."""


@dataclass(frozen=True)
class AudioOptions(HeadOptions):
    """Options of `audio`, besides those of its head.

    Attributes:
        model: Hugging Face id, or local folder with `config.json`, the weights and `preprocessor_config.json`; or
            `random-small`, which is untrained.
        revision: branch, tag or commit of a Hugging Face id.
        layers: hidden states that are averaged, inclusive: `6-12`, `6`, `6,8,10`. Index 0 is the input of the first
            block, index k the output of block k; later blocks are not computed. `last` is the network's last hidden
            state, after its final norm if it has one. `weighted` lets the head learn a weighted sum of all hidden
            states, `weighted:6-12` of some, each normalised frame by frame.
        pooling: `segments` averages the seven statistics of equal parts of the clip; `clip` computes them over the
            whole clip; `moments` concatenates mean and standard deviation of each part and the mean of the whole clip,
            which for 3 parts also gives 7 values per dimension. The UZH paper reports "over 3 segments" and this width.
        segments: number of parts; a clip with fewer frames has one part per frame.
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
        check_weighted(self)
        if self.weighted and self.pooling == "moments":
            raise InvalidOption(
                "pooling: 'moments' is not available with a weighted sum of layers, use segments or clip"
            )

    @property
    def weighted(self) -> bool:
        """Whether the head learns a weighted sum of layers."""
        return is_weighted(self.layers)

    @property
    def parts(self) -> int:
        """Number of parts of a clip for its statistics."""
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
        outputs: append the model's own three outputs, arousal, dominance and valence, to the embedding.
    """

    model: str = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
    layers: str = "6-12"
    outputs: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weighted and self.outputs:
            raise InvalidOption("outputs: expected false with a weighted sum of layers, found true")


@dataclass(frozen=True)
class ModelOptions(FeatureOptions):
    """Options of frame-level features that a model of transformers computes.

    Attributes:
        model: Hugging Face id or local folder, as of `audio`; or `random-small`, which is untrained. This and the
            following options are used for extraction only.
        revision: branch, tag or commit of a Hugging Face id.
    """

    model: str = ""
    revision: str = "main"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_source(self.model, self.revision)

    @property
    def weighted(self) -> bool:
        """Whether the head learns a weighted sum of layers; here there is one layer."""
        return False


@dataclass(frozen=True)
class LayerOptions(ModelOptions):
    """Options of models with a choice of layers.

    Attributes:
        layers: as of `audio`.
    """

    layers: str = LAST

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_layers(self.layers)
        check_weighted(self)

    @property
    def weighted(self) -> bool:
        """Whether the head learns a weighted sum of layers, which requires extraction from the clips."""
        return is_weighted(self.layers)


@dataclass(frozen=True)
class OutputOptions(ModelOptions):
    """Options of models that also compute one output per clip.

    Attributes:
        embedding: what a clip's embedding consists of: `outputs`, what the model computes for the whole clip (the mean
            over its parts, if it is longer than the model's input); `statistics`, the seven statistics of the
            frame-level features; or `both`, one after the other.
    """

    embedding: Literal["outputs", "statistics", "both"] = "outputs"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding == "statistics":
            return
        if self.weighted:
            raise InvalidOption(f"embedding: expected statistics with a weighted sum of layers, found {self.embedding}")
        needs = {"rows=embeddings": self.rows != "clips", f"source={self.source}": self.source not in ("auto", "media")}
        for need, there in needs.items():
            if there:
                raise InvalidOption(
                    f"embedding: '{self.embedding}' needs the model's outputs, which are no frame-level features: "
                    f"{need} expects embedding=statistics"
                )


@dataclass(frozen=True)
class SpeechFeatureOptions(LayerOptions):
    """Options of released or extracted frame-level features of speech models.

    Attributes:
        layers: as of `audio`; `last` corresponds to the released features.
        compat: extract like the organisers, as far as their procedure is known; see the encoder.
    """

    compat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if (parse_layers(self.layers) is not None or self.weighted) and self.compat:
            raise InvalidOption(f"layers: compat requires '{LAST}' as in the released features; found '{self.layers}'")


@dataclass(frozen=True)
class WavLMOptions(SpeechFeatureOptions):
    """Options of `wavlm`.

    Attributes:
        model: Hugging Face id or local folder; or `random-small`.
    """

    model: str = "microsoft/wavlm-large"


@dataclass(frozen=True)
class HubertOptions(SpeechFeatureOptions):
    """Options of `hubert`.

    Attributes:
        model: Hugging Face id or local folder; or `random-small`.
    """

    model: str = "facebook/hubert-large-ll60k"


@dataclass(frozen=True)
class WhisperOptions(LayerOptions):
    """Options of `whisper`.

    Attributes:
        model: Hugging Face id or local folder of a Whisper model; or `random-small`.
    """

    model: str = "openai/whisper-medium"


@dataclass(frozen=True)
class Qwen2AudioOptions(OutputOptions, LayerOptions):
    """Options of `qwen2-audio`.

    Attributes:
        model: Hugging Face id or local folder of a Qwen2-Audio model; or `random-small`.
        layers: as of `audio`, for the audio encoder; `last` is its output, the normalised means of pairs of states.
        embedding: what a clip's embedding consists of: `outputs`, the last hidden state of the language model at the
            token after the audio; `statistics`, the seven statistics of the frame-level features, for which the
            language model is not loaded; or `both`.
        precision: `fp32`, or `bf16`, for weights and activations; `auto` is bf16 on a GPU and fp32 on a CPU.
    """

    model: str = "Qwen/Qwen2-Audio-7B"
    embedding: Literal["outputs", "statistics", "both"] = "both"
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def precision_on(self, device: str) -> str:
        """Name the precision that is computed with on a device."""
        on_gpu = device.startswith("cuda")
        return ("bf16" if on_gpu else "fp32") if self.precision == "auto" else self.precision


@dataclass(frozen=True)
class ClapOptions(OutputOptions):
    """Options of `clap`.

    Attributes:
        model: Hugging Face id or local folder of a CLAP model without feature fusion; or `random-small`.
        embedding: what a clip's embedding consists of: `outputs`, CLAP's projected embedding; `statistics`, the seven
            statistics of the frame-level features; or `both`.
    """

    model: str = "laion/clap-htsat-unfused"


@dataclass(frozen=True)
class ImageBindAudioOptions(OutputOptions):
    """Options of `imagebind-audio`.

    Attributes:
        model: Hugging Face id, folder or file in the layout of `imagebind_huge.pth`; or `random-small`.
        embedding: what a clip's embedding consists of: `outputs`, the mean embedding of three windows of 2 s, as
            published; `statistics`, the seven statistics of the three; or `both`.
    """

    model: str = "nielsr/imagebind-huge"


@dataclass(frozen=True)
class EmpathicVoiceOptions(OutputOptions, LayerOptions):
    """Options of `empathic-voice`.

    Attributes:
        model: Hugging Face id or local folder of the Whisper model that the regressors were trained on; or
            `random-small`.
        regressors: Hugging Face id or local folder with the 40 regressors; not used with `embedding=statistics`.
        regressors_revision: branch, tag or commit of that id.
        embedding: what a clip's embedding consists of: `outputs`, the intensities of 40 emotions; `statistics`, the
            seven statistics of the Whisper model's hidden states; or `both`.
    """

    model: str = "laion/BUD-E-Whisper"
    regressors: str = "laion/Empathic-Insight-Voice-Small"
    regressors_revision: str = "main"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_source(self.regressors, self.regressors_revision)


def check_source(model: str, revision: str) -> None:
    """Raise for a model or a revision without a name.

    Raises:
        InvalidOption: an empty text.
    """
    if not model.strip() or not revision.strip():
        raise InvalidOption("model, revision: expected a Hugging Face id or a folder, and a branch; found empty text")


def is_weighted(layers: str) -> bool:
    """Return whether the option `layers` asks for a learned weighted sum.

    >>> is_weighted("weighted"), is_weighted("weighted:6-12"), is_weighted("6-12")
    (True, True, False)
    """
    return layers.strip().partition(":")[0] == WEIGHTED


def check_weighted(options: AudioOptions | LayerOptions) -> None:
    """Refuse what cannot be combined with a weighted sum of layers (`InvalidOption`)."""
    if options.weighted and options.normalise_actors:
        raise InvalidOption("normalise_actors: expected false with a weighted sum of layers, found true")


def parse_layers(text: str) -> tuple[int, ...] | None:
    """Return the layers of a list of indices and inclusive ranges separated by commas; None for `last`.

    Of `weighted:6-12` those after the colon; None for `weighted`, which means all of them.

    Raises:
        InvalidOption: any other text, an empty range, or a repeated index.

    >>> parse_layers("6-12")
    (6, 7, 8, 9, 10, 11, 12)
    >>> parse_layers("6,8,10")
    (6, 8, 10)
    """
    if text.strip() in (LAST, WEIGHTED):
        return None
    wrong = InvalidOption(
        f"layers: expected indices such as 6-12, 6 or 6,8,10, each once, last, or weighted; found '{text}'"
    )
    found: list[int] = []
    listed = text.strip().removeprefix(f"{WEIGHTED}:")
    for part in listed.split(","):
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
