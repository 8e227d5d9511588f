"""Stand-ins for what the harness gives to plugins: a context that remembers what it was told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.context import Context

LABELS = np.array(
    [[100, 0, 0, 0, 0, 0], [0, 100, 0, 0, 0, 0], [0, 0, 0, 100, 0, 0], [50, 50, 0, 0, 0, 0], [70, 0, 0, 30, 0, 0]]
)
"""Some of the labels of the challenge, in percent."""


@dataclass
class RecordingReporter:
    """A reporter that keeps everything."""

    notes: dict[str, object] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    bars: list[tuple[str, int]] = field(default_factory=list)
    done: int = 0

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[RecordingReporter]:
        self.bars.append((label, total))
        yield self

    def advance(self, count: int = 1) -> None:
        self.done += count

    def log(self, message: str) -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def note(self, name: str, value: object) -> None:
        self.notes[name] = value


def make_context(folder: Path, **changes: object) -> Context:
    """A context on the CPU with a cache and a notebook of its own."""
    settings = {"seed": 7, "reporter": RecordingReporter()} | changes
    return Context("cpu", workspace=folder / "work", cache=Cache(folder / "cache"), **settings)


def make_fold(train: int, held_out: int, actors: int = 5, video: Path | None = None) -> Fold:
    """A fold of clips without media, or of one video that nobody opens; labels and actors go round."""
    items = tuple(Clip(f"t{number}", video, content=f"{number:04x}") for number in range(train))
    labels = LABELS[np.arange(train) % len(LABELS)]
    names = tuple(f"A{number % actors}" for number in range(train))
    others = tuple(Clip(f"h{number}", video, content=f"f{number:04x}") for number in range(held_out))
    return Fold(0, Clips(items, names, labels), Clips(others))
