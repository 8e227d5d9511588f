"""Tiny random audio models, saved as the real ones were released: with their heads, prefixes and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from blemore_plugins.hub import quiet_transformers

DEPTH = 3
WIDTH = 16
SECONDS = 2
"""What the tiny Whisper takes at once."""

BLOCKS: dict[str, Any] = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": 2}
WAVE: dict[str, Any] = {
    **BLOCKS,
    "intermediate_size": 24,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 12,
}
CODES: dict[str, Any] = {"codevector_dim": 8, "proj_codevector_dim": 8, "num_codevectors_per_group": 4}
STABLE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
RELATIVE: dict[str, Any] = {"position_embeddings_type": "relative"}
SQUEEZED: dict[str, Any] = {
    "squeeze_factor": 2, "conv_kernel": (10, 3, 3, 3, 3, 2, 2), "conv_stride": (5, 2, 2, 2, 2, 2, 2),
}  # fmt: skip

RELEASED: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2": ("Wav2Vec2ForPreTraining", {**WAVE, **CODES}),
    "wav2vec2-conformer": ("Wav2Vec2ConformerForPreTraining", {**WAVE, **CODES, **RELATIVE}),
    "hubert": ("HubertModel", {**WAVE, **STABLE}),
    "wavlm": ("WavLMModel", {**WAVE, **STABLE, "conv_bias": False, "num_buckets": 20}),
    "data2vec-audio": ("Data2VecAudioForCTC", {**WAVE, "conv_pos_kernel_size": 3, "num_conv_pos_embeddings": 2}),
    "unispeech": ("UniSpeechForPreTraining", {**WAVE, **CODES, "num_ctc_classes": 9}),
    "unispeech-sat": ("UniSpeechSatForPreTraining", {**WAVE, **CODES, "num_clusters": 9}),
    "sew": ("SEWForCTC", {**WAVE, **SQUEEZED}),
    "sew-d": ("SEWDForCTC", {**WAVE, **SQUEEZED, "position_buckets": 8, "max_position_embeddings": 16}),
    "wav2vec2-bert": ("Wav2Vec2BertModel", {**BLOCKS, "intermediate_size": 24}),
    "whisper": (
        "WhisperForConditionalGeneration",
        {
            "d_model": WIDTH, "encoder_layers": DEPTH, "decoder_layers": 2, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 40,
            "num_mel_bins": 20, "max_source_positions": 50 * SECONDS, "max_target_positions": 8, "pad_token_id": 0,
            "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3,
        },
    ),
    "audio-spectrogram-transformer": (
        "ASTForAudioClassification",
        {**BLOCKS, "intermediate_size": 24, "max_length": 60, "num_mel_bins": 36},
    ),
}  # fmt: skip
"""Class and configuration by type."""


def feature_extractor(kind: str, **changes: object) -> Any:
    """The feature extractor of a tiny model; pads with -4 where the released one pads with nothing special."""
    if kind == "whisper":
        return transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=SECONDS, **changes)
    if kind == "audio-spectrogram-transformer":
        return transformers.ASTFeatureExtractor(num_mel_bins=36, max_length=60, mean=-3.0, std=2.0, **changes)
    if kind == "wav2vec2-bert":
        return transformers.SeamlessM4TFeatureExtractor(**changes)
    return transformers.Wav2Vec2FeatureExtractor(**({"do_normalize": True} | changes))


def randomise(model: Any) -> Any:
    """Return every parameter a value that matters."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def save_model(folder: Path, kind: str, **changes: object) -> Path:
    """Save a model and the settings of its feature extractor."""
    name, settings = RELEASED[kind]
    network = getattr(transformers, name)
    with quiet_transformers():
        randomise(network(network.config_class(**settings))).save_pretrained(folder)
    feature_extractor(kind, **changes).save_pretrained(folder)
    return folder


def save_emotion_model(folder: Path) -> Path:
    """Save the layout of audeering's file: `wav2vec2.*`, `classifier.dense` and `classifier.out_proj`."""
    from safetensors.torch import save_file

    config = transformers.Wav2Vec2Config(**WAVE, **STABLE, num_labels=3)
    torch.manual_seed(3)
    trunk = randomise(transformers.Wav2Vec2Model(config))
    weights = {f"wav2vec2.{name}": tensor.clone() for name, tensor in trunk.state_dict().items()}
    weights |= {
        "classifier.dense.weight": torch.randn(WIDTH, WIDTH), "classifier.dense.bias": torch.randn(WIDTH),
        "classifier.out_proj.weight": torch.randn(3, WIDTH), "classifier.out_proj.bias": torch.randn(3),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    config.architectures = ["Wav2Vec2ForSpeechClassification"]
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def change_weights(folder: Path, change: Any) -> None:
    """Change the names and tensors of a saved model."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def whole_model(folder: Path, kind: str) -> Any:
    """The whole network as transformers loads it."""
    with quiet_transformers():
        return getattr(transformers, RELEASED[kind][0]).from_pretrained(folder, local_files_only=True).eval()
