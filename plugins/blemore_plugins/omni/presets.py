"""Omni embedders by short name: where they are, under which licence, and what they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Inputs = Literal["auto", "audio+video", "audio", "video"]


@dataclass(frozen=True)
class Preset:
    """An omni embedder.

    Attributes:
        id: on the Hugging Face Hub.
        licence: of the weights, as their card or the benchmark that lists them says.
        inputs: what of a clip it takes.
        prompt: text before each input; None where the model's own configuration decides.
        hint: what to know before its first use.
    """

    id: str
    licence: str
    inputs: Inputs = "audio+video"
    prompt: str | None = None
    hint: str = ""


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "bidirlm-omni": Preset(
            "BidirLM/BidirLM-Omni-2.5B-Embedding", "Apache-2.0",
            hint="its repository comes with Python code of its own: read it and set omni.code=true",
        ),
        "lco-omni-3b": Preset("LCO-Embedding/LCO-Embedding-Omni-3B", "Apache-2.0"),
        "e5-omni": Preset("Haon-Chen/e5-omni-7B", "MIT"),
        "omniembed": Preset(
            "Tevatron/OmniEmbed-v0.1", "MIT",
            hint="it is published as a LoRA adapter: merge it into its base model, save that with "
            "sentence-transformers (last token, normalised), and set omni.model to the folder",
        ),
        "qwen3-vl-2b": Preset("Qwen/Qwen3-VL-Embedding-2B", "Apache-2.0", "video"),
        "qwen3-vl-8b": Preset("Qwen/Qwen3-VL-Embedding-8B", "Apache-2.0", "video"),
        "embeddinggemma-2": Preset(
            "google/embeddinggemma-2", "Apache-2.0", prompt="task: classification | query: "
        ),
    }
)  # fmt: skip
"""By the value of the option `model`."""


def id_of(model: str) -> str:
    """Return the Hugging Face id of a preset; any other model as it is."""
    return PRESETS[model].id if model in PRESETS else model
