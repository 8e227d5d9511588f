"""Tiny random audio models of 2026, saved under the names and with the settings of the released ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from tokenizers.models import WordLevel

from blemore_plugins.hub import quiet_transformers
from blemore_plugins.speech.options import EMOTIONS
from speech_models import DEPTH, SECONDS, WIDTH, randomise
from vision_files import draw

STATES = 50 * SECONDS
"""Hidden states of the tiny Whisper and Qwen2-Audio for the audio that they take at once."""

TOKENS = {"<|AUDIO|>": 9, "<|audio_bos|>": 10, "<|audio_eos|>": 11}
"""Tokens of the tiny Qwen2-Audio, which has 12."""

CLAP_SECONDS = 1
"""What the tiny CLAP takes at once."""

HEADS = 12
"""Of ImageBind's audio encoder."""


def save_qwen(folder: Path, shards: int = 2) -> Path:
    """Save Qwen2-Audio as released with transformers 4.38: without the prefix `model`, in shards."""
    config = transformers.Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder", "d_model": WIDTH, "encoder_layers": DEPTH, "encoder_ffn_dim": 24,
            "encoder_attention_heads": 2, "num_mel_bins": 20, "max_source_positions": STATES,
        },
        text_config={
            "model_type": "qwen2", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "intermediate_size": 32, "vocab_size": 12,
        },
        audio_token_index=TOKENS["<|AUDIO|>"],
    )  # fmt: skip
    network = randomise(transformers.Qwen2AudioForConditionalGeneration(config))
    old = {"model.language_model.": "language_model.model.", "lm_head.": "language_model.lm_head.", "model.": ""}
    weights = {}
    for name, tensor in network.state_dict().items():
        new, before = next((new, before) for before, new in old.items() if name.startswith(before))
        weights[new + name.removeprefix(before)] = tensor.clone()
    folder.mkdir(parents=True, exist_ok=True)
    names, index = sorted(weights), {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = names[number::shards]
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    config.architectures = ["Qwen2AudioForConditionalGeneration"]
    config.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=SECONDS).save_pretrained(folder)
    words = tokenizers.Tokenizer(WordLevel({f"w{number}": number for number in range(9)}, unk_token="w0"))
    words.add_special_tokens(list(TOKENS))
    words.save(str(folder / "tokenizer.json"))
    return folder


def save_clap(folder: Path, fusion: bool = False) -> Path:
    """Save CLAP with its text encoder, as released."""
    config = transformers.ClapConfig(
        audio_config={
            "patch_embeds_hidden_size": 4, "hidden_size": 32, "depths": [1, 1, 1, 1], "projection_dim": 12,
            "num_attention_heads": [1, 1, 2, 2], "enable_fusion": fusion, "fusion_type": "channel_map",
        },
        text_config={
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
            "vocab_size": 30, "projection_dim": 12,
        },
        projection_dim=12,
    )  # fmt: skip
    with quiet_transformers():
        randomise(transformers.ClapModel(config)).save_pretrained(folder)
    kind = "fusion" if fusion else "rand_trunc"
    transformers.ClapFeatureExtractor(max_length_s=CLAP_SECONDS, truncation=kind).save_pretrained(folder)
    return folder


def imagebind_tensors(dim: int = 24, depth: int = 2, width: int = 20) -> dict[str, torch.Tensor]:
    """Draw the audio part of `imagebind_huge.pth` under its names, small, with some of the other senses."""
    before, trunk, head = (f"modality_{part}.audio." for part in ("preprocessors", "trunks", "heads"))
    shapes: dict[str, tuple[int, ...]] = {
        before + "cls_token": (1, 1, dim), before + "rgbt_stem.proj.weight": (dim, 1, 16, 16),
        before + "rgbt_stem.norm_layer.weight": (dim,), before + "rgbt_stem.norm_layer.bias": (dim,),
        before + "pos_embedding_helper.pos_embed": (1, 229, dim), head + "0.weight": (dim,), head + "0.bias": (dim,),
        head + "2.weight": (width, dim), "modality_postprocessors.audio.1.log_logit_scale": (),
        "modality_trunks.vision.blocks.0.norm_1.weight": (7,), "modality_postprocessors.text.1.log_logit_scale": (),
    }  # fmt: skip
    for number in range(depth):
        shapes |= {
            f"{trunk}blocks.{number}.{name}": shape
            for name, shape in {
                "attn.in_proj_weight": (3 * dim, dim), "attn.in_proj_bias": (3 * dim,), "attn.bias_k": (1, 1, dim),
                "attn.bias_v": (1, 1, dim), "attn.out_proj.weight": (dim, dim), "attn.out_proj.bias": (dim,),
                "norm_1.weight": (dim,), "norm_1.bias": (dim,), "norm_2.weight": (dim,), "norm_2.bias": (dim,),
                "mlp.fc1.weight": (4 * dim, dim), "mlp.fc1.bias": (4 * dim,), "mlp.fc2.weight": (dim, 4 * dim),
                "mlp.fc2.bias": (dim,),
            }.items()
        }  # fmt: skip
    return draw(shapes)


def save_regressors(folder: Path, inputs: int = STATES * WIDTH, widths: tuple[int, ...] = (6, 5, 4, 3)) -> Path:
    """Save the 40 regressors; those of every other emotion with the prefix of a compiled module."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(8)
    for number, emotion in enumerate(EMOTIONS):
        sizes = list(zip(widths, (*widths[1:], 1), strict=True))
        weights: dict[str, Any] = {"proj.weight": torch.randn(widths[0], inputs) / inputs**0.5}
        weights["proj.bias"] = torch.randn(widths[0])
        for layer, (before, after) in enumerate(sizes):
            weights[f"mlp.{2 + 3 * layer}.weight"] = torch.randn(after, before)
            weights[f"mlp.{2 + 3 * layer}.bias"] = torch.randn(after)
        prefix = "_orig_mod." * (number % 2)
        torch.save({prefix + name: tensor for name, tensor in weights.items()}, folder / f"model_{emotion}_best.pth")
    return folder
