"""The steps of an evaluation that call into plugins: prepare, fit and predict a fold, fuse a fold.

Each asks the disk first, guards the call, checks what came back, and keeps it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Cache
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context, Desk, Reporter, refuse_to_score
from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.disk import hold
from blemore_harness.errors import InvalidProbabilities
from blemore_harness.files.runs import FoldResult, SystemFolder
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.networks import Device
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.protocol.rules import Scores
from blemore_harness.protocol.thresholds import search_official
from blemore_harness.running.calls import Notebook, PluginReporter, guard
from blemore_harness.running.isolation import Isolation
from blemore_harness.running.requests import (
    Answer,
    BaseModels,
    Embedding,
    Fitting,
    FittingTogether,
    Fusing,
    FusingTogether,
    Preparing,
    Request,
    plan_fusing,
)
from blemore_harness.systems.failures import blaming
from blemore_harness.systems.resolved import ResolvedSystem


@dataclass(frozen=True)
class Stage:
    """Everything that stays the same while one run is evaluated.

    Attributes:
        view: the dataset behind stand-in names.
        cache: the shared store of arrays.
        device: where to compute.
        reporter: where the story goes.
        isolation: how worker processes are run; None calls plugins in this process.
        stop_at_bad_clips: whether a clip that an encoder cannot use ends the run, so that it can be left out.
    """

    blinded: BlindedDataset
    cache: Cache
    device: Device
    reporter: Reporter
    isolation: Isolation | None = None
    stop_at_bad_clips: bool = False

    @contextmanager
    def holding(self, folder: Path) -> Iterator[Stage]:
        """Hold a folder against other runs; returns a stage whose workers keep it locked until they are gone."""
        with hold(folder, self.reporter.log) as lock:
            yield self if self.isolation is None else replace(self, isolation=self.isolation.holding(lock))

    def prepare(self, resolved: ResolvedSystem, folder: SystemFolder) -> None:
        """Let an encoder download and extract; what it noted is kept for the record."""
        started = time.perf_counter()
        with self._call(resolved, folder, "prepare", None) as (context, notebook):
            self._do(resolved, Preparing(self.blinded.everything()), [context], folder.log("prepare"))
        before = folder.prepared() or {"notes": {}, "seconds": 0.0}
        # A repeated preparation finds its arrays in the cache: what it noted while it made them stays.
        notes = {**before["notes"], **notebook.notes}
        seconds = before["seconds"] + time.perf_counter() - started
        folder.keep_prepared({"notes": notes, "warnings": notebook.warnings, "seconds": round(seconds, 3)})

    def frame_features(
        self, resolved: ResolvedSystem, folder: SystemFolder, clips: Clips
    ) -> Iterator[tuple[Clip, NDArray[np.float32]]]:
        """Return an encoder's frame-level features, float32 (T, D), clip by clip."""
        system = resolved.system
        assert isinstance(system, Encoder)
        with self._call(resolved, folder, "export", None) as (context, _):
            for clip in clips:
                with blaming(system):
                    frame_features = system.frame_features(clip, resolved.options, context)
                yield clip, frame_features

    def embed(self, resolved: ResolvedSystem, folder: SystemFolder) -> Embeddings:
        """Return an encoder's label-free embeddings of all clips, training and test."""
        request = Embedding(self.blinded.everything())
        with self._call(resolved, folder, "embed", None) as (context, _):
            given = self._do(resolved, request, [context], folder.log("embed"))
            assert isinstance(given, Embeddings)
            return given

    def fit_encoder(
        self, resolved: ResolvedSystem, folder: SystemFolder, indices: Sequence[int | None]
    ) -> Iterator[tuple[int | None, FoldResult]]:
        """Train on folds and predict their held-out clips; each is on disk before the next is begun.

        Several folds are trained at once where the encoder says that this is faster.
        """
        system = resolved.system
        assert isinstance(system, Encoder)
        parts = tuple(Fitting(self.blinded.fold(index)) for index in indices)
        with self._guard(resolved, folder, "folds"), blaming(system):
            at_once = len(parts) > 1 and system.learns_together(resolved.options, self.device.resolve())
        yield from self._fit_all(resolved, folder, FittingTogether(parts), at_once)

    def fit_fusion(
        self,
        resolved: ResolvedSystem,
        folder: SystemFolder,
        train: BaseModels,
        held_out: Mapping[int | None, BaseModels],
    ) -> Iterator[tuple[int | None, FoldResult]]:
        """Train a fusion on what its base models give and fuse what they give for the held-out clips, fold by fold.

        Several folds are trained at once where the fusion does that, but not in worker processes: the labels that a
        fold holds out stay out of them.

        Args:
            train: by base model, rows for (at least) the training clips of the folds, opaque ids; or embeddings of all
                clips.
            held_out: by fold and base model, rows for the held-out clips.
        """
        system = resolved.system
        assert isinstance(system, Fusion)
        parts = tuple(plan_fusing(system, self.blinded.fold(index), train, held_out[index]) for index in held_out)
        own = type(system).fit_together is not Fusion.fit_together
        at_once = len(parts) > 1 and own and self.isolation is None
        yield from self._fit_all(resolved, folder, FusingTogether(parts), at_once)

    def _fit_all(
        self, resolved: ResolvedSystem, folder: SystemFolder, request: FittingTogether | FusingTogether, at_once: bool
    ) -> Iterator[tuple[int | None, FoldResult]]:
        """Learn folds at once where that is worth asking for and the system then does it, else one by one."""
        started = time.perf_counter()
        together = self._fit_together(resolved, folder, request) if at_once else None
        if together is not None:
            yield from together.items()
            return
        asking = (time.perf_counter() - started) / max(len(request.parts), 1)
        for part in request.parts:
            yield part.fold.index, self._fit(resolved, folder, part, asking)

    def _fit(
        self, resolved: ResolvedSystem, folder: SystemFolder, request: Fitting | Fusing, before: float
    ) -> FoldResult:
        """Let a system learn a fold; `before` is how many seconds were spent on it already."""
        started = time.perf_counter() - before
        part = part_name(request.fold.index)
        with self._call(resolved, folder, part, request.fold.index) as (context, notebook):
            given = self._do(resolved, request, [context], folder.log(part))
            assert isinstance(given, tuple)
            return self._finish(resolved, folder, request, given[0], notebook, time.perf_counter() - started)

    def _fit_together(
        self, resolved: ResolvedSystem, folder: SystemFolder, request: FittingTogether | FusingTogether
    ) -> dict[int | None, FoldResult] | None:
        """Let a system learn folds at once; None where it does not want to."""
        started = time.perf_counter()
        parts: tuple[Fitting | Fusing, ...] = request.parts
        with self._guard(resolved, folder, "folds"), ExitStack() as stack:
            indices = [part.fold.index for part in parts]
            calls = [stack.enter_context(self._open(resolved, folder, part_name(index), index)) for index in indices]
            given = self._do(resolved, request, [context for context, _ in calls], folder.log("folds"))
            if given is None:
                return None
            assert isinstance(given, tuple)
            seconds = (time.perf_counter() - started) / len(parts)
            return {
                part.fold.index: self._finish(resolved, folder, part, rows, notebook, seconds)
                for part, rows, (_, notebook) in zip(parts, given, calls, strict=True)
            }

    def _do(self, resolved: ResolvedSystem, request: Request, contexts: Sequence[Context], log: Path) -> Answer:
        if self.isolation is not None:
            return self.isolation.do(resolved, request, contexts, log)
        with blaming(resolved.system, offline=not isinstance(request, Preparing)):
            return request.do(resolved.system, resolved.options, contexts)

    def _finish(
        self, resolved: ResolvedSystem, folder: SystemFolder, request: Fitting | Fusing, rows: Probabilities,
        notebook: Notebook, seconds: float,
    ) -> FoldResult:  # fmt: skip
        """Keep what came back under real clip names."""
        index = request.fold.index
        facts = {
            "fold": index,
            "clips": len(rows.ids),
            "covers": resolved.covers if index is None else None,
            "seconds": round(seconds, 3),
            "times_asked": notebook.asked,
            "notes": notebook.notes,
            "warnings": notebook.warnings,
        }
        real = Probabilities(tuple(self.blinded.real[name] for name in rows.ids), rows.values)
        return folder.keep(part_name(index), real, facts)

    @contextmanager
    def _call(
        self, resolved: ResolvedSystem, folder: SystemFolder, part: str, index: int | None
    ) -> Iterator[tuple[Context, Notebook]]:
        """Open everything that a call into a plugin needs, and guard it."""
        with self._guard(resolved, folder, part), self._open(resolved, folder, part, index) as opened:
            yield opened

    def _guard(self, resolved: ResolvedSystem, folder: SystemFolder, part: str) -> AbstractContextManager[None]:
        return guard(resolved, self.blinded, part, folder, self.stop_at_bad_clips)

    @contextmanager
    def _open(
        self, resolved: ResolvedSystem, folder: SystemFolder, part: str, index: int | None
    ) -> Iterator[tuple[Context, Notebook]]:
        notebook = Notebook(self.reporter, self.blinded.translate)
        services: dict[str, Callable[..., Any]] = {
            "log": notebook.log,
            "warn": notebook.warn,
            "note": notebook.note,
            "score": self._scorer(index, notebook),
        }
        with Desk(services).open() as ask:
            yield (
                Context(
                    device=self.device.resolve(),
                    seed=resolved.fold_seed(index),
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
        held_out = self.blinded.train.take(self.blinded.folds == index)

        def answer(probabilities: Probabilities) -> Scores:
            notebook.asked += 1
            if not isinstance(probabilities, Probabilities):
                raise InvalidProbabilities(f"expected Probabilities to score, found {type(probabilities).__name__}")
            return search_official(probabilities.aligned(held_out.ids).values, held_out.labels).scores

        return answer


def part_name(index: int | None) -> str:
    """Return the file stem of a fold: `fold-0`, or `final` for the final fit."""
    return "final" if index is None else f"fold-{index}"
