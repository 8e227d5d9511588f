"""The README is true: its commands (and those of the pages) exist, the plugin works as printed, links lead on."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from blemore_harness.cli import cli
from blemore_harness.cli.plugin_commands import PluginCommand
from blemore_harness.systems.submission import KEYS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def marked(name: str) -> str:
    """The text between a mark and its end."""
    return README.split(f"<!-- {name} -->")[1].split("<!-- end -->")[0]


def commands() -> list[list[str]]:
    """Every call of blemore-harness in the README and on the pages, as words."""
    texts = [README, *(page.read_text(encoding="utf-8") for page in sorted(ROOT.glob("docs/**/*.md")))]
    known = re.compile(r"(?:^    |&& )(blemore-harness [^`\n|&#]+)|`(blemore-harness [^`\n]+)`", flags=re.MULTILINE)
    lines = {"".join(found).strip().rstrip(":,") for found in known.findall("\n".join(texts))}
    return [shlex.split(line) for line in sorted(lines)]


def test_every_command_of_the_command_line_stands_in_the_readme() -> None:
    def names(group: click.Group, before: str) -> list[str]:
        found = []
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            found += names(command, f"{before} {name}") if isinstance(command, click.Group) else [f"{before} {name}"]
        return found

    for name in names(cli, "blemore-harness"):
        assert f"`{name}" in README or f"    {name}" in README, f"{name} is not in README.md"


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_is_understood(words: list[str]) -> None:
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, " ".join(words)
        command, rest = found.load() if isinstance(found, PluginCommand) else found, rest[1:]
    command.make_parser(click.Context(command)).parse_args([word for word in rest if word != "..."])


def test_the_plugin_in_the_readme_works_as_printed(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("av")
    from blemore_harness.data.blinded import blind_dataset
    from blemore_harness.data.download import read_dataset
    from blemore_harness.demo.plan import make_plan
    from blemore_harness.demo.writing import write_plan
    from blemore_harness.systems.submission import from_plugins
    from toys import Bench, offer, system

    [block] = re.findall(r"```python\n(.*?)```", marked("plugin"), flags=re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 21, "the README promises about 20 lines"
    space: dict[str, object] = {}
    exec(compile(block, "loudness.py", "exec"), space)
    encoder = space["blemore_encoders"]()  # type: ignore[operator]
    plan = make_plan(0, 4, 1)
    few = [clip for i, clip in enumerate(plan.clips) if i % 6 == 0]
    write_plan(tmp_path / "clips", dataclasses.replace(plan, clips=tuple(few)), workers=1)
    dataset = read_dataset(tmp_path / "clips")
    bench = Bench(dataset, blind_dataset(dataset, tmp_path / "views"), tmp_path)
    record, _ = bench.run(offer(*encoder)[0], from_plugins(["loudness"]))
    assert system(record, "loudness")["status"] == "finished", system(record, "loudness")


def test_the_classifier_in_the_readme_is_entered_in_five_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    pytest.importorskip("sklearn")
    from blemore_harness.demo.plan import make_plan
    from blemore_harness.demo.writing import write_plan

    [block] = re.findall(r"```python\n(.*?)```", marked("classifier"), flags=re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) == 5
    plan = make_plan(0, 4, 1)
    few = tuple(clip for i, clip in enumerate(plan.clips) if i % 6 == 0)
    write_plan(tmp_path / "clips", dataclasses.replace(plan, clips=few), workers=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BLEMORE_DATA", str(tmp_path / "clips"))
    space: dict[str, Any] = {}
    exec(compile(block, "classifier.py", "exec"), space)
    assert {system.name for system in space["run"].record.finished} >= {"volume", "trivial-single"}


def test_the_submission_on_the_page_has_known_keys() -> None:
    page = (ROOT / "docs" / "how-to" / "evaluate.md").read_text(encoding="utf-8")
    block = re.search(r"^    plugins = .*?(?=^\S)", page, flags=re.DOTALL | re.MULTILINE)
    assert block
    assert set(tomllib.loads(re.sub(r"^    ", "", block[0], flags=re.MULTILINE))) <= set(KEYS)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
