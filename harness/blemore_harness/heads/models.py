"""Heads on rows of clips, one or many per clip: what is trained on, which epoch is kept, how clips are predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import EMOTIONS, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.disk import read_json, write_json
from blemore_harness.errors import DataError, ExtraMissing
from blemore_harness.heads.attention import build_pool, build_pooled_head, read_all_inputs
from blemore_harness.heads.frames import ClipFrames
from blemore_harness.heads.identity import ActorDirections, find_actor_directions
from blemore_harness.heads.judging import InnerJudge, measure_gain
from blemore_harness.heads.options import HeadOptions
from blemore_harness.heads.scaling import Scaler, Vectors, fit_scaler, make_scaler
from blemore_harness.heads.training import Judge, Task, train_heads
from blemore_harness.networks import (
    build_mlp,
    forward_rows,
    load_weights,
    one_thread,
    save_weights,
    seeded,
    shape_of_mlp,
)
from blemore_harness.predictions import FloatArray, Probabilities, softmax

if TYPE_CHECKING:
    import torch


HEAD_WEIGHTS, HEAD_SCALER, HEAD_FACTS = "head.safetensors", "scaler.safetensors", "head.json"
"""Files of a head that is kept."""

CLIPS = 256
"""Clips whose rows are held at a time at prediction."""


@dataclass(frozen=True)
class Rows:
    """The rows of some clips, clip after clip.

    Attributes:
        values: float32 (R, D); the receiver may change them.
        counts: int64 (N,), rows of each clip, at least 1.
        frames: frame-level features of the clips, for a head that pools them; then each clip has one row.
    """

    values: Vectors
    counts: NDArray[np.int64]
    frames: ClipFrames | None = None


RowsOf: TypeAlias = Callable[[Clips], Rows]
"""Returns embeddings of unlabelled clips, in the order of the clips."""


@dataclass(frozen=True)
class HeadModel:
    """A trained head and what it was trained on.

    Attributes:
        rows_of: gives the rows of clips.
        scaler: of the training part's rows, with the directions that are shrunk.
        network: a torch module in eval mode, (R, D) to logits (R, 6); with frames, of `attention.build_pooled_head`.
        epochs: how many it was trained for.
    """

    rows_of: RowsOf
    scaler: Scaler
    network: Any
    epochs: int

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        """Return softmax rows, of the mean logits where a clip has several rows; each depends on its own clip only."""
        parts = [np.empty((0, len(EMOTIONS)))]
        for start in range(0, len(clips), CLIPS):
            some = self.rows_of(clips.take(range(start, min(start + CLIPS, len(clips)))).unlabelled())
            inputs = _to_device(self.scaler.apply_in_place(some.values), next(self.network.parameters()).device)
            parts.append(_predict_rows(self.network, inputs, some))
        return Probabilities(clips.ids, np.concatenate(parts))

    def save(self, folder: Path) -> None:
        """Write weights, the standardisation and the shape; see `load_model`."""
        from safetensors.numpy import save_file

        save_weights(self.network, folder / HEAD_WEIGHTS)
        save_file(self.scaler.arrays(), folder / HEAD_SCALER)
        pool = getattr(self.network, "pool", None)
        shape = {**shape_of_mlp(self.network if pool is None else self.network.mlp), "epochs": self.epochs}
        write_json(folder / HEAD_FACTS, shape if pool is None else {**shape, "pool": pool.shape})


def load_model(folder: Path, rows_of: RowsOf, device: str) -> HeadModel:
    """Read what `HeadModel.save` wrote.

    Args:
        rows_of: gives the embeddings of the clips that are to be predicted.
        device: where to predict.

    Raises:
        ExtraMissing: torch or safetensors is not installed.
    """
    _require_torch()
    from safetensors.numpy import load_file

    facts = read_json(folder / HEAD_FACTS)
    with seeded(0):  # weights are drawn before they are replaced
        network = build_mlp(facts["inputs"], facts["widths"], facts["batch_norm"], 0.0)
    if "pool" in facts:
        network = build_pooled_head(build_pool(**facts["pool"]), network)
    scaler = make_scaler(load_file(folder / HEAD_SCALER))
    return HeadModel(rows_of, scaler, load_weights(network.to(device), folder / HEAD_WEIGHTS), facts["epochs"])


def fit_models(
    sources: Sequence[RowsOf],
    folds: Sequence[Fold],
    options: HeadOptions,
    contexts: Sequence[Context],
    threads: int = 0,
) -> list[HeadModel]:
    """Train a head for each fold, all at once: first for as long as is best, then, if asked for, on all training clips.

    Args:
        sources: for each fold, gives the label-free rows of any of its clips.
        folds: clips with labels to learn from, and clips without.
        options: how.
        contexts: for each fold, seed, device, and whom to ask for scores.
        threads: as of `training.train_heads`.

    Raises:
        DataError: no training clips, or too few actors for an inner split.
        ExtraMissing: torch is not installed.
    """
    _require_torch()
    if not all(len(fold.train) for fold in folds):
        raise DataError("a head needs at least one training clip")
    fits = [_first_fit(*each, options) for each in zip(sources, folds, contexts, strict=True)]
    chosen = _train(fits, threads)
    for k, (fit, model) in _leave_out_attention(fits, chosen, threads).items():
        fits[k], chosen[k] = fit, model
    for model, context in zip(chosen, contexts, strict=True):
        context.note("epochs", model.epochs)
    again = [k for k, context in enumerate(contexts) if options.refit and not _asks(options, context)]
    refits = [
        replace(fits[k], learn=folds[k].train, check=None, options=replace(fits[k].options, epochs=chosen[k].epochs))
        for k in again
    ]
    refitted = dict(zip(again, _train(refits, threads, "all training clips: "), strict=True))
    return [refitted.get(k, model) for k, model in enumerate(chosen)]


@dataclass(frozen=True)
class _Fit:
    """One training: on `learn`, the epoch chosen on `check` (with labels here, without by asking), or the last kept."""

    rows_of: RowsOf
    learn: Clips
    check: Clips | None
    options: HeadOptions
    context: Context


def _asks(options: HeadOptions, context: Context) -> bool:
    return options.selection == "held-out" and not context.final


def _first_fit(rows_of: RowsOf, fold: Fold, context: Context, options: HeadOptions) -> _Fit:
    learn, check = fold.train, fold.held_out
    if not _asks(options, context):
        learn, check = fold.train.inner_split(context.seed)
    return _Fit(rows_of, learn, check, options, context)


def _leave_out_attention(
    fits: Sequence[_Fit], attentive: Sequence[HeadModel], threads: int
) -> dict[int, tuple[_Fit, HeadModel]]:
    """Return the same heads without attention, by their position, where attention is of no proven use.

    Of use is what gains more than a standard error over the actors that choose the epoch. Where the harness is asked
    for the epoch these actors are not known, and attention stays.
    """
    compared = {
        k: fit.check
        for k, fit in enumerate(fits)
        if fit.options.queries and fit.check is not None and fit.check.truth is not None
    }
    without = [replace(fits[k], options=replace(fits[k].options, queries=0)) for k in compared]
    trained = _train(without, threads, "without attention: ")
    found = {}
    for (k, check), fit, model in zip(compared.items(), without, trained, strict=True):
        clips = check.unlabelled()
        rows, others = (each.predict(clips, fit.context).values for each in (attentive[k], model))
        gain, error = measure_gain(check, rows, others)
        known = round(error, 6) if np.isfinite(error) else None
        fit.context.note("attention", {"gain": round(gain, 6), "standard error": known, "used": gain > error})
        if gain <= error:
            found[k] = fit, model
    return found


def _train(fits: Sequence[_Fit], threads: int, which: str = "") -> list[HeadModel]:
    """Train and note the curves, after `which`; the rows are let go of before the models are given back."""
    prepared = [_prepare(fit) for fit in fits]
    trained = train_heads([task for _, task in prepared], threads)
    for fit, head in zip(fits, trained, strict=True):
        epochs = range(1, len(head.losses) + 1)
        fit.context.note_curve(f"{which}training loss", epochs, head.losses)
        if head.scores:
            fit.context.note_curve(f"{which}validation Score", epochs, head.scores)
    return [
        HeadModel(fit.rows_of, scaler, head.network, head.epochs)
        for fit, (scaler, _), head in zip(fits, prepared, trained, strict=True)
    ]


def _prepare(fit: _Fit) -> tuple[Scaler, Task]:
    """Put what a head learns from on its device, standardised by these rows alone."""
    rows = fit.rows_of(fit.learn.unlabelled())
    targets = _to_device(np.repeat(fit.learn.targets, rows.counts, axis=0), fit.context.device)
    scaler = fit_scaler(rows.values)
    values = scaler.apply_in_place(rows.values)
    if fit.options.normalise_actors:
        scaler = replace(scaler, identity=_find_identity(fit, rows))
        scaler.shrink_identity(values)
    inputs = _to_device(values, fit.context.device)
    frames = rows.frames
    if frames is not None and not fit.options.queries and not frames.reader.source.layers:
        frames = None
    pool = None if frames is None else _make_pool(fit, scaler, frames)
    return scaler, Task(inputs, targets, fit.options, fit.context, _make_judge(fit, scaler), pool, frames)


def _make_pool(fit: _Fit, scaler: Scaler, frames: ClipFrames) -> Any:
    """Make a pool that starts at the statistics of the clips, standardised by what a head learns from."""
    import torch

    options, source = fit.options, frames.reader.source
    shape, deviation = frames.measure()
    pool = build_pool(options.queries, shape, source.parts, options.dropout)
    pool.scale = torch.from_numpy(deviation)
    if source.layers:
        pool.row_mean, pool.row_scale = torch.from_numpy(scaler.mean), torch.from_numpy(scaler.scale)
    return pool.to(fit.context.device)


def _find_identity(fit: _Fit, rows: Rows) -> ActorDirections:
    if fit.learn.actors is None:
        raise DataError("normalise_actors: these training clips have no actors; set normalise_actors=false")
    starts = np.cumsum(rows.counts) - rows.counts
    means = np.add.reduceat(rows.values, starts, axis=0) / rows.counts[:, None]
    return find_actor_directions(means.astype(np.float32), fit.learn.labels, fit.learn.actors)


def _make_judge(fit: _Fit, scaler: Scaler) -> Judge | None:
    """Judge by the official Score: of held-out clips by asking, as the papers do; of others by counting."""
    if fit.check is None:
        return None
    ids, context = fit.check.ids, fit.context
    rows = fit.rows_of(fit.check.unlabelled())
    inputs = _to_device(scaler.apply_in_place(rows.values), context.device)
    if fit.check.truth is None:
        return lambda network: (context.score(Probabilities(ids, _predict_rows(network, inputs, rows))).score,)
    inner = InnerJudge(fit.check)
    return lambda network: inner.grade(_predict_rows(network, inputs, rows))


def _predict_rows(network: Any, inputs: torch.Tensor, rows: Rows) -> FloatArray:
    """Return the softmax of each clip's mean logits, float64 (N, 6).

    Args:
        network: in eval mode.
        inputs: standardised rows of the clips.
        rows: of the same clips; how many each has, and frames.
    """
    counts = rows.counts
    with one_thread():
        if rows.frames is not None and hasattr(network, "pool"):
            inputs, network = read_all_inputs(network, inputs, rows.frames), network.mlp
        logits = forward_rows(network, inputs).double().cpu().numpy()
    starts = np.cumsum(counts) - counts
    return softmax(np.add.reduceat(logits, starts, axis=0) / counts[:, None])


def _to_device(values: NDArray[np.float32], device: Any) -> torch.Tensor:
    import torch

    return torch.from_numpy(values).to(device)


def _require_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ExtraMissing(f"training a head needs torch ({error}): pip install 'blemore-harness[encoders]'") from error
