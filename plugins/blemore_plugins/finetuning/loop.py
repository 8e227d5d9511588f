"""The training loop of all encoders that are trained whole: soft-label KL, epochs, the best one, going on."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemore_harness.context import Context
from blemore_harness.disk import digest_of
from blemore_harness.errors import BlemoreError
from blemore_harness.networks import has_bfloat16, seeded
from blemore_plugins.finetuning.averaging import Average
from blemore_plugins.finetuning.batches import TrainingBatches
from blemore_plugins.finetuning.groups import Anatomy, make_groups
from blemore_plugins.finetuning.options import FinetuningOptions
from blemore_plugins.finetuning.resuming import Standing, put, read_standing, trained_weights, write_standing

Quality = tuple[float, ...]
"""How good an epoch is; compared entry by entry."""

Judge = Callable[[nn.Module], Quality]


@dataclass(frozen=True)
class Course:
    """One training from beginning to end.

    Attributes:
        name: tells it from the others of the same fit: for its seeds, and its checkpoint in the workspace.
        network: on the device; changed in place.
        anatomy: of the network.
        batches: of the clips to learn from.
        epochs: after how many it ends; the rates are those of the options' `epochs` all the same.
        judge: says how good the network is after each epoch, in evaluation mode; None keeps the last epoch.
    """

    name: str
    network: nn.Module
    anatomy: Anatomy
    batches: TrainingBatches
    epochs: int
    judge: Judge | None


def train(course: Course, options: FinetuningOptions, context: Context) -> int:
    """Train the network and give the number of the epoch whose weights it has at the end.

    Everything random in an epoch comes from the seed, the name of the course and the number of the epoch. A course that
    is begun again in the same workspace goes on after the last checkpoint, to the same result.

    Raises:
        BlemoreError: the loss is not a number any more.
        DataError: a damaged checkpoint.
    """
    network = course.network
    optimiser = torch.optim.AdamW(make_groups(network, course.anatomy, options), fused=True)
    average = Average(network, options.ema) if options.ema else None
    path = context.workspace / f"{course.name}.pt"
    state = read_standing(path, network, optimiser, average)
    if state.epoch:
        context.log(f"{course.name}: going on after epoch {state.epoch}")
    with context.progress(f"{course.name}: epochs", course.epochs) as bar:
        bar.advance(state.epoch)
        while state.epoch < course.epochs and not _is_over(state, options):
            _train_epoch(course, optimiser, average, state.epoch, options, context)
            state.epoch += 1
            with average.in_place() if average else contextlib.nullcontext():
                _look(course, state)
            if state.epoch < course.epochs and state.epoch % options.save_every == 0:
                write_standing(path, network, optimiser, average, state)
            bar.advance()
    if state.kept is not None:
        put(network, state.kept)
    elif average:
        put(network, average.tensors)
    path.unlink(missing_ok=True)
    network.eval()
    return state.best[1] if state.best else state.epoch


def rate_factor(step: int, steps: int, options: FinetuningOptions) -> float:
    """Return the share of the full rates at a step, counted from 0: up in a line over the warm-up, then the schedule.

    Args:
        step: of the whole course.
        steps: of an epoch.
        options: warmup, schedule, epochs.
    """
    warmup, total = round(options.warmup * steps), options.epochs * steps
    if step < warmup:
        return (step + 1) / warmup
    if options.schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


def soft_label_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over clips of KL(targets || softmax(logits)), in float32; both (B, 6)."""
    return F.kl_div(F.log_softmax(logits.float(), dim=1), targets, reduction="batchmean")


def precision(options: FinetuningOptions, device: str) -> contextlib.AbstractContextManager[Any]:
    """Return the autocast block; bfloat16 has the range of float32, so that no loss needs scaling."""
    kind = torch.device(device).type
    rounded = options.precision == "bfloat16" or (options.precision == "auto" and kind == "cuda" and has_bfloat16())
    return torch.autocast(kind, torch.bfloat16) if rounded else contextlib.nullcontext()


def _train_epoch(
    course: Course,
    optimiser: torch.optim.Optimizer,
    average: Average | None,
    epoch: int,
    options: FinetuningOptions,
    context: Context,
) -> None:
    network, steps = course.network, course.batches.steps
    network.train()
    seed = int(digest_of([context.seed, course.name, epoch]), 16) >> 1
    total = torch.zeros((), device=context.device)
    with seeded(seed):
        for number, (inputs, targets) in enumerate(course.batches.epoch(seed), start=epoch * steps):
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * rate_factor(number, steps, options)
            with precision(options, context.device):
                logits = network(inputs)
            loss = soft_label_loss(logits, targets)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if options.clip:
                torch.nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], options.clip)
            optimiser.step()
            if average:
                average.update(number + 1)
            total += loss.detach()
    if not total.isfinite():
        raise BlemoreError(
            f"{course.name}: the loss of epoch {epoch + 1} is not a number: lower learning_rate or head_rate"
        )
    network.eval()


def _is_over(state: Standing, options: FinetuningOptions) -> bool:
    return state.best is not None and state.epoch - state.best[1] >= options.patience


def _look(course: Course, state: Standing) -> None:
    if course.judge is None:
        return
    quality = course.judge(course.network)
    if state.best is None or quality > state.best[0]:
        state.best = (quality, state.epoch)
        state.kept = {name: tensor.cpu().clone() for name, tensor in trained_weights(course.network).items()}
