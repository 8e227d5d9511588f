"""The steps of an evaluation that call into plugins: prepare, fit and predict a fold, fuse a fold.

Each asks the disk first, guards the call, checks what came back, and keeps it.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.context import Context, Desk, Progress, Reporter, refuse_to_score
from blemore_harness.dataset import Clips, Fold
from blemore_harness.devices import resolve_device
from blemore_harness.entrants import Entrant
from blemore_harness.errors import BlemoreError, ExtraMissing, HarnessError, InvalidProbabilities, PluginFailed
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.protocol import Scores
from blemore_harness.rows import Probabilities
from blemore_harness.runs import FoldResult, SystemFolder
from blemore_harness.thresholds import search_official
from blemore_harness.views import View

Members = Mapping[str, Probabilities]


@dataclass
class Notebook:
    """Keeps what a plugin says for the record, and says it to the user, with real clip names."""

    reporter: Reporter
    translate: Callable[[str], str]
    notes: dict[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    asked: int = 0

    def log(self, message: str) -> None:
        """Say one line."""
        self.reporter.log(self.translate(message))

    def warn(self, message: str) -> None:
        """Say and keep one line."""
        self.warnings.append(self.translate(message))
        self.reporter.warn(self.warnings[-1])

    def note(self, name: str, value: object) -> None:
        """Keep a fact."""
        self.notes[name] = json.loads(self.translate(json.dumps(value)))


class PluginReporter:
    """The reporting side as a plugin holds it: a way to the desk, none to labels or real names."""

    def __init__(self, ask: Callable[..., Any], reporter: Reporter, part: str) -> None:
        self._open_bar, self._part = reporter.progress, part
        self.log = partial(ask, "log")
        self.warn = partial(ask, "warn")
        self.note = partial(ask, "note")

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Open a bar that says which fold it is for."""
        return self._open_bar(f"{label} ({self._part})", total)


@dataclass(frozen=True)
class Stage:
    """Everything that stays the same while one run is evaluated.

    Attributes:
        view: the dataset behind stand-in names.
        cache: the shared store of arrays.
        device: what the user asked for: `auto`, `cpu` or `cuda`.
        reporter: where the story goes.
    """

    view: View
    cache: Cache
    device: str
    reporter: Reporter

    def prepare(self, entrant: Entrant, folder: SystemFolder) -> None:
        """Let an encoder download and extract; what it noted is kept for the record."""
        system = entrant.system
        assert isinstance(system, Encoder)
        started = time.perf_counter()
        with self._call(entrant, folder, "prepare", None) as (context, notebook):
            system.prepare(self.view.everything(), entrant.options, context)
        before = folder.prepared() or {"notes": {}, "seconds": 0.0}
        # A repeated preparation finds its arrays in the cache: what it noted while it made them stays.
        notes = {**before["notes"], **notebook.notes}
        seconds = before["seconds"] + time.perf_counter() - started
        folder.keep_prepared({"notes": notes, "warnings": notebook.warnings, "seconds": round(seconds, 3)})

    def fit_encoder(self, entrant: Entrant, folder: SystemFolder, index: int | None) -> FoldResult:
        """Train on a fold and predict its held-out clips."""
        system = entrant.system
        assert isinstance(system, Encoder)
        fold = self.view.fold(index)

        def work(context: Context) -> Probabilities:
            return system.fit(fold, entrant.options, context).predict(fold.held_out, context)

        return self._fit(entrant, folder, fold, work)

    def fit_fusion(
        self, entrant: Entrant, folder: SystemFolder, index: int | None, train: Members, held_out: Members
    ) -> FoldResult:
        """Train a fusion on members' out-of-fold rows and fuse their rows for the held-out clips.

        Args:
            train: by member, rows for (at least) the fold's training clips, opaque ids.
            held_out: by member, rows for the fold's held-out clips. On the final fit, where the weights come from all
                training clips, these are fused too: the papers' number, chosen on the clips that it is scored on.
        """
        system = entrant.system
        assert isinstance(system, Fusion)
        fold = self.view.fold(index)
        learn = {name: _rows_for(rows, fold.train) for name, rows in train.items()}

        def work(context: Context) -> Probabilities:
            model = system.fit(fold, learn, entrant.options, context)
            seen = {name: _rows_for(rows, fold.held_out) for name, rows in held_out.items()}
            fused = model.predict(fold.held_out, seen, context)
            if index is not None:
                return fused
            refused = model.predict(fold.train.unlabelled(), learn, context).aligned(fold.train.ids)
            return _joined(refused, fused.aligned(fold.held_out.ids))

        expected = fold.held_out.ids if index is not None else (*fold.train.ids, *fold.held_out.ids)
        return self._fit(entrant, folder, fold, work, expected)

    def _fit(
        self,
        entrant: Entrant,
        folder: SystemFolder,
        fold: Fold,
        work: Callable[[Context], Probabilities],
        expected: tuple[str, ...] | None = None,
    ) -> FoldResult:
        part = part_name(fold.index)
        started = time.perf_counter()
        with self._call(entrant, folder, part, fold.index) as (context, notebook):
            given = work(context)
            if not isinstance(given, Probabilities):
                raise InvalidProbabilities(f"expected `predict` to give Probabilities, found {type(given).__name__}")
            rows = given.aligned(expected or fold.held_out.ids)
        facts = {
            "fold": fold.index,
            "clips": len(rows.ids),
            "seconds": round(time.perf_counter() - started, 3),
            "times_asked": notebook.asked,
            "notes": notebook.notes,
            "warnings": notebook.warnings,
        }
        real = Probabilities(tuple(self.view.real[name] for name in rows.ids), rows.values)
        return folder.keep(part, real, facts)

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


@contextmanager
def guard(entrant: Entrant, view: View, part: str) -> Iterator[None]:
    """Turn whatever a plugin raises into an error that names it, with real clip names.

    What the user can fix stays so; rows that are no probabilities and anything unforeseen are the plugin's failure.
    """
    where = f"{entrant.name} ({part})"
    try:
        yield
    except InvalidProbabilities as error:
        raise PluginFailed(f"{where}: {view.translate(str(error))}", entrant.name) from error
    except BlemoreError as error:
        raise type(error)(view.translate(f"{entrant.name}: {error}")) from error
    except HarnessError:
        raise
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"{where} needs the package '{error.name}': pip install 'blemore-harness[encoders]' "
            "(or what the plugin's own documentation says)"
        ) from error
    except Exception as error:
        trace = view.translate(traceback.format_exc())
        brief = view.translate(traceback.format_exception_only(error)[-1].strip())
        raise PluginFailed(f"{where} crashed: {brief}", entrant.name, trace) from error


def _rows_for(rows: Probabilities, clips: Clips) -> Probabilities:
    index = {name: i for i, name in enumerate(rows.ids)}
    return Probabilities(clips.ids, rows.values[[index[name] for name in clips.ids]])


def _joined(first: Probabilities, second: Probabilities) -> Probabilities:
    return Probabilities((*first.ids, *second.ids), np.concatenate([first.values, second.values]))
