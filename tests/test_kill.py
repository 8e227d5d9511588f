"""SIGKILL at any moment: the same command ends with the files that a run has which nobody killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from blemore_harness.disk import atomic_file, sweep_leftovers

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]


def soak(*words: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.stdout.startswith("{"), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["differences"] == []
    assert done.returncode == 0
    return found


@pytest.mark.slow
def test_killed_runs_end_with_the_files_of_one_that_was_left_alone() -> None:
    found = soak("--kills", "8")
    assert found["kills"] >= 8
    assert found["compared"] > 700


@pytest.mark.slow
@pytest.mark.encoders
def test_killed_runs_with_trained_heads_do_too() -> None:
    pytest.importorskip("torch")
    assert soak("--kills", "2", "--heads", "--few", "--seed", "1")["kills"] >= 2


@pytest.mark.slow
def test_killed_runs_with_workers_do_too() -> None:
    assert soak("--kills", "2", "--isolate", "--few", "--seed", "2")["kills"] >= 2


def test_the_comparison_sees_everything(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from soak import compare, contents
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    home = tmp_path / "blemore-runs"
    home.mkdir()
    (home / "a.json").write_text('{"seconds": 1, "score": [{"seconds": 2, "mean": 0.5}]}')
    (home / "b.csv").write_bytes(b"1,2")
    expected = contents(tmp_path)
    (home / "a.json").write_text('{"seconds": 9, "score": [{"seconds": 8, "mean": 0.5}]}')
    assert compare(tmp_path, expected) == []
    (home / "a.json").write_text('{"seconds": 9, "score": [{"seconds": 8, "mean": 0.50001}]}')
    (home / "b.csv").rename(home / ".b.csv.x.tmp")
    assert compare(tmp_path, expected) == [
        "missing: blemore-runs/b.csv", "left over: blemore-runs/.b.csv.x.tmp", "differs: blemore-runs/a.json",
    ]  # fmt: skip


def test_leftovers_of_killed_writers_are_swept_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from blemore_harness.cache import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    deep = tmp_path / "store" / "digest"
    for folder in (tmp_path, deep):
        subprocess.run([sys.executable, "-c", code, str(folder / "array.npy")], check=False)
    assert len(list(tmp_path.rglob(".array.npy.*.tmp"))) == 2
    (deep / ".new.tmp").touch()  # as between its making and its locking
    (deep / ".old.tmp").touch()
    os.utime(deep / ".old.tmp", (0, 0))
    (tmp_path / ".mine.tmp").touch()
    with atomic_file(tmp_path / "alive.npy") as file:
        file.write(b"whole")
        file.flush()
        assert sweep_leftovers(tmp_path, alone=True) == 2
        assert sweep_leftovers(tmp_path, alone=False) == 2
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [".new.tmp", "alive.npy"]


def test_sweeping_never_takes_a_file_from_its_writer(tmp_path: Path) -> None:
    ended, rounds = threading.Event(), 0

    def sweep() -> None:
        nonlocal rounds
        while not ended.is_set():
            sweep_leftovers(tmp_path, alone=False)
            rounds += 1

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        count = 0
        while count < 200 or rounds < 200:
            with atomic_file(tmp_path / f"{count % 50}" / f"{count}.bin") as file:
                file.write(b"x" * 100)
            count += 1
    finally:
        ended.set()
        sweeper.join()
    assert len(list(tmp_path.rglob("*.bin"))) == count
