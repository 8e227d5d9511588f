"""The supported types of audio models, how each is loaded and run, and the small random networks for the demo."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from blemore_harness.errors import DataError, InvalidOption

InputKind = Literal["wave", "fbank", "log-mel", "patches", "repeated", "windows"]

CONFIG = "config.json"


@dataclass(frozen=True)
class Kind:
    """Settings for loading and running models of one type.

    Attributes:
        type: `model_type` in `config.json`.
        network: class of transformers; its configuration class is found through it.
        input: kind of input: the `wave`; `fbank` features of variable length; a `log-mel` spectrogram of 30 s; a
            spectrogram of fixed length divided into `patches`; a log-mel spectrogram of 10 s, in which shorter audio is
            `repeated`; or spectrograms of `windows` of 2 s.
        part: attribute of the network that is run; empty for the whole network.
        blocks: path of the list of blocks, relative to `part`.
        filed: pattern of the blocks' names in weight files, without the prefix of models with a head.
        depth: field of the configuration with the number of blocks.
        left_out: pattern of other names that may be missing in the file or in the network.
        settings: values set in the configuration for loading.
        rate: sampling rate in Hz.
    """

    type: str
    network: str
    input: InputKind = "wave"
    part: str = ""
    blocks: str = "encoder.layers"
    filed: str = r"encoder\.layers"
    depth: str = "num_hidden_layers"
    left_out: str = "none"
    settings: Mapping[str, Any] = field(default_factory=dict)
    rate: int = 16_000


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
"""Kinds that `audio` runs, by type."""

CLAP = Kind(
    "clap", "ClapAudioModelWithProjection", "repeated", blocks="",
    left_out=r"(text_model|text_projection)\..*|logit_scale_[at]", rate=48_000,
)  # fmt: skip

QWEN2_AUDIO = Kind("qwen2_audio", "Qwen2AudioEncoder", "log-mel", blocks="layers", filed="layers")

IMAGEBIND = Kind("imagebind", "ImageBindAudio", "windows", blocks="")
"""Read from `imagebind_huge.pth`, which has no configuration."""

SMALL_SEED = 0
"""Seed of the small networks, which are the same in every run."""

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
        "whisper": (
            "whisper",
            {
                "d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 128,
                "decoder_layers": 0, "decoder_attention_heads": 2, "decoder_ffn_dim": 8, "vocab_size": 8,
                "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3,
            },
        ),
        "qwen2-audio": (
            "qwen2_audio",
            {
                "audio_config": {
                    "d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 128,
                    "num_mel_bins": 80,
                },
                "text_config": {
                    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
                    "intermediate_size": 128, "vocab_size": 8,
                },
                "audio_token_index": 7,
            },
        ),
        "clap": (
            "clap",
            {
                "patch_embeds_hidden_size": 16, "hidden_size": 128, "depths": (1, 1, 1, 1),
                "num_attention_heads": (1, 2, 4, 8), "projection_dim": 64,
            },
        ),
        "imagebind-audio": ("imagebind", {"dim": 64, "depth": 2, "heads": 2, "width": 64}),
    }
)  # fmt: skip
"""Type and configuration of small networks by name: narrow versions of the released models, to test the whole path."""


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` of a model.

    Raises:
        DataError: not a JSON object.
    """
    return _read_object(folder / CONFIG, "a model's configuration")


def find_kind(folder: Path, wanted: Kind | None = None) -> Kind:
    """Return the kind of the model in a folder: one of `KINDS`, or the one that an encoder is made for.

    Raises:
        DataError: as of `read_config`.
        InvalidOption: another type of model.
    """
    kinds = KINDS if wanted is None else {wanted.type: wanted}
    found = read_config(folder).get("model_type")
    if not isinstance(found, str) or found not in kinds:
        some = "the type" if wanted else "one of the types"
        own = {CLAP.type: "clap", QWEN2_AUDIO.type: "qwen2-audio"}.get(str(found))
        hint = f", for which there is the encoder {own}" if own and not wanted else ""
        raise InvalidOption(f"model: expected {some} {', '.join(kinds)}; found '{found}' in {folder}{hint}")
    return kinds[found]


def read_preprocessor(path: Path) -> dict[str, Any]:
    """Read the settings of a model's feature extractor.

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
        raise DataError(f"{path} is not {what} (damaged, or not JSON): download it again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is not {what} (expected an object, found {type(found).__name__}): download it again")
    return found
