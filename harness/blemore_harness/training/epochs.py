"""Training in epochs: the best one kept, weights averaged, and an interrupted training resumed to the same bits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from blemore_harness.context import Context
from blemore_harness.disk import atomic_file
from blemore_harness.errors import DataError
from blemore_harness.networks import has_bfloat16
from blemore_harness.training.options import Precision

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.optim.swa_utils import AveragedModel

Quality = tuple[float, ...]
"""How good an epoch is; compared entry by entry."""

Judge: TypeAlias = "Callable[[nn.Module], Quality]"
"""Measures how good a network in evaluation mode is."""


@dataclass(frozen=True)
class Training:
    """One training of a network from beginning to end.

    Attributes:
        name: in the log and on the progress bar.
        checkpoint: file in which an unfinished training is kept; removed at the end.
        network: on its device; its trained weights are changed in place.
        optimizer: of the trained weights.
        train_epoch: trains the epoch of a number, counted from 0, and returns its mean loss. All its randomness comes
            from that number, or from `generator`.
        epochs: after how many the training ends.
        save_every: epochs between checkpoints.
        judge: None keeps the last epoch.
        judge_every: epochs between judgements; the last epoch is judged in any case.
        patience: stop after so many epochs without a better one; None for never.
        generator: whose state is part of the checkpoint.
        average: of the weights (see `average_weights`), which then is what is judged and kept.
    """

    name: str
    checkpoint: Path
    network: nn.Module
    optimizer: torch.optim.Optimizer
    train_epoch: Callable[[int], float]
    epochs: int
    save_every: int
    judge: Judge | None = None
    judge_every: int = 1
    patience: int | None = None
    generator: torch.Generator | None = None
    average: AveragedModel | None = None

    @property
    def judged(self) -> nn.Module:
        """Return the network that is judged and kept."""
        return self.network if self.average is None else self.average.module


@dataclass
class State:
    """What a training has reached.

    Attributes:
        epoch: epochs done.
        best: quality of the epoch that is kept, and its number; None before the first judgement.
        kept: its trained weights on the CPU.
        losses: mean loss of every epoch.
        scores: number of every judged epoch, and what the judge said first.
    """

    epoch: int = 0
    best: tuple[Quality, int] | None = None
    kept: dict[str, Tensor] | None = None
    losses: list[float] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)


def run_epochs(training: Training, context: Context) -> int:
    """Train the network and return the number of the epoch whose weights it has at the end; note the curves.

    A training that is begun again with the same checkpoint file continues after its last checkpoint, to the same
    result.

    Raises:
        DataError: a damaged checkpoint, or one of another training.
    """
    state = read_checkpoint(training)
    if state.epoch:
        context.log(f"{training.name}: going on after epoch {state.epoch}")
    with context.progress(f"{training.name}: epochs", training.epochs) as bar:
        bar.advance(state.epoch)
        while state.epoch < training.epochs and not _is_over(state, training):
            state.losses.append(training.train_epoch(state.epoch))
            state.epoch += 1
            last = state.epoch == training.epochs
            if last or state.epoch % training.judge_every == 0:
                _judge(training, state)
            if not last and state.epoch % training.save_every == 0:
                write_checkpoint(training, state)
            bar.advance()
    context.note_curve(f"{training.name}: training loss", range(1, state.epoch + 1), state.losses)
    if state.scores:
        context.note_curve(f"{training.name}: validation Score", *zip(*state.scores, strict=True))
    put_weights(training.network, state.kept or trained_weights(training.judged))
    training.checkpoint.unlink(missing_ok=True)
    training.network.eval()
    return state.best[1] if state.best else state.epoch


def average_weights(network: nn.Module, decay: float) -> AveragedModel:
    """Return a running average of a network's weights (exponential, EMA), itself a network in evaluation mode.

    Call its `update_parameters` after each step. Early on the average is shorter, at most (1 + step) / (10 + step) with
    steps counted from 1, or it would stay near the fresh weights.

    Args:
        network: whose; the average begins at its present weights.
        decay: how much of the average stays at a step, in the long run.
    """

    import torch
    from torch.optim.swa_utils import AveragedModel

    def mix(averaged: list[Tensor], current: list[Tensor], _: object) -> None:
        step = int(average.n_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + step) / (10 + step)))

    average = AveragedModel(network, multi_avg_fn=mix)
    average.n_averaged.fill_(1)  # the weights that it begins at count; torch would overwrite them at the first step
    average.eval()
    return average


def trained_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return what training changes: trained parameters, and buffers such as the statistics of batch normalisation.

    The other parameters never change and would fill disks.
    """
    saved = network.state_dict().keys()
    found = {name: parameter.detach() for name, parameter in network.named_parameters() if parameter.requires_grad}
    return found | {name: buffer for name, buffer in network.named_buffers() if name in saved}


def put_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy trained weights into a network.

    Raises:
        KeyError: they are another network's.
    """
    own = trained_weights(network)
    if own.keys() != weights.keys():
        raise KeyError("the trained parts differ")
    for name, tensor in own.items():
        tensor.copy_(weights[name])


def write_checkpoint(training: Training, state: State) -> None:
    """Write everything that a training needs to continue, whole or not at all."""
    import torch

    average, generator = training.average, training.generator
    held = {
        "network": trained_weights(training.network),
        "optimizer": training.optimizer.state_dict(),
        "average": None if average is None else (int(average.n_averaged), trained_weights(average.module)),
        "generator": None if generator is None else generator.get_state(),
        "epoch": state.epoch,
        "best": state.best,
        "kept": state.kept,
        "losses": state.losses,
        "scores": state.scores,
    }
    with atomic_file(training.checkpoint) as file:
        torch.save(held, file)


def read_checkpoint(training: Training) -> State:
    """Put a training where its checkpoint says it was; without a checkpoint it is at the beginning.

    Raises:
        DataError: a damaged checkpoint, or one of another training.
    """
    import torch

    if not training.checkpoint.exists():
        return State()
    try:
        held = torch.load(training.checkpoint, map_location="cpu", weights_only=True)
        put_weights(training.network, held["network"])
        training.optimizer.load_state_dict(held["optimizer"])
        if training.average is not None:
            steps, weights = held["average"]
            training.average.n_averaged.fill_(steps)
            put_weights(training.average.module, weights)
        if training.generator is not None:
            training.generator.set_state(held["generator"])
        return State(held["epoch"], held["best"], held["kept"], held["losses"], held["scores"])
    except Exception as error:  # torch has no class for what can be wrong with such a file
        raise DataError(f"damaged checkpoint {training.checkpoint}: delete it and run again") from error


def soft_label_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over clips of KL(targets || softmax(logits)), in float32; both (B, 6).

    Raises:
        DataError: logits of another shape.
    """
    from torch.nn import functional as F

    if logits.shape != targets.shape:
        raise DataError(
            f"expected logits of shape {tuple(targets.shape)}, six for each clip, found {tuple(logits.shape)}"
        )
    return F.kl_div(F.log_softmax(logits.float(), dim=1), targets, reduction="batchmean")


def autocast(device: str, precision: Precision = "auto") -> contextlib.AbstractContextManager[Any]:
    """Return the autocast block; bfloat16 has the range of float32, so that no loss needs scaling.

    Args:
        device: of the network.
        precision: `auto` is bfloat16 on a GPU that computes in it, else float32.
    """
    import torch

    kind = torch.device(device).type
    rounded = precision == "bfloat16" or (precision == "auto" and kind == "cuda" and has_bfloat16())
    return torch.autocast(kind, torch.bfloat16) if rounded else contextlib.nullcontext()


def _is_over(state: State, training: Training) -> bool:
    if state.best is None or training.patience is None:
        return False
    return state.epoch - state.best[1] >= training.patience


def _judge(training: Training, state: State) -> None:
    if training.judge is None:
        return
    training.network.eval()
    quality = training.judge(training.judged)
    state.scores.append((state.epoch, float(quality[0])))
    if state.best is None or quality > state.best[0]:
        state.best = (quality, state.epoch)
        state.kept = {name: tensor.cpu().clone() for name, tensor in trained_weights(training.judged).items()}
