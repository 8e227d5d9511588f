"""Numbers depend on what they must depend on, and on nothing else: what else changes retrains no fold."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.predictions import Probabilities
from blemore_harness.systems.core_code import NO_NUMBERS, digest_core
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.plugins import register
from blemore_harness.systems.submission import Submission, from_plugins
from builders import put, rows_of, write_download
from released_files import write_released
from source_tree import CORE, OURS, core_graph, imports_of, sources
from toys import Bench, Noisy, Seeing, offer, system

FOLDS = [0, 1, 2]
NUMBERS = ("official", "cross_fitted", "intervals", "strategies", "sensitivity")


class Reading(Noisy):
    """An encoder of released features: its rows are what it reads."""

    def feature_sets(self, options: Any) -> tuple[str, ...]:
        return ("WavLM_large",)

    def fit(self, fold: Fold, options: Any, context: Context) -> Any:
        self.calls.append(fold.index)
        return self

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        draws = [
            np.random.default_rng(list(clip.features("WavLM_large").read_bytes())).dirichlet(np.ones(6))
            for clip in clips
        ]
        return Probabilities(clips.ids, np.array(draws).reshape(-1, 6))


def open_again(data: Path, root: Path) -> Bench:
    dataset = read_dataset(data)
    return Bench(dataset, blind_dataset(dataset, root / "views"), root)


def evaluate_all(bench: Bench) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """A run of two encoders and a fusion of them; returns the numbers by system, and what was asked of the encoders."""
    one, two = Noisy("one"), Reading("two")
    record, _ = bench.run(offer(one, two)[0], from_plugins(["one,two"], "late"))
    assert record["status"] == "finished"
    return (
        {name: {key: system(record, name)[key] for key in NUMBERS} for name in ("one", "two", "late")},
        {encoder.name: encoder.calls for encoder in (one, two)},
    )


def no_test_clips(data: Path) -> None:
    shutil.rmtree(data / "test")
    shutil.rmtree(data / "pre_extracted_test_data")


def one_more_test_clip(data: Path) -> None:
    put(data / "test" / "test_0100.mov", "one more")
    put(data / "pre_extracted_test_data" / "WavLM_large_test" / "test_0100.npy", "more features")


def one_test_clip_less(data: Path) -> None:
    (data / "test" / "test_0001.mov").unlink()
    (data / "pre_extracted_test_data" / "WavLM_large_test" / "test_0001.npy").unlink()


def another_test_clip(data: Path) -> None:
    put(data / "test" / "test_0001.mov", "other content")


def other_test_features(data: Path) -> None:
    put(data / "pre_extracted_test_data" / "WavLM_large_test" / "test_0001.npy", "other content")


def features_of_another_encoder(data: Path) -> None:
    for row in rows_of(actors=6, folds=3):
        put(data / "pre_extracted_train_data" / "CLIP_train" / f"{row['filename']}.npy", f"clip {row['filename']}")


CHANGES: dict[Callable[[Path], None], dict[str, list[Any]]] = {
    no_test_clips: {"one": [], "two": []},
    one_more_test_clip: {"one": ["prepare", None], "two": ["prepare", None]},
    one_test_clip_less: {"one": ["prepare", None], "two": ["prepare", None]},
    another_test_clip: {"one": ["prepare", None], "two": ["prepare", None]},
    other_test_features: {"one": [], "two": ["prepare", None]},
    features_of_another_encoder: {"one": [], "two": []},
}
"""What may change below a download, and what encoders are then asked again."""


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_no_number_and_no_fold_depends_on(tmp_path: Path, change: Callable[[Path], None]) -> None:
    data = write_download(tmp_path / "data", rows_of(actors=6, folds=3), tests=4)
    numbers, asked = evaluate_all(open_again(data, tmp_path))
    assert asked == {name: ["prepare", *FOLDS, None] for name in ("one", "two")}
    folds = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("fold-*.csv")}
    assert len(folds) == 9
    change(data)
    bench = open_again(data, tmp_path)
    again, asked = evaluate_all(bench)
    assert again == numbers
    assert asked == CHANGES[change]
    assert folds == {path: path.read_bytes() for path in (tmp_path / "runs").rglob("fold-*.csv")}
    # The final fit is for the test clips that there are now.
    for path in (tmp_path / "runs" / "systems").glob("*/final.csv"):
        if bench.dataset.test_ids:
            rows = path.read_text(encoding="utf-8")
            assert all(name in rows for name in bench.dataset.test_ids)
    assert evaluate_all(bench) == (numbers, {"one": [], "two": []})


def test_no_number_and_no_fold_depends_on_where_a_download_lies(tmp_path: Path) -> None:
    data = write_download(tmp_path / "data", rows_of(actors=6, folds=3), tests=4)
    numbers, _ = evaluate_all(open_again(data, tmp_path))
    bench = open_again(data.rename(tmp_path / "moved"), tmp_path)
    assert evaluate_all(bench) == (numbers, {"one": [], "two": []})
    elsewhere = open_again(tmp_path / "moved", tmp_path / "elsewhere")
    assert evaluate_all(elsewhere) == (numbers, {name: ["prepare", *FOLDS, None] for name in ("one", "two")})


def test_a_final_fit_that_is_interrupted_for_new_test_clips_is_done_again(tmp_path: Path) -> None:
    data = write_download(tmp_path / "data", rows_of(actors=6, folds=3), tests=4)
    evaluate_all(open_again(data, tmp_path))
    one_more_test_clip(data)
    bench, stopping = open_again(data, tmp_path), Noisy("one")
    stopping.trouble[None] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.run(offer(stopping)[0], from_plugins(["one"]))
    resumed = Noisy("one")
    record, _ = bench.run(offer(resumed)[0], from_plugins(["one"]))
    assert resumed.calls == ["prepare", None]
    assert record["test"]["clips"] == 5


@pytest.mark.encoders
@pytest.mark.parametrize(
    "fusion", ["mean", "logit-mean", "weighted-logit-mean", "late", "stack", "structured", "best-of", "rank-aware"]
)
def test_a_download_without_test_clips_runs_with_every_fusion(tmp_path: Path, fusion: str) -> None:
    pytest.importorskip("torch")
    from blemore_plugins import best_of, rank_aware, stack, structured, weighted
    from blemore_plugins import means as average

    write_released(tmp_path / "data", {"WavLM_large": 4}, actors=6, folds=3, tests=0)
    bench = open_again(tmp_path / "data", tmp_path)
    assert bench.dataset.test_ids == ()
    plugins, _ = offer(Seeing("one"), Seeing("two"))
    options: dict[str, dict[str, object]] = {"rank-aware": {"epochs": 2}} if fusion == "rank-aware" else {}
    for module in (average, best_of, rank_aware, stack, structured, weighted):
        register(plugins, module, module.__name__, Distribution("ours", "1"))
    record, folder = bench.run(plugins, Submission("none", ("one", "two"), fusion, options=options))
    row = system(record, fusion)
    assert (record["status"], row["status"], record["test"]) == ("finished", "finished", None)
    assert all(0 <= row[kind]["score"]["mean"] <= 1 for kind in ("official", "cross_fitted"))
    finals = [path.read_text() for path in (tmp_path / "runs" / "systems").glob(f"{fusion}-*/final.csv")]
    # The fit on all training clips gives official numbers; a fusion of embeddings has none without test clips.
    assert [sorted(line.split(",")[0] for line in text.splitlines()[1:]) for text in finals] == (
        [] if fusion == "rank-aware" else [sorted(bench.dataset.ids)]
    )
    assert not list(folder.glob("*.zip"))


# ------------------------------------------------------------------------------------------------- the code that is run


def test_an_edit_of_whatever_can_change_a_number_is_another_identity(tmp_path: Path) -> None:
    """In a copy of the package, module by module: what a fold's number may come from, by what is imported."""
    graph = core_graph()
    wanted = {"blemore_harness.running.steps", "blemore_harness.running.worker", "blemore_harness.hookspecs"}
    wanted |= {
        name for path in sources(OURS / "blemore_plugins") for name in imports_of(path, set(graph)) if name in graph
    }
    reached: set[str] = set()
    while wanted:
        module = wanted.pop()
        reached.add(module)
        wanted |= graph[module] - reached
    for name in (
        "protocol.grid",
        "protocol.thresholds",
        "clips",
        "protocol.rules",
        "heads.training",
        "media.video",
        "heads.judging",
    ):
        assert f"blemore_harness.{name}" in reached
    copy = shutil.copytree(CORE, tmp_path / "blemore_harness", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import sys; from pathlib import Path; from blemore_harness.systems.submission import from_plugins; "
        "from blemore_harness.systems.resolved import find_systems, resolve_systems; from toys import Noisy, offer\n"
        "submission, plugins = from_plugins(['one']), offer(Noisy('one'))[0]\n"
        "def identity(): return resolve_systems(find_systems(submission, plugins, False), None)[0].digest\n"
        "before = identity()\n"
        "for line in sys.argv[1:]:\n"
        "    path = Path(line); text = path.read_bytes(); path.write_bytes(text + b'# edited')\n"
        "    if identity() == before: print(line)\n"
        "    path.write_bytes(text)\n"
        "assert identity() == before"
    )
    files = [copy.parent / CORE.parent.joinpath(*name.split(".")).relative_to(CORE.parent) for name in sorted(reached)]
    paths = [str(file / "__init__.py" if file.is_dir() else file.with_suffix(".py")) for file in files]
    assert len(paths) > 40
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": f"{tmp_path}:{OURS}:{Path(__file__).parent}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "edited, and the identity stays"


def test_what_does_not_count_is_there_and_what_is_new_counts(tmp_path: Path) -> None:
    assert [name for name in NO_NUMBERS if not (CORE / name).exists()] == []
    copy = shutil.copytree(CORE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    assert digest_core(copy) == digest_core()
    before = digest_core(copy)
    put(copy / "cli" / "more.py", "x = 1")
    assert digest_core(copy) == before
    put(copy / "more.py", "x = 1")
    assert digest_core(copy) != before


# ------------------------------------------------------------------------------------------------------ leaks are named


def test_the_same_bytes_in_two_folds_or_under_a_test_clip_are_named(tmp_path: Path) -> None:
    rows = rows_of(actors=6, folds=3)
    data = write_download(tmp_path / "data", rows, tests=2)
    assert open_again(data, tmp_path).blinded.warnings == ()
    first, fold_mate, other = (rows[number]["filename"] for number in (0, 30, 10))  # actors A1, A4 and A2
    videos = read_dataset(data).videos
    put(videos[fold_mate], videos[first].read_bytes())
    assert open_again(data, tmp_path).blinded.warnings == (), "two clips of one fold"
    put(videos[other], videos[first].read_bytes())
    put(videos["test_0002"], videos[rows[11]["filename"]].read_bytes())
    bench = open_again(data, tmp_path)
    one, two = bench.blinded.warnings
    for name in (f"{first} (fold 0)", f"{other} (fold 1)", f"{fold_mate} (fold 0)", "leak"):
        assert name in one
    assert f"{rows[11]['filename']} (fold 1)" in two
    assert "test_0002 (test)" in two
    record, folder = bench.run(offer(Noisy("one"))[0], from_plugins(["one"]))
    assert record["warnings"][-2:] == [one, two]
    assert "leaks training data" in " ".join((folder / "table.txt").read_text().split())


class Knowing(Noisy):
    """An encoder that has seen the answers."""

    answers: dict[str, Any]

    def fit(self, fold: Fold, options: Any, context: Context) -> Any:
        return self

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        rows = np.array([self.answers.get(clip.content, np.full(6, 1 / 6)) for clip in clips])
        return Probabilities(clips.ids, rows)


def test_a_score_far_above_anything_published_gets_a_line(tmp_path: Path) -> None:
    bench = open_again(write_download(tmp_path / "data", rows_of(actors=6, folds=3), tests=2), tmp_path)
    knowing = Knowing("knowing")
    knowing.answers = {
        clip.content: row / 100 for clip, row in zip(bench.blinded.train, bench.blinded.train.labels, strict=True)
    }
    plugins, _ = offer(knowing, Noisy("noisy"))
    record, folder = bench.run(plugins, from_plugins(["knowing,noisy"], "late"))
    said = [line for line in record["warnings"] if "look for a leak" in line]
    assert [line.split(":")[0] for line in said] == ["knowing", "late"]
    assert "look for a leak" in " ".join((folder / "table.txt").read_text().split())
    assert [line for line in bench.reporter.said if "look for a leak" in line] == [f"warning: {line}" for line in said]
    for changed in (replace(bench.dataset, demo=True), replace(bench.dataset, left_out={"x": "y"})):
        quiet, _ = Bench(changed, bench.blinded, tmp_path / str(changed.demo)).run(plugins, from_plugins(["knowing"]))
        assert not [line for line in quiet["warnings"] if "look for a leak" in line]
