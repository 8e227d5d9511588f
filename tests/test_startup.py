"""What commands import: nothing that computes where nothing is left to compute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import blemore_harness
from blemore_harness import networks
from blemore_harness.errors import ConfigError
from blemore_harness.files.prediction_files import write_probabilities
from blemore_harness.predictions import Probabilities
from builders import rows_of, write_download

COMPUTING = {
    "av", "decord", "facenet_pytorch", "google.genai", "librosa", "numba", "pandas", "safetensors", "scipy", "timm",
    "torch", "torchaudio", "torchvision", "transformers",
}  # fmt: skip

CODE = """
import json, sys
from blemore_harness.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_download(tmp_path / "data", rows_of(actors=4, folds=2))
    return tmp_path


def modules_of(home: Path, *words: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    environment = {**os.environ, "BLEMORE_CACHE": str(home / "cache"), "BLEMORE_DATA": "data"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_torch_is_not_imported_to_look_for_a_gpu_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, module)
    drivers = {"libcuda.so.1": False, "/dev/kfd": False}

    def load(name: str) -> None:
        if not drivers[name]:
            raise OSError(name)

    monkeypatch.setattr(networks.ctypes, "CDLL", load)
    monkeypatch.setattr(networks.Path, "exists", lambda path: drivers[str(path)])
    assert networks.resolve_device("auto") == "cpu"
    assert "torch" not in sys.modules
    assert not networks.may_have_gpu()
    for driver in drivers:
        drivers[driver] = True
        assert networks.may_have_gpu(), driver
        drivers[driver] = False
    with pytest.raises(ConfigError, match="no GPU"):
        networks.resolve_device("cuda")


@pytest.mark.encoders
def test_a_finished_run_does_not_look_for_a_gpu_again(home: Path) -> None:
    pytest.importorskip("torch")
    words = ("run", "--plugin", "trivial-single")
    assert networks.may_have_gpu() == ("torch" in modules_of(home, *words)), "torch is asked where there is a driver"
    [file] = home.glob("blemore-runs/trivial-single-*/record.json")
    first = json.loads(file.read_text())
    assert first["execution"]["device"] in ("cpu", "cuda")
    assert modules_of(home, *words) & COMPUTING == {"scipy"}, "labels are decoded again, by the label model too"
    second = json.loads(file.read_text())
    assert second["execution"]["device"] == first["execution"]["device"], "where the folds were computed"
    assert second["systems"] == first["systems"]


def test_plugins_are_listed_without_what_they_compute_with(home: Path) -> None:
    loaded = modules_of(home, "plugins")
    assert "blemore_plugins.s4d" in loaded
    assert not loaded & COMPUTING


NOT_OF_A_DOWNLOAD = {"demo", "testing", "doctor", "scaffold"}
"""Packages of the core that reading and scoring a download must not import."""


def strangers(loaded: set[str]) -> set[str]:
    return {name for name in loaded if name.startswith("blemore_harness.") and name.split(".")[1] in NOT_OF_A_DOWNLOAD}


@pytest.mark.parametrize(
    "words", [("data", "check", "data"), ("run", "--plugin", "trivial-single", "--device", "cpu")], ids=" ".join
)
def test_a_download_is_read_and_scored_without_the_demo(home: Path, words: tuple[str, ...]) -> None:
    loaded = modules_of(home, *words)
    assert "blemore_harness.data.download" in loaded
    assert strangers(loaded) == set()


def test_data_files_and_scores_do_not_import_the_demo() -> None:
    core = Path(blemore_harness.__file__).parent
    rooms = ("data", "files", "scoring")
    names = [f"blemore_harness.{room}.{path.stem}" for room in rooms for path in (core / room).glob("*.py")]
    code = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(names) > 10
    assert strangers(set(done.stdout.split())) == set()


def test_scoring_imports_neither_plugins_nor_what_draws_the_demo(home: Path) -> None:
    ids = tuple(row["filename"] for row in rows_of(actors=4, folds=2))
    write_probabilities(home / "rows.csv", Probabilities(ids, np.full((len(ids), 6), 1 / 6)))
    loaded = modules_of(home, "score", "rows.csv")
    assert "blemore_harness.files.scoring" in loaded
    assert not loaded & (COMPUTING - {"scipy"} | {"blemore_plugins", "blemore_lab", "pluggy"}), "t for intervals"
    assert strangers(loaded) == set()
