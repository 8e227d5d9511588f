"""What one call asks of a system, as data: the same lines answer it in this process and in a worker process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import InvalidEmbeddings, InvalidProbabilities
from blemore_harness.hookspecs import Encoder, Fusion, FusionModel, Model
from blemore_harness.predictions import Embeddings, Probabilities, embeddings_of
from blemore_harness.systems.failures import WrongAnswer

BaseModels = Mapping[str, Probabilities | Embeddings]
Answer = tuple[Probabilities, ...] | Embeddings | None
"""Rows by fold, embeddings, or None: nothing to answer, or folds that are not trained together."""


class Request(Protocol):
    """A piece of work for a plugin; holds no label that the plugin may not see, and can be pickled."""

    def do(self, system: Any, options: Any, contexts: Sequence[Context]) -> Answer:
        """Call the system; a context for each fold of the request."""


@dataclass(frozen=True)
class Preparing:
    """Download and extract for all clips."""

    clips: Clips

    def do(self, system: Encoder, options: Any, contexts: Sequence[Context]) -> None:
        """Call `prepare`."""
        system.prepare(self.clips, options, contexts[0])


@dataclass(frozen=True)
class Embedding:
    """Return the label-free embeddings of clips."""

    clips: Clips

    def do(self, system: Encoder, options: Any, contexts: Sequence[Context]) -> Embeddings:
        """Call `embed`; the embeddings come in the order of the clips."""
        given = system.embed(self.clips, options, contexts[0])
        try:
            return embeddings_of(given, self.clips.ids)
        except InvalidEmbeddings as error:
            raise WrongAnswer(str(error), system.embed) from error


@dataclass(frozen=True)
class Fitting:
    """Learn a fold and predict what it holds out."""

    fold: Fold

    def do(self, system: Encoder, options: Any, contexts: Sequence[Context]) -> tuple[Probabilities, ...]:
        """Call `fit` and the model's `predict`."""
        model = _model_of(system.fit(self.fold, options, contexts[0]), "fit", system.fit)
        return (self.predict(model, contexts[0]),)

    def predict(self, model: Model, context: Context) -> Probabilities:
        """Call the model's `predict`."""
        return _checked(model.predict(self.fold.held_out, context), self.fold.held_out, model.predict)


@dataclass(frozen=True)
class Fusing:
    """Learn to fuse on a fold's training clips, then fuse one or more sets of clips.

    Attributes:
        fold: what is trained on.
        base_models: by base model, rows for the training clips, or embeddings of all clips of the fold.
        asked: the clips to fuse, each with what the base models give for them.
    """

    fold: Fold
    base_models: BaseModels
    asked: tuple[tuple[Clips, BaseModels], ...]

    def do(self, system: Fusion, options: Any, contexts: Sequence[Context]) -> tuple[Probabilities, ...]:
        """Call `fit` and the model's `predict`."""
        model = _model_of(system.fit(self.fold, self.base_models, options, contexts[0]), "fit", system.fit)
        return (self.predict(model, contexts[0]),)

    def predict(self, model: FusionModel, context: Context) -> Probabilities:
        """Call the model's `predict` for every set of clips."""
        given = [_checked(model.predict(clips, seen, context), clips, model.predict) for clips, seen in self.asked]
        ids = tuple(name for rows in given for name in rows.ids)
        return Probabilities(ids, np.concatenate([rows.values for rows in given]))


def plan_fusing(system: Fusion, fold: Fold, train: BaseModels, held_out: BaseModels) -> Fusing:
    """Report what a fusion learns a fold from, and what it fuses.

    On the final fit of a fusion of rows, where the weights come from all training clips, those are fused too: the
    papers' number, chosen on the clips that it is scored on. One of embeddings would be scored on what it knows by
    heart. A part without clips, as of a dataset without test clips, is not asked for.

    Args:
        train: by base model, rows for (at least) the fold's training clips, opaque ids; or embeddings of all clips.
        held_out: by base model, rows for (at least) the held-out clips, or embeddings.
    """
    rows_only = system.takes == "probabilities"
    known = fold.train.ids if rows_only else (*fold.train.ids, *fold.held_out.ids)
    learn = {name: given.pick(known) for name, given in train.items()}
    seen = {name: given.pick(fold.held_out.ids) for name, given in held_out.items()}
    asked: list[tuple[Clips, BaseModels]] = [(fold.held_out, seen)] if len(fold.held_out) else []
    if fold.index is None and rows_only:
        asked.insert(0, (fold.train.unlabelled(), learn))
    return Fusing(fold, learn, tuple(asked))


@dataclass(frozen=True)
class FittingTogether:
    """Learn several folds at once."""

    parts: tuple[Fitting, ...]

    def do(self, system: Encoder, options: Any, contexts: Sequence[Context]) -> tuple[Probabilities, ...] | None:
        """Call `fit_together` and every model's `predict`; None where the system wants its folds one by one."""
        models = system.fit_together([part.fold for part in self.parts], options, contexts)
        return _predict_all(self.parts, models, contexts, system.fit_together)


@dataclass(frozen=True)
class FusingTogether:
    """Learn to fuse several folds at once."""

    parts: tuple[Fusing, ...]

    def do(self, system: Fusion, options: Any, contexts: Sequence[Context]) -> tuple[Probabilities, ...] | None:
        """As `FittingTogether.do`."""
        folds, base_models = [part.fold for part in self.parts], [part.base_models for part in self.parts]
        models = system.fit_together(folds, base_models, options, contexts)
        return _predict_all(self.parts, models, contexts, system.fit_together)


def _predict_all(
    parts: Sequence[Fitting | Fusing], models: Sequence[Any] | None, contexts: Sequence[Context], giver: object
) -> tuple[Probabilities, ...] | None:
    if models is None:
        return None
    if len(models) != len(parts):
        raise WrongAnswer(f"expected {len(parts)} models of `fit_together`, found {len(models)}", giver)
    given = [_model_of(model, "fit_together", giver) for model in models]
    return tuple(part.predict(model, context) for part, model, context in zip(parts, given, contexts, strict=True))


def _model_of(given: Any, name: str, giver: object) -> Any:
    """Refuse what cannot predict, such as the None of a `fit` that ends without `return`."""
    if not callable(getattr(given, "predict", None)):
        raise WrongAnswer(
            f"expected `{name}` to return a model with a method `predict`, found {type(given).__name__}: "
            f"end `{name}` with `return model`",
            giver,
        )
    return given


def _checked(given: object, clips: Clips, giver: object) -> Probabilities:
    """Return the rows in the order of the clips; refuse what is none, or of other clips."""
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
