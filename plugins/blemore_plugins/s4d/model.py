"""From weights and a fold to a model that predicts: building, adapting to soft labels, predicting, the record."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.disk import digest_of, read_json, write_json
from blemore_harness.networks import fitting_threads, load_weights, save_weights
from blemore_harness.predictions import Probabilities
from blemore_harness.training.batches import TrainingBatches
from blemore_harness.training.epochs import Judge, Training, autocast, run_epochs, soft_label_loss
from blemore_harness.training.predicting import average_views, judge_held_out, judge_inside
from blemore_plugins.hub import find_weights
from blemore_plugins.s4d.batches import CropSource
from blemore_plugins.s4d.checkpoint import load_into, read_tensors, shape_of
from blemore_plugins.s4d.faces import open_crops
from blemore_plugins.s4d.network import S4DViTMoE, build_network, count_parameters, count_parts
from blemore_plugins.s4d.options import RANDOM, WEIGHT_FILES, S4DOptions

WEIGHTS, FACTS = "network.safetensors", "network.json"
"""Files of a model that is kept."""

CHECKPOINT = "training.pt"
"""In the workspace: the checkpoint of an unfinished fit."""


@dataclass(frozen=True)
class S4DModel:
    """A trained network and how it looks at clips.

    Attributes:
        network: in prediction mode, on the device of the fit.
        options: frames, windows and views.
        epoch: whose weights it has.
    """

    network: S4DViTMoE
    options: S4DOptions
    epoch: int

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        """Return rows for clips whose faces are there; each depends on its own clip only."""
        return Probabilities(clips.ids, predict_rows(self.network, clips, self.options, context))

    def save(self, folder: Path) -> None:
        """Write the weights, and the epoch that they are of."""
        save_weights(self.network, folder / WEIGHTS)
        write_json(folder / FACTS, {"epoch": self.epoch})


def load(folder: Path, options: S4DOptions, context: Context) -> S4DModel:
    """Read what `S4DModel.save` wrote; the network is built as for a fit, and all its weights replaced."""
    network = load_weights(build(options, context), folder / WEIGHTS).to(context.device)
    set_mode(network, options, training=False)
    return S4DModel(network, options, int(read_json(folder / FACTS)["epoch"]))


def predict_rows(
    network: S4DViTMoE, clips: Clips | Sequence[Clip], options: S4DOptions, context: Context
) -> NDArray[np.float64]:
    """Average the softmax over the views of each clip: float64 (N, 6).

    A clip's row is the same to the last bit whatever clips are asked for with it, limited capacity of experts included.
    """
    set_mode(network, options, training=False)

    def run(clip: Clip, views: Tensor) -> Tensor:
        # Seeded by the clip: with noise on, too, a row does not depend on which were asked for before.
        noise = torch.Generator().manual_seed(int(digest_of([context.seed, clip.content], 8), 16))
        return network(views, noise)

    return average_views(network, clips, CropSource(open_crops(options, context), options), context, run=run)


def fit(fold: Fold, options: S4DOptions, context: Context) -> S4DModel:
    """Adapt the network to a fold's training clips.

    Raises:
        DataError: crops that are missing, weights that do not fit, too few actors for an inner split.
    """
    network = build(options, context).to(context.device)
    learn, judge = _choose_judge(fold, options, context)
    source = CropSource(open_crops(options, context), options)
    batches = TrainingBatches(learn.items, learn.targets, source, options.batch_size, context.device)
    if context.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    with fitting_threads(network):
        epoch = train(network, batches, options, context, judge)
    set_mode(network, options, training=False)
    _report(network, options, epoch, context)
    return S4DModel(network, options, epoch)


def build(options: S4DOptions, context: Context) -> S4DViTMoE:
    """Make the network with the weights that the options name; what they lack depends on the seed."""
    if options.weights in RANDOM:
        return build_network(options.shape(), context.seed)
    file = find_weights(options.weights, [WEIGHT_FILES], "s4d.weights").files[0]
    tensors = read_tensors(file)
    network = build_network(shape_of(tensors, options.shape()), context.seed)
    loaded = load_into(network, tensors, file.name)
    context.log(f"s4d: {loaded.describe()}")
    context.note("weights", {"file": file.name, **dataclasses.asdict(loaded)})
    return network


def _choose_judge(fold: Fold, options: S4DOptions, context: Context) -> tuple[Clips, Judge | None]:
    """Return the clips to train on and who says which epoch is best."""

    def predict(network: nn.Module, clips: Clips) -> NDArray[np.float64]:
        return predict_rows(network, clips, options, context)

    if options.selection == "inner":
        learn, check = fold.train.inner_split(context.seed)
        return learn, judge_inside(check, predict)
    if options.selection == "held-out" and not context.final:
        return fold.train, judge_held_out(fold.held_out, predict, context)
    return fold.train, None


def trained_parts(network: S4DViTMoE, which: str) -> list[nn.Module]:
    """Return the modules that are trained: see `S4DOptions.train`."""
    last: list[nn.Module] = [network.fc_norm, network.head["video"]]
    if which == "adapters":
        return [*network.mixtures(), *last]
    if which == "upper":
        return [*network.blocks[network.shape.first_expert :], *last]
    return [network.patch_embed, *network.blocks, *last]


def train(
    network: S4DViTMoE, batches: TrainingBatches, options: S4DOptions, context: Context, judge: Judge | None
) -> int:
    """Train the network in place and return the number of the epoch whose weights it has at the end.

    Everything random comes from one generator. A fit that is begun again in the same workspace continues after its
    last checkpoint, to the same result; see `run_epochs`.

    Args:
        network: on `context.device`, in whatever mode.
        batches: of the training clips.
        options: schedule and what is trained.
        context: seed, workspace, progress.
        judge: says how good the network is, asked every `check_every` epochs and at the end; None keeps the last epoch.
    """
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    parameters = [p for part in trained_parts(network, options.train) for p in part.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = _optimizer(parameters, options)
    generator = torch.Generator().manual_seed(context.seed)

    def train_epoch(epoch: int) -> float:
        return _train_epoch(network, batches, optimizer, generator, epoch, options)

    training = Training(
        "s4d", context.workspace / CHECKPOINT, network, optimizer, train_epoch, options.epochs, options.save_every,
        judge, options.check_every, generator=generator,
    )  # fmt: skip
    return run_epochs(training, context)


def set_mode(network: S4DViTMoE, options: S4DOptions, training: bool) -> None:
    """Switch the network and its routing between training and prediction."""
    network.train(training)
    network.set_routing(options.routing(network.shape.routing, training))


def _train_epoch(
    network: S4DViTMoE,
    batches: TrainingBatches,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    epoch: int,
    options: S4DOptions,
) -> float:
    """Train for an epoch and return the mean loss of its steps."""
    set_mode(network, options, training=True)
    losses: list[Tensor] = []
    for number, (inputs, targets) in enumerate(batches.epoch(generator)):
        rate = learning_rate(epoch * batches.steps + number, batches.steps, options)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with autocast(inputs.device.type):
            # Nothing below the experts is trained but with train=all: no graph for it, and half the time of it saved.
            with torch.set_grad_enabled(options.train == "all"):
                tokens = network.lower(inputs)
            logits = network.head["video"](network.upper(tokens, generator))
        loss = soft_label_loss(logits, targets)
        if options.balance:
            loss = loss + options.balance * network.balance()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean().item()


def learning_rate(step: int, steps: int, options: S4DOptions) -> float:
    """Return the rate of a step, counted from 0: up in a line over `warmup` epochs of `steps`, then a cosine to 0."""
    warmup, total = options.warmup * steps, options.epochs * steps
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    return options.learning_rate / 2 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def _optimizer(parameters: list[nn.Parameter], options: S4DOptions) -> torch.optim.Optimizer:
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=options.learning_rate, weight_decay=options.weight_decay, fused=True)


def _report(network: S4DViTMoE, options: S4DOptions, epoch: int, context: Context) -> None:
    trained = count_parameters(trained_parts(network, options.train))
    parts = count_parts(network)
    context.note("parameters", {**parts, "trained": trained, "frozen": parts["total"] - trained})
    context.note("epoch kept", epoch)
    if context.device.startswith("cuda"):
        context.note("GPU", torch.cuda.get_device_name())
        context.note("peak GPU memory, MiB", torch.cuda.max_memory_allocated() // 2**20)
