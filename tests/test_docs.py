"""The pages for plugin authors are true: code runs in order, tables and the reference are what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from blemore_harness.cli import INTERRUPTED
from blemore_harness.decoding.strategies import STRATEGIES
from blemore_harness.errors import HarnessError, PluginFailed
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.testing import CHECKS, Session, Subject, check_subject
from blemore_harness.testing.pytest_plugin import PluginChecks
from builders import rows_of, write_download

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "tutorial" / "write-a-plugin.md"


def read_blocks(page: Path) -> list[str]:
    """The Python code of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


BLOCKS = read_blocks(PAGE)

QUICK = ("declares", "options", "identity", "probabilities", "batch-invariance")
"""Checks of every step; the last state of most systems has to pass them all."""


def systems(space: dict[str, Any]) -> dict[str, Any]:
    """The objects that the code so far offers, by name."""
    offered = [*space["blemore_encoders"](), *(space["blemore_fusions"]() if "blemore_fusions" in space else ())]
    return {system.name: system for system in offered}


def bad(system: Any, session: Session, names: tuple[str, ...] = ()) -> list[Any]:
    return [verdict for verdict in check_subject(Subject(system), session, names) if not verdict.good]


@pytest.mark.slow
@pytest.mark.encoders
def test_the_tutorial_works_step_by_step(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("av")
    session = Session(tmp_path)
    space: dict[str, Any] = {"__name__": "tutorial"}
    seen: dict[str, type] = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"write-a-plugin.md, block {number}", "exec", dont_inherit=True), space)
        for name, system in systems(space).items():
            if seen.get(name) is not type(system):
                seen[name] = type(system)
                # The head of the first step is that of real data: far too large for these clips, so it may learn less.
                assert bad(system, session, QUICK) == [], f"block {number}, {name}"
    last = systems(space)
    assert set(last) == {"spectrum", "spectrum-over-time", "spectrum-centroids", "spectrum-network", "trusting"}
    for name, system in last.items():
        assert bad(system, session, ("learns", "frame-features") if name == "spectrum-over-time" else ()) == [], name
    suites = [kind for kind in space.values() if isinstance(kind, type) and issubclass(kind, PluginChecks)]
    assert {kind.__name__ for kind in suites} == {"PluginChecks", "TestSpectrum", "TestTrusting"}


@pytest.mark.slow
@pytest.mark.encoders
def test_the_estimators_of_the_guide_work(tmp_path: Path) -> None:
    for package in ("torch", "av", "sklearn"):
        pytest.importorskip(package)
    session, space = Session(tmp_path), {"__name__": "guide"}
    for block in read_blocks(ROOT / "docs" / "how-to" / "sklearn-and-torch.md"):
        exec(compile(block, "sklearn-and-torch.md", "exec", dont_inherit=True), space)
    offered = systems(space)
    assert set(offered) == {"loudness", "colours"}
    for name, system in offered.items():
        assert bad(system, session, (*QUICK, "learns", "repeats")) == [], name


def test_the_command_of_the_tutorial_works(tmp_path: Path) -> None:
    [block] = [block for block in BLOCKS if "click.command" in block]
    space: dict[str, Any] = {}
    exec(compile(block, "write-a-plugin.md", "exec", dont_inherit=True), space)
    data = write_download(tmp_path / "data", rows_of(actors=4, folds=2))
    done = CliRunner().invoke(space["actors"], ["--data", str(data)])
    assert (done.exit_code, done.stdout) == (0, "4\n"), done.output


def test_the_first_step_is_about_20_lines() -> None:
    lines = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(lines) <= 21


def test_the_table_of_checks_is_the_list_of_checks() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_-]+)`(?: \((encoders|fusions)\))? \| (.*) \|$", text, flags=re.MULTILINE)
    who = {(True, True): "", (True, False): "encoders", (False, True): "fusions"}
    assert rows == [(check.name, who[check.encoders, check.fusions], check.says) for check in CHECKS]


def test_every_variable_and_exit_code_stands_on_the_page_of_the_environment() -> None:
    page = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    sources = [path for root in ("harness", "plugins") for path in (ROOT / root).rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    used = set(re.findall(r"\bBLEMORE_[A-Z_]*[A-Z]\b", text))
    used |= set(re.findall(r"""environ(?:ment)?(?:\.get\(|\[)"([A-Z_]+)\"""", text)) - {"PYTHONPATH"}
    offers = [offer.system for offers in load_plugins().offers.values() for offer in offers]
    encoders = [system for system in offers if isinstance(system, Encoder)]
    resolved = [(encoder, encoder.resolve_options(encoder.Options(), frozenset())) for encoder in encoders]
    used |= {need.name for encoder, options in resolved for need in encoder.requirements(options) if need.kind == "key"}
    assert {"HF_TOKEN", "GEMINI_API_KEY"} <= used
    assert len(used) > 8
    assert {name for name in used if f"`{name}`" not in page and f"${name}" not in page} == set()
    codes = {HarnessError.exit_code, PluginFailed.exit_code, click.UsageError.exit_code, INTERRUPTED, 0}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)} == codes


def test_every_room_of_the_core_stands_in_the_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    core = ROOT / "harness" / "blemore_harness"
    rooms = {path.name for path in core.glob("*.py")} | {f"{path.parent.name}/" for path in core.glob("*/__init__.py")}
    assert {room for room in rooms - {"__init__.py", "__main__.py"} if f"| `{room}` |" not in page} == set()


def test_every_threshold_strategy_stands_on_the_page_of_the_protocol() -> None:
    page = (ROOT / "docs" / "reference" / "protocol.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)`(?: \((transductive)\))? \|", page, flags=re.MULTILINE)
    assert rows == [(name, "transductive" * strategy.transductive) for name, strategy in STRATEGIES.items()]


def test_every_bundled_system_stands_in_the_readme_and_in_the_reference() -> None:
    readme, encoders, fusions = (
        (ROOT / page).read_text(encoding="utf-8")
        for page in ("README.md", "docs/reference/encoders.md", "docs/reference/fusions.md")
    )
    offers = [offer for offers in load_plugins({}).offers.values() for offer in offers]
    bundled = [offer.system for offer in offers if offer.distribution.name == "blemore-harness"]
    assert len(bundled) > 20
    for system in bundled:
        assert f"`{system.name}`" in readme, system.name
        assert f"`{system.name}`" in (fusions if isinstance(system, Fusion) else encoders), system.name


def test_the_reference_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_reference.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")), ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target
