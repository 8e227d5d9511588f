"""The settings of `omni`, each value checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blemore_harness.errors import InvalidOption
from blemore_plugins.features.options import FeatureOptions
from blemore_plugins.omni.presets import PRESETS, Inputs

RANDOM_SMALL = "random-small"
"""Value of `model` that builds a small network with random weights, for the demo dataset."""


@dataclass(frozen=True)
class OmniOptions(FeatureOptions):
    """Options of `omni`, besides those of all encoders of features and of its head.

    Attributes:
        model: a preset (bidirlm-omni, lco-omni-3b, e5-omni, omniembed, qwen3-vl-2b, qwen3-vl-8b, embeddinggemma-2),
            the Hugging Face id or folder of any other model saved by sentence-transformers; or `random-small`, which is
            untrained.
        revision: branch, tag or commit of a Hugging Face id.
        inputs: what of a clip is embedded; `auto` what the preset or the model takes. Where a model takes audio and
            video but not together, its two embeddings are concatenated.
        frames: how many frames of the clip, evenly spaced.
        prompt: text before each input; empty for that of the preset, or else of the model's own configuration.
        precision: of the weights; `auto` is fp32 on a CPU and bf16 on a GPU, which changes embeddings by about 1 %.
        code: run Python code that is part of the model's repository. Read it first, and set `revision` to its commit.
    """

    model: str = "embeddinggemma-2"
    revision: str = "main"
    inputs: Inputs = "auto"
    frames: int = 16
    prompt: str = ""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    code: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model.strip() or not self.revision.strip():
            raise InvalidOption(
                f"model and revision: expected {', '.join(PRESETS)}, a Hugging Face id or a folder, and a branch; "
                "found an empty text"
            )
        if self.frames < 1:
            raise InvalidOption(f"frames: expected at least 1, found {self.frames}")

    def precision_on(self, device: str) -> str:
        """Name the precision that is computed with on a device."""
        if self.precision != "auto":
            return self.precision
        return "bf16" if device.startswith("cuda") else "fp32"

    def taken(self) -> Inputs:
        """Return the inputs that are set, else those of the preset, else `auto`."""
        preset = PRESETS.get(self.model)
        return preset.inputs if preset and self.inputs == "auto" else self.inputs

    def given_prompt(self) -> str | None:
        """Return the prompt that is set, else that of the preset; None where the model decides."""
        preset = PRESETS.get(self.model)
        return self.prompt or (preset.prompt if preset else None)
