"""Checks of what a system computes: valid predictions that depend on the clip, the seed and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import EMOTIONS, Clips, Fold
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.predictions import Embeddings
from blemore_harness.running.requests import refuse_strange_files
from blemore_harness.testing.material import rename_clips
from blemore_harness.testing.trials import Trial, Trials
from blemore_harness.testing.verdicts import Broken, NotApplicable

ROUNDING = 1e-5
"""How far probabilities may move by rounding alone, as in a batch of another size."""

TOGETHER = 1e-2
"""How far they may move where folds are trained together: rounding grows while something is trained."""

RIGHT = 1 / 3
"""Share of held-out clips of one emotion that must be recognised: twice what guessing gives."""

ABSENT = EMOTIONS.index("fea")
"""The emotion that is left out of a training part."""


def check_probabilities(bench: Trials) -> None:
    """Prepare, fit and predict: `Probabilities` checks the values, and there must be one row per clip."""
    bench.first()


def check_order(bench: Trials) -> None:
    """Predict the same clips the other way round."""
    trial = bench.first()
    clips = trial.fold.held_out
    back = bench.predict_again(trial, clips.take(np.arange(len(clips))[::-1]))[::-1]
    _compare(trial.rows, back, clips, ROUNDING, "predictions change with the order of clips")


def check_batch_invariance(bench: Trials) -> None:
    """Predict a part of the clips, and single ones."""
    trial = bench.first()
    clips = trial.fold.held_out
    advice = (
        "predictions change with the other clips of the call: is batch normalisation still in training mode, "
        "are features standardised over the clips at hand, does padding depend on the longest clip?"
    )
    for part in (np.arange(0, len(clips), 3), np.array([1]), np.array([len(clips) - 1])):
        _compare(trial.rows[part], bench.predict_again(trial, clips.take(part)), clips.take(part), ROUNDING, advice)


def check_names(bench: Trials) -> None:
    """Prepare, fit and predict with the same clips under shuffled names and in other folders."""
    first = bench.first()
    material, base_models = rename_clips(bench.material, bench.base_models(), first.root.parent / "renamed-clips")
    again = bench.once(
        "renamed", lambda: bench.run("renamed", material.fold, base_models=base_models, truth=material.truth)
    )
    _compare(
        first.rows, again.rows, bench.fold.held_out, ROUNDING,
        "predictions change with the names and folders of clips: compute from what is in the files, keep it under "
        "`clip.content`, and take no label, order or seed from `clip.id` or a path",
    )  # fmt: skip


def check_repeats(bench: Trials) -> None:
    """Do everything again with the same seed in new folders."""
    first = bench.first()
    try:
        if np.array_equal(bench.again().rows, first.rows):
            return
    except Exception:  # what an interruption breaks is said by the check `resumes`
        pass
    rows = bench.once("repeated", lambda: bench.run("repeated", bench.fold)).rows
    _compare(
        first.rows, rows, bench.fold.held_out, 0.0,
        "the same seed gives other predictions: seed every generator from `context.seed`, and shuffle with it",
    )  # fmt: skip


def check_resumes(bench: Trials) -> None:
    """Interrupt `prepare` and `fit` in the middle, as Ctrl-C does, and do them again in the same folders."""
    rows = bench.again().rows
    if not np.array_equal(rows, bench.first().rows):
        repeated = bench.once("repeated", lambda: bench.run("repeated", bench.fold)).rows
        if not np.array_equal(repeated, bench.first().rows):
            raise NotApplicable("nothing can be said before the same seed gives the same predictions (check `repeats`)")
    _compare(
        bench.first().rows, rows, bench.fold.held_out, 0.0,
        "interrupted and repeated it gives other predictions: a checkpoint must hold generators and optimiser as well, "
        "and what `prepare` keeps of a clip must not depend on other clips where `prepares_each_clip` is set",
    )  # fmt: skip


def check_saves(bench: Trials) -> None:
    """Save the model, load it where nothing else of the fit is left, and predict the same clips."""
    trial, system = bench.first(), bench.subject.system
    if not callable(getattr(trial.model, "save", None)):
        raise NotApplicable("its model defines no `save`: a run cannot keep it, and `predict` cannot ask it")
    saving, context = (bench.context(trial.root.parent / name) for name in ("saved", "loaded"))
    written, moved = saving.workspace / "model", context.workspace.parent / "model"
    for left in (written, moved):  # of a check that ended early
        shutil.rmtree(left, ignore_errors=True)
    written.mkdir()
    bench.call("save", saving, lambda: trial.model.save(written))
    refuse_strange_files(written)
    written.replace(moved)
    fitted, aside = trial.root / "workspace", trial.root / "set-aside"
    fitted.replace(aside)
    try:
        model = bench.call("load", context, lambda: system.load(moved, bench.options, context))
        base_models = trial.base_models
        rows = bench.call("predict", context, lambda: bench.predict(model, trial.fold.held_out, base_models, context))
    finally:
        aside.replace(fitted)
    _compare(
        trial.rows, rows, trial.fold.held_out, 0.0,
        "the loaded model gives other predictions: `save` must write all that `predict` uses, at full precision",
    )  # fmt: skip


def check_no_labels(bench: Trials) -> None:
    """Do the final fit, where `context.score` refuses."""
    _alone_if_needed(bench, "no-labels", lambda: bench.run("no-labels", _final(bench.fold), final=True))


def check_one_clip(bench: Trials) -> None:
    """Predict a fold with a single held-out clip."""
    fold = bench.fold
    one = Fold(fold.index, fold.train, fold.held_out.take([0]))
    _alone_if_needed(bench, "one-clip", lambda: bench.run("one-clip", one))


def check_missing_emotion(bench: Trials) -> None:
    """Fit where one emotion is never shown."""
    fold = bench.fold
    lacking = Fold(fold.index, _without_an_emotion(fold.train), fold.held_out)
    _alone_if_needed(bench, "missing-emotion", lambda: bench.run("missing-emotion", lacking))


def check_no_clips(bench: Trials) -> None:
    """Prepare for no clips at all, as `doctor` does to find out what is missing."""
    system = bench.subject.system
    context = bench.context(bench.first().root)
    bench.call("prepare", context, lambda: system.prepare(Clips(()), bench.options, context))  # type: ignore[union-attr]


def check_learns(bench: Trials) -> None:
    """Count held-out clips of one emotion that are recognised."""
    trial = bench.first()
    truth = np.array([bench.material.truth[name] for name in trial.fold.held_out.ids])
    alone = truth.max(axis=1) == 1
    right = int((trial.rows[alone].argmax(axis=1) == truth[alone].argmax(axis=1)).sum())
    if right < RIGHT * alone.sum():
        raise Broken(
            f"{right} of {alone.sum()} held-out clips of one emotion are recognised, guessing gives "
            f"{alone.sum() / len(EMOTIONS):.0f}: every emotion has a colour over the picture and a tone in the audio. "
            "If it cannot see or hear these, set the check aside with a reason"
        )


def check_embeddings(bench: Trials) -> None:
    """Embed all clips, then a few in another order."""
    system = bench.subject.system
    if type(system).embed is Encoder.embed:  # type: ignore[union-attr]
        raise NotApplicable("it defines no `embed`")
    trial, clips = bench.first(), bench.material.clips
    context = bench.context(trial.root)

    def embed(some: Clips) -> Embeddings:
        given = bench.call("embed", context, lambda: system.embed(some, bench.options, context))  # type: ignore[union-attr]
        if not isinstance(given, Embeddings):
            raise Broken(f"expected `embed` to give Embeddings, found {type(given).__name__}")
        if set(given.ids) != set(some.ids):
            raise Broken(f"expected an embedding for each of {len(some)} clips and no others, found {len(given.ids)}")
        return given

    part = clips.take(np.arange(len(clips) - 1, 0, -5))
    whole, alone = embed(clips).pick(part.ids).values, embed(part).pick(part.ids).values
    if whole.shape != alone.shape:
        raise Broken(f"embeddings of {alone.shape[1]} numbers for few clips, of {whole.shape[1]} for many")
    size = float(np.abs(whole).max()) or 1.0
    _compare(
        whole / size,
        alone / size,
        part,
        ROUNDING,
        "embeddings change with the other clips of the call",
    )


def check_frame_features(bench: Trials) -> None:
    """Ask for the frame-level features of a few clips."""
    system = bench.subject.system
    if type(system).frame_features is Encoder.frame_features:  # type: ignore[union-attr]
        raise NotApplicable("it defines no `frame_features`")
    context = bench.context(bench.first().root)
    widths = set()
    for clip in bench.material.clips.take([0, 1, 2]):
        give = partial(system.frame_features, clip, bench.options, context)  # type: ignore[union-attr]
        found = bench.call("frame_features", context, give)
        if not isinstance(found, np.ndarray) or found.dtype != np.float32 or found.ndim != 2 or not found.size:
            what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
            raise Broken(f"`frame_features`: expected float32 (T, D) with at least one row, found {what}")
        if not np.isfinite(found).all():
            raise Broken("`frame_features`: NaN or infinite values")
        widths.add(found.shape[1])
    if len(widths) > 1:
        raise Broken(f"`frame_features`: expected the same D for all clips, found {sorted(widths)}")


def check_together(bench: Trials) -> None:
    """Fit two folds with a `fit_folds` of its own; each is trained on clips that the other holds out."""
    system, first = bench.subject.system, bench.first()
    folds = [bench.fold, bench.material.turned()]
    contexts = [bench.context(first.root.parent / f"together-{n}") for n in range(len(folds))]
    work: Callable[[], Any]
    if isinstance(system, Encoder):
        own, tolerance = type(system).fit_folds is not Encoder.fit_folds, TOGETHER
        work = partial(system.fit_folds, folds, bench.options, contexts)
    else:
        base_models = [bench.members_of(fold) for fold in folds]
        own, tolerance = type(system).fit_folds is not Fusion.fit_folds, 0.0
        work = partial(system.fit_folds, folds, base_models, bench.options, contexts)
    if not own:
        raise NotApplicable("it defines no `fit_folds` of its own")
    models = bench.call("fit_folds", contexts[0], lambda: list(work()), *contexts[1:])
    rows = bench.predict(models[0], bench.fold.held_out, bench.base_models(), contexts[0])
    _compare(
        first.rows, rows, bench.fold.held_out, tolerance,
        "a fold that is trained beside others gives other predictions: it must not use other folds, least of all their "
        "labels",
    )  # fmt: skip


def check_model_order(bench: Trials) -> None:
    """Fuse with base models the other way round."""
    base_models = dict(reversed(list(bench.base_models().items())))
    rows = bench.once(
        "base-model-order", lambda: bench.run("base-model-order", bench.fold, base_models=base_models)
    ).rows
    _compare(
        bench.first().rows, rows, bench.fold.held_out, ROUNDING,
        "predictions change with the order in which base models are named: sort them",
    )  # fmt: skip


def check_one_base_model(bench: Trials) -> None:
    """Fuse a single base model."""
    name, rows = next(iter(bench.base_models().items()))
    bench.once("one-base-model", lambda: bench.run("one-base-model", bench.fold, base_models={name: rows}))


def _alone_if_needed(bench: Trials, name: str, alone: Callable[[], Trial]) -> None:
    """Try three difficulties in one fit; where that fails, try the one of this check alone."""
    bench.first()
    fold = bench.fold
    hard = Fold(None, _without_an_emotion(fold.train), fold.held_out.take([0]))
    try:
        bench.once("hard", lambda: bench.run("hard", hard, final=True))
    except Exception:
        bench.once(name, alone)


def _final(fold: Fold) -> Fold:
    return Fold(None, fold.train, fold.held_out)


def _without_an_emotion(clips: Clips) -> Clips:
    return clips.take(clips.labels[:, ABSENT] == 0)


def _compare(one: NDArray[Any], other: NDArray[Any], clips: Clips, tolerance: float, advice: str) -> None:
    """Raise `Broken` where values differ by more than a tolerance."""
    apart = np.abs(np.asarray(one, dtype=np.float64) - other).max(axis=1)
    wrong = int((apart > tolerance).sum())
    if wrong:
        raise Broken(f"{advice} ({wrong} of {len(clips)} clips differ, by up to {apart.max():.2g})")
