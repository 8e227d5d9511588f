"""Toy encoders, and a bench that runs the whole evaluation with them on a small download."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pluggy

from blemore_harness import hookspecs
from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.data.blinded import BlindedDataset, blind_dataset
from blemore_harness.data.download import Dataset, read_dataset
from blemore_harness.drawing.tables import render_text
from blemore_harness.files.runs import read_record
from blemore_harness.heads.options import HeadOptions
from blemore_harness.hookspecs import Encoder, FoldFinished, Fusion, RunFinished, RunStarted, hookimpl
from blemore_harness.pipeline import evaluate
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.running.run import open_run
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.plugins import Plugins, register
from blemore_harness.systems.submission import Submission
from builders import rows_of, write_download


class Silent:
    """A reporter that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Silent]:
        yield self

    def advance(self, count: int = 1) -> None:
        pass

    def log(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.said.append(f"warning: {message}")

    def note(self, name: str, value: object) -> None:
        raise AssertionError("notes are kept, not said")


@dataclass(frozen=True)
class NoisyModel:
    """Rows that depend on nothing but the clip's content, and a little on the training labels."""

    prior: Any
    sharpness: float

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        rows = []
        for clip in clips:
            random = np.random.default_rng(int(clip.content[:8], 16))
            rows.append(random.dirichlet(np.ones(6) * self.sharpness) * self.prior)
        values = np.array(rows).reshape(-1, 6)
        return Probabilities(clips.ids[::-1], (values / values.sum(axis=1, keepdims=True))[::-1])


class Noisy(Encoder):
    """An encoder that counts what is asked of it."""

    summary = "noise"
    modality = "audio"

    def __init__(self, name: str, sharpness: float = 0.5) -> None:
        self.name = name  # type: ignore[misc]
        self.sharpness = sharpness
        self.calls: list[Any] = []
        self.trouble: dict[Any, BaseException] = {}

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        self.calls.append("prepare")
        assert clips.truth is None
        assert clips.actors is None
        self._stumble("prepare")

    def fit(self, fold: Fold, options: Any, context: Context) -> NoisyModel:
        self.calls.append(fold.index)
        self._stumble(fold.index)
        context.note("seed", context.seed)
        return NoisyModel(fold.train.targets.mean(axis=0) + 0.1, self.sharpness)

    def _stumble(self, where: Any) -> None:
        if where in self.trouble:
            raise self.trouble[where]


class Watcher:
    """A plugin of encoders, a fusion and every notification hook."""

    def __init__(self, *encoders: Encoder, fusions: tuple[Fusion, ...] = ()) -> None:
        self._encoders, self._fusions = encoders, fusions
        self.heard: list[tuple[str, Any]] = []

    @hookimpl
    def blemore_encoders(self) -> list[Encoder]:
        return list(self._encoders)

    @hookimpl
    def blemore_fusions(self) -> list[Fusion]:
        return list(self._fusions)

    @hookimpl
    def blemore_run_started(self, event: RunStarted) -> None:
        self.heard.append(("started", event.record.status))

    @hookimpl
    def blemore_fold_finished(self, event: FoldFinished) -> None:
        self.heard.append(("fold", (event.system, event.fold, len(event.probabilities.ids))))
        event.record.submission.expect["changed"] = "by a hook"  # type: ignore[index]
        event.notes["changed"] = "by a hook"  # type: ignore[index]

    @hookimpl
    def blemore_run_finished(self, event: RunFinished) -> None:
        self.heard.append(("finished", event.record.status))


@dataclass
class Bench:
    """A small dataset and a place to run it."""

    dataset: Dataset
    blinded: BlindedDataset
    root: Path
    reporter: Silent = field(default_factory=Silent)

    def run(self, plugins: Plugins, submission: Submission) -> tuple[dict[str, Any], Path]:
        where = (self.root / "runs", self.root / "cache", self.reporter)
        record, folder = evaluate(open_run(submission, plugins, self.dataset, self.blinded, *where, draw=render_text))
        content = json.loads((folder / "record.json").read_text())
        assert content == record.to_json()
        assert read_record(folder) == record
        return content, folder


def open_bench(root: Path, actors: int, tests: int) -> Bench:
    """A bench of three folds in an empty folder."""
    dataset = read_dataset(write_download(root / "data", rows_of(actors=actors, folds=3), tests=tests))
    return Bench(dataset, blind_dataset(dataset, root / "views"), root)


def offer(*encoders: Encoder, fusions: tuple[Fusion, ...] = ()) -> tuple[Plugins, Watcher]:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins, watcher = Plugins(manager), Watcher(*encoders, fusions=fusions)
    register(plugins, watcher, "toys", Distribution("toys", "1"))
    from blemore_plugins import late

    register(plugins, late, "late", Distribution("blemore-harness", "1"))
    assert plugins.failures == []
    return plugins, watcher


def system(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in record["systems"] if row["name"] == name)


@dataclass(frozen=True)
class ToyOptions(HeadOptions):
    shift: float = 0.0


class Seeing(Noisy):
    """Gives embeddings besides rows."""

    def embed(self, clips: Clips, options: Any, context: Context) -> Embeddings:
        assert clips.truth is None
        assert clips.actors is None
        self.calls.append("embed")
        rows = [[int(clip.content[:6], 16) / 2**24, 1.0] for clip in clips]
        return Embeddings(clips.ids[::-1], np.array(rows[::-1], dtype=np.float32))
