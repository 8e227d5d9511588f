"""The command `run` in a process of its own: signals, exit codes, JSON, an answer that is only the answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builders import rows_of, write_download
from installed_plugins import make_site
from second_distributions import MAIN

pytestmark = pytest.mark.once

MODEL = """
import numpy as np
import os
import time
from pathlib import Path
from blemore_harness.predictions import Probabilities

class Model:
    def predict(self, clips, context):
        return Probabilities(clips.ids, np.full((len(clips), 6), 1 / 6))

class Slow(Encoder):
    name = "slow"
    summary = "stops at fold 1 until a file is there"
    modality = "audio"

    def fit(self, fold, options, context):
        gate = Path(os.environ["SLOW_MAY_GO_ON"])
        if fold.index == 1:
            gate.with_name("inside").touch()
        while fold.index == 1 and not gate.exists():
            time.sleep(0.05)
        return Model()

class Broken(Encoder):
    name = "broken"
    summary = "always fails"
    modality = "audio"

    def fit(self, fold, options, context):
        raise RuntimeError("out of luck")

@hookimpl
def blemore_encoders():
    return [Slow(), Broken()]
"""


SECONDS = 300
"""What no machine takes, however busy it is."""


class Desk:
    """Starts `blemore-harness` in a folder with a small download and a plugin that can be made to wait."""

    def __init__(self, home: Path) -> None:
        self.home = home
        write_download(home / "data", rows_of(actors=6, folds=3))
        site = home / "site"
        with make_site(site) as packages:
            packages.install("slow", MODEL)
        self.gate = home / "go"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(site),
            "SLOW_MAY_GO_ON": str(self.gate),
            "BLEMORE_CACHE": str(home / "cache"),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", MAIN, "run", "--device", "cpu"]
        return subprocess.Popen(
            [*command, "--data", "data", *words], cwd=self.home, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def wait_for_fold_1(self, *processes: subprocess.Popen[str]) -> None:
        until = time.monotonic() + SECONDS
        while not (self.home / "inside").exists():
            assert time.monotonic() < until
            assert all(process.poll() is None for process in processes), processes[0].communicate()
            time.sleep(0.02)

    def record(self) -> dict[str, object]:
        [file] = self.home.glob("blemore-runs/*/record.json")
        found: dict[str, object] = json.loads(file.read_text())
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_usable_run(desk: Desk, sent: signal.Signals) -> None:
    process = desk.start("--plugin", "slow")
    desk.wait_for_fold_1(process)
    process.send_signal(sent)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert out == ""
    assert "interrupted: what was finished is kept, the same command resumes" in err
    assert "Traceback" not in err
    assert desk.record()["status"] == "interrupted"
    desk.gate.touch()
    again = desk.start("--plugin", "slow", "--json")
    out, err = again.communicate(timeout=SECONDS)
    assert again.returncode == 0, err
    assert json.loads(out) == desk.record()
    assert desk.record()["status"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("-v",)], ids=["plain", "verbose"])
def test_a_plugin_that_fails_is_exit_code_3_and_a_row(desk: Desk, more: tuple[str, ...]) -> None:
    desk.gate.touch()
    process = desk.start("--plugin", "broken,slow", *more)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 3
    assert "out of luck" in out
    assert "skipped" in out
    assert "Traceback" not in out
    assert ("Traceback" in err) == bool(more)
    assert "out of luck" in json.dumps(desk.record())


@pytest.mark.slow
def test_two_runs_at_once_on_one_folder_do_not_tear_it(desk: Desk) -> None:
    first, second = desk.start("--plugin", "slow", "--json"), desk.start("--plugin", "slow", "--json")
    desk.wait_for_fold_1(first, second)
    desk.gate.touch()
    answers = [process.communicate(timeout=SECONDS) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], answers
    one, two = (json.loads(out) for out, _ in answers)
    assert one["systems"] == two["systems"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [(b"M\xfcller", {}), ("M\u00fcller".encode(), {"LC_ALL": "C"}), (b"M\xfcller", {"LC_ALL": "C", "PYTHONUTF8": "0"})],
)
def test_folders_may_have_names_of_any_bytes(tmp_path: Path, name: bytes, settings: dict[str, str]) -> None:
    folder = os.fsencode(tmp_path) + b"/" + name
    data, runs, mine = (folder + part for part in (b"/data", b"/runs", b"/mine.zip"))
    write_download(Path(os.fsdecode(data)))
    environment = {**os.environ, "BLEMORE_CACHE": os.fsdecode(folder + b"/cache"), **settings}

    def call(*words: str | bytes, code: int = 0) -> bytes:
        command = [sys.executable, "-c", "from blemore_harness.cli import main; main()", *words]
        done = subprocess.run(command, capture_output=True, env=environment, timeout=600, check=False)
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
        return done.stdout

    assert json.loads(call("data", "check", data, "--json"))["clips"] == 60
    call("data", "check", data)
    run = ("run", "--plugin", "trivial-single", "--data", data, "--runs", runs)
    root = json.loads(call(*run, "--json"))["data"]["root"]
    if not settings:  # the same bytes are other characters for a process with another encoding of file names
        assert os.fsencode(root) == data
    call(*run, "--isolate")
    assert json.loads(call("table", "trivial-single", "--runs", runs, "--json"))["data"]["root"] == root
    for words in (("table", "trivial-single"), ("analyse", "trivial-single"), ("compare", "trivial-single", "trivial")):
        assert call(*words, "--runs", runs)
    # Three test clips are not all of them.
    assert b"591 missing clips" in call("submit", "trivial-single", "--runs", runs, "-o", mine, code=1)
    assert b"591 missing clips" in call("submit", "--check", mine, code=1)
