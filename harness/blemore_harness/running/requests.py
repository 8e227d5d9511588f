"""What one call asks of a system, as data: the same lines answer it in this process and in a worker process."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from blemore_harness.clips import EMOTIONS, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import DataError, InvalidEmbeddings, InvalidProbabilities, first_and_count, is_disk_trouble
from blemore_harness.hookspecs import Encoder, Fusion, FusionModel, Model
from blemore_harness.predictions import Embeddings, Probabilities, embeddings_of
from blemore_harness.systems.failures import WrongAnswer

MODEL = "model"
"""Folder of the workspace that a model is saved into."""

MODEL_ENDINGS = (".safetensors", ".json")
"""Files that a kept model may consist of: none of them can run code when it is read."""

BaseModels = Mapping[str, Probabilities | Embeddings]
Answer = Probabilities | Embeddings | None
"""Predictions of a fold, embeddings, or None of a preparation."""


class Request(Protocol):
    """A piece of work for a plugin; holds no label that the plugin may not see, and can be pickled."""

    def do(self, system: Any, options: Any, context: Context) -> Answer:
        """Call the system."""


@dataclass(frozen=True)
class Preparing:
    """Download and extract for all clips."""

    clips: Clips

    def do(self, system: Encoder, options: Any, context: Context) -> None:
        """Call `prepare`."""
        system.prepare(self.clips, options, context)


@dataclass(frozen=True)
class Embedding:
    """Return the label-free embeddings of clips."""

    clips: Clips

    def do(self, system: Encoder, options: Any, context: Context) -> Embeddings:
        """Call `embed`; the embeddings come in the order of the clips."""
        given = system.embed(self.clips, options, context)
        try:
            return embeddings_of(given, self.clips.ids)
        except InvalidEmbeddings as error:
            raise WrongAnswer(str(error), system.embed) from error


@dataclass(frozen=True)
class Fitting:
    """Train on a fold and predict what it holds out.

    Attributes:
        fold: what is trained on.
        keep_model: save the model into the folder `MODEL` of the workspace, if it can be.
    """

    fold: Fold
    keep_model: bool = False

    def do(self, system: Encoder, options: Any, context: Context) -> Probabilities:
        """Call `fit_folds` for this fold, and the model's `predict`."""
        return next(fit_and_predict(system, options, [self], [context]))

    def predict(self, model: Model, context: Context) -> Probabilities:
        """Call the model's `predict`; a final fit without test clips is asked for nothing."""
        if not len(self.fold.held_out):
            return Probabilities((), np.empty((0, len(EMOTIONS))))
        return check_predictions(model.predict(self.fold.held_out, context), self.fold.held_out, model.predict)


@dataclass(frozen=True)
class Fusing:
    """Train a fusion on a fold's training clips, then fuse one or more sets of clips.

    Attributes:
        fold: what is trained on.
        base_models: by base model, probabilities of the training clips, or embeddings of all clips of the fold.
        asked: the clips to fuse, each with what the base models give for them.
        keep_model: as of `Fitting`.
    """

    fold: Fold
    base_models: BaseModels
    asked: tuple[tuple[Clips, BaseModels], ...]
    keep_model: bool = False

    def do(self, system: Fusion, options: Any, context: Context) -> Probabilities:
        """As `Fitting.do`."""
        return next(fit_and_predict(system, options, [self], [context]))

    def predict(self, model: FusionModel, context: Context) -> Probabilities:
        """Call the model's `predict` for every set of clips."""
        given = [
            check_predictions(model.predict(clips, seen, context), clips, model.predict) for clips, seen in self.asked
        ]
        ids = tuple(name for predicted in given for name in predicted.ids)
        return Probabilities(ids, np.concatenate([np.empty((0, len(EMOTIONS))), *(each.values for each in given)]))


def plan_fusing(
    system: Fusion, fold: Fold, train: BaseModels, held_out: BaseModels, keep_model: bool = False
) -> Fusing:
    """Return the request that fits a fusion on a fold and fuses its held-out clips.

    On the final fit of a fusion of probabilities, where the weights come from all training clips, those are fused too:
    the papers' number, chosen on the clips that it is scored on. One of embeddings would be scored on what it knows by
    heart. A part without clips, as of a dataset without test clips, is not asked for.

    Args:
        train: by base model, probabilities of (at least) the fold's training clips, opaque ids; or embeddings of all
            clips.
        held_out: by base model, probabilities of (at least) the held-out clips, or embeddings.
        keep_model: as of `Fitting`.
    """
    of_probabilities = system.takes == "probabilities"
    known = fold.train.ids if of_probabilities else (*fold.train.ids, *fold.held_out.ids)
    trained_on = {name: given.pick(known) for name, given in train.items()}
    seen = {name: given.pick(fold.held_out.ids) for name, given in held_out.items()}
    asked: list[tuple[Clips, BaseModels]] = [(fold.held_out, seen)] if len(fold.held_out) else []
    if fold.index is None and of_probabilities:
        asked.insert(0, (fold.train.unlabelled(), trained_on))
    return Fusing(fold, trained_on, tuple(asked), keep_model)


def fit_and_predict(
    system: Encoder | Fusion,
    options: Any,
    requests: Sequence[Fitting | Fusing],
    contexts: Sequence[Context],
) -> Iterator[Probabilities]:
    """Call `fit_folds`, and return the predictions fold by fold, each made when it is taken.

    Args:
        requests, contexts: one of each for every fold.
    """
    folds = [request.fold for request in requests]
    given: Iterable[Any]
    if isinstance(system, Encoder):
        given = system.fit_folds(folds, options, contexts)
        own = type(system).fit_folds is not Encoder.fit_folds
    else:
        base_models = [request.base_models for request in requests if isinstance(request, Fusing)]
        given = system.fit_folds(folds, base_models, options, contexts)
        own = type(system).fit_folds is not Fusion.fit_folds
    giver: object = system.fit_folds if own else system.fit
    if not isinstance(given, Iterable):
        raise WrongAnswer(f"expected `fit_folds` to return a model per fold, found {type(given).__name__}", giver)
    if isinstance(given, Sized) and len(given) != len(folds):
        raise WrongAnswer(f"expected {len(folds)} models of `fit_folds`, found {len(given)}", giver)
    # A generator mostly passes on what `fit` gives.
    maker = ("fit_folds", giver) if own and isinstance(given, Sized) else ("fit", system.fit)
    return _predict_each(requests, iter(given), contexts, giver, maker)


def _predict_each(
    requests: Sequence[Fitting | Fusing],
    models: Iterator[Any],
    contexts: Sequence[Context],
    giver: object,
    maker: tuple[str, object],
) -> Iterator[Probabilities]:
    for number, (request, context) in enumerate(zip(requests, contexts, strict=True)):
        try:
            model = next(models)
        except StopIteration:
            raise WrongAnswer(f"expected {len(requests)} models of `fit_folds`, found {number}", giver) from None
        predicted = request.predict(_model_of(model, *maker), context)
        if request.keep_model:
            _save(model, context)
        del model  # before the next one is fitted: a GPU may have no room for two
        yield predicted


def _save(model: Any, context: Context) -> None:
    """Let a model write itself down, if it can; its predictions are not lost where that fails, but for a full disk."""
    if not callable(getattr(model, "save", None)):
        return
    folder = context.workspace / MODEL
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        model.save(folder)
        refuse_strange_files(folder)
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and is_disk_trouble(error):
            raise
        context.warn(f"the model is not kept: {' '.join(f'{type(error).__name__}: {error}'.split())}")


def refuse_strange_files(folder: Path) -> None:
    """Raise `DataError` where a saved model consists of nothing, or of other files than `MODEL_ENDINGS`."""
    found = [path for path in sorted(folder.rglob("*")) if not path.is_dir() or path.is_symlink()]
    strange = [path.name for path in found if path.suffix not in MODEL_ENDINGS or path.is_symlink()]
    if strange or not found:
        what = first_and_count(strange, "other file") if strange else "none"
        raise DataError(f"`save`: expected {' and '.join(MODEL_ENDINGS)} files, found {what}")


def _model_of(given: Any, name: str, giver: object) -> Any:
    """Refuse what cannot predict, such as the None of a `fit` that ends without `return`."""
    if not callable(getattr(given, "predict", None)):
        raise WrongAnswer(
            f"expected `{name}` to return a model with a method `predict`, found {type(given).__name__}: "
            f"end `{name}` with `return model`",
            giver,
        )
    return given


def check_predictions(given: object, clips: Clips, giver: object) -> Probabilities:
    """Return the probabilities in the order of the clips; refuse what is none, or of other clips."""
    if not isinstance(given, Probabilities):
        raise WrongAnswer(
            f"expected `predict` to give Probabilities, found {type(given).__name__}: "
            "end `predict` with `return Probabilities(clips.ids, values)`",
            giver,
        )
    try:
        return given.aligned(clips.ids)
    except InvalidProbabilities as error:
        raise WrongAnswer(f"{error}: `predict` must give a row for each clip that it is called with", giver) from error
