"""Which types of audio model can be run, how each is loaded and heard with, and the small random stand-ins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from blemore_harness.errors import DataError, InvalidOption

Hears = Literal["wave", "fbank", "log-mel", "patches"]

CONFIG = "config.json"


@dataclass(frozen=True)
class Kind:
    """How models of one type are loaded and run.

    Attributes:
        type: `model_type` in `config.json`.
        network: class of transformers; its configuration class is found through it.
        hears: what goes in: the `wave`; `fbank` features of the audio's own length; a `log-mel` picture of 30 s; or a
            spectrogram of fixed length cut into `patches`.
        part: attribute of the network that is run; empty for all of it.
        blocks: path of the list of blocks, from that part.
        filed: pattern of the blocks' names in files, without the prefix that a model with a head puts before them.
        depth: field of the configuration that counts the blocks.
        left_out: pattern of further names that only the file or only the network may have, likewise.
        settings: set in the configuration when loading.
    """

    type: str
    network: str
    hears: Hears = "wave"
    part: str = ""
    blocks: str = "encoder.layers"
    filed: str = r"encoder\.layers"
    depth: str = "num_hidden_layers"
    left_out: str = "none"
    settings: Mapping[str, Any] = field(default_factory=dict)


WHISPER = Kind(
    "whisper", "WhisperModel", "log-mel", part="encoder", blocks="layers", depth="encoder_layers",
    # Neither computed nor loaded; fine-tuned classifiers come without it.
    left_out=r"decoder\..*", settings={"decoder_layers": 0},
)  # fmt: skip

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.type: kind
        for kind in (
            Kind("wav2vec2", "Wav2Vec2Model"),
            Kind("wav2vec2-conformer", "Wav2Vec2ConformerModel"),
            Kind("hubert", "HubertModel"),
            Kind("wavlm", "WavLMModel"),
            Kind("data2vec-audio", "Data2VecAudioModel"),
            Kind("unispeech", "UniSpeechModel"),
            Kind("unispeech-sat", "UniSpeechSatModel"),
            Kind("sew", "SEWModel"),
            Kind("sew-d", "SEWDModel", blocks="encoder.encoder.layer", filed=r"encoder\.encoder\.layer"),
            Kind("wav2vec2-bert", "Wav2Vec2BertModel", "fbank"),
            WHISPER,
            Kind(
                "audio-spectrogram-transformer", "ASTModel", "patches",
                blocks="layers", filed=r"(?:encoder\.layer|layers)",
            ),
        )
    }
)  # fmt: skip
"""Kinds by type. CLAP is not among them: its grid of patches has no axis of time that a clip's features could take."""

SMALL_SEED = 0
"""The small networks are the same in every run."""

_THIN: Mapping[str, Any] = {
    "conv_dim": (64,) * 7,
    "hidden_size": 128,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}

_GROUP: Mapping[str, Any] = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}

_STABLE: Mapping[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}

SMALL: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "wav2vec2": ("wav2vec2", {**_GROUP, **_THIN, "num_hidden_layers": 12}),
        "wav2vec2-robust": ("wav2vec2", {**_STABLE, **_THIN, "num_hidden_layers": 4}),
        "hubert": ("hubert", {**_STABLE, **_THIN, "num_hidden_layers": 3}),
        "wavlm": ("wavlm", {**_STABLE, **_THIN, "conv_bias": False, "num_hidden_layers": 3}),
        "wav2vec2-bert": (
            "wav2vec2-bert",
            {"hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 128, "num_hidden_layers": 3},
        ),
    }
)
"""Type and configuration of small networks by name: the layouts of the released ones, thin, to try the whole path."""


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` of a model.

    Raises:
        DataError: not a JSON object.
    """
    return _read_object(folder / CONFIG, "a model's configuration")


def find_kind(folder: Path) -> Kind:
    """Report of which kind the model in a folder is.

    Raises:
        DataError: as of `read_config`.
        InvalidOption: a model that cannot be run here.
    """
    found = read_config(folder).get("model_type")
    if not isinstance(found, str) or found not in KINDS:
        raise InvalidOption(f"model: expected one of the types {', '.join(KINDS)}; found '{found}' in {folder}")
    return KINDS[found]


def read_preprocessor(path: Path) -> dict[str, Any]:
    """Read the settings of a model's feature extractor from either of the files that may hold them.

    Raises:
        DataError: not a JSON object.
    """
    settings = _read_object(path, "a feature extractor's settings")
    nested = settings.get("feature_extractor")
    return nested if isinstance(nested, dict) else settings


def _read_object(path: Path, what: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not {what} ({error}): fetch it again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is not {what} (expected an object, found {type(found).__name__}): fetch it again")
    return found
