"""Adapting the network to soft labels: what is trained, in which order, and how an interrupted fit goes on."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemore_harness.context import Context
from blemore_harness.disk import atomic_file
from blemore_harness.errors import DataError
from blemore_harness.networks import has_bfloat16
from blemore_plugins.s4d.batches import TrainingBatches
from blemore_plugins.s4d.network import S4DViTMoE
from blemore_plugins.s4d.options import S4DOptions

CHECKPOINT = "training.pt"
"""Where an unfinished fit stands, in its workspace."""

Quality = tuple[float, ...]
"""How good an epoch is; compared entry by entry."""

Judge = Callable[[S4DViTMoE], Quality]


@dataclass
class Progress:
    """Where a fit stands.

    Attributes:
        epoch: epochs done.
        best: quality of the epoch that is kept, and its number; None before the first look.
        kept: its trained weights on the CPU.
    """

    epoch: int = 0
    best: tuple[Quality, int] | None = None
    kept: dict[str, Tensor] | None = None


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
    """Train the network in place and give the number of the epoch whose weights it has at the end.

    Everything random comes from one generator; its state, the weights, the optimizer and the best epoch so far are
    written to the workspace every `save_every` epochs. A fit that is begun again in the same workspace goes on from
    there to the same result.

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
    state = _resume(network, optimizer, generator, context)
    with context.progress("s4d: epochs", options.epochs) as bar:
        bar.advance(state.epoch)
        while state.epoch < options.epochs:
            _train_epoch(network, batches, optimizer, generator, state.epoch, options)
            state.epoch += 1
            last = state.epoch == options.epochs
            if judge is not None and (last or state.epoch % options.check_every == 0):
                _look(network, judge, state, options)
            if not last and state.epoch % options.save_every == 0:
                _save(network, optimizer, generator, state, context)
            bar.advance()
    (context.workspace / CHECKPOINT).unlink(missing_ok=True)
    if state.kept is not None:
        _put(network, state.kept)
    network.eval()
    return state.best[1] if state.best is not None else state.epoch


def precision(device: str) -> contextlib.AbstractContextManager[Any]:
    """Return the autocast block for a device: bfloat16 (no loss needs scaling) on a GPU that has it, else float32."""
    fast = device.startswith("cuda") and has_bfloat16()
    return torch.autocast("cuda", torch.bfloat16) if fast else contextlib.nullcontext()


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
) -> None:
    set_mode(network, options, training=True)
    for number, (inputs, targets) in enumerate(batches.epoch(generator)):
        rate = learning_rate(epoch * batches.steps + number, batches.steps, options)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with precision(inputs.device.type):
            # Nothing below the experts is trained but with train=all: no graph for it, and half the time of it saved.
            with torch.set_grad_enabled(options.train == "all"):
                tokens = network.lower(inputs)
            logits = network.head["video"](network.upper(tokens, generator))
        loss = F.kl_div(F.log_softmax(logits.float(), dim=1), targets, reduction="batchmean")
        if options.balance:
            loss = loss + options.balance * network.balance()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


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


def _look(network: S4DViTMoE, judge: Judge, state: Progress, options: S4DOptions) -> None:
    set_mode(network, options, training=False)
    quality = judge(network)
    if state.best is None or quality > state.best[0]:
        state.best = (quality, state.epoch)
        state.kept = {name: tensor.cpu().clone() for name, tensor in _trained(network).items()}


def _trained(network: S4DViTMoE) -> dict[str, Tensor]:
    """Return the trained weights; the frozen ones never change and would fill disks."""
    return {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}


def _put(network: S4DViTMoE, weights: Mapping[str, Tensor]) -> None:
    own = _trained(network)
    if own.keys() != weights.keys():
        raise KeyError("the trained parts differ")
    for name, tensor in own.items():
        tensor.copy_(weights[name])


def _save(
    network: S4DViTMoE,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    state: Progress,
    context: Context,
) -> None:
    held = {
        "network": _trained(network),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "epoch": state.epoch,
        "best": state.best,
        "kept": state.kept,
    }
    with atomic_file(context.workspace / CHECKPOINT) as file:
        torch.save(held, file)


def _resume(
    network: S4DViTMoE, optimizer: torch.optim.Optimizer, generator: torch.Generator, context: Context
) -> Progress:
    path = context.workspace / CHECKPOINT
    if not path.exists():
        return Progress()
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        _put(network, held["network"])
        optimizer.load_state_dict(held["optimizer"])
        generator.set_state(held["generator"])
    except Exception as error:
        raise DataError(f"damaged checkpoint {path} ({error!r}): delete it and run again") from error
    context.log(f"s4d: going on after epoch {held['epoch']}")
    return Progress(held["epoch"], held["best"], held["kept"])
