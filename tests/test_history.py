"""The history of benchmarks: what a benchmark gives is kept with machine and commit, and stands in the table."""

from __future__ import annotations

import importlib
import json
import platform
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TOY = """
import argparse
from figures import add_json, write_figures
parser = argparse.ArgumentParser()
parser.add_argument("--clips", type=float)
add_json(parser)
given = parser.parse_args()
write_figures(given.json, {"clips, halves": given.clips / 2, "third, s": 1 / 3})
"""


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "history", raising=False)
    module = importlib.import_module("history")
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "HISTORY", tmp_path / "history")
    monkeypatch.setattr(module, "describe_code", lambda: {"commit": "0123456789", "changed": False})
    return module


def test_figures_are_kept_with_machine_command_and_commit(history: ModuleType, tmp_path: Path) -> None:
    for clips in ("5", "7"):
        history.append("toy", history.measure("toy", ["--clips", clips]))
    first, second = json.loads((tmp_path / "history" / "toy.json").read_text())
    assert first["figures"] == {"clips, halves": 2.5, "third, s": 0.3333}
    assert second["figures"]["clips, halves"] == 3.5
    assert (first["command"], first["commit"]) == ("python benchmarks/toy.py --clips 5", "0123456789")
    assert first["machine"]["python"] == platform.python_version()
    assert first["machine"]["cores"] >= 1
    assert first["machine"]["cpu"]
    assert platform.node() not in json.dumps([first["machine"], second["machine"]]).split('"')


def test_a_benchmark_that_fails_leaves_no_entry(history: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"toy\.py"):
        history.append("toy", history.measure("toy", ["--no-such-word"]))
    with pytest.raises(SystemExit, match="nothing"):
        history.measure("nothing", [])
    assert not (tmp_path / "history").exists()


def test_the_table_has_the_latest_figures_of_each_command(history: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{history.BEGIN}old\n{history.END}after\n")
    for clips in ("5", "7"):
        entry = history.measure("toy", ["--clips", clips])
        history.append("toy", {**entry, "figures": {"clips, halves": 99}})
        history.append("toy", entry)
    history.write_table(page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "99" not in text.replace("0123456789", "")
    rows = [row.split(" | ") for row in text.splitlines() if "clips, halves" in row]
    assert [(row[0], row[2]) for row in rows] == [
        ("| `python benchmarks/toy.py --clips 5`", "2.5"),
        ("| `python benchmarks/toy.py --clips 7`", "3.5"),
    ]


def test_the_page_holds_what_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("history")
    copy = tmp_path / "page.md"
    copy.write_text(module.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    module.write_table(copy)
    assert copy.read_text(encoding="utf-8") == module.PAGE.read_text(encoding="utf-8")


def test_a_chart_is_drawn(history: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    entry = history.measure("toy", ["--clips", "5"])
    history.draw("toy", [entry, entry], tmp_path / "toy.svg")
    text = (tmp_path / "toy.svg").read_text(encoding="utf-8")
    assert "clips, halves" in text
    assert "0123456789" in text
