"""Loading a model of sentence-transformers, and asking it for one embedding of a clip."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemore_harness.errors import DataError, InvalidOption
from blemore_harness.networks import seeded
from blemore_plugins.hub import Weights, quiet_transformers
from blemore_plugins.numbers import refuse_numbers
from blemore_plugins.omni.options import OmniOptions

RATE = 16_000
"""Hz of audio, where a model's preprocessing does not say it."""

SEPARATE = ("video", "audio")
"""What clips have, in the order of concatenated embeddings."""

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

SMALL_PATCH, SMALL_SAMPLES, SMALL_WIDTH = 16, 400, 32


@dataclass(frozen=True)
class Embedder:
    """A loaded model and how a clip is given to it.

    Attributes:
        model: of sentence-transformers, or `SmallOmni`.
        calls: inputs of each call of `encode`; the embeddings of several calls are concatenated.
        rate: Hz of the audio that it takes.
        prompt: text before each input; None where the model's configuration decides.
    """

    model: Any
    calls: tuple[tuple[str, ...], ...]
    rate: int
    prompt: str | None

    @property
    def inputs(self) -> frozenset[str]:
        """All that is taken of a clip."""
        return frozenset(name for call in self.calls for name in call)

    def embed(self, given: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return the embedding of a clip, float32 (D,), of its inputs by name: `video_input` and `audio_input`."""
        rows = [self._encode({name: given[name] for name in call}) for call in self.calls]
        return np.concatenate(rows).astype(np.float32)

    def _encode(self, given: Mapping[str, Any]) -> NDArray[Any]:
        # The frames are chosen already.
        settings = {"video": {"do_sample_frames": False}} if "video" in given else {}
        found = self.model.encode(
            [dict(given)], prompt=self.prompt, batch_size=1, show_progress_bar=False, convert_to_numpy=True,
            processing_kwargs=settings,
        )  # fmt: skip
        return np.asarray(found, dtype=np.float32)[0]


def video_input(frames: NDArray[np.uint8], seconds: float) -> dict[str, Any]:
    """Return frames as `encode` takes them.

    Args:
        frames: uint8 (T, height, width, 3), evenly spaced over the clip.
        seconds: length of the clip.
    """
    count = len(frames)
    # Metadata of a video that has these frames only, so that models with a sense of time get the right pace.
    metadata = {
        "fps": count / seconds if seconds else 1.0, "total_num_frames": count, "duration": seconds,
        "frames_indices": list(range(count)), "width": frames.shape[2], "height": frames.shape[1],
    }  # fmt: skip
    return {"array": np.ascontiguousarray(frames.transpose(0, 3, 1, 2)), "video_metadata": metadata}


def audio_input(wave: NDArray[np.float32], rate: int) -> dict[str, Any]:
    """Return audio, float32 (N,), mono, at `rate` Hz, as `encode` takes it."""
    return {"array": wave, "sampling_rate": rate}


def load_embedder(options: OmniOptions, weights: Weights | None, device: str) -> Embedder:
    """Load a model on a device.

    Raises:
        DataError: a folder that sentence-transformers cannot load.
        InvalidOption: a model that does not take what is asked for, or wants to run its own code.
    """
    if weights is None:
        model: Any = SmallOmni().eval().to(device)
    else:
        model = _load(options, weights, device)
    processor = getattr(model, "processor", None)
    rate = getattr(getattr(processor, "feature_extractor", None), "sampling_rate", None) or RATE
    return Embedder(model, choose_calls(model, options), int(rate), options.given_prompt())


def _load(options: OmniOptions, weights: Weights, device: str) -> Any:
    from sentence_transformers import SentenceTransformer

    if not options.code:
        _refuse_code(weights)
    kind = TYPES[options.precision_on(device)]
    try:
        with quiet_transformers(), seeded(0):
            model = SentenceTransformer(
                str(weights.folder), device=device, local_files_only=True, trust_remote_code=options.code,
                model_kwargs={"dtype": kind},
            )  # fmt: skip
    except Exception as error:  # whatever modules of any kind make of a folder
        raise DataError(
            f"sentence-transformers cannot load the model in {weights.folder}: expected a whole folder that its `save` "
            "wrote, and of a type that this version knows; fetch it again, or pip install -U sentence-transformers "
            "transformers"
        ) from error
    refuse_numbers(model.named_parameters(), f"the weights in {weights.folder}")
    return model.eval()


def _refuse_code(weights: Weights) -> None:
    """Refuse a model that cannot be loaded without running Python code of its repository."""
    from transformers import CONFIG_MAPPING

    try:
        modules = json.loads(weights.files[0].read_text(encoding="utf-8"))
        config = json.loads(weights.files[1].read_text(encoding="utf-8"))
        foreign = [str(part["type"]) for part in modules if not part["type"].startswith("sentence_transformers.")]
        if config.get("model_type") not in CONFIG_MAPPING:
            foreign += [str(place) for place in dict(config.get("auto_map") or {}).values()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{weights.files[0]} and {weights.files[1].name} do not describe a model: fetch them again"
        ) from error
    if foreign:
        raise InvalidOption(
            f"code: the model in {weights.folder} needs Python code of its repository ({foreign[0]}), which is not "
            "run: read it, set omni.revision to its commit, and omni.code=true"
        )


def choose_calls(model: Any, options: OmniOptions) -> tuple[tuple[str, ...], ...]:
    """Return the inputs of each call of `encode`: all in one where the model combines them.

    Raises:
        InvalidOption: an input that the model does not take.
    """
    there = [name for name in SEPARATE if model.supports(name)]
    wanted = options.taken()
    asked = there if wanted == "auto" else [name for name in SEPARATE if name in wanted.split("+")]
    lacking = [name for name in asked if name not in there]
    if lacking or not asked:
        raise InvalidOption(
            f"inputs: the model {options.model} does not take {lacking[0] if lacking else 'audio or video'}, it takes: "
            f"{', '.join(map(str, model.modalities))}; set omni.inputs, or choose another model"
        )
    together = tuple(asked)
    return (together,) if len(asked) == 1 or model.supports(together) else tuple((name,) for name in asked)


class SmallOmni(nn.Module):
    """A small random network with the methods of `SentenceTransformer` that are used here, for the demo dataset."""

    modalities = ("audio", "video", ("video", "audio"))

    def __init__(self) -> None:
        super().__init__()
        with seeded(0):
            self.frames = nn.Linear(3 * SMALL_PATCH**2, SMALL_WIDTH)
            self.audio = nn.Linear(SMALL_SAMPLES // 2 + 1, SMALL_WIDTH)
            self.joint = nn.Linear(4 * SMALL_WIDTH, SMALL_WIDTH)

    def supports(self, modality: str | tuple[str, ...]) -> bool:
        """Return whether an input, or several together, can be given."""
        return modality in self.modalities

    def encode(self, inputs: Sequence[Mapping[str, Any]], **settings: object) -> NDArray[np.float32]:
        """Return the embeddings of clips, float32 (N, D)."""
        with torch.inference_mode():
            return torch.stack([self(given) for given in inputs]).float().cpu().numpy()

    def forward(self, given: Mapping[str, Any]) -> Tensor:
        """Map a clip to its embedding, (D,)."""
        weight = self.joint.weight
        parts = [weight.new_zeros(2 * SMALL_WIDTH), weight.new_zeros(2 * SMALL_WIDTH)]
        if "video" in given:
            frames = torch.from_numpy(given["video"]["array"]).to(weight) / 255
            small = nn.functional.adaptive_avg_pool2d(frames, SMALL_PATCH)
            parts[0] = _describe(torch.tanh(self.frames(small.flatten(1) - 0.5)))
        if "audio" in given:
            wave = torch.from_numpy(given["audio"]["array"]).to(weight)
            padded = nn.functional.pad(wave, (0, -len(wave) % SMALL_SAMPLES))
            spectrum = torch.fft.rfft(padded.view(-1, SMALL_SAMPLES)).abs()
            parts[1] = _describe(torch.tanh(self.audio(torch.log1p(spectrum))))
        return self.joint(torch.cat(parts))


def _describe(states: Tensor) -> Tensor:
    """Return mean and standard deviation over time of states (T, D): (2 x D,)."""
    return torch.cat([states.mean(dim=0), states.std(dim=0, correction=0)])
