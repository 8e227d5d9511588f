"""The steps of an evaluation that call into plugins: prepare, fit and predict a fold, fuse a fold.

Each asks the disk first, guards the call, checks what came back, and keeps it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Cache
from blemore_harness.calls import Notebook, PluginReporter, guard
from blemore_harness.context import Context, Desk, Reporter, refuse_to_score
from blemore_harness.dataset import Clip, Clips, Fold
from blemore_harness.devices import resolve_device
from blemore_harness.entrants import Entrant
from blemore_harness.errands import (
    Answer,
    Embedding,
    Errand,
    Fitting,
    FittingTogether,
    Fusing,
    Members,
    Preparing,
)
from blemore_harness.errors import InvalidProbabilities
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.isolation import Isolation
from blemore_harness.protocol import Scores
from blemore_harness.rows import Embeddings, Probabilities
from blemore_harness.runs import FoldResult, SystemFolder, hold
from blemore_harness.thresholds import search_official
from blemore_harness.views import View


@dataclass(frozen=True)
class Stage:
    """Everything that stays the same while one run is evaluated.

    Attributes:
        view: the dataset behind stand-in names.
        cache: the shared store of arrays.
        device: what the user asked for: `auto`, `cpu` or `cuda`.
        reporter: where the story goes.
        isolation: how worker processes are run; None calls plugins in this process.
    """

    view: View
    cache: Cache
    device: str
    reporter: Reporter
    isolation: Isolation | None = None

    @contextmanager
    def holding(self, folder: Path) -> Iterator[Stage]:
        """Hold a folder against other runs; gives a stage whose workers keep it locked until they are gone."""
        with hold(folder, self.reporter.log) as lock:
            yield self if self.isolation is None else replace(self, isolation=self.isolation.holding(lock))

    def prepare(self, entrant: Entrant, folder: SystemFolder) -> None:
        """Let an encoder download and extract; what it noted is kept for the record."""
        started = time.perf_counter()
        with self._call(entrant, folder, "prepare", None) as (context, notebook):
            self._do(entrant, Preparing(self.view.everything()), [context], folder.log("prepare"))
        before = folder.prepared() or {"notes": {}, "seconds": 0.0}
        # A repeated preparation finds its arrays in the cache: what it noted while it made them stays.
        notes = {**before["notes"], **notebook.notes}
        seconds = before["seconds"] + time.perf_counter() - started
        folder.keep_prepared({"notes": notes, "warnings": notebook.warnings, "seconds": round(seconds, 3)})

    def sequences(
        self, entrant: Entrant, folder: SystemFolder, clips: Clips
    ) -> Iterator[tuple[Clip, NDArray[np.float32]]]:
        """Give an encoder's features over time, float32 (T, D), clip by clip."""
        system = entrant.system
        assert isinstance(system, Encoder)
        with self._call(entrant, folder, "export", None) as (context, _):
            for clip in clips:
                yield clip, system.sequence(clip, entrant.options, context)

    def embed(self, entrant: Entrant, folder: SystemFolder) -> Embeddings:
        """Give an encoder's label-free vectors of all clips, training and test."""
        errand = Embedding(self.view.everything())
        with self._call(entrant, folder, "embed", None) as (context, _):
            given = self._do(entrant, errand, [context], folder.log("embed"))
            assert isinstance(given, Embeddings)
            return given

    def fit_encoder(
        self, entrant: Entrant, folder: SystemFolder, indices: Sequence[int | None]
    ) -> Iterator[tuple[int | None, FoldResult]]:
        """Train on folds and predict their held-out clips; each is on disk before the next is begun.

        Several folds are trained at once where the encoder says that this is faster.
        """
        if len(indices) > 1:
            together = self._fit_together(entrant, folder, [self.view.fold(index) for index in indices])
            if together is not None:
                yield from together.items()
                return
        for index in indices:
            fold = self.view.fold(index)
            yield index, self._fit(entrant, folder, fold, Fitting(fold), fold.held_out.ids)

    def _fit_together(
        self, entrant: Entrant, folder: SystemFolder, folds: Sequence[Fold]
    ) -> dict[int | None, FoldResult] | None:
        """Let an encoder train folds at once; None where it does not want to."""
        started = time.perf_counter()
        with ExitStack() as stack:
            calls = [
                stack.enter_context(self._call(entrant, folder, part_name(fold.index), fold.index)) for fold in folds
            ]
            contexts = [context for context, _ in calls]
            given = self._do(entrant, FittingTogether(tuple(folds)), contexts, folder.log("folds"))
            if given is None:
                return None
            assert isinstance(given, tuple)
            seconds = (time.perf_counter() - started) / len(folds)
            return {
                fold.index: self._finish(folder, fold, rows.aligned(fold.held_out.ids), notebook, seconds)
                for fold, rows, (_, notebook) in zip(folds, given, calls, strict=True)
            }

    def fit_fusion(
        self, entrant: Entrant, folder: SystemFolder, index: int | None, train: Members, held_out: Members
    ) -> FoldResult:
        """Train a fusion on what its members give and fuse what they give for the held-out clips.

        Args:
            train: by member, rows for (at least) the fold's training clips, opaque ids; or vectors of all clips.
            held_out: by member, rows for the fold's held-out clips. On the final fit of a fusion of rows, where the
                weights come from all training clips, those are fused too: the papers' number, chosen on the clips that
                it is scored on. One of vectors would be scored on what it has learnt by heart.
        """
        system = entrant.system
        assert isinstance(system, Fusion)
        fold = self.view.fold(index)
        known = fold.train.ids if system.takes == "probabilities" else (*fold.train.ids, *fold.held_out.ids)
        learn = {name: given.pick(known) for name, given in train.items()}
        seen = {name: given.pick(fold.held_out.ids) for name, given in held_out.items()}
        asked: list[tuple[Clips, Members]] = [(fold.held_out, seen)]
        if index is None and system.takes == "probabilities":
            asked.insert(0, (fold.train.unlabelled(), learn))
        expected = tuple(name for clips, _ in asked for name in clips.ids)
        return self._fit(entrant, folder, fold, Fusing(fold, learn, tuple(asked)), expected)

    def _fit(
        self, entrant: Entrant, folder: SystemFolder, fold: Fold, errand: Errand, expected: tuple[str, ...]
    ) -> FoldResult:
        started = time.perf_counter()
        part = part_name(fold.index)
        with self._call(entrant, folder, part, fold.index) as (context, notebook):
            given = self._do(entrant, errand, [context], folder.log(part))
            assert isinstance(given, tuple)
            rows = _joined(given).aligned(expected)
            return self._finish(folder, fold, rows, notebook, time.perf_counter() - started)

    def _do(self, entrant: Entrant, errand: Errand, contexts: Sequence[Context], log: Path) -> Answer:
        if self.isolation is not None:
            return self.isolation.do(entrant, errand, contexts, log)
        return errand.do(entrant.system, entrant.options, contexts)

    def _finish(
        self,
        folder: SystemFolder,
        fold: Fold,
        rows: Probabilities,
        notebook: Notebook,
        seconds: float,
    ) -> FoldResult:
        """Keep what came back under real clip names."""
        facts = {
            "fold": fold.index,
            "clips": len(rows.ids),
            "seconds": round(seconds, 3),
            "times_asked": notebook.asked,
            "notes": notebook.notes,
            "warnings": notebook.warnings,
        }
        real = Probabilities(tuple(self.view.real[name] for name in rows.ids), rows.values)
        return folder.keep(part_name(fold.index), real, facts)

    @contextmanager
    def _call(
        self, entrant: Entrant, folder: SystemFolder, part: str, index: int | None
    ) -> Iterator[tuple[Context, Notebook]]:
        """Open everything that a call into a plugin needs, and guard it."""
        notebook = Notebook(self.reporter, self.view.translate)
        services: dict[str, Callable[..., Any]] = {
            "log": notebook.log,
            "warn": notebook.warn,
            "note": notebook.note,
            "score": self._scorer(index, notebook),
        }
        with guard(entrant, self.view, part), Desk(services).open() as ask:
            yield (
                Context(
                    device=resolve_device(self.device),
                    seed=entrant.fold_seed(index),
                    workspace=folder.workspace(part),
                    cache=self.cache,
                    reporter=PluginReporter(ask, self.reporter, part),
                    score=refuse_to_score if index is None else partial(ask, "score"),
                    final=part == "final",
                ),
                notebook,
            )

    def _scorer(self, index: int | None, notebook: Notebook) -> Callable[[Probabilities], Scores]:
        """Make the function that answers `context.score` for a fold; only the desk's thread holds it."""
        if index is None:
            return refuse_to_score
        held_out = self.view.train.take(self.view.folds == index)

        def answer(probabilities: Probabilities) -> Scores:
            notebook.asked += 1
            if not isinstance(probabilities, Probabilities):
                raise InvalidProbabilities(f"expected Probabilities to score, found {type(probabilities).__name__}")
            return search_official(probabilities.aligned(held_out.ids).values, held_out.labels).scores

        return answer


def part_name(index: int | None) -> str:
    """Give the file stem of a fold: `fold-0`, or `final` for the final fit."""
    return "final" if index is None else f"fold-{index}"


def _joined(given: Sequence[Probabilities]) -> Probabilities:
    ids = tuple(name for rows in given for name in rows.ids)
    return Probabilities(ids, np.concatenate([rows.values for rows in given]))
