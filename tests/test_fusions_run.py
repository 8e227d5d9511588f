"""Every fusion of ours goes through a whole evaluation: folds, final fit, record, and the same rows when repeated."""

from __future__ import annotations

from collections.abc import Sequence
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
from blemore_harness.hookspecs import Encoder, hookimpl
from blemore_harness.pipeline import evaluate
from blemore_harness.predictions import Probabilities
from blemore_harness.running.run import open_run
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.plugins import Plugins, register
from blemore_harness.systems.submission import Submission
from blemore_plugins import best_of, late, stack, structured
from blemore_plugins import means as average
from builders import rows_of, write_download
from fakes import RecordingReporter


class Toy(Encoder):
    """An encoder whose rows are noise that depends on the clip alone."""

    summary, modality = "noise", "audio"

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.seed = name, seed  # type: ignore[misc]

    def fit(self, fold: Fold, options: Any, context: Context) -> Toy:
        """Learn nothing."""
        return self

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        """Return noise."""
        draws = [np.random.default_rng([self.seed, int(clip.content[:8], 16)]).dirichlet(np.ones(6)) for clip in clips]
        return Probabilities(clips.ids, np.array(draws).reshape(-1, 6))


class Toys:
    """A plugin of three toys."""

    @hookimpl
    def blemore_encoders(self) -> Sequence[Encoder]:
        return [Toy("one", 1), Toy("two", 2), Toy("three", 3)]


def run(
    folder: Path, fusion: str, settings: dict[str, object]
) -> tuple[dict[str, Any], dict[str, bytes], RecordingReporter]:
    dataset = read_dataset(write_download(folder / "data", rows_of(actors=6, folds=3), tests=4))
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    for name, plugin in (
        ("toys", Toys()),
        ("a", average),
        ("b", best_of),
        ("l", late),
        ("s", stack),
        ("t", structured),
    ):
        register(plugins, plugin, name, Distribution(name, "1"))
    assert plugins.failures == []
    reporter = RecordingReporter()
    submission = Submission("toys", ("one", "two", "three"), fusion, options={fusion: settings} if settings else {})
    blinded = blind_dataset(dataset, folder / "views")
    record, _ = evaluate(open_run(submission, plugins, dataset, blinded, folder / "runs", folder / "cache", reporter))
    (made,) = (folder / "runs" / "systems").glob(f"{fusion}-*")
    files = {path.name: path.read_bytes() for path in made.glob("*.csv")}
    return record.to_json(), files, reporter


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fusion", "settings", "notes"),
    [
        ("mean", {}, set()),
        ("best-of", {"candidates": ("mean", "late"), "inner_folds": 2}, {"chosen", "inner scores"}),
        ("logit-mean", {}, set()),
        ("late", {}, {"weights", "points tried", "grid step"}),
        ("late", {"weights": "one=.5,two=.3,three=.2"}, {"weights"}),
        ("stack", {"strengths": (0.1, 1.0)}, {"strength", "loss by strength on other actors"}),
        ("structured", {"strengths": (0.1, 1.0)}, {"set", "ratio"}),
    ],
)
def test_whole_evaluation(tmp_path: Path, fusion: str, settings: dict[str, object], notes: set[str]) -> None:
    record, files, reporter = run(tmp_path / "first", fusion, settings)
    fused = next(row for row in record["systems"] if row["name"] == fusion)
    assert record["status"] == fused["status"] == "finished"
    assert reporter.warnings == []
    if notes:
        assert [entry["fold"] for entry in fused["notes"]] == [0, 1, 2, None]
        told = [{*entry} - {"fold"} for entry in fused["notes"]]
        # What was chosen may tell its own besides.
        assert all(notes <= more if fusion == "best-of" else notes == more for more in told)
    _, again, _ = run(tmp_path / "again", fusion, settings)
    assert files == again
    assert sorted(files) == ["final.csv", "fold-0.csv", "fold-1.csv", "fold-2.csv"]
