"""The fusion that does best on actors that it did not learn from: late or structured, chosen inside the training part.

A weighted mean cannot go far wrong with few clips or weak members; sets and ratios learn more where there is more to
learn. Which holds is a question to the training actors: each candidate learns from some and is scored on the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from blemore_harness.context import Context, Progress
from blemore_harness.dataset import Fold
from blemore_harness.errors import InvalidOption
from blemore_harness.hookspecs import Fusion, FusionModel, hookimpl
from blemore_harness.rows import Probabilities
from blemore_harness.thresholds import cross_fitted
from blemore_plugins.average import LogitMean, Mean
from blemore_plugins.late import LateFusion, LateOptions
from blemore_plugins.stack import Stack
from blemore_plugins.strengths import actor_folds
from blemore_plugins.structured import Structured

Name = Literal["late", "structured", "stack", "logit-mean", "mean"]


@dataclass(frozen=True)
class BestOfOptions:
    """What is chosen from, and on how much.

    Attributes:
        candidates: fusions to choose from, with their own defaults; of equals the first wins.
        inner_folds: parts of the training actors, each scored by candidates that learnt from the others.
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
    summary = "late or structured, whichever does better on training actors that it did not learn from"
    Options = BestOfOptions

    def fit(
        self, fold: Fold, members: Mapping[str, Probabilities], options: BestOfOptions, context: Context
    ) -> FusionModel:
        """Choose by inner folds, then fit what was chosen."""
        scores = {}
        with context.progress("best-of: candidates", len(options.candidates)) as bar:
            for name in options.candidates:
                scores[name] = self._try(name, fold, members, options, context)
                bar.advance()
        chosen = max(options.candidates, key=lambda name: scores[name])
        context.note("chosen", chosen)
        context.note("inner scores", {name: round(score, 6) for name, score in scores.items()})
        system = make_candidate(chosen)
        return system.fit(fold, members, system.Options(), context)

    def _try(
        self, name: Name, fold: Fold, members: Mapping[str, Probabilities], options: BestOfOptions, context: Context
    ) -> float:
        """Give the mean cross-fitted Score of a candidate over the inner folds."""
        system = make_candidate(name)
        # A whole grid of weights for many members is searched once, for what is chosen.
        settings = LateOptions(search="climb") if name == "late" else system.Options()
        quiet = replace(context, reporter=_Quiet())
        masks = actor_folds(fold.train, options.inner_folds, context.seed)
        rows, part = np.zeros((len(fold.train), 6)), np.zeros(len(fold.train), dtype=np.int64)
        for number, mask in enumerate(masks):
            inner = Fold(fold.index, fold.train.take(~mask), fold.train.take(mask).unlabelled())
            model = system.fit(inner, _pick(members, inner.train.ids), settings, quiet)
            given = model.predict(inner.held_out, _pick(members, inner.held_out.ids), quiet)
            rows[mask], part[mask] = given.pick(inner.held_out.ids).values, number
        choices = cross_fitted(rows, fold.train.labels, part)
        return float(np.mean([choice.scores.score for choice in choices.values()]))


def make_candidate(name: Name) -> Fusion:
    """Make a fusion by name."""
    kinds: dict[Name, type[Fusion]] = {
        "late": LateFusion, "structured": Structured, "stack": Stack, "logit-mean": LogitMean, "mean": Mean,
    }  # fmt: skip
    return kinds[name]()


def _pick(members: Mapping[str, Probabilities], ids: tuple[str, ...]) -> dict[str, Probabilities]:
    return {name: rows.pick(ids) for name, rows in members.items()}


class _Quiet:
    """What candidates say while they are tried is not kept."""

    @contextmanager
    def _bar(self) -> Iterator[Progress]:
        yield self

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Open nothing."""
        return self._bar()

    def advance(self, count: int = 1) -> None:
        """Count nothing."""

    def log(self, message: str) -> None:
        """Say nothing."""

    def warn(self, message: str) -> None:
        """Say nothing."""

    def note(self, name: str, value: object) -> None:
        """Keep nothing."""


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Offer the choice between fusions."""
    return [BestOf()]
