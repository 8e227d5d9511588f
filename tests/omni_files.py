"""A small EmbeddingGemma 2 in the layout of sentence-transformers, for the tests of `omni`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.models.embedding_gemma2.processing_embedding_gemma2 import EmbeddingGemma2Processor
from transformers.models.embedding_gemma2.video_processing_embedding_gemma2 import EmbeddingGemma2VideoProcessor
from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
from transformers.models.gemma4.image_processing_gemma4 import Gemma4ImageProcessor

import vision_files

SPECIAL = {
    "image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>", "audio_token": "<audio>",
    "boa_token": "<boa>", "eoa_token": "<eoa>", "video_token": "<|video|>",
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}"
    "{% elif c['type'] == 'audio' %}<audio>{% elif c['type'] == 'video' %}<|video|>{% endif %}"
    "{% endfor %}{% endfor %}<eos>"
)
"""Combines inputs in one message; without it the model takes each alone only."""

SIZE = {"patch_size": 4, "max_soft_tokens": 70, "pooling_kernel_size": 2}
ATTENTION = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "head_dim": 16}


def make_processor(template: str | None) -> Any:
    """The released processor with a vocabulary of its special tokens and a few words."""
    words = ["<pad>", "<eos>", "<bos>", "<unk>", *SPECIAL.values(), "task", "classification", "query", ":", "|"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return EmbeddingGemma2Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessor(**SIZE),
        tokenizer=transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>",
            extra_special_tokens=SPECIAL,
        ),
        video_processor=EmbeddingGemma2VideoProcessor(**SIZE, num_frames=4),
        chat_template=template,
    )  # fmt: skip


def save_omni(folder: Path, template: str | None = TEMPLATE, seed: int = 1) -> Path:
    """Save a model with random weights; returns the folder."""
    processor = make_processor(template)
    number = processor.tokenizer.convert_tokens_to_ids
    config = transformers.EmbeddingGemma2Config(
        text_config={
            **ATTENTION, "vocab_size": 32, "num_hidden_layers": 2, "num_key_value_heads": 1, "global_head_dim": 16,
            "hidden_size_per_layer_input": 8, "embedding_dim": 24, "sliding_window": 64, "sliding_window_pattern": 2,
        },
        vision_config={
            **ATTENTION, "model_type": "gemma4_vision", "num_hidden_layers": 1, "num_key_value_heads": 2,
            "patch_size": 4, "pooling_kernel_size": 2, "position_embedding_size": 256,
        },
        audio_config={
            "model_type": "gemma4_audio", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "subsampling_conv_channels": [128, 4], "output_proj_dims": 32,
        },
        boi_token_id=number("<boi>"), eoi_token_id=number("<eoi>"), image_token_id=number("<image>"),
        video_token_id=number("<|video|>"), boa_token_id=number("<boa>"), eoa_token_index=number("<eoa>"),
        audio_token_id=number("<audio>"),
    )  # fmt: skip
    bare = folder.with_name(f"{folder.name}-transformers")
    model = vision_files.randomise(transformers.EmbeddingGemma2Model(config), seed)
    with vision_files.quiet_transformers():
        model.save_pretrained(bare)
        processor.save_pretrained(bare)
        SentenceTransformer(modules=[Transformer(str(bare)), Pooling(24, "mean"), Normalize()]).save(str(folder))
    return folder
