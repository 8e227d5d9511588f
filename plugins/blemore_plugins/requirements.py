"""Packages and keys that the bundled encoders need, with the versions of the extras."""

from __future__ import annotations

from types import MappingProxyType

from blemore_harness.hookspecs import Requirement

HUB_TOKEN = Requirement("HF_TOKEN", "key")
"""For gated weights of the Hugging Face Hub."""

KNOWN = MappingProxyType(
    {
        requirement.name: requirement
        for requirement in (
            Requirement("facenet-pytorch", least="2.5.3", below="2.6"),
            Requirement("boto3", least="1.40"),
            # Only its weights are read: importing it would need OpenCV.
            Requirement(
                "facial-emotion-recognition", module="torch", least="0.3.4", below="0.4",
                advice='pip install "blemore-harness[expression]"',
            ),
            Requirement("google-genai", module="google.genai", least="1.75", below="4"),
            Requirement("librosa", least="0.11", below="0.12"),
            Requirement("openai", least="2", below="4"),
            Requirement("safetensors", least="0.4"),
            Requirement(
                "sentence-transformers", module="sentence_transformers", least="6", below="7",
                advice='pip install "blemore-harness[omni]"',
            ),
            Requirement("scipy", least="1.12"),
            Requirement("timm", least="1.0.20", below="2"),
            Requirement(
                "torchaudio", least="2.11", below="2.12",
                advice="torchaudio 2.11 is its last release and ends at torch 2.14: "
                "pip install 'torch>=2.11,<2.15' 'torchaudio==2.11.*' torchvision",
            ),
            Requirement(
                "torchvision", least="0.26",
                advice="install torch and torchvision from the same index, both for the CPU or both for the same CUDA: "
                "pip install --force-reinstall torch torchvision",
            ),
            # Before 5.18 some attention biases of VideoMAE are loaded as zeros without an error.
            Requirement(
                "transformers", least="5.18", below="6",
                advice="it imports torchvision, which must be of the same build as torch: "
                "pip install --force-reinstall torch torchvision",
            ),
        )
    }
)  # fmt: skip
"""Packages by name."""


def need(*names: str) -> tuple[Requirement, ...]:
    """Return the requirements of these packages."""
    return tuple(KNOWN[name] for name in names)
