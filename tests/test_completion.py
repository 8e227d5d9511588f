"""What shells complete: plugins, options and their choices, submissions and runs; and never an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from blemore_harness.cli import cli
from blemore_harness.cli.completion import EqualsBash, OpenZsh
from installed_plugins import make_site

BASH = """
eval "$(_BLEMORE_HARNESS_COMPLETE=bash_source blemore-harness)"
compopt() { echo "compopt $*"; }
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMPREPLY=()
_blemore_harness_completion blemore-harness
echo "${COMPREPLY[@]}"
"""


def complete(*words: str) -> list[str]:
    """What is offered for the last word."""
    *before, incomplete = words
    shell = ShellComplete(cli, {}, "blemore-harness", "_BLEMORE_HARNESS_COMPLETE")
    return [item.value for item in shell.get_completions(list(before), incomplete)]


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("BLEMORE_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("run", "--plugin", "s4"), ["s4d"]),
        (("run", "--plugin", "wavlm,s4"), ["wavlm,s4d"]),
        (("prepare", "--plugin", "imagebind+wavl"), ["imagebind+wavlm"]),
        (("run", "--plugin", "lat"), []),
        (("run", "--fusion", "lat"), ["late"]),
        (("run", "--set", "s4"), ["s4d."]),
        (("run", "--set", "s4d.tr"), ["s4d.train="]),
        (("run", "--set", "s4d.train="), ["s4d.train=adapters", "s4d.train=upper", "s4d.train=all"]),
        (("doctor", "--set", "late.refine=t"), ["late.refine=true"]),
        (("run", "--set", "wavlm@quick.sour"), ["wavlm@quick.source="]),
        (("run", "--set", "s4d.epochs="), []),
        (("run", "--set", "nobody.x"), []),
        (("plugins", "trivial-"), ["trivial-blend", "trivial-single"]),
        (("check", "lat"), ["late"]),
        (("run", "baseline-wav"), ["baseline-wavlm"]),
        (("doctor", "uzh-9"), ["uzh-9enc", "uzh-9enc-printed"]),
    ],
)
def test_names_are_completed(words: tuple[str, ...], found: list[str]) -> None:
    assert complete(*words) == found


def test_submissions_of_the_working_folder_are_offered(tmp_path: Path) -> None:
    (tmp_path / "submissions").mkdir()
    (tmp_path / "mine-1.toml").touch()
    (tmp_path / "submissions" / "mine-2.toml").touch()
    assert complete("run", "mine") == ["mine-1", "mine-2"]


def test_runs_are_those_of_the_folder_that_the_command_would_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root in ("given", "environment", "configured", "blemore-runs"):
        (tmp_path / root / f"{root}-1").mkdir(parents=True)
        (tmp_path / root / f"{root}-1" / "record.json").touch()
        (tmp_path / root / "systems").mkdir()
    assert complete("table", "") == ["blemore-runs-1"]
    (tmp_path / "blemore.toml").write_text('runs = "configured"\n')
    for words in (("table", ""), ("compare", "x", ""), ("submit", ""), ("runs", "remove", "a", ""), ("export", "")):
        assert complete(*words) == ["configured-1"], words
    monkeypatch.setenv("BLEMORE_RUNS", str(tmp_path / "environment"))
    assert complete("table", "") == ["environment-1"]
    assert complete("table", "--runs", str(tmp_path / "given"), "") == ["given-1"]
    assert complete("table", "--runs", str(tmp_path / "nowhere"), "") == []


def test_a_plugin_that_prints_or_cannot_be_loaded_is_no_matter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with make_site(tmp_path / "site") as site:
        site.install("loud", "print('loud')\nraise SystemExit(3)", head="")
        assert complete("run", "--plugin", "s4") == ["s4d"]
    assert capsys.readouterr() == ("", "")


def test_a_configuration_file_that_is_wrong_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "blemore.toml").write_text("runs = 3")
    assert complete("table", "") == []


@pytest.mark.parametrize(
    ("words", "place", "before", "incomplete"),
    [
        ("blemore-harness run --set s4d.train = a", 5, ["run", "--set"], "s4d.train=a"),
        ("blemore-harness run --set s4d.train =", 4, ["run", "--set"], "s4d.train="),
        ("blemore-harness run --set = s4d.train = a", 6, ["run"], "--set=s4d.train=a"),
        ("blemore-harness run --set a.b = c --fusion", 7, ["run", "--set", "a.b=c", "--fusion"], ""),
    ],
)
def test_bash_words_around_an_equals_sign_are_one(
    monkeypatch: pytest.MonkeyPatch, words: str, place: int, before: list[str], incomplete: str
) -> None:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(place))
    shell = EqualsBash(cli, {}, "blemore-harness", "_BLEMORE_HARNESS_COMPLETE")
    assert shell.get_completion_args() == (before, incomplete)
    value = shell.format_completion(click.shell_completion.CompletionItem("x.y=z"))
    assert value == ("plain,z" if "=" in incomplete else "plain,x.y=z")


def test_shells_are_told_not_to_add_a_space_behind_what_goes_on() -> None:
    assert "nospace" in EqualsBash.source_template
    assert "suffix=(-S '')" in OpenZsh.source_template


@pytest.mark.once
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("run", "--set", "s4d.tr"), ["compopt -o", "nospace", "s4d.train="]),
        (("run", "--set", "s4d.train", "=", "a"), ["adapters all"]),
        (("run", "--plugin", "nobody"), [""]),
    ],
)
def test_in_a_real_bash(words: tuple[str, ...], found: list[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        [bash, "-c", BASH, "bash", "blemore-harness", *words],
        capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False,
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines() == found


@pytest.mark.once
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_program_answers_other_shells(shell: str) -> None:
    environment = {**os.environ, "_BLEMORE_HARNESS_COMPLETE": f"{shell}_complete"}
    words = {"zsh": {"COMP_WORDS": "blemore-harness run --set s4d.tr", "COMP_CWORD": "3"},
             "fish": {"COMP_WORDS": "blemore-harness run --set ", "COMP_CWORD": "s4d.tr"}}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "blemore_harness"], capture_output=True, text=True, check=False,
        env={**environment, **words[shell]},
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    assert "s4d.train=" in done.stdout
