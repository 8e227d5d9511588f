"""What is compared: fusions of plugins, the best single encoder, the recipe of the papers; each gives fused rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import ConfigError, HarnessError, PluginFailed
from blemore_harness.hookspecs import Fusion, FusionModel, NoOptions
from blemore_harness.options import build_options
from blemore_harness.predictions import Embeddings, FloatArray, Probabilities
from blemore_harness.protocol.thresholds import search_official
from blemore_harness.systems.plugins import Plugins
from blemore_lab.embeddings import Vectors
from blemore_lab.training import make_head_options

RECIPE = "reference recipe"
"""Weights searched on each validation fold by itself, averaged over folds (arXiv 2603.23650, III-F and table III)."""

RECIPE_SEARCH = "late"
"""The fusion that searches the recipe's weights."""

DEFAULT_FUSIONS = ("mean", "logit-mean", "weighted-logit-mean", "late", "stack", "structured", "best-of")
"""Fusions that are compared where none are named."""

HEAD = "head."
"""Before an option of base models' heads among those of a fusion."""

BaseModels: TypeAlias = Mapping[str, FloatArray]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class FusedRows:
    """Rows of a method.

    Attributes:
        validation: float64 (N, 6) of the training clips, from which thresholds are chosen: of fold k with weights of
            the other folds; the recipe's with the weights of fold k itself.
        official: float64 (N, 6) of the training clips as papers report them: weights that saw the fold.
        unseen: float64 (T, 6) of the new actors' clips.
        by_fold: float64 (K, T, 6) of the new actors' clips, by the base models and the weights of each fold.
    """

    validation: FloatArray
    official: FloatArray
    unseen: FloatArray
    by_fold: FloatArray


@dataclass(frozen=True)
class Material:
    """What methods work with.

    Attributes:
        train: clips with labels and actors.
        folds: int64 (N,) fold of each.
        unseen: clips of the new actors, without either.
        train_rows, unseen_rows: by encoder, float64 (N, 6) and (T, 6).
        fold_rows: by encoder, float64 (K, T, 6) of the new actors' clips by the model of each fold; None where nothing
            is trained and every model is the same.
        vectors: by encoder, embeddings float32 (N + T, D), of the training clips first; empty where there are none.
    """

    train: Clips
    folds: NDArray[np.int64]
    unseen: Clips
    train_rows: BaseModels
    unseen_rows: BaseModels
    fold_rows: BaseModels | None = None
    vectors: Mapping[str, Vectors] = field(default_factory=dict)

    @property
    def fold_numbers(self) -> list[int]:
        """The folds in order."""
        return [int(fold) for fold in np.unique(self.folds)]

    def fit(self, system: Fusion, options: Any, context: Context, index: int | None, seen: Mask) -> FusionModel:
        """Fit a fusion on the training clips of a mask (N,); the others, else the new actors', are held out."""
        return system.fit(*self._part(system, index, seen), options, context)

    def fit_folds(
        self, system: Fusion, options: Any, contexts: Sequence[Context], parts: Sequence[tuple[int | None, Mask]]
    ) -> list[FusionModel]:
        """Fit a fusion on several parts, each as `fit` does; what it can share between them it works out once."""
        folds, base_models = zip(*(self._part(system, index, seen) for index, seen in parts), strict=True)
        return list(system.fit_folds(folds, base_models, options, contexts))

    def _part(self, system: Fusion, index: int | None, seen: Mask) -> tuple[Fold, Mapping[str, Any]]:
        rest = self.unseen if index is None else self.train.take(~seen).unlabelled()
        fold = Fold(index, self.train.take(seen), rest)
        if system.takes == "embeddings":
            return fold, self._embed((*fold.train.ids, *rest.ids))
        return fold, {name: Probabilities(fold.train.ids, rows[seen]) for name, rows in self.train_rows.items()}

    def fuse_train(self, system: Fusion, model: FusionModel, which: Mask, context: Context) -> FloatArray:
        """Fuse the training clips of a mask (N,)."""
        rows = {name: values[which] for name, values in self.train_rows.items()}
        return self._fuse(system, model, self.train.take(which).unlabelled(), rows, context)

    def fuse_unseen(self, system: Fusion, model: FusionModel, context: Context, place: int | None = None) -> FloatArray:
        """Fuse the new actors' clips, as the final base models predict them or those of the fold at a place."""
        rows = self.unseen_rows
        if place is not None and self.fold_rows is not None:
            rows = {name: values[place] for name, values in self.fold_rows.items()}
        return self._fuse(system, model, self.unseen, rows, context)

    def _fuse(self, system: Fusion, model: FusionModel, clips: Clips, rows: BaseModels, context: Context) -> FloatArray:
        given: Mapping[str, Any] = (
            self._embed(clips.ids)
            if system.takes == "embeddings"
            else {name: Probabilities(clips.ids, values) for name, values in rows.items()}
        )
        return model.predict(clips, given, context).aligned(clips.ids).values

    def _embed(self, ids: Sequence[str]) -> dict[str, Embeddings]:
        everyone = (*self.train.ids, *self.unseen.ids)
        return {name: Embeddings(everyone, vectors).pick(ids) for name, vectors in self.vectors.items()}


@dataclass(frozen=True)
class Method:
    """A way to fuse.

    Attributes:
        name: what tables call it.
        system: the fusion that is fitted.
        options: its Options.
        recipe: whether it is fitted as the papers do, on each validation fold by itself, and averaged.
        heads: option values of the heads of its base models, where they differ from those of the study.
    """

    name: str
    system: Fusion
    options: Any
    recipe: bool = False
    heads: Mapping[str, object] = field(default_factory=dict)

    def fuse(self, material: Material, context: Context) -> FusedRows:
        """Fit on training actors and give fused rows."""
        with _blamed(self.name):
            return self._fuse_recipe(material, context) if self.recipe else self._fuse_crossed(material, context)

    def _fuse_crossed(self, material: Material, context: Context) -> FusedRows:
        validation, by_fold = np.zeros((len(material.train), 6)), []
        everyone = np.ones(len(material.train), dtype=bool)
        parts = [*((number, material.folds != number) for number in material.fold_numbers), (None, everyone)]
        with tempfile.TemporaryDirectory() as folder:
            contexts = [replace(context, workspace=Path(folder) / str(place)) for place in range(len(parts))]
            for each in contexts:
                each.workspace.mkdir()
            *models, final = material.fit_folds(self.system, self.options, contexts, parts)
            for place, (model, (_, seen), own) in enumerate(zip(models, parts[:-1], contexts[:-1], strict=True)):
                validation[~seen] = material.fuse_train(self.system, model, ~seen, own)
                by_fold.append(material.fuse_unseen(self.system, model, own, place))
            # What is trained on embeddings gives no probabilities for the clips that it was trained on.
            learnt = self.system.takes == "embeddings"
            official = validation if learnt else material.fuse_train(self.system, final, everyone, contexts[-1])
            unseen = material.fuse_unseen(self.system, final, contexts[-1])
        return FusedRows(validation, official, unseen, np.stack(by_fold))

    def _fuse_recipe(self, material: Material, context: Context) -> FusedRows:
        validation, unseen, by_fold = np.zeros((len(material.train), 6)), [], []
        for place, number in enumerate(material.fold_numbers):
            own = material.folds == number
            model = material.fit(self.system, self.options, context, number, own)
            validation[own] = material.fuse_train(self.system, model, own, context)
            # Rows are linear in the weights: the mean of rows is the row of the mean weights.
            unseen.append(material.fuse_unseen(self.system, model, context))
            by_fold.append(material.fuse_unseen(self.system, model, context, place))
        return FusedRows(validation, validation, np.mean(unseen, axis=0), np.stack(by_fold))


@dataclass(frozen=True)
class OneBaseModel:
    """The rows of one base model, as they are."""

    name: str

    def predict(self, clips: Clips, base_models: Mapping[str, Probabilities], context: Context) -> Probabilities:
        """Return the base model's rows."""
        return base_models[self.name].aligned(clips.ids)


class BestSingle(Fusion):
    """The base model with the best Score on the training clips; of equals the first by name."""

    name = "best single"
    summary = "the encoder with the best Score on the training clips"

    def fit(self, fold: Fold, base_models: Mapping[str, Any], options: Any, context: Context) -> FusionModel:
        """Choose with alpha and beta at their best for each base model."""
        scores = {
            name: search_official(base_models[name].values, fold.train.labels).scores.score
            for name in sorted(base_models)
        }
        return OneBaseModel(max(scores, key=lambda name: scores[name]))


def find_methods(
    fusions: tuple[str, ...], plugins: Plugins, given: Mapping[str, Mapping[str, object]], embeddings: bool = False
) -> tuple[Method, ...]:
    """Look up what is compared: the recipe first, the best single encoder, then the fusions named.

    Args:
        fusions: names of fusions; `name@variant` is the same fusion with options of its own.
        plugins: where they are looked up.
        given: option values by fusion, as users write them; `head.` before an option is one of base models' heads.
        embeddings: whether simulated encoders have embeddings.

    Raises:
        UnknownName: a fusion that nobody offers, or an option that it does not have.
        ConfigError: a fusion that takes embeddings where there are none, or options of one that is not compared.
    """
    strangers = set(given) - {RECIPE_SEARCH, *fusions}
    if strangers:
        raise ConfigError(f"options are set for '{sorted(strangers)[0]}', which is not compared")
    named = {name: _make_method(name, plugins, given.get(name, {}), embeddings) for name in (RECIPE_SEARCH, *fusions)}
    search = named[RECIPE_SEARCH]
    methods = [replace(search, name=RECIPE, recipe=True), Method(BestSingle.name, BestSingle(), NoOptions())]
    return (*methods, *(named[name] for name in dict.fromkeys(fusions)))


def _make_method(name: str, plugins: Plugins, given: Mapping[str, object], embeddings: bool) -> Method:
    system = plugins.fusion(name.partition("@")[0]).system
    heads = {key.removeprefix(HEAD): value for key, value in given.items() if key.startswith(HEAD)}
    own = {key: value for key, value in given.items() if not key.startswith(HEAD)}
    options = build_options(name, system.Options, own)
    if heads and not embeddings:
        raise ConfigError(f"{name}: options of heads are set, and the world 'logits' trains no heads")
    make_head_options(heads)  # a misspelt one fails here
    return Method(name, _checked(system, embeddings), options, heads=heads)


def _checked(system: Any, embeddings: bool) -> Fusion:
    assert isinstance(system, Fusion)
    if system.takes == "embeddings" and not embeddings:
        raise ConfigError(f"'{system.name}' takes embeddings of encoders, and those of the world 'logits' have none")
    return system


@contextmanager
def _blamed(name: str) -> Iterator[None]:
    """Turn whatever a fusion raises into an error that names it."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        raise PluginFailed(f"'{name}' crashed in the simulation: {type(error).__name__}: {error}", name) from error
