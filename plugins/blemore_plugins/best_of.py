"""The simplest of several fusions, unless another is better on held-out training actors by more than chance explains.

A plain mean cannot go far wrong with few clips or weak base models; a regression fits more where there is more to fit.
Which is better is measured on training actors: each candidate is fitted on some of them and scored on the others. The
best of several noisy scores is often only the luckiest, so a gain counts less its standard error over actors.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clips, Fold, LabelArray
from blemore_harness.context import Context, Silent
from blemore_harness.decoding.choosing import choose_simplest
from blemore_harness.decoding.decoders import Decoder
from blemore_harness.decoding.strategies import (
    STRATEGIES,
    Sample,
    choose_strategy,
    decode_folds,
    describe_decoder,
    make_decoder,
    make_sample,
)
from blemore_harness.disk import read_json, write_atomically, write_json
from blemore_harness.errors import InvalidOption
from blemore_harness.hookspecs import Card, Fusion, FusionModel, hookimpl
from blemore_harness.predictions import FloatArray, Probabilities
from blemore_harness.protocol.rules import MAJOR, MINOR, SINGLE, score
from blemore_plugins.cards import fusion_card
from blemore_plugins.late import LateFusion
from blemore_plugins.late.options import LateOptions
from blemore_plugins.means import LogitMean, Mean
from blemore_plugins.regularisation import LogisticOptions, actor_folds
from blemore_plugins.stack import Stack
from blemore_plugins.structured import UNEVEN, Structured
from blemore_plugins.weighted import WeightedLogitMean

Name = Literal["logit-mean", "weighted-logit-mean", "stack", "structured", "late", "mean"]


CHOSEN_FILE = "chosen.json"
"""File of a kept model that names the fusion; its own files stand beside it."""

LEAST_ACTORS = 2
"""Actors that a candidate must be fitted on while it is tried: one to fit the settings, one to compare them."""


@dataclass(frozen=True)
class BestOfOptions:
    """What is chosen from, and on how much.

    Attributes:
        candidates: fusions to choose from, with their own defaults, the simplest first: another must gain more over it
            than a standard error.
        inner_folds: parts of the training actors, each scored by candidates that trained on the others.
    """

    candidates: tuple[Name, ...] = ("logit-mean", "weighted-logit-mean", "structured")
    inner_folds: int = 3

    def __post_init__(self) -> None:
        if len(set(self.candidates)) < 2 or len(set(self.candidates)) < len(self.candidates):
            raise InvalidOption(
                f"candidates: expected at least 2 different fusions, found {', '.join(self.candidates)}"
            )
        if self.inner_folds < 2:
            raise InvalidOption(f"inner_folds: expected at least 2, found {self.inner_folds}")


@dataclass(frozen=True)
class Selected:
    """What was selected for a fold.

    Attributes:
        name: the candidate.
        decoder: turns its probabilities into labels; None where there were too few actors to fit one.
    """

    name: Name
    decoder: Decoder | None


@dataclass(frozen=True)
class SelectedModel:
    """A fitted candidate whose labels are decoded.

    Attributes:
        selected: which candidate, and the decoder of its labels.
        model: the candidate, fitted.
    """

    selected: Selected
    model: FusionModel

    def predict(self, clips: Clips, base_models: Mapping[str, Probabilities], context: Context) -> Probabilities:
        """Return for each clip the row that the official decoding turns into its label; see `label_rows`.

        Where a base model is missing, the candidate's own rule holds.
        """
        given = self.model.predict(clips, base_models, context).aligned(clips.ids)
        decoder = self.selected.decoder
        return given if decoder is None else Probabilities(clips.ids, encode_labels(decoder.decode(given.values, None)))

    def save(self, folder: Path) -> None:
        """Write the candidate's model, its name and the decoder."""
        self.model.save(folder)  # type: ignore[attr-defined]  # every candidate has it
        decoder = None if self.selected.decoder is None else describe_decoder(self.selected.decoder)
        write_json(folder / CHOSEN_FILE, {"chosen": self.selected.name, "decoder": decoder})


class BestOf(Fusion):
    """The first candidate, unless another gains more than a standard error on inner, actor-disjoint folds.

    Of several that do, it is the one whose gain less its standard error is greatest. It is fitted on all training
    clips. Its labels are decoded with the strategy that was chosen along with it and returned as rows that stand for
    them: folds may select different fusions, whose probabilities no pair of thresholds suits alike.
    """

    name = "best-of"
    summary = "logit-mean, or the fusion that is clearly better on held-out training actors"
    Options = BestOfOptions
    folds_share_work = False

    def card(self, options: BestOfOptions) -> Card:
        """Return the card of a fusion."""
        return fusion_card()

    def fit(
        self, fold: Fold, base_models: Mapping[str, Probabilities], options: BestOfOptions, context: Context
    ) -> FusionModel:
        """Choose by inner folds, then fit what was chosen."""
        return _fit_selected(self._choose(fold, base_models, options, context), fold, base_models, context)

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
        names = [selected.name for selected in chosen]
        if max(Counter(filter(_shares_work, names)).values(), default=0) < 2:
            each = zip(chosen, folds, base_models, contexts, strict=True)
            return (_fit_selected(selected, fold, given, context) for selected, fold, given, context in each)
        models: dict[int, FusionModel] = {}
        for name in dict.fromkeys(names):
            numbers = [number for number, each in enumerate(names) if each == name]
            system = make_candidate(name)
            found = system.fit_folds(
                [folds[number] for number in numbers],
                [base_models[number] for number in numbers],
                system.Options(),
                [contexts[number] for number in numbers],
            )
            models |= zip(numbers, found, strict=True)
        return [SelectedModel(selected, models[number]) for number, selected in enumerate(chosen)]

    def load(self, folder: Path, options: BestOfOptions, context: Context) -> FusionModel:
        """Read the candidate that was selected, and its decoder."""
        facts = read_json(folder / CHOSEN_FILE)
        system = make_candidate(facts["chosen"])
        decoder = None if facts["decoder"] is None else make_decoder(facts["decoder"])
        return SelectedModel(Selected(facts["chosen"], decoder), system.load(folder, system.Options(), context))

    def _choose(
        self,
        fold: Fold,
        base_models: Mapping[str, Probabilities],
        options: BestOfOptions,
        context: Context,
        keep: bool = False,
    ) -> Selected:
        """Return the candidate that was selected before and kept in the workspace, or the one that trying all favours.

        With too few training actors nothing is tried: it is the first candidate that needs none to choose its settings.
        """
        actors = len(set(fold.train.actors or ()))
        if actors and _smallest_part(actors, options.inner_folds) < LEAST_ACTORS:
            simple = next((name for name in options.candidates if not _needs_actors(name)), options.candidates[0])
            context.note("chosen", simple)
            context.note("reason", f"too few training actors to compare fusions on others: {actors}")
            return Selected(simple, None)
        kept = context.workspace / "inner-scores.json"
        if kept.exists():
            notes, rows = json.loads(kept.read_text(encoding="utf-8"))
        else:
            tried: dict[str, Sample] = {}
            with context.progress("best-of: candidates", len(options.candidates)) as bar:
                for name in options.candidates:
                    tried[name] = self._try(name, fold, base_models, options, context)
                    bar.advance()
            strategies = {name: choose_strategy(sample).name for name, sample in tried.items()}
            labels = {name: decode_folds(STRATEGIES[strategies[name]], sample) for name, sample in tried.items()}
            found = choose_simplest(labels, fold.train.labels, fold.train.actors or ())
            rows = tried[found.name].values.tolist()
            notes = {
                "chosen": found.name,
                "decoded by": strategies[found.name],
                "inner scores": {name: round(_mean_score(tried[name], labels[name]), 6) for name in tried},
                f"gain over {options.candidates[0]} and its standard error": {
                    name: [round(gain.difference, 6), round(gain.error, 6)] for name, gain in found.gains.items()
                },
            }
            if keep:
                write_atomically(kept, json.dumps([notes, rows]))
        for key, value in notes.items():
            context.note(key, value)
        parts = actor_folds(fold.train, options.inner_folds, context.seed)
        sample = _make_sample(np.array(rows), np.argmax(parts, axis=0), fold.train)
        return Selected(notes["chosen"], STRATEGIES[notes["decoded by"]].learn(sample))

    def _try(
        self, name: Name, fold: Fold, base_models: Mapping[str, Probabilities], options: BestOfOptions, context: Context
    ) -> Sample:
        """Return the rows of a candidate on the inner folds, each from a fit on the others, for choosing a decoder.

        Which fusion is better depends on how it is decoded.
        """
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
        return _make_sample(rows, part, fold.train)


def encode_labels(labels: LabelArray) -> FloatArray:
    """Return the rows, float64 (N, 6), that stand for labels int8 (N, 6), with the values of `label_rows`.

    >>> encode_labels(np.array([[0, 0, 100, 0, 0, 0], [70, 30, 0, 0, 0, 0]], dtype=np.int8)).tolist()
    [[0.0, 0.0, 1.0, 0.0, 0.0, 0.0], [0.75, 0.25, 0.0, 0.0, 0.0, 0.0]]
    """
    rows = labels / SINGLE
    rows[labels == MAJOR], rows[labels == MINOR] = UNEVEN, 1 - UNEVEN
    return np.asarray(rows)


def make_candidate(name: Name) -> Fusion:
    """Make a fusion by name."""
    kinds: dict[Name, type[Fusion]] = {
        "logit-mean": LogitMean, "weighted-logit-mean": WeightedLogitMean, "stack": Stack, "structured": Structured,
        "late": LateFusion, "mean": Mean,
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


def _fit_selected(
    selected: Selected, fold: Fold, base_models: Mapping[str, Probabilities], context: Context
) -> FusionModel:
    system = make_candidate(selected.name)
    return SelectedModel(selected, system.fit(fold, base_models, system.Options(), context))


def _make_sample(rows: FloatArray, part: NDArray[np.int64], train: Clips) -> Sample:
    return make_sample(rows, train.labels, part, np.unique(train.actors or (), return_inverse=True)[1])


def _mean_score(sample: Sample, labels: LabelArray) -> float:
    own = [sample.folds == number for number in np.unique(sample.folds)]
    return float(np.mean([score(sample.truth[mask], labels[mask]).score for mask in own]))


def _pick(base_models: Mapping[str, Probabilities], ids: tuple[str, ...]) -> dict[str, Probabilities]:
    return {name: rows.pick(ids) for name, rows in base_models.items()}


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Return the choice between fusions."""
    return [BestOf()]
