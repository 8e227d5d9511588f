"""The files around the code agree with it: versions, links, what is called in hooks and workflows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from blemore_harness import __version__

ROOT = Path(__file__).parent.parent


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_citation_and_the_changelog_know_the_version() -> None:
    assert re.findall(r"^version: (.+)$", text_of("CITATION.cff"), flags=re.MULTILINE) == [__version__]
    versions = re.findall(r"^## (\S+)", text_of("CHANGELOG.md"), flags=re.MULTILINE)
    assert versions[:2] == ["Unreleased", __version__]


@pytest.mark.parametrize("page", ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", text_of(page)):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_paths_in_contributing_exist() -> None:
    paths = re.findall(r"`((?:harness|plugins|docs|tests|benchmarks|examples)/[\w./-]*)`", text_of("CONTRIBUTING.md"))
    assert len(paths) > 4
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_ci_runs_what_the_project_says() -> None:
    assert "bash .ci/run" in text_of(".github/workflows/ci.yml")
    assert (ROOT / ".ci" / "run").is_file()


def test_no_test_module_imports_another() -> None:
    for path in (ROOT / "tests").glob("*.py"):
        others = set(re.findall(r"^ *(?:from|import) (test_\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
        assert others - {path.stem} == set(), f"{path.name}: what tests share stands in a module of its own"
