"""From a fold to a model that predicts: who judges, choosing, training again, predicting, what the record says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from blemore_harness.clips import EMOTIONS, Clip, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.disk import write_atomically
from blemore_harness.errors import DataError
from blemore_harness.heads.judging import InnerJudge
from blemore_harness.networks import fitting_threads, seeded
from blemore_harness.predictions import Probabilities, softmax
from blemore_plugins.finetuning.batches import Source, TrainingBatches, read_views
from blemore_plugins.finetuning.groups import Built, count_weights
from blemore_plugins.finetuning.loop import Course, Judge, Quality, precision, train
from blemore_plugins.finetuning.lora import attach_lora, merge_lora
from blemore_plugins.finetuning.options import FinetuningOptions

CHOSEN = "chosen.json"
"""In the workspace: how many epochs were best, once that is known."""

Build = Callable[[Any, Context], Built]


@dataclass(frozen=True)
class FinetunedModel:
    """A network that was trained whole, and how it looks at clips.

    Attributes:
        network: in evaluation mode, on the device of the fit.
        source: reads clips for it.
        options: of the training.
        epochs: how many it was trained for.
    """

    network: nn.Module
    source: Source
    options: FinetuningOptions
    epochs: int

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        """Return rows for clips; each depends on its own clip only."""
        return Probabilities(clips.ids, predict_rows(self.network, clips, self.source, self.options, context))


def predict_rows(
    network: nn.Module, clips: Iterable[Clip], source: Source, options: FinetuningOptions, context: Context
) -> NDArray[np.float64]:
    """Average the softmax over the views of each clip: float64 (N, 6).

    The views of one clip are one batch, so that its row is the same to the bit whatever clips are asked for with it.
    """
    rows = []
    with torch.inference_mode(), precision(options, context.device), fitting_threads(network):
        for views in read_views(clips, source, context.device, options.workers):
            probabilities = softmax(network(views).double().cpu().numpy()).mean(axis=0)
            rows.append(probabilities / probabilities.sum())
    return np.array(rows, dtype=np.float64).reshape(-1, len(EMOTIONS))


def fit(fold: Fold, build: Build, source: Source, options: FinetuningOptions, context: Context) -> FinetunedModel:
    """Train a network on a fold's training clips.

    Args:
        fold: clips with labels to learn from, and clips without.
        build: makes the network anew.
        source: reads clips for it.
        options: how.
        context: seed, device, workspace, and whom to ask for scores.

    Raises:
        DataError: no training clips, too few actors for an inner split, a damaged checkpoint.
        BlemoreError: a training that diverges.
    """
    if not len(fold.train):
        raise DataError("training a network needs at least one training clip")
    trainer = _Trainer(build, source, options, context)
    if options.selection == "last":
        model = trainer.run("all epochs", fold.train, options.epochs, None)
    elif options.selection == "held-out" and not context.final:
        model = trainer.run("choosing", fold.train, options.epochs, trainer.ask_outside(fold.held_out))
    else:
        model = _choose_inside(fold.train, trainer)
    context.note("epochs", model.epochs)
    return model


def _choose_inside(train_clips: Clips, trainer: _Trainer) -> FinetunedModel:
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
        raise DataError(f"damaged file {path} ({error!r}): delete it and run again") from error
    return epochs


@dataclass(frozen=True)
class _Trainer:
    """Trains one network after another for the same fold."""

    build: Build
    source: Source
    options: FinetuningOptions
    context: Context

    def run(self, name: str, clips: Clips, epochs: int, judge: Judge | None) -> FinetunedModel:
        """Train a new network; `name` tells it from the fold's others."""
        options, context = self.options, self.context
        built = self.build(options, context)
        network = built.network
        if options.lora:
            with seeded(context.seed):
                attach_lora(network, built.anatomy.attention, options.lora, built.anatomy.fused)
        batches = TrainingBatches(
            clips.items, clips.targets, self.source, options.batch_size, context.device, options.workers
        )
        on_gpu = context.device.startswith("cuda")
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        course = Course(name, network, built.anatomy, batches, epochs, judge)
        with fitting_threads(network):
            kept = train(course, options, context)
        context.note("weights trained", count_weights(network.parameters()))
        if on_gpu:
            context.note(f"GPU, {name}", _describe_gpu(course))
        merge_lora(network)
        return FinetunedModel(network.requires_grad_(False), self.source, options, kept)

    def ask_inside(self, check: Clips) -> Judge:
        """Judge by the official Score on clips of other actors; equal Scores by their likelihood."""
        inner = InnerJudge(check)
        return lambda network: inner.grade(predict_rows(network, check, self.source, self.options, self.context))

    def ask_outside(self, held_out: Clips) -> Judge:
        """Judge by asking for the Score on the held-out clips, as the papers do."""

        def judge(network: nn.Module) -> Quality:
            rows = predict_rows(network, held_out, self.source, self.options, self.context)
            return (self.context.score(Probabilities(held_out.ids, rows)).score,)

        return judge


def _describe_gpu(course: Course) -> dict[str, object]:
    batches = course.batches
    return {
        "name": torch.cuda.get_device_name(),
        "peak memory, MiB": torch.cuda.max_memory_allocated() >> 20,
        "clips per second": round(batches.given / max(batches.seconds, 1e-9), 1),
        "share of time waiting for clips": round(batches.waited / max(batches.seconds, 1e-9), 3),
    }
