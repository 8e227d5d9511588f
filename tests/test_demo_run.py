"""The README's run command, as a newcomer types it, on the whole generated dataset."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from blemore_harness.clips import EMOTIONS
from blemore_harness.files.leaderboard import read_submission
from blemore_harness.files.prediction_files import read_probabilities

pytest.importorskip("torch")
pytest.importorskip("av")
pytestmark = [pytest.mark.encoders, pytest.mark.slow]

ENCODERS = ("s4d", "wav2vec2", "gemini")
MARK = "demo: untrained small encoders, stand-in embeddings"
TRIVIAL = 3 / 36
"""ACC_P of always saying the most frequent pair: 3 of the 36 label cells of the demo dataset."""


class Newcomer:
    """Types commands in an empty folder, without data, weights, hub or key."""

    def __init__(self, home: Path) -> None:
        self.home = home
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("BLEMORE_", "GOOGLE_", "GEMINI_", "HF_"))}
        self.environment = {**kept, "BLEMORE_CACHE": os.environ.get("BLEMORE_CACHE", str(home / "cache"))}

    def types(self, *words: str, interpreter: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *interpreter, "-c", "from blemore_harness.cli import main; main()", *words]
        return subprocess.run(command, cwd=self.home, env=self.environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    return Newcomer(tmp_path_factory.mktemp("newcomer"))


@pytest.fixture(scope="module")
def first_run(newcomer: Newcomer) -> subprocess.CompletedProcess[str]:
    return newcomer.types("run", "--plugin", ",".join(ENCODERS))


@pytest.fixture(scope="module")
def record(newcomer: Newcomer, first_run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert first_run.returncode == 0, first_run.stderr
    [file] = newcomer.home.glob("blemore-runs/s4d,wav2vec2,gemini-*/record.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_the_table_says_what_it_is(first_run: subprocess.CompletedProcess[str]) -> None:
    assert first_run.returncode == 0, first_run.stderr
    assert MARK in first_run.stdout
    assert "DEMO" in first_run.stderr
    for word in (*ENCODERS, "best-of", "cross-fitted", "ACC_P", "submission.zip"):
        assert word in first_run.stdout


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_clearly_beats_the_trivial_baselines(record: dict[str, Any], name: str) -> None:
    row = next(row for row in record["systems"] if row["name"] == name)
    assert row["official"]["acc_presence"]["mean"] > 2 * TRIVIAL
    assert row["cross_fitted"]["acc_presence"]["mean"] > 2 * TRIVIAL
    assert row["times_asked"] == 0, "the demo must train honestly"
    assert row["caveat"] in MARK


def test_the_record_tells_what_produced_it(record: dict[str, Any]) -> None:
    assert record["status"] == "finished"
    assert record["caveat"] == MARK
    assert record["data"]["clips"] == 360
    assert record["execution"]["peak_memory_bytes"] > 1e8
    assert [row["name"] for row in record["systems"]] == [*ENCODERS, "best-of"]
    final = next(note for note in record["systems"][-1]["notes"] if note["fold"] is None)
    candidates = {"logit-mean", "weighted-logit-mean", "structured"}
    assert final["chosen"] in candidates
    assert set(final["inner scores"]) == candidates
    assert set(final["gain over logit-mean and its standard error"]) == candidates - {"logit-mean"}
    if final["chosen"] == "weighted-logit-mean":
        assert set(final["weights"]) == set(ENCODERS)
        assert sum(final["weights"].values()) == pytest.approx(1, abs=1e-5)


def test_the_leaderboard_file_is_the_datasets(newcomer: Newcomer, record: dict[str, Any]) -> None:
    [file] = newcomer.home.glob("blemore-runs/s4d,wav2vec2,gemini-*/submission.zip")
    with zipfile.ZipFile(file) as archive:
        assert len(json.loads(archive.read("submission_template.json"))["predictions"]) == 40
    checked = newcomer.types("submit", "--check", str(file))
    assert checked.returncode == 1, "40 demo clips are not the 594 test clips of the challenge"
    assert "594" in checked.stdout


def test_the_same_command_again_only_reads(newcomer: Newcomer, record: dict[str, Any]) -> None:
    results = {path: path.stat().st_mtime_ns for path in newcomer.home.rglob("systems/*/*.csv")}
    again = newcomer.types("run", "--plugin", ",".join(ENCODERS), "--json", interpreter=("-X", "importtime"))
    assert again.returncode == 0, again.stderr
    imported = {line.rpartition("|")[2].strip() for line in again.stderr.splitlines() if line.startswith("import time")}
    assert "blemore_harness.pipeline" in imported
    assert not imported & {"torch", "numba", "av", "librosa"}, "nothing is left to compute"
    assert results == {path: path.stat().st_mtime_ns for path in newcomer.home.rglob("systems/*/*.csv")}
    read = json.loads(again.stdout)
    # The commit is that of the checkout at the time of each command, which somebody may be working on.
    for row in (*read["systems"], *record["systems"]):
        row["plugin"].pop("commit")
    assert read["systems"] == record["systems"]
    assert read["identity"] == record["identity"]


def test_kept_models_give_the_bits_of_the_leaderboard_file(newcomer: Newcomer, record: dict[str, Any]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("the run was on a GPU, which rounds otherwise")
    [folder] = newcomer.home.glob("blemore-runs/s4d,wav2vec2,gemini-*")
    [clips] = Path(newcomer.environment["BLEMORE_CACHE"]).glob("demo-*/test")
    answer = newcomer.types("predict", folder.name, str(clips), "--json")
    assert answer.returncode == 0, answer.stderr
    assert MARK in answer.stderr
    found = json.loads(answer.stdout)
    assert found["caveat"] == MARK
    assert found["remarks"] == []
    answers = {each["clip"].rpartition(".")[0]: each for each in found["clips"]}
    labels = read_submission(folder / "submission.zip")
    assert {
        clip: tuple(each["label"].get(emotion, 0) for emotion in EMOTIONS) for clip, each in answers.items()
    } == labels
    for name in (*ENCODERS, "best-of"):
        [file] = newcomer.home.glob(f"blemore-runs/systems/{name}-*/final.csv")
        final = read_probabilities(file).pick(tuple(answers))
        given = [each["probabilities"] if name == "best-of" else each["base_models"][name] for each in answers.values()]
        assert [list(row.values()) for row in given] == final.values.tolist()


def test_a_clip_without_audio_is_labelled_by_the_others(newcomer: Newcomer, record: dict[str, Any]) -> None:
    from media_files import gradient_frames, sine, write_media

    new = newcomer.home / "new"
    new.mkdir()
    write_media(new / "mute.mp4", gradient_frames(60, 96, 128))
    write_media(new / "whole.mp4", gradient_frames(60, 96, 128), sine(2.4, 44_100))
    (new / "text.mp4").write_text("no clip")
    for run in ("s4d", "models.zip"):
        answer = newcomer.types("predict", run, "new", "--json")
        assert answer.returncode == 1, answer.stderr
        mute, text, whole = json.loads(answer.stdout)["clips"]
        assert [set(each["base_models"]) for each in (mute, text, whole)] == [{"s4d", "gemini"}, set(), set(ENCODERS)]
        assert mute["remarks"][0].startswith("wav2vec2 is missing: clip mute.mp4 has no audio track")
        assert (text["label"], len(text["remarks"])) == (None, 3)
        assert whole["label"]
        assert newcomer.types("bundle", "s4d", "-o", "models.zip").returncode == 0
