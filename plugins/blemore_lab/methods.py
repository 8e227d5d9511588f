"""What is compared: fusions of plugins, the best single encoder, the recipe of the papers; each gives fused rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import ConfigError, HarnessError, PluginFailed
from blemore_harness.hookspecs import Fusion, FusionModel, NoOptions
from blemore_harness.options import build_options
from blemore_harness.predictions import FloatArray, Probabilities
from blemore_harness.protocol.thresholds import search_official
from blemore_harness.systems.plugins import Plugins

RECIPE = "reference recipe"
"""Weights searched on each validation fold by itself, averaged over folds (arXiv 2603.23650, III-F and table III)."""

RECIPE_SEARCH = "late"
"""The fusion that searches the recipe's weights."""

DEFAULT_FUSIONS = ("mean", "logit-mean", "late", "stack", "structured", "best-of")
"""Fusions that are compared where none are named."""

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
    """

    validation: FloatArray
    official: FloatArray
    unseen: FloatArray


@dataclass(frozen=True)
class Material:
    """What methods work with.

    Attributes:
        train: clips with labels and actors.
        folds: int64 (N,) fold of each.
        unseen: clips of the new actors, without either.
        train_rows, unseen_rows: by encoder, float64 (N, 6) and (T, 6).
    """

    train: Clips
    folds: NDArray[np.int64]
    unseen: Clips
    train_rows: BaseModels
    unseen_rows: BaseModels

    @property
    def fold_numbers(self) -> list[int]:
        """The folds in order."""
        return [int(fold) for fold in np.unique(self.folds)]

    def fit(self, system: Fusion, options: Any, context: Context, index: int | None, seen: Mask) -> FusionModel:
        """Fit a fusion on the training clips of a mask (N,); the others, else the new actors', are held out."""
        rest = self.unseen if index is None else self.train.take(~seen).unlabelled()
        fold = Fold(index, self.train.take(seen), rest)
        base_models = {name: Probabilities(fold.train.ids, rows[seen]) for name, rows in self.train_rows.items()}
        return system.fit(fold, base_models, options, context)

    def fuse_train(self, model: FusionModel, which: Mask, context: Context) -> FloatArray:
        """Fuse the training clips of a mask (N,)."""
        return _fuse(model, self.train.take(which), {k: v[which] for k, v in self.train_rows.items()}, context)

    def fuse_unseen(self, model: FusionModel, context: Context) -> FloatArray:
        """Fuse the new actors' clips."""
        return _fuse(model, self.unseen, self.unseen_rows, context)


@dataclass(frozen=True)
class Method:
    """A way to fuse.

    Attributes:
        name: what tables call it.
        system: the fusion that is fitted.
        options: its Options.
        recipe: whether it is fitted as the papers do, on each validation fold by itself, and averaged.
    """

    name: str
    system: Fusion
    options: Any
    recipe: bool = False

    def fuse(self, material: Material, context: Context) -> FusedRows:
        """Fit on training actors and give fused rows."""
        with _blamed(self.name):
            return self._fuse_recipe(material, context) if self.recipe else self._fuse_crossed(material, context)

    def _fuse_crossed(self, material: Material, context: Context) -> FusedRows:
        validation = np.zeros((len(material.train), 6))
        for number in material.fold_numbers:
            own = material.folds == number
            model = material.fit(self.system, self.options, context, number, ~own)
            validation[own] = material.fuse_train(model, own, context)
        everyone = np.ones(len(material.train), dtype=bool)
        model = material.fit(self.system, self.options, context, None, everyone)
        official = material.fuse_train(model, everyone, context)
        return FusedRows(validation, official, material.fuse_unseen(model, context))

    def _fuse_recipe(self, material: Material, context: Context) -> FusedRows:
        validation, unseen = np.zeros((len(material.train), 6)), []
        for number in material.fold_numbers:
            own = material.folds == number
            model = material.fit(self.system, self.options, context, number, own)
            validation[own] = material.fuse_train(model, own, context)
            # Rows are linear in the weights: the mean of rows is the row of the mean weights.
            unseen.append(material.fuse_unseen(model, context))
        return FusedRows(validation, validation, np.mean(unseen, axis=0))


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
    fusions: tuple[str, ...], plugins: Plugins, given: Mapping[str, Mapping[str, object]]
) -> tuple[Method, ...]:
    """Look up what is compared: the recipe first, the best single encoder, then the fusions named.

    Args:
        fusions: names of fusions.
        plugins: where they are looked up.
        given: option values by fusion, as users write them.

    Raises:
        UnknownName: a fusion that nobody offers, or an option that it does not have.
        ConfigError: a fusion that learns from embeddings, or options of one that is not compared.
    """
    strangers = set(given) - {RECIPE_SEARCH, *fusions}
    if strangers:
        raise ConfigError(f"options are set for '{sorted(strangers)[0]}', which is not compared")
    found = {name: plugins.fusion(name).system for name in dict.fromkeys((RECIPE_SEARCH, *fusions))}
    options = {name: build_options(name, system.Options, given.get(name, {})) for name, system in found.items()}
    methods = [
        Method(RECIPE, _checked(found[RECIPE_SEARCH]), options[RECIPE_SEARCH], recipe=True),
        Method(BestSingle.name, BestSingle(), NoOptions()),
    ]
    return (*methods, *(Method(name, _checked(found[name]), options[name]) for name in dict.fromkeys(fusions)))


def _checked(system: Any) -> Fusion:
    assert isinstance(system, Fusion)
    if system.takes != "probabilities":
        raise ConfigError(f"'{system.name}' learns from embeddings of encoders, and simulated encoders have none")
    return system


def _fuse(model: FusionModel, clips: Clips, rows: BaseModels, context: Context) -> FloatArray:
    bare = clips.unlabelled()
    base_models = {name: Probabilities(bare.ids, values) for name, values in rows.items()}
    return model.predict(bare, base_models, context).aligned(bare.ids).values


@contextmanager
def _blamed(name: str) -> Iterator[None]:
    """Turn whatever a fusion raises into an error that names it."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        raise PluginFailed(f"'{name}' crashed in the simulation: {type(error).__name__}: {error}", name) from error
