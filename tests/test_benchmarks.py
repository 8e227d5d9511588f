"""The benchmark of encoders at their real sizes: it knows every encoder, gives sane numbers, and outlives a failure."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from blemore_harness.heads.options import HEADS

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.encoders

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"

WITHOUT_NETWORK = {"gemini", "judge", "nova", "omni", "openface", "prosody", "trivial-single", "trivial-blend"}
"""Remote services, models of sentence-transformers, released files only, signal processing, and the two systems that
look at nothing."""

PUBLISHED = {"wav2vec2_base": 94.4, "wav2vec2_large": 315.4}
"""Millions of weights by docs of the released models (`facebook/wav2vec2-base`, `-large`)."""


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module("encoder_sizes")
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and Path(sys.modules[name].__file__).parent == BENCHMARKS:
            del sys.modules[name]


def our_encoders() -> set[str]:
    held = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    modules = [importlib.import_module(name) for name in held["project"]["entry-points"]["blemore_harness"].values()]
    return {e.name for module in modules for e in getattr(module, "blemore_encoders", list)()}


def test_every_encoder_with_a_network_and_every_head_has_a_row(benchmark: ModuleType) -> None:
    ours = our_encoders()
    assert ours >= WITHOUT_NETWORK
    assert set(benchmark.MAKERS) == (ours - WITHOUT_NETWORK) | set(HEADS)


def test_every_encoder_that_loads_weights_can_be_given_some(benchmark: ModuleType) -> None:
    loading = {name for name in benchmark.frozen_work.MAKERS if name != "hicmae"}
    assert set(benchmark.frozen_work.WRITERS) == loading


@pytest.mark.parametrize("like", PUBLISHED)
def test_sizes_are_those_of_the_released_models(benchmark: ModuleType, like: str) -> None:
    import transformers

    sizes = importlib.import_module("released_networks").torchaudio_sizes(like)
    with torch.device("meta"):
        network = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**sizes))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(PUBLISHED[like], abs=0.06)
    assert (sizes["feat_extract_norm"], sizes["do_stable_layer_norm"]) == ("group", False)


@pytest.mark.slow
def test_small_networks_give_sane_numbers(tmp_path: Path) -> None:
    file = tmp_path / "cpu.json"
    command = [sys.executable, str(BENCHMARKS / "encoder_sizes.py"), "--small", "--device", "cpu", "--clips", "2"]
    command += ["--encoders", "clip,wav2vec2-finetuned,linear", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    held = json.loads(file.read_text(encoding="utf-8"))
    assert [row["encoder"] for row in held["rows"]] == ["clip", "wav2vec2-finetuned", "linear"]
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["clip", "wav2vec2-finetuned", "linear"]
    for row in held["rows"]:
        assert row["failure"] is None
        assert row["parameters"] > 0
        assert row["both_ways"] > 0
        assert row["forward"] > 0
        assert row["forward_peak"] is None or 2**20 < row["forward_peak"] < 2**40
    assert [row["waiting"] is None for row in held["rows"]] == [True, False, True]
    assert 0 <= held["rows"][1]["waiting"] <= 1
    assert held["small networks"] is True
    assert str(tmp_path) not in held["command"]
    assert held["versions"]["torch"] == torch.__version__.split("+")[0]


@pytest.mark.slow
def test_an_encoder_that_fails_is_a_row_and_the_others_go_on(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def make(order: object) -> None:
        raise torch.OutOfMemoryError("no room for it")

    monkeypatch.setitem(benchmark.MAKERS, "clip", make)
    file = tmp_path / "figures.json"
    asked = argparse.Namespace(
        encoders="clip,linear", device="cpu", clips=1, batch=1, seconds=1, height=96, width=96, small=True, limit=0,
        json=file,
    )  # fmt: skip
    assert benchmark.run(asked) == 1
    failed, fine = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert failed["failure"] == "OutOfMemoryError: no room for it"
    assert failed["forward"] is None
    assert fine["failure"] is None
    assert fine["forward"] > 0
    assert "no room for it" in capsys.readouterr().out


def test_an_encoder_that_takes_too_long_is_given_up_with_what_it_has(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(benchmark.GivenUp, match=r"after 0\.05 s"), benchmark.giving_up(0.05):
        time.sleep(60)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)

    def give_up(count: int) -> int:
        raise benchmark.GivenUp("after 360 s")

    work = benchmark.trained_work.Work(7, lambda: torch.nn.Linear(2, 1), lambda count: count, give_up)
    monkeypatch.setitem(benchmark.MAKERS, "clip", lambda order: work)
    row = benchmark.measure_encoder("clip", [None], argparse.Namespace(device="cpu"), 1, True, limit=360)
    assert row.failure == "GivenUp: after 360 s"
    assert (row.parameters, row.both_ways) == (7, None)
    assert row.forward > 0


def test_no_gradient_and_bad_gradients_are_failures(benchmark: ModuleType) -> None:
    layer = torch.nn.Linear(2, 1)
    with pytest.raises(ValueError, match="no gradient"):
        benchmark.check_gradients(layer)
    (layer(torch.ones(1, 2)) * float("nan")).sum().backward()
    with pytest.raises(ValueError, match="no numbers"):
        benchmark.check_gradients(layer)


def test_an_unknown_name_is_refused_with_what_there_is(benchmark: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"nothing-like-it; there are .*videomaev2"):
        benchmark.choose("clip,nothing-like-it")
    assert set(benchmark.choose("heads")) == set(HEADS)
