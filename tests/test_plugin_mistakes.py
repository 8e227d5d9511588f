"""What authors of plugins get wrong: the culprit is named, and what to do; what they print never spoils an answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builders import rows_of, write_download
from installed_plugins import make_site

MISTAKES = """
import numpy as np
from blemore_harness.predictions import Embeddings, Probabilities

print("\x1b[31mat import")


class Model:
    def predict(self, clips, context):
        print("debug", len(clips))
        return Probabilities(clips.ids, np.full((len(clips), 6), 1 / 6))


class Bad(Toy):
    Options = Toy.Options

    def fit(self, fold, options, context):
        from blemore_harness.predictions import vectors_of  # as a head does, without torch
        vectors_of(self.embed(fold.train, options, context), fold.train.ids)
        return Model()


def bad(name, embed):
    return type(name, (Bad,), {"name": name, "embed": embed})()


def noisy(name, **body):
    return type(name, (Toy,), {"name": name, **body})()


def ones(clips):
    return np.ones((len(clips), 3), dtype=np.float32)


@hookimpl
def blemore_encoders():
    return [
        bad("array", lambda self, clips, options, context: ones(clips)),
        bad("few", lambda self, clips, options, context: Embeddings(clips.ids[1:], ones(clips)[1:])),
        bad("nan", lambda self, clips, options, context: Embeddings(clips.ids, ones(clips) * np.nan)),
        bad("flat", lambda self, clips, options, context: Embeddings(clips.ids, ones(clips)[:, 0])),
        noisy("printing", fit=lambda self, fold, options, context: Model()),
    ]
"""

EXPECTED = {
    "array": "array (fold-0): expected `embed` to give Embeddings(ids, values), found ndarray",
    "few": "few (fold-0): `embed` left out 1 clip (first: 'A",
    "nan": "nan (fold-0): NaN or infinite embedding in ",
    "flat": "flat (fold-0): expected one vector per clip (",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("mistakes")
    write_download(home / "data", rows_of(actors=6, folds=3))
    with make_site(home / "site") as packages:
        packages.install("mistakes", MISTAKES)
    return home


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "PYTHONPATH": str(home / "site"), "BLEMORE_CACHE": str(home / "cache"),
        "BLEMORE_PLUGINS": "mistakes,average",
    }  # fmt: skip
    command = [sys.executable, "-c", "from blemore_harness.cli import main; main()", *words]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_vectors_that_are_none_are_the_plugin_s_failure_and_a_row(home: Path) -> None:
    done = run(
        home, "run", "--plugin", ",".join([*EXPECTED, "printing"]), "--fusion", "mean", "--data", "data", "--json"
    )
    assert done.returncode == 3, done.stderr
    record = json.loads(done.stdout)
    rows = {row["name"]: row for row in record["systems"]}
    assert rows["printing"]["status"] == "finished"
    for name, words in EXPECTED.items():
        assert rows[name]["status"] == "failed"
        assert rows[name]["error"]["message"].startswith(words)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("run", "--plugin", "printing", "--data", "data"), ("plugins",)])
def test_what_plugins_print_goes_to_stderr(home: Path, words: tuple[str, ...]) -> None:
    done = run(home, *words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert "at import" in done.stderr


@pytest.mark.slow
@pytest.mark.encoders
def test_the_check_finds_what_is_printed(home: Path) -> None:
    pytest.importorskip("av")
    pytest.importorskip("PIL")
    done = run(home, "check", "printing", "--only", "writes", "--json")
    [row] = json.loads(done.stdout)
    assert row["status"] == "failed"
    assert "'debug " in row["reason"]
    assert "say things with `context.log`" in row["reason"]
