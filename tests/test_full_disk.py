"""A disk that is full, whichever write meets it: a sentence that helps, nothing lost, the same command goes on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blemore_harness.data.blinded import BlindedDataset, blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.errors import BlemoreError, advise
from blemore_harness.pipeline import evaluate
from blemore_harness.running.run import open_run
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.submission import from_plugins
from builders import rows_of, write_download
from second_distributions import environment
from toys import Noisy, Silent, offer

pytestmark = pytest.mark.once

FSYNC = os.fsync


class Small(Noisy):
    """Keeps one array in the cache."""

    def prepare(self, clips: Any, options: Any, context: Any) -> None:
        import numpy as np

        context.cache.store("small").save(clips.items[0], np.zeros(3))


class Disk:
    """Stands for `os.fsync` on a disk that is full from a certain write on."""

    def __init__(self, room: int | None) -> None:
        self.room, self.writes = room, 0

    def __call__(self, descriptor: int) -> None:
        self.writes += 1
        if self.room is not None and self.writes > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        FSYNC(descriptor)


@pytest.fixture
def blinded(tmp_path: Path) -> tuple[Any, BlindedDataset]:
    dataset = read_dataset(write_download(tmp_path / "data", rows_of(actors=4, folds=2), tests=2))
    return dataset, blind_dataset(dataset, tmp_path / "views")


def plugins() -> Plugins:
    return offer(Small("one"), Small("two"))[0]


@pytest.mark.slow
def test_whichever_write_fails_the_same_command_goes_on(
    tmp_path: Path, blinded: tuple[Any, BlindedDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(root: Path) -> Path:
        submission = from_plugins(["one,two"], "late")
        record, folder = evaluate(open_run(submission, plugins(), *blinded, root / "runs", root / "cache", Silent()))
        assert record.status == "finished"
        return folder

    disk = Disk(None)
    monkeypatch.setattr(os, "fsync", disk)
    whole = run(tmp_path / "whole")
    writes = disk.writes
    assert writes > 25
    for room in range(0, writes, 3):
        root = tmp_path / f"room-{room}"
        monkeypatch.setattr(os, "fsync", Disk(room))
        with pytest.raises((OSError, BlemoreError)) as caught:
            run(root)
        message = advise(caught.value) if isinstance(caught.value, OSError) else str(caught.value)
        assert str(root) in message, "it does not say which file"
        assert "the disk is full" in message
        assert not list(root.rglob("*.tmp"))
        before = {path: path.read_bytes() for path in root.glob("runs/systems/*/*.csv")}
        monkeypatch.setattr(os, "fsync", Disk(None))
        folder = run(root)
        assert all(path.read_bytes() == data for path, data in before.items())
        for path in whole.parent.glob("systems/*/*.csv"):
            assert (folder.parent / path.relative_to(whole.parent)).read_bytes() == path.read_bytes()
        assert (folder / "submission.zip").read_bytes() == (whole / "submission.zip").read_bytes()


@pytest.mark.slow
def test_the_command_line_says_what_to_do_about_a_limit(tmp_path: Path) -> None:
    write_download(tmp_path / "data", rows_of(actors=4, folds=2), tests=2)
    command = [sys.executable, "-c", "from blemore_harness.cli import main; main()", "run", "--plugin", "file-bytes"]

    def run(before: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f'{before} exec "$@"', "run", *command, "--device", "cpu", "--data", "data"], cwd=tmp_path,
            env=environment(tmp_path / "second", "example_plugin", BLEMORE_CACHE=str(tmp_path / "cache")),
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    limited = run("ulimit -f 8;")
    assert limited.returncode == 1, limited.stderr
    assert "ulimit -f" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert run("").returncode == 0


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.ENOTDIR, "expected a folder"),
        (errno.ENAMETOOLONG, "too long"),
    ],
)
def test_answers_of_the_system_say_what_to_do(number: int, words: str) -> None:
    assert advise(OSError(number, os.strerror(number), "runs/x")).startswith("runs/x: ")
    assert words in advise(OSError(number, os.strerror(number), "runs/x"))
    assert advise(OSError(errno.EIO, "Input/output error", "x")) == "x: Input/output error"
