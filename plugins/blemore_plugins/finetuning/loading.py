"""Pretrained networks of this package: what is loaded, from where, and the proof that it is what the file holds."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from blemore_harness.cache import Cache
from blemore_harness.clips import EMOTIONS
from blemore_harness.errors import DataError, ExtraMissing, InvalidOption, first_and_count
from blemore_plugins.finetuning.options import RANDOM, FinetuningOptions
from blemore_plugins.hub import Weights, find_weights
from blemore_plugins.s4d.checkpoint import read_tensors

FILES = (("config.json",), ("model.safetensors", "pytorch_model.bin"))
"""What is needed of a model."""

FIRST_SOUND = (5, 18)
"""transformers before that loads the query and value biases of VideoMAE as zeros without an error (some of 5.x do)."""

HEAD_SPREAD = 0.02
"""Standard deviation of a fresh head's weights, the `initializer_range` of all these networks."""

OLD_NAMES = ((".q_bias", ".query.bias"), (".v_bias", ".value.bias"))
"""Names in files of VideoMAE, and in the network."""


def find_model(name: str, options: FinetuningOptions, download: bool = False) -> Weights | None:
    """Find the files of the model that an encoder is to train; None for fresh weights.

    Raises:
        WeightsMissing, ExtraMissing: see `hub.find_weights`.
    """
    if options.model in RANDOM:
        return None
    return find_weights(options.model, FILES, f"{name}.model", revision=options.revision, download=download)


def describe_model(weights: Weights | None, options: FinetuningOptions, cache: Cache) -> object:
    """Report for the record which weights a training begins with."""
    return options.model if weights is None else weights.identity(cache)


def read_config(folder: Path, kind: str) -> Mapping[str, Any]:
    """Read a model's `config.json`.

    Raises:
        DataError: not JSON.
        InvalidOption: not a model of that type.
    """
    path = folder / "config.json"
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        found = held.get("model_type")
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path} is not a model's configuration ({error}): fetch it again") from error
    if found != kind:
        raise InvalidOption(f"model: expected a model of type {kind}, found '{found}' in {folder}")
    return dict(held)


def refuse_faulty_transformers() -> None:
    """Refuse releases of transformers that load some weights as zeros.

    Raises:
        ExtraMissing: an older release than `FIRST_SOUND`, or none.
    """
    try:
        found = version("transformers")
    except PackageNotFoundError as error:
        raise ExtraMissing(
            f'this encoder needs torch and transformers ({error}): pip install "blemore-harness[encoders]"'
        ) from error
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:2])
    if numbers < FIRST_SOUND:
        wanted = ".".join(map(str, FIRST_SOUND))
        raise ExtraMissing(
            f"transformers {found} may load attention biases of VideoMAE as zeros without an error: expected {wanted} "
            f'or later; pip install "transformers>={wanted}"'
        )


def check_values(network: nn.Module, file: Path, ignored: re.Pattern[str]) -> None:
    """Compare a loaded network with its file, number by number, under the file's old names as well.

    Args:
        network: as loaded, before anything is changed.
        file: see `s4d.checkpoint.read_tensors`.
        ignored: names in the file that the network does not have.

    Raises:
        DataError: a tensor that the network has not, or has with other values.
    """
    own = network.state_dict()
    wrong = []
    for name, tensor in read_tensors(file, ()).items():
        if ignored.fullmatch(name):
            continue
        here = own.get(_new_name(name))
        if here is None or not torch.equal(here.cpu(), tensor.to(here.dtype)):
            wrong.append(name)
    if wrong:
        raise DataError(
            f"{first_and_count(sorted(wrong), 'tensor')} of {file} not in the network that was loaded from it: this "
            "release of transformers reads the file wrongly, or the file is of another model"
        )


def checkpoint_activations(trunk: Any) -> None:
    """Have a transformers network compute its blocks' activations a second time on the way back, to save memory."""
    with warnings.catch_warnings():  # renamed within the releases that are supported; the old name lasts until 6
        warnings.simplefilter("ignore", FutureWarning)
        trunk.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def make_head(inputs: int, dropout: float) -> nn.Sequential:
    """Make a fresh head of six outputs; seed torch first."""
    linear = nn.Linear(inputs, len(EMOTIONS))
    nn.init.normal_(linear.weight, std=HEAD_SPREAD)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.Dropout(dropout), linear)


def _new_name(name: str) -> str:
    for old, new in OLD_NAMES:
        name = name.removesuffix(old) + new if name.endswith(old) else name
    return name
