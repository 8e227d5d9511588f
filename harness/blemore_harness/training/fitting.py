"""From a fold to a trained network: training, choosing the epoch, training again, predicting, keeping."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.disk import digest_of, read_json, write_atomically, write_json
from blemore_harness.errors import BlemoreError, DataError
from blemore_harness.networks import fitting_threads, load_weights, save_weights, seeded
from blemore_harness.predictions import Probabilities
from blemore_harness.training.batches import Source, TrainingBatches
from blemore_harness.training.epochs import Judge, Training, autocast, average_weights, run_epochs, soft_label_loss
from blemore_harness.training.options import TrainingOptions
from blemore_harness.training.predicting import average_views, judge_held_out, judge_inside

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim.swa_utils import AveragedModel

WEIGHTS, FACTS = "network.safetensors", "network.json"
"""Files of a model that is kept."""

CHOSEN = "chosen.json"
"""In the workspace: how many epochs were best, once that is known."""


@dataclass(frozen=True)
class Fresh:
    """A network that is ready to be trained.

    Attributes:
        network: inputs to logits (B, 6), on the device.
        groups: its trained weights as AdamW takes them, each group with its full rate as `lr` and `peak`.
    """

    network: nn.Module
    groups: list[dict[str, Any]]


Make: TypeAlias = Callable[[], Fresh]


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network, and how it looks at clips.

    Attributes:
        network: in evaluation mode, on the device of the fit.
        source: reads clips for it.
        options: of the training.
        epochs: how many it was trained for.
    """

    network: nn.Module
    source: Source
    options: TrainingOptions
    epochs: int

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        """Return rows for clips; each depends on its own clip only."""
        return Probabilities(clips.ids, predict_rows(self.network, clips, self.source, self.options, context))

    def save(self, folder: Path) -> None:
        """Write the weights, and for how many epochs they were trained."""
        save_weights(self.network, folder / WEIGHTS)
        write_json(folder / FACTS, {"epochs": self.epochs})


def load_network(folder: Path, network: nn.Module, source: Source, options: TrainingOptions) -> TrainedNetwork:
    """Read what `TrainedNetwork.save` wrote into a network that is built as for a fit; all its weights are replaced."""
    network = load_weights(network, folder / WEIGHTS)
    epochs = int(read_json(folder / FACTS)["epochs"])
    return TrainedNetwork(network.requires_grad_(False), source, options, epochs)


def predict_rows(
    network: nn.Module, clips: Clips, source: Source, options: TrainingOptions, context: Context
) -> NDArray[np.float64]:
    """Average the softmax over the views of each clip: float64 (N, 6)."""
    return average_views(network, clips, source, context, precision=options.precision, workers=options.workers)


def count_weights(parameters: Iterable[nn.Parameter]) -> dict[str, int]:
    """Count numbers in weights: all, and those that are trained."""
    held = list(parameters)
    return {"total": sum(p.numel() for p in held), "trained": sum(p.numel() for p in held if p.requires_grad)}


def make_groups(network: nn.Module, options: TrainingOptions) -> list[dict[str, Any]]:
    """Sort the trained weights of a network into two groups of one rate, with and without weight decay.

    Matrices decay, biases and norms do not.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    kinds = (
        (options.weight_decay, [parameter for parameter in trained if parameter.ndim > 1]),
        (0.0, [parameter for parameter in trained if parameter.ndim <= 1]),
    )
    rate = options.learning_rate
    return [{"params": held, "lr": rate, "peak": rate, "weight_decay": decay} for decay, held in kinds if held]


def fit_network(fold: Fold, make: Make, source: Source, options: TrainingOptions, context: Context) -> TrainedNetwork:
    """Train a network on a fold's training clips.

    Args:
        fold: clips with labels to train on, and clips without.
        make: makes the network anew.
        source: reads clips for it.
        options: how.
        context: seed, device, workspace, and whom to ask for scores.

    Raises:
        DataError: no training clips, too few actors for an inner split, a damaged checkpoint.
        BlemoreError: a training that diverges.
    """
    if not len(fold.train):
        raise DataError("training a network needs at least one training clip")
    trainer = _Trainer(make, source, options, context)
    if options.selection == "last":
        model = trainer.run("all epochs", fold.train, options.epochs, None)
    elif options.selection == "held-out" and not context.final:
        model = trainer.run("choosing", fold.train, options.epochs, trainer.ask_outside(fold.held_out))
    else:
        model = _choose_inside(fold.train, trainer)
    context.note("epochs", model.epochs)
    return model


def _choose_inside(train_clips: Clips, trainer: _Trainer) -> TrainedNetwork:
    """Choose the number of epochs on other actors and, where wanted, train again on all clips.

    The number is kept in the workspace, so that an interrupted second training does not begin with the first.
    """
    options, path = trainer.options, trainer.context.workspace / CHOSEN
    if options.refit and path.exists():
        epochs = _read_chosen(trainer)
    else:
        learn, check = train_clips.inner_split(trainer.context.seed)
        model = trainer.run("choosing", learn, options.epochs, trainer.ask_inside(check))
        if not options.refit:
            return model
        epochs = model.epochs
        del model  # its memory is needed
        write_atomically(path, json.dumps({"epochs": epochs}) + "\n")
    model = trainer.run("all clips", train_clips, epochs, None)
    path.unlink(missing_ok=True)
    return model


def _read_chosen(trainer: _Trainer) -> int:
    path = trainer.context.workspace / CHOSEN
    try:
        epochs = int(json.loads(path.read_text(encoding="utf-8"))["epochs"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"damaged file {path}: delete it and run again") from error
    return epochs


@dataclass(frozen=True)
class _Trainer:
    """Trains one network after another for the same fold."""

    make: Make
    source: Source
    options: TrainingOptions
    context: Context

    def run(self, name: str, clips: Clips, epochs: int, judge: Judge | None) -> TrainedNetwork:
        """Train a new network; `name` tells it from the fold's others."""
        import torch

        options, context, fresh = self.options, self.context, self.make()
        network = fresh.network
        batches = TrainingBatches(
            clips.items, clips.targets, self.source, options.batch_size, context.device, options.workers
        )
        on_gpu = context.device.startswith("cuda")
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        course = Course(name, fresh, batches, epochs, judge)
        with fitting_threads(network):
            kept = train(course, options, context)
        context.note("weights trained", count_weights(network.parameters()))
        if on_gpu:
            context.note(f"GPU, {name}", _describe_gpu(course))
        return TrainedNetwork(network.requires_grad_(False), self.source, options, kept)

    def ask_inside(self, check: Clips) -> Judge:
        """Judge by labelled clips of other actors."""
        return judge_inside(check, self._predict)

    def ask_outside(self, held_out: Clips) -> Judge:
        """Judge by asking for the Score on the held-out clips."""
        return judge_held_out(held_out, self._predict, self.context)

    def _predict(self, network: nn.Module, clips: Clips) -> NDArray[np.float64]:
        return predict_rows(network, clips, self.source, self.options, self.context)


@dataclass(frozen=True)
class Course:
    """One training from beginning to end.

    Attributes:
        name: tells it from the others of the same fit: for its seeds, and its checkpoint in the workspace.
        fresh: the network, which is changed in place.
        batches: of the clips to train on.
        epochs: after how many it ends; the rates are those of the options' `epochs` all the same.
        judge: says how good the network is after each epoch, in evaluation mode; None keeps the last epoch.
    """

    name: str
    fresh: Fresh
    batches: TrainingBatches
    epochs: int
    judge: Judge | None


def train(course: Course, options: TrainingOptions, context: Context) -> int:
    """Train the network and return the number of the epoch whose weights it has at the end.

    Everything random in an epoch comes from the seed, the name of the course and the number of the epoch. A course that
    is begun again in the same workspace continues after the last checkpoint, to the same result; see `run_epochs`.

    Raises:
        BlemoreError: the loss is not a number any more.
        DataError: a damaged checkpoint.
    """
    import torch

    network = course.fresh.network
    optimizer = torch.optim.AdamW(course.fresh.groups, fused=True)
    average = average_weights(network, options.ema) if options.ema else None

    def train_epoch(epoch: int) -> float:
        return _train_epoch(course, optimizer, average, epoch, options, context)

    training = Training(
        course.name, context.workspace / f"{course.name}.pt", network, optimizer, train_epoch, course.epochs,
        options.save_every, course.judge, patience=options.patience, average=average,
    )  # fmt: skip
    return run_epochs(training, context)


def rate_factor(step: int, steps: int, options: TrainingOptions) -> float:
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


def _train_epoch(
    course: Course,
    optimizer: torch.optim.Optimizer,
    average: AveragedModel | None,
    epoch: int,
    options: TrainingOptions,
    context: Context,
) -> float:
    """Train for an epoch and return the mean loss of its steps."""
    import torch

    network, steps = course.fresh.network, course.batches.steps
    network.train()
    seed = int(digest_of([context.seed, course.name, epoch]), 16) >> 1
    total = torch.zeros((), device=context.device)
    with seeded(seed):
        given = course.batches.epoch(torch.Generator().manual_seed(seed))
        for number, (inputs, targets) in enumerate(given, start=epoch * steps):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate_factor(number, steps, options)
            with autocast(context.device, options.precision):
                logits = network(inputs)
            loss = soft_label_loss(logits, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if options.clip:
                torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], options.clip)
            optimizer.step()
            if average is not None:
                average.update_parameters(network)
            total += loss.detach()
    if not total.isfinite():
        raise BlemoreError(f"{course.name}: the loss of epoch {epoch + 1} is not a number: lower the learning rate")
    return total.item() / steps


def _describe_gpu(course: Course) -> dict[str, object]:
    import torch

    batches = course.batches
    return {
        "name": torch.cuda.get_device_name(),
        "peak memory, MiB": torch.cuda.max_memory_allocated() >> 20,
        "clips per second": round(batches.given / max(batches.seconds, 1e-9), 1),
        "share of time waiting for clips": round(batches.waited / max(batches.seconds, 1e-9), 3),
    }
