"""What a plugin is given besides data: where to compute, where to write, how to report, and whom to ask for scores."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from blemore_harness.cache import Cache
from blemore_harness.errors import BlemoreError
from blemore_harness.protocol import Scores
from blemore_harness.rows import Probabilities


class Progress(Protocol):
    """A running count of work done."""

    def advance(self, count: int = 1) -> None:
        """Say that `count` more pieces are done."""


class Reporter(Protocol):
    """Where the story of a run goes; the command line shows it, the record keeps it."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Open a progress bar with an estimate of the time left."""

    def log(self, message: str) -> None:
        """Say one line."""

    def warn(self, message: str) -> None:
        """Say one line that must also stand in the record."""

    def note(self, name: str, value: object) -> None:
        """Keep a fact (JSON types only) in the record, such as a count of clips without a face."""


def refuse_to_score(probabilities: Probabilities) -> Scores:
    """Stand in for `Context.score` where nothing is held out: in `prepare`, in `embed` and on the final fit."""
    raise BlemoreError("there are no held-out labels to ask for here: use an actor-disjoint inner split instead")


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
        """Say one line to the user."""
        self.reporter.log(message)

    def warn(self, message: str) -> None:
        """Say one line to the user and keep it in the record."""
        self.reporter.warn(message)

    def note(self, name: str, value: object) -> None:
        """Keep a fact (JSON types only) in the record under the system's name."""
        self.reporter.note(name, value)


class ScoringDesk:
    """Answers scores on held-out labels without handing them out.

    The labels live in a thread of the harness; what a plugin holds is only a queue to it, so that no label can be
    reached from the arguments that it is given.

    Args:
        answer: gives the scores of probabilities; it may raise `BlemoreError`, which the asker then sees.

    Attributes:
        asked: how often a plugin asked.
    """

    def __init__(self, answer: Callable[[Probabilities], Scores]) -> None:
        self._answer = answer
        self._questions: queue.SimpleQueue[tuple[Probabilities, queue.SimpleQueue[Scores | BlemoreError]] | None]
        self._questions = queue.SimpleQueue()
        self.asked = 0

    @contextlib.contextmanager
    def open(self) -> Iterator[Callable[[Probabilities], Scores]]:
        """Answer questions until the block ends; gives the function to ask with."""
        questions = self._questions
        closed = threading.Event()
        clerk = threading.Thread(target=self._serve, name="scoring-desk", daemon=True)
        clerk.start()

        def score(probabilities: Probabilities) -> Scores:
            if closed.is_set():
                return refuse_to_score(probabilities)
            reply: queue.SimpleQueue[Scores | BlemoreError] = queue.SimpleQueue()
            questions.put((probabilities, reply))
            answer = reply.get()
            if isinstance(answer, BlemoreError):
                raise answer
            return answer

        try:
            yield score
        finally:
            closed.set()
            questions.put(None)
            clerk.join()

    def _serve(self) -> None:
        while (question := self._questions.get()) is not None:
            probabilities, reply = question
            self.asked += 1
            try:
                reply.put(self._answer(probabilities))
            except BlemoreError as error:
                reply.put(error.with_traceback(None))
            except Exception as error:
                reply.put(BlemoreError(f"scoring failed: {error}"))
