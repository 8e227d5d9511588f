"""Fusions that learn several folds at once leave the files of one by one, and use no held-out label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
import pytest

from blemore_harness import hookspecs
from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.errors import DataError
from blemore_harness.hookspecs import Encoder, Fusion, hookimpl
from blemore_harness.pipeline import evaluate
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.running.isolation import Done, Isolation
from blemore_harness.running.requests import Fitting, Fusing, Request
from blemore_harness.running.run import open_run
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.plugins import Plugins, register
from blemore_harness.systems.resolved import ResolvedSystem
from blemore_harness.systems.submission import Submission
from blemore_plugins import best_of, late
from builders import rows_of, write_download
from fakes import RecordingReporter

FUSIONS = ["late", "best-of"]

SETTINGS = {"best-of": {"candidates": ("late", "mean")}}
"""What `best-of` chooses from: nothing that takes long."""


class Toy(Encoder):
    """Rows that depend on the clip alone, and know its label a little."""

    summary, modality = "noise and some truth", "audio"

    def __init__(self, name: str, number: int, truth: dict[str, np.ndarray[Any, Any]]) -> None:
        self.name, self.number, self.truth = name, number, truth  # type: ignore[misc]
        self.asked: list[int | None] = []

    def fit(self, fold: Fold, options: Any, context: Context) -> Toy:
        self.asked.append(fold.index)
        return self

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        rows = []
        for clip in clips:
            noise = np.random.default_rng([self.number, int(clip.content[:8], 16)]).dirichlet(np.ones(6))
            skill = 0.3 * self.number
            rows.append((1 - skill) * noise + skill * self.truth.get(clip.content, noise))
        return Probabilities(clips.ids, np.array(rows))


class Alone(Fusion):
    """A fusion as it is where nothing is trained together."""

    def __init__(self, other: Fusion) -> None:
        self.name, self.summary, self.Options, self.fit = other.name, "x", other.Options, other.fit  # type: ignore[misc]
        self.card = other.card  # type: ignore[method-assign]


class Offer:
    """A plugin of whatever it is given."""

    def __init__(self, encoders: Sequence[Encoder], fusions: Sequence[Fusion]) -> None:
        self.encoders, self.fusions = encoders, fusions

    @hookimpl
    def blemore_encoders(self) -> Sequence[Encoder]:
        return self.encoders

    @hookimpl
    def blemore_fusions(self) -> Sequence[Fusion]:
        return self.fusions


@dataclass(frozen=True)
class Listening(Isolation):
    """Does requests in this process, and keeps which they were."""

    heard: list[Request] = field(default_factory=list)

    def do(self, resolved: ResolvedSystem, request: Request, context: Context, log: Path) -> Done:
        self.heard.append(request)
        answer = request.do(resolved.system, resolved.options, context)
        if answer is None:
            return Done(("nothing",), {})
        kind = "embeddings" if isinstance(answer, Embeddings) else "probabilities"
        return Done((kind, answer.ids, answer.values), {})


class Place:
    """A small dataset, a place to run it, and what came of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.dataset = read_dataset(write_download(root / "data", rows_of(actors=6, folds=3), tests=4))
        self.blinded = blind_dataset(self.dataset, root / "views")
        pairs = zip(self.blinded.train, self.blinded.train.labels / 100, strict=True)
        truth = {clip.content: row for clip, row in pairs}
        self.toys = [Toy(name, number, truth) for number, name in enumerate(("one", "two", "three"))]
        self.reporter = RecordingReporter()

    def run(self, fusion: Fusion, folder: str = "runs", isolation: Isolation | None = None) -> dict[str, Any]:
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        plugins = Plugins(manager)
        register(plugins, Offer(self.toys, [fusion]), "toys", Distribution("toys", "1"))
        assert plugins.failures == []
        settings = {name: given for name, given in SETTINGS.items() if name == fusion.name}
        submission = Submission("toys", ("one", "two", "three"), fusion.name, options=settings)
        where = (self.root / folder, self.root / "cache", self.reporter)
        run = open_run(submission, plugins, self.dataset, self.blinded, *where, isolation=isolation)
        return evaluate(run)[0].to_json()

    def files(self, fusion: Fusion, folder: str) -> dict[str, Any]:
        """What a fusion left on disk, but for times."""
        (home,) = (self.root / folder / "systems").glob(f"{fusion.name}-*")
        found: dict[str, Any] = {path.name: path.read_bytes() for path in home.rglob("*.csv")}
        for path in home.glob("*.json"):
            found[path.name] = {k: v for k, v in json.loads(path.read_text()).items() if k != "seconds"}
        assert not (home / "work").exists() or not list((home / "work").iterdir())
        return found


def make(name: str) -> Fusion:
    return late.LateFusion() if name == "late" else best_of.BestOf()


def lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: lasting(v) for k, v in value.items() if k not in ("seconds", "execution")}
    return [lasting(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.slow
@pytest.mark.parametrize("name", FUSIONS)
def test_files_and_record_are_those_of_one_by_one(name: str, tmp_path: Path) -> None:
    place, fusion = Place(tmp_path), make(name)
    together = place.run(fusion)
    bars = [label for label, _ in place.reporter.bars if label.startswith("late: weights")]
    assert bars == ["late: weights (fold-0)"], "all folds are served by one pass over the points"
    alone = place.run(Alone(make(name)), "alone")
    assert lasting(together["systems"]) == lasting(alone["systems"])
    assert place.files(fusion, "runs") == place.files(fusion, "alone")
    if name == "best-of":
        chosen = [note["chosen"] for note in together["systems"][-1]["notes"]]
        assert chosen.count("late") >= 2, "otherwise this tests nothing"


class Stopped(Fusion):
    """Learns one by one and is interrupted at one fold."""

    def __init__(self, other: Fusion, at: int | None) -> None:
        self.name, self.summary, self.Options = other.name, "x", other.Options  # type: ignore[misc]
        self.other, self.at = other, at

    def fit(self, fold: Fold, base_models: Any, options: Any, context: Context) -> Any:
        if fold.index == self.at:
            raise KeyboardInterrupt
        return self.other.fit(fold, base_models, options, context)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("at", [1, 2, None])
def test_whatever_was_finished_before_an_interruption_the_bits_are_the_same(
    name: str, at: int | None, tmp_path: Path
) -> None:
    place, fusion = Place(tmp_path), make(name)
    whole = place.run(fusion, "whole")
    with pytest.raises(KeyboardInterrupt):
        place.run(Stopped(make(name), at))
    rest = place.run(fusion)
    assert lasting(rest["systems"]) == lasting(whole["systems"])
    assert place.files(fusion, "runs") == place.files(fusion, "whole")


@pytest.mark.slow
def test_an_interruption_between_choices_keeps_those_that_were_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, fusion = Place(tmp_path), best_of.BestOf()
    whole = place.run(fusion, "whole")
    tried: list[int | None] = []
    literally = best_of.BestOf._try

    def try_or_stop(self: Any, name: Any, fold: Fold, *rest: Any) -> float:
        if fold.index == 2 and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        tried.append(fold.index)
        return literally(self, name, fold, *rest)

    stopped: list[bool] = []
    monkeypatch.setattr(best_of.BestOf, "_try", try_or_stop)
    with pytest.raises(KeyboardInterrupt):
        place.run(fusion)
    assert tried == [0, 0, 1, 1]
    assert lasting(place.run(fusion)["systems"]) == lasting(whole["systems"])
    assert tried == [0, 0, 1, 1, 2, 2, None, None]
    assert place.files(fusion, "runs") == place.files(fusion, "whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", FUSIONS)
def test_labels_of_a_fold_change_nothing_that_is_used_on_it(name: str, tmp_path: Path) -> None:
    """Ids, files, seeds and base models' rows stay as they are; what the clips of fold 1 show is drawn anew."""
    first, second = Place(tmp_path / "first"), Place(tmp_path / "second")
    held_out = np.array(second.blinded.folds) == 1
    labels = np.array(second.blinded.train.labels)
    labels[held_out] = labels[held_out][np.random.default_rng(0).permutation(int(held_out.sum()))]
    train = Clips(second.blinded.train.items, second.blinded.train.actors, labels)
    second.blinded = replace(second.blinded, train=train)
    notes, rows = [], []
    for place in (first, second):
        alone = Alone(make(name))
        together, literal = place.run(make(name)), place.run(alone, "alone")
        files = place.files(alone, "runs")
        assert files == place.files(alone, "alone")
        assert lasting(together["systems"]) == lasting(literal["systems"]), "thresholds are those of one by one, too"
        notes.append([files[f"{part}.json"]["notes"] for part in ("fold-0", "fold-1", "fold-2", "final")])
        rows.append(files["fold-1.csv"])
    assert notes[0][1] == notes[1][1]
    assert rows[0] == rows[1]
    assert notes[0] != notes[1], "the other folds do learn from these labels"


@pytest.mark.slow
@pytest.mark.parametrize("name", FUSIONS)
def test_workers_are_sent_one_fold_at_a_time(name: str, tmp_path: Path) -> None:
    place, workers = Place(tmp_path), Listening()
    record = place.run(make(name), isolation=workers)
    for kind, systems in ((Fusing, 1), (Fitting, 3)):
        sent = [request.fold.index for request in workers.heard if isinstance(request, kind)]
        assert sent == [0, 1, 2, None] * systems
    assert lasting(record["systems"]) == lasting(place.run(make(name), "here")["systems"])


class Refusing(Toy):
    """Trains all folds at once, and cannot do it."""

    def fit_folds(self, folds: Any, options: Any, contexts: Any) -> Any:
        raise DataError("these folds are odd")


def test_an_error_in_folds_together_names_the_system_once(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.toys[2] = Refusing("three", 3, place.toys[2].truth)
    row = next(row for row in place.run(late.LateFusion())["systems"] if row["name"] == "three")
    assert row["error"]["message"].startswith("three (folds): these folds are odd (at test_folds_together.py:")


class Watching(Toy):
    """Sees what of itself is on disk whenever a fold is trained."""

    root = Path()

    def fit(self, fold: Fold, options: Any, context: Context) -> Toy:
        self.kept = [*getattr(self, "kept", []), sorted(path.stem for path in self.root.glob("systems/three-*/*.csv"))]
        return super().fit(fold, options, context)


class Lazy(Watching):
    """The same with a `fit_folds` of its own that is a generator."""

    def fit_folds(self, folds: Any, options: Any, contexts: Any) -> Any:
        for fold, context in zip(folds, contexts, strict=True):
            yield self.fit(fold, options, context)


@pytest.mark.parametrize("kind", [Watching, Lazy])
def test_a_fold_is_on_disk_before_the_next_is_trained(kind: type[Watching], tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.toys[2] = toy = kind("three", 3, place.toys[2].truth)
    toy.root = tmp_path / "runs"
    place.run(late.LateFusion())
    assert toy.kept == [[], ["fold-0"], ["fold-0", "fold-1"], ["fold-0", "fold-1", "fold-2"]]
