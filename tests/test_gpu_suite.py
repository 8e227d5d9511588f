"""The suite for GPUs runs whole on a CPU; failures, lost processes and time limits are lines of its file."""

from __future__ import annotations

import importlib
import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.encoders

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module("gpu_suite")
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and Path(sys.modules[name].__file__).parent == BENCHMARKS:
            del sys.modules[name]


@pytest.fixture
def parts(suite: Any) -> Any:
    return importlib.import_module("gpu_parts")


def read_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "gpu_suite.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_network_and_head_is_checked_and_measured(suite: Any) -> None:
    listed = suite.list_parts()
    for kind in ("correctness", "size"):
        assert {part.name for part in listed if part.kind == kind} == set(suite.MAKERS)
    assert len({part.key for part in listed}) == len(listed)
    kinds = list(dict.fromkeys(part.kind for part in listed))
    assert kinds == ["correctness", "embeddings", "faces", "size", "busy", "folds", "demo"]


@pytest.mark.slow
def test_a_part_of_each_kind_runs_on_a_cpu(suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "START_SECONDS", 600.0)  # a busy machine is no failure
    monkeypatch.setattr(suite, "SLACK", 600.0)
    only = "correctness clip,correctness attentive,correctness imagebind-audio,embeddings clip,faces,size linear"
    chosen = suite.choose(suite.list_parts(), f"{only},busy video,folds mlp,demo")
    assert suite.run(chosen, "cpu", True, 60, tmp_path) == 0
    facts, *lines, last = read_lines(tmp_path)
    assert (facts["device"], facts["tiny"]) == ("cpu", True)
    assert last == {"left out": []}
    assert [line["part"] for line in lines] == [part.key for part in chosen]
    found = {line["part"]: line["figures"] for line in lines}
    for name in ("clip", "attentive", "imagebind-audio"):
        figures = found[f"correctness {name}"]
        assert figures["fp32 outputs"] == figures["fp32 gradients"] == 0.0  # the same device, twice
        assert 1e-5 < figures["bf16 outputs"] < 5e-2
        assert 1e-5 < figures["bf16 gradients"] < 0.25
    assert found["embeddings clip"]["embeddings"] == 0.0
    assert found["faces s4d"]["faces"] == 4
    assert found["faces s4d"]["pixels apart"] == 0.0
    assert found["size linear"]["both_ways"] > 0
    assert found["busy videomae"]["rate"] > 0
    assert found["busy videomae"]["busy"] is None
    assert found["folds mlp-512, 7168 inputs"]["largest difference"] < 1e-3
    assert found["demo run"]["largest difference"] == 0.0


class Given:
    """Stands in for a worker: answers by name of the part."""

    def __init__(self, _setting: dict[str, Any]) -> None:
        self.ended = False

    def carry_out(self, part: Any, limit: float) -> dict[str, Any]:
        return {"error": "bad", "figures": {"x": 1}} if part.name == "bad" else {"figures": {"limit": limit}}

    def end(self) -> None:
        self.ended = True


def test_a_failure_is_a_line_and_the_others_go_on(
    suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "Worker", Given)
    given = [suite.Part("size", name, 1, "") for name in ("one", "bad", "two")]
    assert suite.run(given, "cpu", True, 60, tmp_path) == 1
    _, *lines, _ = read_lines(tmp_path)
    assert [(line["part"], line["error"]) for line in lines] == [
        ("size one", None),
        ("size bad", "bad"),
        ("size two", None),
    ]
    assert "FAILED: bad" in capsys.readouterr().out


def test_parts_that_would_not_end_in_time_are_left_out(
    suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "Worker", Given)
    given = [suite.Part("size", "short", 1, ""), suite.Part("size", "long", 1e6, ""), suite.Part("demo", "run", 1, "")]
    assert suite.run(given, "cpu", True, 60, tmp_path) == 0
    assert read_lines(tmp_path)[-1] == {"left out": ["size long"]}
    # What the part took the last time on this device stands for the estimate.
    with (tmp_path / suite.FILE).open("a") as file:
        file.write(json.dumps({"part": "size long", "seconds": 0.5, "error": None, "figures": {}}) + "\n")
    assert suite.read_seconds(tmp_path / suite.FILE, "cpu", True)["size long"] == 0.5
    assert suite.read_seconds(tmp_path / suite.FILE, "cuda", True) == {}
    suite.run(given, "cpu", True, 60, tmp_path)
    assert read_lines(tmp_path)[-1] == {"left out": []}


@pytest.mark.slow
def test_a_process_that_dies_or_takes_too_long_is_replaced(
    suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = suite.Worker({"device": "cpu", "tiny": True, "folder": tmp_path})
    (tmp_path / "gpu_parts.py").write_text(
        "import os, time\nfrom types import SimpleNamespace as Setting\nclass Differs(Exception): ...\n"
        "def die(name, given): os._exit(7)\ndef wait(name, given): time.sleep(600)\n"
        "def fail(name, given): raise ValueError('broken\\n' + name)\n"
        "def fine(name, given): return {'pid': os.getpid()}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def ask(work: str, limit: float = 600) -> dict[str, Any]:
        answer: dict[str, Any] = worker.carry_out(suite.Part("correctness", work, 1, work), limit)
        return answer

    monkeypatch.setattr(suite, "START_SECONDS", 0.0)
    first = ask("fine", 600)["figures"]["pid"]
    assert ask("fine")["figures"]["pid"] == first
    assert "exit status 7" in ask("die")["error"]
    second = ask("fine", 600)["figures"]["pid"]
    assert second != first
    assert ask("wait", 0.1)["error"] == "not finished after 0 s"
    assert ask("fail", 600)["error"] == "ValueError: broken fail"
    worker.end()


def test_results_beyond_the_tolerance_are_failures(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = torch.nn.Linear(3, 2)
    call = parts.Call(layer, (torch.ones(4, 3),), {})
    monkeypatch.setattr(parts, "_head_call", lambda name: call)
    given = parts.Setting("cpu", True, tmp_path)
    monkeypatch.setattr(parts, "make_clips", lambda *_: [])
    assert parts.check_network("linear", given)["bf16 outputs"] > 0
    real = parts.run_call

    def wrong(call: Any, device: str, precision: str) -> Any:
        outputs, gradients = real(call, device, "fp32")
        return outputs, [gradient * (1.3 if precision == "tf32" else 1) for gradient in gradients]

    monkeypatch.setattr(parts, "run_call", wrong)
    with pytest.raises(parts.Differs, match=r"^tf32 gradients 3\.0e-01, allowed 5\.0e-02$") as error:
        parts.check_network("linear", given)
    assert error.value.figures["fp32 outputs"] == 0.0


def test_what_is_no_number_is_never_near(parts: Any) -> None:
    one, other = torch.tensor([1.0, float("nan")]), torch.tensor([1.0, 2.0])
    assert parts.distance([one], [other]) == float("inf")
    assert parts.distance([other], [other]) == 0.0
    assert parts.distance([other], [other, other]) == float("inf")
    assert parts.distance([torch.tensor([3.0])], [torch.tensor([4.0])]) == pytest.approx(0.25)


def test_only_outermost_calls_are_recorded_with_their_arguments(parts: Any) -> None:
    inner = torch.nn.Linear(2, 2)
    outer, alone = torch.nn.Sequential(inner, torch.nn.ReLU()), torch.nn.Linear(2, 1)

    def work() -> None:
        with torch.inference_mode():
            alone(outer(torch.ones(1, 2)))
            outer(torch.zeros(1, 2))

    calls = parts.record_calls(work)
    assert [call.module for call in calls] == [outer, alone]
    assert calls[0].arguments[0].tolist() == [[1.0, 1.0]]
    outputs, gradients = parts.run_call(calls[0], "cpu", "fp32")
    assert outputs[0].shape == (1, 2)
    assert [gradient.shape for gradient in gradients] == [(2, 2), (2,)]


def test_the_busy_share_is_read_from_nvidia_smi(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "nvidia-smi"
    file.write_text("#!/bin/sh\nprintf '40\\n60\\n[N/A]\\n'\ntouch \"$0.ready\"\nexec sleep 600\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with parts.BusySampler(True) as sampler:
        while not (tmp_path / "nvidia-smi.ready").exists():
            time.sleep(0.01)
    assert sampler.shares == [0.4, 0.6]
    assert sampler.mean == pytest.approx(0.5)
    with parts.BusySampler(False) as none:
        pass
    assert none.mean is None


def test_without_a_gpu_it_says_what_to_do(suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_suite.py"])
    with pytest.raises(SystemExit, match="no GPU; --device cpu --tiny"):
        suite.main()
    with pytest.raises(SystemExit, match="no part is called nothing"):
        suite.choose(suite.list_parts(), "nothing")
