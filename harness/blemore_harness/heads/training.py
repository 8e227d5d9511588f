"""The one training loop of all heads: several of one shape at once, each with its own rows, batches, chance and end."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias

from blemore_harness.context import Context, Progress
from blemore_harness.heads.attention import build_pooled_head, read_inputs
from blemore_harness.heads.frames import ClipFrames
from blemore_harness.heads.options import HeadOptions
from blemore_harness.networks import batches, build_mlp, one_thread, seeded, stack_rows, training_logits

if TYPE_CHECKING:
    import torch

Quality: TypeAlias = tuple[float, ...]
"""How good a head is; compared entry by entry, so that later ones only break ties."""

Judge: TypeAlias = Callable[[Any], Quality]
"""Measures how good a network in eval mode is."""

FLOOR = -18.420680743952367
"""Log of the smallest probability in the loss, 1e-8: below it the organisers' trainer clamps."""


@dataclass(frozen=True)
class Task:
    """What one head is trained on.

    Attributes:
        inputs: standardised rows, float32 (N, D), on the device to train on.
        targets: soft targets, float32 (N, 6), likewise.
        options: how; among heads that are trained together only `epochs`, `patience` and
            `queries` may differ.
        context: seed, and where progress is shown.
        judge: decides which epoch is kept, and with `patience` when to stop; None keeps the last.
        pool: pools `frames` into further inputs (`attention.build_pool`), trained with the MLP; None for rows alone.
        frames: frame-level features of the clips, in the order of the rows.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    options: HeadOptions
    context: Context
    judge: Judge | None
    pool: Any = None
    frames: ClipFrames | None = None


@dataclass(frozen=True)
class Trained:
    """A trained network in eval mode, and how many epochs it took.

    Attributes:
        network: the MLP, (N, D) to logits (N, 6); with a pool of `attention.build_pooled_head`.
        epochs: how many it was trained for.
        losses: mean loss of the rows in every epoch, those after the kept one included.
        scores: what the judge said first of every epoch; empty without a judge.
    """

    network: Any
    epochs: int
    losses: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()


def train_heads(tasks: Sequence[Task], threads: int = 0) -> list[Trained]:
    """Train the heads of some tasks, side by side in the same steps, or each by itself on a thread.

    A head's random numbers come from its own context's seed alone; the global generators are left as they were. So a
    head that is trained in the same steps as others differs from the same head trained alone by rounding only; alone on
    a CPU, or on a thread, it is the same bit for bit in every repetition.

    Args:
        tasks: what they are trained on.
        threads: how many heads are trained at a time, each in steps of its own; 0 trains all in the same steps.
    """
    runs = [_Run(task) for task in tasks]
    with contextlib.ExitStack() as stack:
        for run in runs:
            run.bar = stack.enter_context(run.task.context.progress("head: epochs", run.task.options.epochs))
        if threads:
            _train_on_threads(runs, threads)
        elif runs:
            _train_in_step(runs)
    return [run.finish() for run in runs]


def _train_in_step(runs: Sequence[_Run]) -> None:
    optimiser = _make_optimiser(runs)
    while active := [run for run in runs if not run.done]:
        with one_thread():
            _train_epoch(active, optimiser)
        for run in active:
            run.finish_epoch()


def _train_on_threads(runs: Sequence[_Run], threads: int) -> None:
    """Train epochs on threads; what asks and shows, between them, stays on this one.

    An interruption waits for the epochs that have begun.
    """
    optimisers = {run: _make_optimiser([run]) for run in runs}
    pool = ThreadPoolExecutor(threads)

    def start(run: _Run) -> Future[None]:
        return pool.submit(_train_epoch, [run], optimisers[run])

    try:
        with one_thread():  # threads that begin inside take it over
            running = {start(run): run for run in runs}
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    run = running.pop(future)
                    future.result()
                    run.finish_epoch()
                    if not run.done:
                        running[start(run)] = run
    finally:
        pool.shutdown(cancel_futures=True)


class _Run:
    """Where the training of one head stands."""

    bar: Progress

    def __init__(self, task: Task) -> None:
        import torch

        options, seed = task.options, task.context.seed
        self.task = task
        self.epoch = 0
        self.done = False
        self.best: tuple[Quality, Trained] | None = None
        self.losses: list[torch.Tensor] = []
        self._epochs: list[float] = []
        self._scores: list[float] = []
        self._normed = options.batch_norm and bool(options.widths)
        with seeded(seed):
            network = build_mlp(_count_inputs(task), options.widths, options.batch_norm, options.dropout)
        self.network = self.mlp = network.to(task.inputs.device)
        if task.pool is not None:
            self.network = build_pooled_head(task.pool, self.mlp)
        self._order = torch.Generator().manual_seed(seed)
        # Another stream than that of the initial weights, which would otherwise decide which units are dropped.
        self.chance = torch.Generator(task.inputs.device).manual_seed(seed + 1)

    def start_epoch(self) -> Iterator[torch.Tensor]:
        """Return the batches of an epoch, as positions of rows on the device."""
        inputs = self.task.inputs
        # A single row in all has no batch statistics: it is passed through the running ones.
        self.network.train(len(inputs) > 1)
        return batches(len(inputs), self.task.options.batch_size, self._order, self._normed, inputs.device)

    def read(self, part: torch.Tensor) -> torch.Tensor:
        """Return the inputs of the MLP for a batch; what a pool gives of one batch keeps a GPU busy by itself."""
        task = self.task
        if task.frames is None:
            return task.inputs[part]
        return read_inputs(self.network, task.inputs[part], task.frames.batch(part), self.chance)

    def finish_epoch(self) -> None:
        """Ask the judge, and decide whether to go on."""
        import torch

        self.epoch += 1
        self._epochs.append(torch.stack(self.losses).sum().item() / len(self.task.inputs))
        self.losses.clear()
        self.network.eval()
        self.bar.advance()
        self.done = self.epoch == self.task.options.epochs
        if self.task.judge is None:
            return
        quality = self.task.judge(self.network)
        self._scores.append(float(quality[0]))
        if self.best is None or quality > self.best[0]:
            self.best = quality, Trained(copy.deepcopy(self.network), self.epoch)
        self.done |= self.epoch - self.best[1].epochs >= self.task.options.patience

    def finish(self) -> Trained:
        """Return the best epoch's network, without a judge the last one's."""
        kept = self.best[1] if self.best else Trained(self.network, self.epoch)
        return replace(kept, losses=tuple(self._epochs), scores=tuple(self._scores))


def _count_inputs(task: Task) -> int:
    rows = int(task.inputs.shape[1])
    if task.pool is None:
        return rows
    return int(task.pool.width) if task.pool.layers else rows + int(task.pool.width)


def _make_optimiser(runs: Sequence[_Run]) -> Any:
    """Make one optimiser for all: it passes over parameters without a gradient, whose moments and steps stay put.

    Fused: the optimiser reads and writes more than anything else here, and in one pass takes a fifth of the time.
    """
    import torch

    options = runs[0].task.options
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[options.optimiser]
    parameters = [parameter for run in runs for parameter in run.network.parameters()]
    return kind(parameters, lr=options.learning_rate, weight_decay=options.weight_decay, fused=True)


def _train_epoch(runs: Sequence[_Run], optimiser: Any) -> None:
    """Take every head through its rows once; one with fewer batches waits for the others."""
    for parts in zip_longest(*(run.start_epoch() for run in runs)):
        optimiser.zero_grad(set_to_none=True)
        stepping = [(run, part) for run, part in zip(runs, parts, strict=True) if part is not None]
        stepping.sort(key=_shape_of_step)
        for _, group in groupby(stepping, key=_shape_of_step):
            _backward(list(group))
        optimiser.step()


def _shape_of_step(step: tuple[_Run, torch.Tensor]) -> tuple[int, bool, int]:
    """Return what heads must have in common to take a step as one: size of the batch, mode, and number of inputs."""
    return len(step[1]), step[0].network.training, _count_inputs(step[0].task)


def _backward(group: Sequence[tuple[_Run, torch.Tensor]]) -> None:
    """Add the gradients of soft-label KL (batchmean) for batches of one size; keep each head's own sum."""
    from torch.nn import functional

    inputs = stack_rows([run.read(part) for run, part in group])
    targets = stack_rows([run.task.targets[part] for run, part in group])
    logits = training_logits([run.mlp for run, _ in group], inputs, [run.chance for run, _ in group])
    logs = functional.log_softmax(logits, dim=2).clamp(min=FLOOR)
    # Heads share no parameter, so the gradient of the sum holds that of each; only the batch must be averaged over.
    (functional.kl_div(logs, targets, reduction="sum") / inputs.shape[1]).backward()
    each = functional.kl_div(logs.detach(), targets, reduction="none").sum(dim=(1, 2))
    for (run, _), loss in zip(group, each, strict=True):
        run.losses.append(loss)
