"""The frozen network: loaded or made, cut after the last block that is used, and run without rounding."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
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
"""What only pre-training, recognition or classification needs."""

MASKED = "masked_spec_embed"
"""The vector that stands for masked frames in training: in the file, in the network, in both or in neither."""

OUTPUTS = 3
"""Arousal, dominance and valence."""


class RegressionHead(nn.Module):
    """The head of audeering's emotion models: linear, tanh, linear; its dropouts do nothing here."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, OUTPUTS)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Return arousal, dominance and valence, (B, 3), of mean hidden states (B, D)."""
        return self.out_proj(torch.tanh(self.dense(pooled)))


class EmotionNetwork(transformers.Wav2Vec2PreTrainedModel):
    """A wav2vec2 network with that head, under the names of the released file."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.wav2vec2 = transformers.Wav2Vec2Model(config)
        self.classifier = RegressionHead(config)
        self.post_init()


@dataclass(frozen=True)
class Frozen:
    """A network that is ready to be run.

    Attributes:
        trunk: torch module, eval mode, float32.
        head: gives outputs of the mean of the trunk's last hidden states; None for no outputs.
        kind: type of the model.
        layers: as of `Recipe`.
    """

    trunk: Any
    head: Any
    kind: Kind
    layers: tuple[int, ...] | None

    def run(self, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run inputs of one shape, float32 (B, ...).

        No mask and no padding: zeros at the end of a wave change what group-norm models such as wav2vec2-large make of
        all of it, with and without a mask.

        Returns:
            mean of the hidden states, float32 (B, T, D); outputs, float32 (B, 3), or (B, 0) without a head.
        """
        with torch.inference_mode(), exact_products(), fitting_threads(self.trunk), self._noted() as states:
            given = torch.from_numpy(inputs).to(self.trunk.device)
            last = self.trunk(given).last_hidden_state
            chosen = [last] if self.layers is None else [states[layer] for layer in self.layers]
            # `last` itself where it is all: a mean of one could not change it.
            mean = chosen[0] if len(chosen) == 1 else torch.stack(chosen).mean(dim=0)
            if self.kind.hears == "patches":
                mean = self._columns(mean)
            outputs = self.head(last.mean(dim=1)) if self.head else last.new_empty(len(last), 0)
        return np.asarray(mean.cpu().numpy()), np.asarray(outputs.cpu().numpy())

    @contextlib.contextmanager
    def _noted(self) -> Iterator[dict[int, torch.Tensor]]:
        """Note what enters the first block and what leaves each, where it is asked for, inside the block.

        Not `output_hidden_states`, whose last entry is before the final norm in some kinds and versions and after it in
        others.
        """
        states: dict[int, torch.Tensor] = {}
        wanted, blocks, hooks = set(self.layers or ()), attrgetter(self.kind.blocks)(self.trunk), []

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

    def _columns(self, tokens: torch.Tensor) -> torch.Tensor:
        """Average the patches of each moment, (B, 2 + F x T, D) to (B, T, D); the first two are no patches."""
        rows, _ = self.trunk.embeddings.get_shape(self.trunk.config)
        return tokens[:, 2:].unflatten(1, (rows, -1)).mean(dim=1)


def build_network(recipe: Recipe, device: str) -> Frozen:
    """Load the network, or make the small random one, without the blocks above the last one that is used.

    Returns:
        The network on `device`. Its hidden states up to the cut are bit-equal to the whole network's.

    Raises:
        DataError: weights that do not fit.
        InvalidOption: a model with fewer blocks than asked for.
    """
    network = _make(recipe) if recipe.folder is None else _load(recipe, recipe.folder)
    network = network.eval().requires_grad_(False)
    head = network.classifier.to(device) if recipe.outputs else None
    path = "wav2vec2" if recipe.outputs else recipe.kind.part
    trunk = attrgetter(path)(network) if path else network
    if recipe.folder is None:
        _cut(trunk, recipe)
    return Frozen(trunk.to(device), head, recipe.kind, recipe.layers)


def _load(recipe: Recipe, folder: Path) -> Any:
    kind, network = recipe.kind, _network_class(recipe)
    blocks = _read_depth(network, kind, folder)
    depth = _depth(recipe, blocks)
    prefix = rf"({network.base_model_prefix}\.)?"
    upper = "|".join(map(str, range(depth, blocks))) or "none"
    left_out = LEFT_OUT.replace("classifier|", "") if recipe.outputs else LEFT_OUT
    allowed = re.compile(rf"{prefix}({left_out}|{MASKED}|{kind.filed}\.({upper})\..*|{kind.left_out})")
    settings = {kind.depth: depth, **kind.settings}
    return load_strictly(
        network, folder, allowed, dtype=torch.float32, attn_implementation=_attention(network), **settings
    )


def _read_depth(network: Any, kind: Kind, folder: Path) -> int:
    """Read how many blocks the model in a folder has."""
    try:
        return int(getattr(network.config_class.from_dict(read_config(folder)), kind.depth))
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise DataError(f"{folder / CONFIG} does not describe a {kind.type} model: fetch it again") from error


def _make(recipe: Recipe) -> Any:
    """Make the small random network with all of its blocks: the first are the same however many are kept."""
    network, (_, settings) = _network_class(recipe), SMALL[recipe.small]
    with seeded(SMALL_SEED):
        return network(network.config_class(**settings, attn_implementation=_attention(network)))


def _cut(trunk: Any, recipe: Recipe) -> None:
    """Take the blocks off that nobody asks for."""
    path, _, name = recipe.kind.blocks.rpartition(".")
    holder = attrgetter(path)(trunk) if path else trunk
    blocks = getattr(holder, name)
    setattr(holder, name, blocks[: _depth(recipe, len(blocks))])


def count_frames(config: Any, samples: int) -> int:
    """Report how many frames a network that hears waves makes of one; 0 for a wave shorter than its field."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1 if samples >= kernel else 0
    # Where frames are joined before the blocks, a single one is nothing.
    return samples if samples >= getattr(config, "squeeze_factor", 1) else 0


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Keep a GPU from rounding products to TF32 (or less) and from choosing convolutions by speed."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _network_class(recipe: Recipe) -> Any:
    return EmotionNetwork if recipe.outputs else getattr(transformers, recipe.kind.network)


def _attention(network: Any) -> str:
    return "sdpa" if network._supports_sdpa else "eager"


def _depth(recipe: Recipe, blocks: int) -> int:
    """Report how many blocks are needed of those that there are."""
    if recipe.layers is not None and recipe.layers[-1] > blocks:
        raise InvalidOption(f"layers: {recipe.model} has layers 0 to {blocks}, found {recipe.layers[-1]}")
    if recipe.layers is None or recipe.outputs:
        return blocks
    # One block stays in any case: layer 0 is taken from what enters the first.
    return max(recipe.layers[-1], 1)
