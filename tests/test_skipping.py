"""Runs without the clips that cannot be used: what is left out, that it shows everywhere, that nothing is submitted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import leave_out, read_dataset
from blemore_harness.drawing.tables import render_text
from blemore_harness.errors import DataError, MediaError, RunError
from blemore_harness.files.runs import copy_submission, read_record
from blemore_harness.hookspecs import Encoder
from blemore_harness.pipeline import evaluate, evaluate_without_bad_clips
from blemore_harness.predictions import Probabilities
from blemore_harness.running.run import open_run
from blemore_harness.scoring.published import compare_with_published
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.submission import from_plugins
from builders import rows_of, write_download
from toys import Silent, offer


class Toy(Encoder):
    """Refuses clips with certain bytes in `prepare`, one at a time, as real encoders do."""

    summary, modality = "a toy", "audio"

    def __init__(self, name: str, refused: Sequence[bytes]) -> None:
        self.name, self.refused = name, tuple(refused)  # type: ignore[misc]
        self.seen: list[set[bytes]] = []

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        for clip in clips:
            if clip.video.read_bytes() in self.refused:
                raise MediaError(f"clip {clip.id}: noise instead of audio", clip.id)

    def fit(self, fold: Fold, options: Any, context: Context) -> Toy:
        self.seen.append({clip.video.read_bytes() for clip in (*fold.train, *fold.held_out)})
        return self

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        return Probabilities(clips.ids, np.full((len(clips), 6), 1 / 6))


class Bench:
    """A dataset of 60 clips and 3 test clips, and a place to run on it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BLEMORE_CACHE", str(root / "cache"))
        self.dataset = read_dataset(write_download(root / "data", rows_of(folds=3)))
        self.blinded = blind_dataset(self.dataset, root / "cache")
        self.reporter = Silent()
        self.root = root

    def run(self, plugins: Plugins, *names: str, work: Any = evaluate_without_bad_clips) -> tuple[dict[str, Any], Path]:
        where = (self.root / "runs", self.root / "arrays", self.reporter)
        submission = from_plugins(names, "late")
        opened = open_run(submission, plugins, self.dataset, self.blinded, *where, draw=render_text)  # type: ignore[arg-type]
        record, folder = work(opened)
        return record.to_json(), folder


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_by_default_a_bad_clip_fails_its_encoder_with_its_name_and_no_other(bench: Bench) -> None:
    plugins, _ = offer(Toy("a", [b"video 7"]), Toy("b", []))
    record, _ = bench.run(plugins, "a,b", work=evaluate)
    rows = {row["name"]: row for row in record["systems"]}
    message = rows["a"]["error"]["message"]
    assert message.startswith(f"a (prepare): clip {bench.dataset.ids[7]}: noise instead of audio")
    assert "--skip-bad-clips" in message
    assert (rows["a"]["status"], rows["b"]["status"], record["status"]) == ("failed", "finished", "failed")


def test_clips_that_one_encoder_refuses_are_left_out_for_all(bench: Bench) -> None:
    one, two = Toy("a", [b"video 7", b"video 31"]), Toy("b", [b"test video 2"])
    plugins, _ = offer(one, two)
    record, folder = bench.run(plugins, "a,b")
    gone = {bench.dataset.ids[7], bench.dataset.ids[31], "test_0002"}
    assert set(record["data"]["left_out"]) == gone
    reason = record["data"]["left_out"][bench.dataset.ids[7]]
    assert reason == f"a: clip {bench.dataset.ids[7]}: noise instead of audio"
    assert record["caveat"] == "incomparable: 3 clips left out"
    assert (record["data"]["clips"], record["data"]["test_clips"], record["status"]) == (58, 2, "finished")
    everything = {path.read_bytes() for name, path in bench.dataset.videos.items() if name not in gone}
    assert set().union(*one.seen) == set().union(*two.seen) == everything
    assert "incomparable: 3 clips left out" in (folder / "table.txt").read_text()
    warned = [line for line in bench.reporter.said if line.startswith("warning: left out: 1 clip (first: '")]
    assert len(warned) == 3


def test_nothing_is_submitted_and_nothing_compared(bench: Bench) -> None:
    record, folder = bench.run(offer(Toy("a", [b"video 7"]))[0], "a")
    assert record["test"] is None
    assert not (folder / "submission.zip").exists()
    with pytest.raises(RunError, match=r"1 clip .*--skip-bad"):
        copy_submission(folder, read_record(folder), None)
    expecting = read_record(folder)
    expecting = replace(expecting, submission=replace(expecting.submission, expect={"score": 0.3}))
    with pytest.raises(RunError, match="left out clips, and published numbers are of all"):
        compare_with_published(expecting)


def test_the_same_again_comes_from_disk_and_is_another_system_than_on_all_clips(bench: Bench) -> None:
    toy = Toy("a", [b"video 7"])
    plugins, _ = offer(toy)
    record, _ = bench.run(plugins, "a")
    calls = len(toy.seen)
    again, _ = bench.run(plugins, "a")
    assert (again["identity"], len(toy.seen)) == (record["identity"], calls)
    toy.refused = ()
    whole, folder = bench.run(plugins, "a")
    assert whole["identity"] != record["identity"]
    assert whole["caveat"] is None
    assert whole["data"]["left_out"] == {}
    assert copy_submission(folder, read_record(folder), None).is_file()


def test_clips_without_any_video_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch)
    for number in (3, 4, 20):
        name = bench.dataset.ids[number]
        bench.dataset.videos[name].unlink()
    bench.dataset = read_dataset(tmp_path / "data")
    bench.blinded = blind_dataset(bench.dataset, tmp_path / "cache")
    record, _ = bench.run(offer(Toy("a", []))[0], "a")
    assert set(record["data"]["left_out"]) == {bench.dataset.ids[number] for number in (3, 4, 20)}
    json.dumps(record)


def test_a_fold_without_clips_is_refused(bench: Bench) -> None:
    fold = [name for name, k in zip(bench.dataset.ids, bench.dataset.folds, strict=True) if k == 1]
    with pytest.raises(DataError, match=r"fold 1 has no usable clip: 20 clips .* cannot be used \(too loud\)"):
        leave_out(bench.dataset, dict.fromkeys(fold, "too loud"))


def test_a_complaint_about_no_clip_of_the_run_leaves_nothing_out(bench: Bench) -> None:
    class Lost(Toy):
        def prepare(self, clips: Clips, options: Any, context: Context) -> None:
            raise MediaError("something else", None)

    record, _ = bench.run(offer(Lost("a", []))[0], "a")
    assert record["data"]["left_out"] == {}
    assert record["systems"][0]["error"]["message"].startswith("a (prepare): something else (at test_skipping.py:")


def test_what_is_left_has_valid_files_only(bench: Bench) -> None:
    name = bench.dataset.ids[0]
    left = leave_out(bench.dataset, {name: "bad"})
    assert name not in {*left.ids, *left.videos, *left.features["WavLM_large"]}
    assert len(left.ids) == len(left.actors) == len(left.genders) == len(left.truth) == len(left.folds) == 59
    assert leave_out(left, {left.ids[0]: "worse"}).left_out == {name: "bad", left.ids[0]: "worse"}
    assert replace(left, left_out={}).left_out == {}
