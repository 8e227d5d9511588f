"""Predictions of a trained network over the views of each clip, and the judges that choose epochs by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import EMOTIONS, Clip, Clips
from blemore_harness.context import Context
from blemore_harness.heads.judging import InnerJudge
from blemore_harness.networks import fitting_threads
from blemore_harness.predictions import Probabilities, softmax
from blemore_harness.training.batches import Source, read_views
from blemore_harness.training.epochs import Judge, Quality, autocast
from blemore_harness.training.options import Precision

if TYPE_CHECKING:
    from torch import Tensor, nn

Predict: TypeAlias = "Callable[[nn.Module, Clips], NDArray[np.float64]]"
"""Returns the probabilities (N, 6) that a network gives clips."""


def average_views(
    network: nn.Module,
    clips: Clips | Sequence[Clip],
    source: Source,
    context: Context,
    *,
    run: Callable[[Clip, Tensor], Tensor] | None = None,
    precision: Precision = "auto",
    workers: int = 0,
) -> NDArray[np.float64]:
    """Average the softmax over the views of each clip: float64 (N, 6).

    The views of one clip are one batch, so that its row is the same to the bit whatever clips are asked for with it.

    Args:
        network: in evaluation mode.
        clips: whose rows are wanted.
        source: reads their views.
        context: where to compute.
        run: gives the logits of a clip's views, where that is more than calling the network on them.
        precision, workers: see `autocast` and `TrainingBatches`.
    """
    import torch

    rows = []
    with torch.inference_mode(), autocast(context.device, precision), fitting_threads(network):
        for clip, views in zip(clips, read_views(clips, source, context.device, workers), strict=True):
            logits = network(views) if run is None else run(clip, views)
            probabilities = softmax(logits.double().cpu().numpy()).mean(axis=0)
            rows.append(probabilities / probabilities.sum())
    return np.array(rows, dtype=np.float64).reshape(-1, len(EMOTIONS))


def judge_inside(check: Clips, predict: Predict) -> Judge:
    """Judge by the official Score on labelled clips that were kept back; equal Scores by their likelihood."""
    inner = InnerJudge(check)
    return lambda network: inner.grade(predict(network, check))


def judge_held_out(held_out: Clips, predict: Predict, context: Context) -> Judge:
    """Judge by asking for the Score on the held-out clips, as the papers do."""

    def judge(network: nn.Module) -> Quality:
        return (context.score(Probabilities(held_out.ids, predict(network, held_out))).score,)

    return judge
