"""What is on disk stays true: locks end with their holder, results come back bit for bit, changes are noticed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from blemore_harness.cli import cli
from blemore_harness.cli.root import find_run
from blemore_harness.disk import hold, read_json, write_json
from blemore_harness.errors import RunError
from blemore_harness.files.runs import Runs, SystemFolder, copy_submission
from blemore_harness.predictions import Probabilities
from sample_records import sample_record

SECONDS = 300
"""What no machine takes, however busy it is."""

HOLDER = """
import sys, time
from pathlib import Path
from blemore_harness.disk import hold
with hold(Path(sys.argv[1]), lambda text: print(text, flush=True)):
    print("held", flush=True)
    sys.stdin.readline()
print("let go", flush=True)
"""


class Holder:
    """Another process that holds a folder until told to let go."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def let_go(self) -> None:
        self.process.communicate("\n", timeout=SECONDS)


def test_second_process_waits_and_is_told_for_whom(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "s4d-abc"
    first = Holder(folder)
    assert first.says() == "held"
    second = Holder(folder)
    assert second.says() == f"s4d-abc is being worked on by process {first.process.pid}: waiting for it"
    assert second.process.poll() is None
    first.let_go()
    assert second.says() == "held"
    second.let_go()
    assert second.process.returncode == 0


def test_killed_holder_frees_the_folder(tmp_path: Path) -> None:
    first = Holder(tmp_path)
    assert first.says() == "held"
    first.process.send_signal(signal.SIGKILL)
    first.process.communicate(timeout=SECONDS)
    said: list[str] = []
    with hold(tmp_path, said.append):
        assert said == []
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
    assert (tmp_path / ".lock").read_text() == ""


def test_hold_waits_within_a_process_as_well_and_survives_errors(tmp_path: Path) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def say(text: str) -> None:
        order.append("waits")
        waiting.set()

    def second() -> None:
        with hold(tmp_path, say):
            order.append("second")

    thread = threading.Thread(target=second)

    def first() -> None:
        with hold(tmp_path, order.append):
            thread.start()
            assert waiting.wait(SECONDS)
            order.append("first")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        first()
    thread.join(SECONDS)
    assert order == ["waits", "first", "second"]


def folder_at(path: Path) -> SystemFolder:
    return Runs(path).system("s4d", {"system": "s4d"}, "abc")


def some_rows() -> Probabilities:
    values = np.random.default_rng(0).dirichlet(np.ones(6), size=4)
    return Probabilities(("A1_ang_int1_ver1", "A2,odd \"name\"", "A3_neu_sit1_ver1", "ü"), values)  # fmt: skip


def test_fold_comes_back_bit_for_bit(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    assert folder.finished("fold-0") is None
    kept = folder.keep("fold-0", some_rows(), {"fold": 0, "seconds": 1.5, "notes": {"ü": [1, None]}})
    found = folder.finished("fold-0")
    assert found is not None
    assert found.probabilities.ids == kept.probabilities.ids == some_rows().ids
    assert found.probabilities.values.tobytes() == some_rows().values.tobytes()
    assert found.facts == kept.facts
    assert found.facts["notes"] == {"ü": [1, None]}


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0, 1, exclude_min=True), min_size=6, max_size=6), min_size=1, max_size=5))
def test_any_probabilities_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, raw: list[list[float]]
) -> None:
    values = np.array(raw, dtype=np.float64).reshape(len(raw), 6)
    values = values / values.max(axis=1, keepdims=True)
    values = values / values.sum(axis=1, keepdims=True)
    rows = Probabilities(tuple(f"c{i}" for i in range(len(raw))), values)
    folder = folder_at(tmp_path_factory.getbasetemp() / "any")
    folder.keep("fold-1", rows, {})
    found = folder.finished("fold-1")
    assert found is not None
    assert found.probabilities.ids == rows.ids
    assert found.probabilities.values.tobytes() == rows.values.tobytes()


def test_workspace_lasts_until_the_fold_is_finished(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    (folder.workspace("fold-0") / "checkpoint").write_text("epoch 3")
    other = folder.workspace("fold-1")
    assert (folder.workspace("fold-0") / "checkpoint").read_text() == "epoch 3"
    folder.keep("fold-0", some_rows(), {})
    assert not (folder.path / "work" / "fold-0").exists()
    assert other.is_dir()


def test_rows_without_facts_are_not_a_finished_fold(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    folder.keep("fold-0", some_rows(), {})
    (folder.path / "fold-0.json").unlink()
    assert folder.finished("fold-0") is None


def test_changed_missing_or_damaged_results_are_refused_by_name(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    folder.keep("fold-0", some_rows(), {})
    rows, facts = folder.path / "fold-0.csv", folder.path / "fold-0.json"
    whole = rows.read_bytes()
    for changed in (whole[:-3], whole.replace(b"ang", b"Ang", 1), whole + b"\n"):
        rows.write_bytes(changed)
        with pytest.raises(RunError, match=r"fold-0\.csv .*fold-0\.json"):
            folder.finished("fold-0")
    rows.unlink()
    with pytest.raises(RunError, match=r"fold-0\.csv: No such file.*fold-0\.json"):
        folder.finished("fold-0")
    for text in ("", "{", "[1]", "\xff"):
        facts.write_bytes(text.encode("latin-1"))
        with pytest.raises(RunError, match=r"fold-0.json"):
            folder.finished("fold-0")


def test_a_system_that_somebody_trains_is_opened_at_once(tmp_path: Path) -> None:
    runs, opened = Runs(tmp_path), threading.Event()

    def open_it() -> None:
        runs.system("s4d", {"seed": 0}, "0")
        opened.set()

    with hold(tmp_path / "systems" / "s4d-0", lambda text: None):
        thread = threading.Thread(target=open_it)
        thread.start()
        assert not opened.wait(0.3), "nobody has said yet what the folder is for"
        write_json(tmp_path / "systems" / "s4d-0" / "identity.json", {"seed": 0})
        assert opened.wait(60)
    thread.join()


def test_system_folder_says_what_it_holds_and_keeps_it(tmp_path: Path) -> None:
    one = Runs(tmp_path).system("s4d", {"system": "s4d", "seed": 0}, "abc")
    assert one == Runs(tmp_path).system("s4d", {"system": "s4d", "seed": 0}, "abc")
    assert one.path == tmp_path / "systems" / "s4d-abc"
    assert read_json(one.path / "identity.json") == {"system": "s4d", "seed": 0}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    made = Runs(tmp_path / "runs")
    for name, digest in (("s4d", "1111222233334444"), ("s4d,wav2vec2", "aaaabbbbccccdddd")):
        write_json(made.run(name, digest) / "record.json", sample_record().to_json())
    made.system("s4d", {}, "abc")
    return made


def test_run_is_found_by_folder_record_or_beginning(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = runs.root / "s4d-111122223333"
    assert folder.is_dir()
    for text in (str(folder), f"{folder}/", str(folder / "record.json"), "s4d", "s4d-", "s4d-1111", folder.name):
        assert runs.find(text) == folder
    assert runs.find("s4d,") == runs.root / "s4d,wav2vec2-aaaabbbbcccc"
    monkeypatch.chdir(folder)
    assert runs.find("s4d,") == runs.root / "s4d,wav2vec2-aaaabbbbcccc"
    assert runs.find(".").resolve() == folder


def test_run_that_is_not_there_or_not_one(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs.root / "s4d-111122223333")
    with pytest.raises(RunError, match=r"'gemini' in .* \(found: s4d,wav2vec2-aaaabbbbcccc, s4d-1"):
        runs.find("gemini")
    with pytest.raises(RunError, match=r"several .*'s4' in .*found: s4d"):
        runs.find("s4")
    with pytest.raises(RunError, match=r"'x' in .*\(found: none\)"):
        Runs(runs.root / "empty").find("x")


def test_the_exact_name_wins_before_and_after_longer_ones(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for name, digest in (("prosody,wav2vec2", "a" * 12), ("prosody-b", "b" * 12)):
        write_json(runs.run(name, digest) / "record.json", {})
    with pytest.raises(RunError, match=r"several .*'prosody'"):
        runs.find("prosody")
    exact = runs.run("prosody", "c" * 12)
    write_json(exact / "record.json", {})
    assert runs.find("prosody") == exact
    assert runs.find("prosody,").name == f"prosody,wav2vec2-{'a' * 12}"
    assert runs.find("prosody-b").name == f"prosody-b-{'b' * 12}"
    write_json(runs.run("prosody", "d" * 12) / "record.json", {})
    with pytest.raises(RunError, match=r"several .*'prosody' .*found: prosody-c+, prosody-d+\)"):
        runs.find("prosody")


def test_commands_say_which_run_a_shorter_name_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Runs(tmp_path).run("prosody,wav2vec2", "a" * 12)
    write_json(folder / "record.json", {})
    monkeypatch.chdir(folder)
    for typed, said in (("pros", True), ("prosody,wav2vec2", True), (folder.name, False), (str(folder), False)):
        assert find_run(tmp_path, typed).resolve() == folder
        assert capsys.readouterr() == ("", f"{typed}: run {folder.name}\n" if said else "")
    assert find_run(tmp_path, "record.json").resolve() == folder
    for command in (["table", "pros"], ["analyse", "pros"], ["compare", "pros", "pros"], ["submit", "pros"]):
        # The record is no real one: which run was meant is said before that shows.
        result = CliRunner().invoke(cli, [*command, "--runs", str(tmp_path)])
        assert result.exception is not None
        assert f"pros: run {folder.name}" in result.stderr, command


def test_long_names_get_folders_that_are_found_again(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    name = ",".join(f"encoder-{k}@ü" for k in range(30))
    folder = runs.run(name, "0123456789abcdef")
    assert folder.name.endswith("-0123456789ab")
    assert len(folder.name.encode()) <= 255
    (folder / "record.json").write_text("{}")
    for typed in (name, name[:40], folder.name, str(folder)):
        assert runs.find(typed) == folder
    with pytest.raises(RunError, match="no run matches"):
        runs.find(f"x{name}")
    system = runs.system("+".join(f"part-{k}" for k in range(60)), {}, "0123456789abcdef")
    assert (system.path / "identity.json").is_file()
    assert runs.system("s4d", {}, "abc").path.name == "s4d-abc"


def test_submission_of_a_run_without_test_clips(runs: Runs) -> None:
    with pytest.raises(RunError, match=r"s4d-111122223333 .*\(status: finished\)"):
        copy_submission(runs.find("s4d-"), sample_record(test=None), None)


def test_submission_is_copied_whole(runs: Runs, tmp_path: Path) -> None:
    folder = runs.find("s4d-")
    (folder / "submission.zip").write_bytes(b"zip")
    record = sample_record()
    assert copy_submission(folder, record, None) == folder / "submission.zip"
    target = copy_submission(folder, record, tmp_path)
    assert (target, target.read_bytes()) == (tmp_path / "submission.zip", b"zip")
    assert copy_submission(folder, record, tmp_path / "new" / "mine.zip").read_bytes() == b"zip"
    with pytest.raises(RunError, match=r"\.zip.*mine\.txt"):
        copy_submission(folder, record, tmp_path / "mine.txt")


def test_json_is_whole_strict_and_readable(tmp_path: Path) -> None:
    path = tmp_path / "a" / "record.json"
    write_json(path, {"b": "ü", "a": 1})
    assert path.read_text(encoding="utf-8") == '{\n  "b": "ü",\n  "a": 1\n}\n'
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"b": "ü", "a": 1}
