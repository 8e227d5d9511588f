"""Qwen2-Audio: hidden states of its audio encoder over time, and the last hidden state of its language model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from blemore_harness.errors import DataError
from blemore_harness.networks import seeded
from blemore_plugins.hub import load_strictly
from blemore_plugins.speech.kinds import SMALL, SMALL_SEED
from blemore_plugins.speech.network import Frozen, find_depth, list_layers, read_configuration
from blemore_plugins.speech.recipe import Recipe

TOKENIZER = "tokenizer.json"

AROUND = ("<|audio_bos|>", "<|audio_eos|>")
"""Tokens before and after a clip; there is no further text."""

SMALL_AROUND = (5, 6)
"""Their numbers in the small random network."""

NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True)
class LanguageModel:
    """What follows the audio encoder.

    Attributes:
        projector: from the states of the audio encoder to inputs of the language model.
        language: the language model without the layer that predicts tokens.
        around: numbers of the tokens before and after a clip.
    """

    projector: Any
    language: Any
    around: tuple[int, int]


@dataclass(frozen=True)
class QwenAudio(Frozen):
    """The network, ready to run; `head` is a `LanguageModel` or None. Padding is masked, as in transformers."""

    def call(self, given: torch.Tensor, real: Sequence[int | None]) -> Any:
        """Run the audio encoder."""
        steps = self.trunk.config.max_source_positions
        counts = torch.tensor([steps if count is None else count for count in real], device=given.device)
        mask = torch.arange(steps, device=given.device)[None] < counts[:, None]
        return self.trunk(given, attention_mask=None if bool(mask.all()) else mask[:, None, None])

    def count(self, frames: int | None) -> int | None:
        """Halve the number for the last states, which are means of pairs."""
        return frames // 2 if frames is not None and self.layers is None else frames

    def describe(self, found: Any, real: Sequence[int | None]) -> torch.Tensor:
        """Return the state of the language model at the end of each piece, (B, D)."""
        model: LanguageModel = self.head
        tokens = model.projector(found.last_hidden_state)
        before, after = model.language.get_input_embeddings()(torch.tensor(model.around, device=tokens.device))
        states = []
        for piece, count in zip(tokens, real, strict=True):
            heard = piece if count is None else piece[: count // 2]
            given = torch.cat([before[None], heard, after[None]])[None]
            states.append(model.language(inputs_embeds=given, use_cache=False).last_hidden_state[:, -1])
        return torch.cat(states)


def build_qwen(recipe: Recipe, device: str) -> QwenAudio:
    """Load the network, or initialise the small random one; the language model only where it is used.

    Raises:
        DataError: files that do not match the network.
        InvalidOption: a model with fewer blocks than requested.
    """
    kind = transformers.Qwen2AudioForConditionalGeneration
    around = SMALL_AROUND
    if recipe.folder is None:
        with seeded(SMALL_SEED):
            network = kind(kind.config_class(**SMALL[recipe.small][1], attn_implementation="sdpa")).eval()
        find_depth(recipe, len(network.model.audio_tower.layers))
    elif recipe.outputs:
        config = read_configuration(kind, recipe.kind, recipe.folder)
        find_depth(recipe, config.audio_config.encoder_layers)
        around = _read_tokens(recipe.folder / TOKENIZER, config.text_config.vocab_size)
        network = load_strictly(
            kind, recipe.folder, NOTHING, dtype=_type(recipe), attn_implementation="sdpa", config=config
        )
    else:
        tower = _load_tower(recipe, recipe.folder).to(device)
        return QwenAudio(tower, None, recipe.kind, list_layers(recipe, tower), recipe.weighted)
    network = network.requires_grad_(False).to(device)
    inner = network.model
    head = LanguageModel(inner.multi_modal_projector, inner.language_model, around) if recipe.outputs else None
    tower = inner.audio_tower
    return QwenAudio(tower, head, recipe.kind, list_layers(recipe, tower), recipe.weighted)


def _load_tower(recipe: Recipe, folder: Path) -> Any:
    """Load the audio encoder alone, without the blocks after the last required one."""
    config = read_configuration(transformers.Qwen2AudioForConditionalGeneration, recipe.kind, folder).audio_config
    blocks = config.encoder_layers
    config.encoder_layers = find_depth(recipe, blocks)
    upper = "|".join(map(str, range(config.encoder_layers, blocks))) or "none"
    tower = load_strictly(
        transformers.Qwen2AudioEncoder,
        folder,
        re.compile(rf"(language_model|multi_modal_projector)\..*|layers\.({upper})\..*"),
        dtype=_type(recipe),
        attn_implementation="sdpa",
        config=config,
        key_mapping={r"^audio_tower\.": ""},
    )
    return tower.requires_grad_(False)


def _type(recipe: Recipe) -> torch.dtype:
    return torch.bfloat16 if recipe.precision == "bf16" else torch.float32


def _read_tokens(path: Path, size: int) -> tuple[int, int]:
    """Read the numbers of the tokens around a clip."""
    try:
        numbers = {token["content"]: token["id"] for token in json.loads(path.read_text("utf-8"))["added_tokens"]}
        before, after = (int(numbers[name]) for name in AROUND)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not name the tokens {' and '.join(AROUND)}: download it again") from error
    if not (0 <= before < size and 0 <= after < size):
        raise DataError(f"{path} numbers tokens {before} and {after}, but the model has {size}: download both again")
    return before, after
