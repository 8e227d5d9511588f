"""From weights and a fold to a model that predicts: building, fitting, predicting, and what goes into the record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from blemore_harness.clips import EMOTIONS, Clip, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.disk import digest_of
from blemore_harness.heads.judging import InnerJudge
from blemore_harness.networks import fitting_threads
from blemore_harness.predictions import Probabilities, softmax
from blemore_plugins.hub import find_weights
from blemore_plugins.s4d.batches import TrainingBatches, read_views
from blemore_plugins.s4d.checkpoint import load_into, read_tensors, shape_of
from blemore_plugins.s4d.faces import open_crops
from blemore_plugins.s4d.network import S4DViTMoE, build_network, count_parameters, count_parts
from blemore_plugins.s4d.options import RANDOM, WEIGHT_FILES, S4DOptions
from blemore_plugins.s4d.training import Judge, Quality, precision, set_mode, train, trained_parts


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


def predict_rows(
    network: S4DViTMoE, clips: Iterable[Clip], options: S4DOptions, context: Context
) -> NDArray[np.float64]:
    """Average the softmax over the views of each clip: float64 (N, 6).

    The views of one clip are one batch: a clip's row is the same to the last bit whatever clips are asked for with it,
    limited capacity of experts included.
    """
    store = open_crops(options, context)
    set_mode(network, options, training=False)
    rows = []
    with torch.inference_mode(), precision(context.device), fitting_threads(network):
        for clip in clips:
            # Seeded by the clip: with noise on, too, a row does not depend on which were asked for before.
            noise = torch.Generator().manual_seed(int(digest_of([context.seed, clip.content], 8), 16))
            logits = network(read_views(clip, store, options, context.device), noise)
            views = softmax(logits.double().cpu().numpy()).mean(axis=0)
            rows.append(views / views.sum())
    return np.array(rows, dtype=np.float64).reshape(-1, len(EMOTIONS))


def fit(fold: Fold, options: S4DOptions, context: Context) -> S4DModel:
    """Adapt the network to a fold's training clips.

    Raises:
        DataError: crops that are missing, weights that do not fit, too few actors for an inner split.
    """
    network = build(options, context).to(context.device)
    learn, judge = _choose_judge(fold, options, context)
    batches = TrainingBatches(learn.items, learn.targets, open_crops(options, context), options, context.device)
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
    """Return the clips to learn from and who says which epoch is best."""
    if options.selection == "inner":
        learn, check = fold.train.inner_split(context.seed)
        inner = InnerJudge(check)
        return learn, lambda network: inner.grade(predict_rows(network, check, options, context))
    if options.selection == "held-out" and not context.final:

        def ask_outside(network: S4DViTMoE) -> Quality:
            rows = predict_rows(network, fold.held_out, options, context)
            return (context.score(Probabilities(fold.held_out.ids, rows)).score,)

        return fold.train, ask_outside
    return fold.train, None


def _report(network: S4DViTMoE, options: S4DOptions, epoch: int, context: Context) -> None:
    trained = count_parameters(trained_parts(network, options.train))
    parts = count_parts(network)
    context.note("parameters", {**parts, "trained": trained, "frozen": parts["total"] - trained})
    context.note("epoch kept", epoch)
    if context.device.startswith("cuda"):
        context.note("GPU", torch.cuda.get_device_name())
        context.note("peak GPU memory, MiB", torch.cuda.max_memory_allocated() // 2**20)
