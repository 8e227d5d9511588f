"""What one call asks of a system, as data: the same lines answer it in this process and in a worker process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from blemore_harness.context import Context
from blemore_harness.dataset import Clips, Fold
from blemore_harness.errors import InvalidProbabilities
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.rows import Embeddings, Probabilities

Members = Mapping[str, Probabilities | Embeddings]
Answer = tuple[Probabilities, ...] | Embeddings | None
"""Rows by fold (or by question), vectors, or None: nothing to answer, or folds that are not learnt together."""


class Errand(Protocol):
    """A piece of work for a plugin; holds no label that the plugin may not see, and can be pickled."""

    def do(self, system: Any, options: Any, contexts: Sequence[Context]) -> Answer:
        """Call the system; a context for each fold of the errand."""


@dataclass(frozen=True)
class Preparing:
    """Download and extract for all clips."""

    clips: Clips

    def do(self, system: Encoder, options: Any, contexts: Sequence[Context]) -> None:
        """Call `prepare`."""
        system.prepare(self.clips, options, contexts[0])


@dataclass(frozen=True)
class Embedding:
    """Give the label-free vectors of clips."""

    clips: Clips

    def do(self, system: Encoder, options: Any, contexts: Sequence[Context]) -> Embeddings:
        """Call `embed`; the vectors come in the order of the clips."""
        return system.embed(self.clips, options, contexts[0]).pick(self.clips.ids)


@dataclass(frozen=True)
class Fitting:
    """Learn a fold and predict what it holds out."""

    fold: Fold

    def do(self, system: Encoder, options: Any, contexts: Sequence[Context]) -> tuple[Probabilities, ...]:
        """Call `fit` and the model's `predict`."""
        model = system.fit(self.fold, options, contexts[0])
        return (_checked(model.predict(self.fold.held_out, contexts[0])),)


@dataclass(frozen=True)
class FittingTogether:
    """Learn several folds at once."""

    folds: tuple[Fold, ...]

    def do(self, system: Encoder, options: Any, contexts: Sequence[Context]) -> tuple[Probabilities, ...] | None:
        """Call `fit_together` and every model's `predict`; None where the system wants its folds one by one."""
        models = system.fit_together(self.folds, options, contexts)
        if models is None:
            return None
        if len(models) != len(self.folds):
            raise InvalidProbabilities(f"expected {len(self.folds)} models of `fit_together`, found {len(models)}")
        return tuple(
            _checked(model.predict(fold.held_out, context))
            for fold, model, context in zip(self.folds, models, contexts, strict=True)
        )


@dataclass(frozen=True)
class Fusing:
    """Learn to fuse on a fold's training clips, then fuse one or more sets of clips.

    Attributes:
        fold: what is learnt on.
        members: by member, rows for the training clips, or vectors of all clips of the fold.
        asked: the clips to fuse, each with what the members give for them.
    """

    fold: Fold
    members: Members
    asked: tuple[tuple[Clips, Members], ...]

    def do(self, system: Fusion, options: Any, contexts: Sequence[Context]) -> tuple[Probabilities, ...]:
        """Call `fit` and the model's `predict`."""
        model = system.fit(self.fold, self.members, options, contexts[0])
        return tuple(_checked(model.predict(clips, members, contexts[0])) for clips, members in self.asked)


def _checked(given: object) -> Probabilities:
    if not isinstance(given, Probabilities):
        raise InvalidProbabilities(f"expected `predict` to give Probabilities, found {type(given).__name__}")
    return given
