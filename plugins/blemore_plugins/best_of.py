"""The better of several fusions on held-out training actors: late or structured, chosen inside the training part.

A weighted mean cannot go far wrong with few clips or weak base models; structured fusion fits more
where there is more to fit. Which is better is measured on training actors: each candidate is fitted on some of them and
scored on the others.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from blemore_harness.clips import Fold
from blemore_harness.context import Context, Silent
from blemore_harness.disk import write_atomically
from blemore_harness.errors import InvalidOption
from blemore_harness.hookspecs import Card, Fusion, FusionModel, hookimpl
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.thresholds import cross_fitted
from blemore_plugins.cards import fusion_card
from blemore_plugins.late import LateFusion
from blemore_plugins.late.options import LateOptions
from blemore_plugins.means import LogitMean, Mean
from blemore_plugins.regularisation import LogisticOptions, actor_folds
from blemore_plugins.stack import Stack
from blemore_plugins.structured import Structured

Name = Literal["late", "structured", "stack", "logit-mean", "mean"]


LEAST_ACTORS = 2
"""Actors that a candidate must be fitted on while it is tried: one to fit the settings, one to compare them."""


@dataclass(frozen=True)
class BestOfOptions:
    """What is chosen from, and on how much.

    Attributes:
        candidates: fusions to choose from, with their own defaults; of equals the first wins.
        inner_folds: parts of the training actors, each scored by candidates that trained on the others.
    """

    candidates: tuple[Name, ...] = ("late", "structured")
    inner_folds: int = 3

    def __post_init__(self) -> None:
        if len(set(self.candidates)) < 2 or len(set(self.candidates)) < len(self.candidates):
            raise InvalidOption(
                f"candidates: expected at least 2 different fusions, found {', '.join(self.candidates)}"
            )
        if self.inner_folds < 2:
            raise InvalidOption(f"inner_folds: expected at least 2, found {self.inner_folds}")


class BestOf(Fusion):
    """The candidate with the best cross-fitted Score on inner, actor-disjoint folds, fitted on all training clips."""

    name = "best-of"
    summary = "the better of late and structured on held-out training actors"
    Options = BestOfOptions

    def card(self, options: BestOfOptions) -> Card:
        """Return the card of a fusion."""
        return fusion_card()

    def fit(
        self, fold: Fold, base_models: Mapping[str, Probabilities], options: BestOfOptions, context: Context
    ) -> FusionModel:
        """Choose by inner folds, then fit what was chosen."""
        return _fit_chosen(self._choose(fold, base_models, options, context), fold, base_models, context)

    def fit_folds(
        self,
        folds: Sequence[Fold],
        base_models: Sequence[Mapping[str, Probabilities]],
        options: BestOfOptions,
        contexts: Sequence[Context],
    ) -> Iterable[FusionModel]:
        """Choose for every fold by itself, then fit at once the folds that chose what shares work between them.

        Where no two did, every fold is finished by itself. What was chosen is kept in the workspaces, so that an
        interruption does not have it tried again.
        """
        if len(folds) < 2:
            return super().fit_folds(folds, base_models, options, contexts)
        chosen = []
        for fold, given, context in zip(folds, base_models, contexts, strict=True):
            chosen.append(self._choose(fold, given, options, context, keep=True))
        if max(Counter(filter(_shares_work, chosen)).values(), default=0) < 2:
            each = zip(chosen, folds, base_models, contexts, strict=True)
            return (_fit_chosen(name, fold, given, context) for name, fold, given, context in each)
        models: dict[int, FusionModel] = {}
        for name in dict.fromkeys(chosen):
            numbers = [number for number, each in enumerate(chosen) if each == name]
            system = make_candidate(name)
            found = system.fit_folds(
                [folds[number] for number in numbers],
                [base_models[number] for number in numbers],
                system.Options(),
                [contexts[number] for number in numbers],
            )
            models |= zip(numbers, found, strict=True)
        return [models[number] for number in range(len(folds))]

    def _choose(
        self,
        fold: Fold,
        base_models: Mapping[str, Probabilities],
        options: BestOfOptions,
        context: Context,
        keep: bool = False,
    ) -> Name:
        """Return the candidate with the best inner Score: the one that is kept in the workspace, or by trying all.

        With too few training actors nothing is tried: it is the first candidate that needs none to choose its settings.
        """
        actors = len(set(fold.train.actors or ()))
        if actors and _smallest_part(actors, options.inner_folds) < LEAST_ACTORS:
            simple = next((name for name in options.candidates if not _needs_actors(name)), options.candidates[0])
            context.warn(
                f"best-of: {actors} training actor{'s' * (actors > 1)}, too few to compare fusions on other actors: "
                f"{simple} is used"
            )
            context.note("chosen", simple)
            return simple
        kept = context.workspace / "inner-scores.json"
        scores: dict[str, float] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        if not scores:
            with context.progress("best-of: candidates", len(options.candidates)) as bar:
                for name in options.candidates:
                    scores[name] = self._try(name, fold, base_models, options, context)
                    bar.advance()
            if keep:
                write_atomically(kept, json.dumps(scores))
        chosen = max(options.candidates, key=lambda name: scores[name])
        context.note("chosen", chosen)
        context.note("inner scores", {name: round(score, 6) for name, score in scores.items()})
        return chosen

    def _try(
        self, name: Name, fold: Fold, base_models: Mapping[str, Probabilities], options: BestOfOptions, context: Context
    ) -> float:
        """Return the mean cross-fitted Score of a candidate over the inner folds."""
        system = make_candidate(name)
        # A whole grid of weights for many base models is searched once, for what is chosen.
        settings = LateOptions(search="climb") if name == "late" else system.Options()
        quiet = replace(context, reporter=Silent())
        masks = actor_folds(fold.train, options.inner_folds, context.seed)
        inner = [Fold(fold.index, fold.train.take(~mask), fold.train.take(mask).unlabelled()) for mask in masks]
        learn = [_pick(base_models, each.train.ids) for each in inner]
        models = system.fit_folds(inner, learn, settings, [quiet] * len(inner))
        rows, part = np.zeros((len(fold.train), 6)), np.zeros(len(fold.train), dtype=np.int64)
        for number, (mask, each, model) in enumerate(zip(masks, inner, models, strict=True)):
            given = model.predict(each.held_out, _pick(base_models, each.held_out.ids), quiet)
            rows[mask], part[mask] = given.pick(each.held_out.ids).values, number
        choices = cross_fitted(rows, fold.train.labels, part)
        return float(np.mean([choice.scores.score for choice in choices.values()]))


def make_candidate(name: Name) -> Fusion:
    """Make a fusion by name."""
    kinds: dict[Name, type[Fusion]] = {
        "late": LateFusion, "structured": Structured, "stack": Stack, "logit-mean": LogitMean, "mean": Mean,
    }  # fmt: skip
    return kinds[name]()


def _smallest_part(actors: int, inner_folds: int) -> int:
    """Return how many actors candidates are fitted on at least, where `actor_folds` splits so many."""
    return actors - math.ceil(actors / min(inner_folds, actors))


def _needs_actors(name: Name) -> bool:
    """Return whether a fusion chooses settings on held-out training actors."""
    return issubclass(make_candidate(name).Options, LogisticOptions)


def _shares_work(name: Name) -> bool:
    return type(make_candidate(name)).fit_folds is not Fusion.fit_folds


def _fit_chosen(name: Name, fold: Fold, base_models: Mapping[str, Probabilities], context: Context) -> FusionModel:
    system = make_candidate(name)
    return system.fit(fold, base_models, system.Options(), context)


def _pick(base_models: Mapping[str, Probabilities], ids: tuple[str, ...]) -> dict[str, Probabilities]:
    return {name: rows.pick(ids) for name, rows in base_models.items()}


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Return the choice between fusions."""
    return [BestOf()]
