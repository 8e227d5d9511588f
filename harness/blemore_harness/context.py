"""What a plugin is given besides data: where to compute, where to write, how to report, and whom to ask for scores."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from blemore_harness.cache import Cache
from blemore_harness.errors import BlemoreError
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.rules import Scores

CURVE_POINTS = 100
"""Points that are kept of a training curve, at most."""


class Progress(Protocol):
    """A running count of work done."""

    def advance(self, count: int = 1) -> None:
        """Report that `count` more pieces are done."""


class Reporter(Protocol):
    """Where the story of a run goes; the command line shows it, the record keeps it."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Open a progress bar with an estimate of the time left."""

    def log(self, message: str) -> None:
        """Report one line."""

    def warn(self, message: str) -> None:
        """Report one line that must also stand in the record."""

    def note(self, name: str, value: object) -> None:
        """Keep a fact (JSON types only) in the record, such as a count of clips without a face."""


class Silent:
    """A reporter, and a bar, that nobody reads: for trial fits, whose story is not the run's."""

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Silent]:
        """Show nothing."""
        yield self

    def advance(self, count: int = 1) -> None:
        """Count nothing."""

    def log(self, message: str) -> None:
        """Report nothing."""

    def warn(self, message: str) -> None:
        """Report nothing."""

    def note(self, name: str, value: object) -> None:
        """Keep nothing."""


def describe_curve(epochs: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
    """Return a training curve as the note that `record.FinishedSystem.curves` reads.

    >>> describe_curve([1, 2, 3], [0.5, float("nan"), 0.25])
    {'curve': {'epochs': [1.0, 3.0], 'values': [0.5, 0.25]}}
    """
    finite = [(float(x), float(f"{y:.6g}")) for x, y in zip(epochs, values, strict=True) if math.isfinite(y)]
    last = len(finite) - 1
    kept: Sequence[int] = range(len(finite))
    if last >= CURVE_POINTS:
        kept = [round(k * last / (CURVE_POINTS - 1)) for k in range(CURVE_POINTS)]
    return {"curve": {"epochs": [finite[k][0] for k in kept], "values": [finite[k][1] for k in kept]}}


def refuse_to_score(probabilities: Probabilities) -> Scores:
    """Stand in for `Context.score` where nothing is held out: in `prepare`, in `embed` and on the final fit."""
    raise BlemoreError(
        f"nobody can score these {len(probabilities.ids)} clips: nothing is held out here, use an inner split"
    )


@dataclass(frozen=True)
class Context:
    """Made by the harness for every call into a plugin.

    Attributes:
        device: `cpu` or `cuda`, a name that `torch.device` takes.
        seed: from the run's base seed, the system and the fold; the same in every repetition.
        workspace: private folder of this system and fold, for checkpoints; kept between an interruption and a resume.
        cache: arrays computed from clips, shared by folds and runs, keyed by content.
        reporter: `progress`, `log`, `warn` and `note` below go there.
        score: official scores of probabilities for exactly the held-out clips, thresholds chosen on them. The papers
            keep "the best epoch on the validation fold" in this way; the record says how often it was asked. Raises
            `BlemoreError` where nothing is held out.
        final: whether this is the final fit on all training clips.
    """

    device: str
    seed: int
    workspace: Path
    cache: Cache
    reporter: Reporter
    score: Callable[[Probabilities], Scores] = field(default=refuse_to_score)
    final: bool = False

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Open a progress bar: `with context.progress("faces", len(clips)) as bar: bar.advance()`."""
        return self.reporter.progress(label, total)

    def log(self, message: str) -> None:
        """Report one line to the user."""
        self.reporter.log(message)

    def warn(self, message: str) -> None:
        """Report one line to the user and keep it in the record."""
        self.reporter.warn(message)

    def note(self, name: str, value: object) -> None:
        """Keep a fact (JSON types only) in the record under the system's name."""
        self.reporter.note(name, value)

    def note_curve(self, name: str, epochs: Sequence[float], values: Sequence[float]) -> None:
        """Keep a training curve in the record, such as the loss of every epoch, for reports to draw.

        At most `CURVE_POINTS` points are kept, evenly spaced, the first and the last among them; values that are not
        finite are left out, and the others rounded to six digits.

        Args:
            name: of the curve, such as `training loss`.
            epochs: where each value belongs, in ascending order.
            values: as many.
        """
        self.reporter.note(name, describe_curve(epochs, values))


class ScoringService:
    """Answers what needs something that a plugin must not see: scores on held-out labels, lines with real clip names.

    The services run in a thread of the harness. A plugin holds nothing but a queue to it, so that no label and no real
    name can be reached from the arguments that it is given.

    Args:
        services: functions by name; one may raise `BlemoreError`, which the asker then sees.
    """

    def __init__(self, services: Mapping[str, Callable[..., Any]]) -> None:
        self._services = services

    @contextlib.contextmanager
    def open(self) -> Iterator[Callable[..., Any]]:
        """Serve until the block ends; returns the function `ask(service, *arguments)`, which any thread may call."""
        questions: queue.SimpleQueue[tuple[str, tuple[Any, ...], queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()
        closed = threading.Event()
        gate = threading.Lock()
        owner = os.getpid()
        thread = threading.Thread(target=_serve, args=(questions, self._services), name="scoring-service", daemon=True)
        thread.start()

        def ask(service: str, *arguments: Any) -> Any:
            if os.getpid() != owner:  # a forked process has no such thread, and would wait for ever
                raise BlemoreError(f"'{service}' was asked for in another process: only the plugin's own may ask")
            reply: queue.SimpleQueue[Any] = queue.SimpleQueue()
            with gate:  # so that nothing is put behind the end, where nobody answers
                if closed.is_set():
                    raise BlemoreError(f"'{service}' was asked for after the call that it belonged to had ended")
                questions.put((service, arguments, reply))
            done, answer = reply.get()
            if not done:
                raise answer
            return answer

        try:
            yield ask
        finally:
            with gate:
                closed.set()
                questions.put(None)
            thread.join()


def _serve(
    questions: queue.SimpleQueue[tuple[str, tuple[Any, ...], queue.SimpleQueue[Any]] | None],
    services: Mapping[str, Callable[..., Any]],
) -> None:
    while (question := questions.get()) is not None:
        service, arguments, reply = question
        try:
            reply.put((True, services[service](*arguments)))
        except Exception as error:
            # Without its traceback and causes: their frames hold what must not be seen.
            bare = error if isinstance(error, BlemoreError) else BlemoreError(f"{service} failed: {error!r}")
            bare.__cause__ = bare.__context__ = None
            reply.put((False, bare.with_traceback(None)))
