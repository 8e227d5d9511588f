"""Puts a system through what a run asks of it, with the guards up; each trial is made once, when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context, refuse_to_score
from blemore_harness.disk import digest_of
from blemore_harness.errors import InvalidProbabilities
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.predictions import FloatArray, Probabilities
from blemore_harness.protocol.rules import Scores
from blemore_harness.protocol.thresholds import search_official
from blemore_harness.testing.material import Material, digest_inputs, make_members
from blemore_harness.testing.reporters import CountingReporter, Interrupted
from blemore_harness.testing.subjects import Session, Subject
from blemore_harness.testing.surroundings import list_changes, look_around, stirred
from blemore_harness.testing.verdicts import Broken
from blemore_harness.testing.watching import list_leftovers

COLD = ("first", "again", "repeated", "gpu")
"""Trials with a cache of their own; the others find what the first one computed from the clips."""

SEED = 1234
"""Of every fit: the same in all of them, as in repetitions of a fold."""


@dataclass
class Findings:
    """What the guards saw in all calls so far, each a line for a person."""

    written: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Trial:
    """A system that was prepared and fitted.

    Attributes:
        model: what `fit` gave.
        fold: what it was fitted on.
        rows: what it predicted for the held-out clips, in their order.
        base_models: what a fusion was given, by base model; empty for an encoder.
        root: the folder of its workspaces and its cache.
        progress: how much progress `prepare` and `fit` said.
    """

    model: Any
    fold: Fold
    rows: FloatArray
    base_models: dict[str, Any]
    root: Path
    progress: tuple[int, int]


class Trials:
    """Everything that the checks of one system share.

    Args:
        subject: who is checked.
        session: where the clips and the watch come from.
    """

    def __init__(self, subject: Subject, session: Session) -> None:
        self.subject = subject
        self.session = session
        self.material: Material = session.material(subject)
        self.options = subject.options(self.material.feature_sets)
        self.findings = Findings()
        self._calls = 0
        self._made: dict[str, Trial | BaseException] = {}
        self._given = self._make_members()
        self._before = digest_inputs(self.material, self.options, self._given)
        self._root = session.folder / "trials" / digest_of([subject.system.name, id(subject)])

    @property
    def fold(self) -> Fold:
        """The fold that it is tried on."""
        return self.material.fold

    def base_models(self) -> dict[str, Any]:
        """Return what base models give for all clips, by base model; empty for an encoder."""
        return dict(self._given)

    def members_of(self, fold: Fold, base_models: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what a fusion learns a fold from, by base model: of `base_models`, or of the usual ones."""
        system = self.subject.system
        rows_only = isinstance(system, Fusion) and system.takes == "probabilities"
        known = fold.train.ids if rows_only else (*fold.train.ids, *fold.held_out.ids)
        return {name: rows.pick(known) for name, rows in (self._given if base_models is None else base_models).items()}

    def _make_members(self) -> dict[str, Any]:
        if isinstance(self.subject.system, Encoder):
            return {}
        return make_members(self.material, vectors=self.subject.system.takes == "embeddings")

    def first(self) -> Trial:
        """Return the trial that most checks look at."""
        return self.once("first", lambda: self.run("first", self.fold))

    def again(self) -> Trial:
        """Return a second trial in new folders, interrupted in the middle and done again."""
        self.first()
        return self.once("again", lambda: self.run("again", self.fold, interrupt=True))

    def settled(self) -> None:
        """Make sure that the guards have seen the system twice; what goes wrong the second time others say."""
        self.first()
        with suppress(Exception):
            self.again()

    def stumbled_over(self, error: BaseException) -> bool:
        """Return whether an error is what ended the first trial."""
        return self._made.get("first") is error

    def changed_inputs(self) -> list[str]:
        """Name arrays and files that are not as they were given."""
        now = digest_inputs(self.material, self.options, self._given)
        return [name for name, digest in self._before.items() if now.get(name) != digest]

    def once(self, name: str, make: Callable[[], Trial]) -> Trial:
        """Make a trial, or give it (or raise what it raised) again."""
        if name not in self._made:
            try:
                self._made[name] = make()
            except Exception as error:
                self._made[name] = error
        made = self._made[name]
        if isinstance(made, BaseException):
            raise made
        return made

    def run(
        self, name: str, fold: Fold, *, interrupt: bool = False, final: bool = False, device: str = "cpu",
        base_models: dict[str, Any] | None = None, truth: Mapping[str, Any] | None = None,
    ) -> Trial:  # fmt: skip
        """Prepare, fit and predict in folders of their own.

        Args:
            name: of the folders.
            fold: what to fit on.
            interrupt: end `prepare` and `fit` once each in the middle, and do them again in the same folders; before,
                prepare the last clips alone, where workers may share them.
            final: whether to say that nothing is held out.
            device: where to compute.
            base_models: of a fusion; None for the usual ones.
            truth: labels by clip; None for those of the material.
        """
        root = self._root / name
        halves = tuple(max(count // 2, 1) for count in self.first().progress) if interrupt else (None, None)
        prepared = fitted = 0
        system, given = self.subject.system, base_models if base_models is not None else self.base_models()
        if isinstance(system, Encoder):
            clips, encoder = Clips(tuple(sorted((*fold.train, *fold.held_out), key=lambda c: c.id))), system
            if interrupt and encoder.prepares_each_clip:
                last, context = clips.take(range(3 * len(clips) // 4, len(clips))), self.context(root, device)
                self.call("prepare", context, lambda: encoder.prepare(last, self.options, context))
            prepared = self._twice(
                root, "prepare", halves[0], lambda context: encoder.prepare(clips, self.options, context), device
            )[1]
        answer = partial(self._score, fold.held_out.ids, self.material.truth if truth is None else truth)
        score = refuse_to_score if final else answer
        model, fitted = self._twice(
            root, "fit", halves[1], lambda context: self._fit(fold, given, context), device, final, score
        )
        context = self.context(root, device, final=final, score=score)
        rows = self.call("predict", context, lambda: self.predict(model, fold.held_out, given, context))
        return Trial(model, fold, rows, given, root, (prepared, fitted))

    def predict(self, model: Any, clips: Clips, base_models: dict[str, Any], context: Context) -> FloatArray:
        """Return a model's rows for clips, in their order.

        Raises:
            InvalidProbabilities: what comes back is none of these, or not of these clips.
        """
        if isinstance(self.subject.system, Encoder):
            given = model.predict(clips, context)
        else:
            given = model.predict(clips, {name: rows.pick(clips.ids) for name, rows in base_models.items()}, context)
        if not isinstance(given, Probabilities):
            raise InvalidProbabilities(f"expected `predict` to give Probabilities, found {type(given).__name__}")
        return given.aligned(clips.ids).values

    def predict_again(self, trial: Trial, clips: Clips) -> FloatArray:
        """Have the model of a trial predict other clips."""
        context = self.context(trial.root)
        rows: FloatArray = self.call(
            "predict", context, lambda: self.predict(trial.model, clips, trial.base_models, context)
        )
        return rows

    def context(self, root: Path, device: str = "cpu", stop_at: int | None = None, **changes: Any) -> Context:
        """Make a context with its folders below `root`."""
        (root / "workspace").mkdir(parents=True, exist_ok=True)
        cache = Cache((root if root.name in COLD else self._root / COLD[0]) / "cache")
        return Context(device, SEED, root / "workspace", cache, CountingReporter(stop_at), **changes)

    def call(self, part: str, context: Context, work: Callable[[], Any], *others: Context) -> Any:
        """Call into the plugin, with one context or more, the guards up: what they see goes to `findings`."""
        offline = part != "prepare" or not self.subject.network
        # Users' caches of weights are written where weights may be fetched.
        workspaces = [each.workspace for each in (context, *others)]
        writable = [*workspaces, context.cache.root, *([] if offline else [Path.home()])]
        scratch = context.workspace.parent / f"temporary-{part}"
        self._calls += 1
        with stirred(self._calls):
            before = look_around()
            try:
                with self.session.watch.look(writable, offline, scratch) as seen:
                    return work()
            finally:
                # What a first call loads may set things up; from the second on there is nothing to excuse.
                if "first" in self._made:
                    self.findings.changed += [f"{part}: {change}" for change in list_changes(before, look_around())]
                    self.findings.written += [f"{part}: {name}, a temporary file" for name in list_leftovers(scratch)]
                self.findings.written += [f"{part}: {path}" for path in seen.written]
                self.findings.asked += [f"{part}: {address}" for address in seen.asked]

    def _twice(
        self, root: Path, part: str, stop_at: int | None, work: Callable[[Context], Any], device: str,
        final: bool = False, score: Any = refuse_to_score,
    ) -> tuple[Any, int]:  # fmt: skip
        """Do a step, after it was once interrupted where that is asked for; says how much progress it made."""
        if stop_at is not None:
            stopped = self.context(root, device, stop_at, final=final, score=score)
            with suppress(Interrupted):
                self.call(part, stopped, lambda: work(stopped))
        context = self.context(root, device, final=final, score=score)
        result = self.call(part, context, lambda: work(context))
        return result, context.reporter.done  # type: ignore[attr-defined]

    def _fit(self, fold: Fold, base_models: dict[str, Any], context: Context) -> Any:
        system = self.subject.system
        if isinstance(system, Encoder):
            return system.fit(fold, self.options, context)
        return system.fit(fold, self.members_of(fold, base_models), self.options, context)

    def _score(self, held_out: tuple[str, ...], truth: Mapping[str, Any], probabilities: Probabilities) -> Scores:
        labels = np.array([np.round(truth[name] * 100) for name in held_out], dtype=np.int8)
        if not isinstance(probabilities, Probabilities):
            raise Broken(f"expected Probabilities to score, found {type(probabilities).__name__}")
        return search_official(probabilities.aligned(held_out).values, labels).scores
