"""The frozen network: loaded or initialised, truncated after the last required block, run in full precision."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from torch import nn

from blemore_harness.errors import DataError, InvalidOption
from blemore_harness.networks import fitting_threads, seeded
from blemore_plugins.hub import load_strictly
from blemore_plugins.speech.kinds import CONFIG, SMALL, SMALL_SEED, Kind, read_config
from blemore_plugins.speech.recipe import Recipe

LEFT_OUT = (
    r"(quantizer|project_q|project_hid|lm_head|classifier|projector|ctc_proj|speaker_proj|proj_out|tdnn|objective"
    r"|layer_norm_for_extract)\..*"
    r"|label_embeddings_concat|layer_weights|feature_extractor\.(weight|bias)"
)
"""Names of parameters used only for pre-training, recognition or classification."""

MASKED = "masked_spec_embed"
"""Name of the embedding of masked frames, which may be missing in the file or the network."""

OUTPUTS = 3
"""Number of outputs: arousal, dominance and valence."""


class RegressionHead(nn.Module):
    """The regression head of audeering's emotion models: linear, tanh, linear, without dropout."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, OUTPUTS)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Return arousal, dominance and valence, (B, 3), of mean hidden states (B, D)."""
        return self.out_proj(torch.tanh(self.dense(pooled)))


class EmotionNetwork(transformers.Wav2Vec2PreTrainedModel):
    """A wav2vec2 network with this head, with the parameter names of the released file."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.wav2vec2 = transformers.Wav2Vec2Model(config)
        self.classifier = RegressionHead(config)
        self.post_init()


@dataclass(frozen=True)
class Frozen:
    """A network that is ready to run.

    Attributes:
        trunk: torch module, eval mode, float32.
        head: computes the outputs, here from the mean of the trunk's last hidden states; None for no outputs.
        kind: type of the model.
        layers: as of `Recipe`, with `weighted` never None.
        weighted: as of `Recipe`.
    """

    trunk: Any
    head: Any
    kind: Kind
    layers: tuple[int, ...] | None
    weighted: bool = False

    def run(
        self, inputs: NDArray[np.float32], real: Sequence[int | None] = ()
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run inputs of one shape, float32 (B, ...).

        There is no mask and no padding for networks that take a wave: zeros at the end change all hidden states of
        group-norm models such as wav2vec2-large, with and without a mask.

        Args:
            real: number of frames of each input that are not padding, as of `NetworkInputs`; None for all. Only
                networks that mask padding use it.

        Returns:
            Mean of the hidden states, float32 (B, T, D), or with `weighted` each normalised, (B, T, L, D); outputs,
            float32 (B, K), or (B, 0) without a head.
        """
        with torch.inference_mode(), exact_products(), fitting_threads(self.trunk), self._noted() as states:
            found = self.call(torch.from_numpy(inputs).to(self.trunk.device), real)
            last = found.last_hidden_state
            chosen = [last] if self.layers is None else [states[layer] for layer in self.layers]
            if self.weighted:
                mean = torch.stack([self._normalised(state) for state in chosen], dim=2)
            else:
                # A single layer is returned as it is.
                mean = self.over_time(chosen[0] if len(chosen) == 1 else torch.stack(chosen).mean(dim=0))
            outputs = self.describe(found, real) if self.head else last.new_empty(len(last), 0)
        return np.asarray(mean.float().cpu().numpy()), np.asarray(outputs.float().cpu().numpy())

    def call(self, given: torch.Tensor, real: Sequence[int | None]) -> Any:
        """Run the trunk; return an object with `last_hidden_state`."""
        return self.trunk(given)

    def over_time(self, states: torch.Tensor) -> torch.Tensor:
        """Return hidden states as frames, (B, T, D)."""
        return self._columns(states) if self.kind.input == "patches" else states

    def describe(self, found: Any, real: Sequence[int | None]) -> torch.Tensor:
        """Compute the outputs, (B, K), from what `call` returned."""
        return self.head(found.last_hidden_state.mean(dim=1))

    def count(self, frames: int | None) -> int | None:
        """Return how many frames of the result are not padding, from the number in the input."""
        return frames

    @contextlib.contextmanager
    def _noted(self) -> Iterator[dict[int, torch.Tensor]]:
        """Record the input of the first block and the outputs of the requested blocks within the context.

        `output_hidden_states` is not used, because its last entry is before the final norm in some models and versions
        and after it in others.
        """
        states: dict[int, torch.Tensor] = {}
        wanted, hooks = set(self.layers or ()), []
        blocks: Any = attrgetter(self.kind.blocks)(self.trunk) if wanted else ()

        def note(layer: int) -> Any:
            def hook(_block: Any, _given: Any, out: Any) -> None:
                states[layer] = out[0] if isinstance(out, tuple) else out

            return hook

        if 0 in wanted:
            hooks.append(blocks[0].register_forward_pre_hook(lambda _block, given: states.update({0: given[0]})))
        hooks += [block.register_forward_hook(note(k)) for k, block in enumerate(blocks, start=1) if k in wanted]
        try:
            yield states
        finally:
            for hook in hooks:
                hook.remove()

    def _normalised(self, state: torch.Tensor) -> torch.Tensor:
        """Normalise each frame to mean 0 and variance 1, as SUPERB does before its weighted sum."""
        state = self.over_time(state)
        return nn.functional.layer_norm(state, state.shape[-1:])

    def _columns(self, tokens: torch.Tensor) -> torch.Tensor:
        """Average patches per time step, (B, 2 + F x T, D) to (B, T, D); the first two tokens are not patches."""
        if self.kind.input != "patches":
            return tokens
        rows, _ = self.trunk.embeddings.get_shape(self.trunk.config)
        return tokens[:, 2:].unflatten(1, (rows, -1)).mean(dim=1)


def build_network(recipe: Recipe, device: str) -> Frozen:
    """Load the network, or initialise the small random one, without the blocks after the last required one.

    Returns:
        The network on `device`. Its hidden states are bit-identical to those of the whole network.

    Raises:
        DataError: weights that do not match the network.
        InvalidOption: a model with fewer blocks than requested.
    """
    network = _make(recipe) if recipe.folder is None else _load(recipe, recipe.folder)
    network = network.eval().requires_grad_(False)
    head = network.classifier.to(device) if _regresses(recipe) else None
    path = "wav2vec2" if head else recipe.kind.part
    trunk = attrgetter(path)(network) if path else network
    if recipe.folder is None and recipe.kind.blocks:
        _cut(trunk, recipe)
    return Frozen(trunk.to(device), head, recipe.kind, list_layers(recipe, trunk), recipe.weighted)


def list_layers(recipe: Recipe, trunk: Any) -> tuple[int, ...] | None:
    """Return the layers of a recipe: all of the trunk's for a weighted sum that names none."""
    if not recipe.weighted or recipe.layers is not None:
        return recipe.layers
    return tuple(range(len(attrgetter(recipe.kind.blocks)(trunk)) + 1))


def _load(recipe: Recipe, folder: Path) -> Any:
    kind, network = recipe.kind, _network_class(recipe)
    blocks = int(getattr(read_configuration(network, kind, folder), kind.depth)) if kind.blocks else 0
    depth = find_depth(recipe, blocks)
    prefix = rf"({network.base_model_prefix}\.)?"
    upper = "|".join(map(str, range(depth, blocks))) or "none"
    left_out = LEFT_OUT.replace("classifier|", "") if _regresses(recipe) else LEFT_OUT
    allowed = re.compile(rf"{prefix}({left_out}|{MASKED}|{kind.filed}\.({upper})\..*|{kind.left_out})")
    settings = {**({kind.depth: depth} if kind.blocks else {}), **kind.settings}
    return load_strictly(
        network, folder, allowed, dtype=torch.float32, attn_implementation=_attention(network), **settings
    )


def read_configuration(network: Any, kind: Kind, folder: Path) -> Any:
    """Return the configuration of the model in a folder.

    Raises:
        DataError: not a configuration of this kind.
    """
    try:
        return network.config_class.from_dict(read_config(folder))
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise DataError(f"{folder / CONFIG} does not describe a {kind.type} model: download it again") from error


def _make(recipe: Recipe) -> Any:
    """Initialise the small random network with all blocks, so that the first ones do not depend on the number kept."""
    network, (_, settings) = _network_class(recipe), SMALL[recipe.small]
    with seeded(SMALL_SEED):
        return network(network.config_class(**settings, attn_implementation=_attention(network)))


def _cut(trunk: Any, recipe: Recipe) -> None:
    """Remove the blocks that are not required."""
    path, _, name = recipe.kind.blocks.rpartition(".")
    holder = attrgetter(path)(trunk) if path else trunk
    blocks = getattr(holder, name)
    setattr(holder, name, blocks[: find_depth(recipe, len(blocks))])


def count_frames(config: Any, samples: int) -> int:
    """Return the number of frames for a waveform; 0 if it is shorter than the receptive field."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1 if samples >= kernel else 0
    # In networks that merge pairs of frames before the blocks, a single frame gives none.
    return samples if samples >= getattr(config, "squeeze_factor", 1) else 0


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Disable TF32 (or lower precision) and the benchmark mode of convolutions on GPUs."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _regresses(recipe: Recipe) -> bool:
    return recipe.outputs and recipe.kind.type == "wav2vec2"


def _network_class(recipe: Recipe) -> Any:
    return EmotionNetwork if _regresses(recipe) else getattr(transformers, recipe.kind.network)


def _attention(network: Any) -> str:
    return "sdpa" if network._supports_sdpa else "eager"


def find_depth(recipe: Recipe, blocks: int) -> int:
    """Return the number of required blocks.

    Raises:
        InvalidOption: a model with fewer blocks than requested.
    """
    if recipe.layers is not None and recipe.layers[-1] > blocks:
        raise InvalidOption(f"layers: {recipe.model} has layers 0 to {blocks}, found {recipe.layers[-1]}")
    if recipe.layers is None or recipe.outputs:
        return blocks
    # At least one block stays, because layer 0 is the input of the first block.
    return max(recipe.layers[-1], 1)
