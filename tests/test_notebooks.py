"""The notebooks of the docs run from top to bottom, on a few generated clips, and show what they promise."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def code_of(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first_run", "your_own_encoder"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_kept_small_and_without_outputs(path: Path) -> None:
    assert path.stat().st_size < 200_000
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


def test_predictions_for_a_clip_recorded_elsewhere_take_ten_lines() -> None:
    code = "\n".join(code_of(ROOT / "docs" / "notebooks" / "first_run.ipynb"))
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 10
    assert 'run.predict("elsewhere.mp4"' in code


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few of the clips of a small demo dataset: data, and one clip that is none of its."""
    from blemore_harness.demo.plan import make_plan
    from blemore_harness.demo.writing import write_plan

    home = tmp_path_factory.mktemp("clips")
    plan = make_plan(0, 4, 1)
    few = [*plan.clips[: -len(plan.clips) // 8 : 6], *plan.clips[-2:]]  # the last ones are of the test actor
    write_plan(home / "data", dataclasses.replace(plan, clips=tuple(few)), workers=1)
    other = dataclasses.replace(make_plan(1, 1, 0), clips=make_plan(1, 1, 0).clips[:1])
    write_plan(home / "other", other, workers=1)
    [clip] = (home / "other").rglob("*.mov")
    clip.rename(home / "elsewhere.mp4")
    return home


@pytest.mark.encoders
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_run_from_top_to_bottom(path: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("torch", "av", "pandas", "ipykernel"):
        pytest.importorskip(package)
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("BLEMORE_DATA", str(clips / "data"))
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("BLEMORE_RUNS", raising=False)
    (tmp_path / "elsewhere.mp4").write_bytes((clips / "elsewhere.mp4").read_bytes())
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable  # whatever kernels are installed
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(
        output["text"] for output in outputs if output.output_type == "stream" and output.name == "stdout"
    )
    shown = "".join(str(output.get("data", {}).get("text/html", "")) for output in outputs)
    assert len(printed.splitlines()) == 1, "the sentence of the comparison, and nothing else"
    assert "paired over actors" in printed
    assert "<strong>demo" in shown
    assert "<progress" not in shown, "bars are gone when the work is done"
    assert [output for output in outputs if output.get("data", {}).get("text/html") == ""], "where they were"
    names = {"first_run": ("elsewhere.mp4", "trivial-blend"), "your_own_encoder": ("loudness", "passed")}
    for name in names[path.stem]:
        assert name in shown
    [folder] = (tmp_path / "blemore-runs").glob("*/record.json")
    record: dict[str, Any] = json.loads(folder.read_text())
    assert record["status"] == "finished"


@pytest.mark.encoders
@pytest.mark.slow
def test_the_lines_of_the_readme_work(clips: Path, tmp_path: Path) -> None:
    for package in ("torch", "av", "pandas"):
        pytest.importorskip(package)
    block = (ROOT / "README.md").read_text(encoding="utf-8").split("<!-- python -->")[1].split("<!-- end -->")[0]
    [code] = re.findall(r"```python\n(.*?)```", block, flags=re.DOTALL)
    (tmp_path / "elsewhere.mp4").write_bytes((clips / "elsewhere.mp4").read_bytes())
    kept = {key: value for key, value in os.environ.items() if not key.startswith("BLEMORE_")}
    environment = {**kept, "BLEMORE_DATA": str(clips / "data"), "BLEMORE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "prosody" in done.stdout
    assert "elsewhere.mp4" in done.stdout
