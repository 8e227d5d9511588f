"""From a fold to a network that was trained whole, by the harness's training kit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from blemore_harness.clips import Fold
from blemore_harness.context import Context
from blemore_harness.networks import seeded
from blemore_harness.training.batches import Source
from blemore_harness.training.fitting import Fresh, TrainedNetwork, fit_network, load_network
from blemore_plugins.finetuning.groups import Built, attach_lora, make_groups, merge_lora
from blemore_plugins.finetuning.options import FinetuningOptions

Build = Callable[[Any, Context], Built]


def fit(fold: Fold, build: Build, source: Source, options: FinetuningOptions, context: Context) -> TrainedNetwork:
    """Train a network on a fold's training clips; see `training.fitting.fit_network`.

    Args:
        fold: clips with labels to train on, and clips without.
        build: makes the network anew.
        source: reads clips for it.
        options: how.
        context: seed, device, workspace, and whom to ask for scores.
    """
    model = fit_network(fold, lambda: prepare_network(build, options, context), source, options, context)
    merge_lora(model.network)
    model.network.requires_grad_(False)
    return model


def load(folder: Path, build: Build, source: Source, options: FinetuningOptions, context: Context) -> TrainedNetwork:
    """Read a trained network that was kept; it is built as for a fit, without low-rank matrices."""
    return load_network(folder, build(options, context).network, source, options)


def prepare_network(build: Build, options: FinetuningOptions, context: Context) -> Fresh:
    """Build a network with its low-rank matrices, if it has some, and sort its weights into groups."""
    built = build(options, context)
    if options.lora:
        with seeded(context.seed):
            attach_lora(built.network, built.anatomy.attention, options.lora, built.anatomy.fused)
    return Fresh(built.network, make_groups(built.network, built.anatomy, options))
