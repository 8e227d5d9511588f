"""What people expect of any command line: version, verbosity, configuration files, exit codes, errors as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import blemore_harness
from blemore_harness.cli import cli, main
from blemore_harness.cli.defaults import config_files, read_defaults
from blemore_harness.errors import ConfigError
from builders import rows_of, write_download

Ended = tuple[int, str, str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a small download, without variables that give defaults."""
    for name in ("BLEMORE_DATA", "BLEMORE_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    write_download(tmp_path / "data", rows_of(actors=6, folds=3))
    return tmp_path


@pytest.fixture
def ends(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs `main` in this process: exit code, stdout and stderr."""

    def run(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["blemore-harness", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, [*words])


def test_the_module_runs_as_the_command_and_knows_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "blemore_harness", "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == blemore_harness.__version__ == importlib.metadata.version("blemore-harness")


@pytest.mark.parametrize("group", [(), ("data",)], ids=["all", "data"])
def test_short_helps_fit_their_line(group: tuple[str, ...]) -> None:
    lines = CliRunner().invoke(cli, [*group, "--help"], terminal_width=80).output.split("Commands:\n")[1].splitlines()
    assert len(lines) >= 2
    assert [line for line in lines if line.endswith("...") or len(line) > 80] == []


@pytest.mark.parametrize(
    ("words", "offender"),
    [
        (("run", "--plugin", "wav2vec"), "'wav2vec'"),
        (("run", "--plugin", "trivial-single", "--fusion", "lat"), "'lat'"),
        (("run", "--plugin", "late"), "'late'"),
        (("run", "--plugin", "trivial-single", "--set", "trivial-single.x=1"), "'x'"),
        (("run", "--plugin", "wav2vec2", "--set", "wav2vec2.epochs=few"), "few"),
        (("run", "--plugin", "trivial-single", "--thresholds", "best"), "'best'"),
        (("run", "nothing-of-that-name"), "'nothing-of-that-name'"),
        (("run", "--plugin", "trivial-single", "--devic", "cpu"), "--devic"),
        (("run",), "NAME"),
        (("check", "lat"), "'lat'"),
        (("doctor", "--plugin", "s4"), "'s4'"),
        (("prepare", "--plugin", "s4"), "'s4'"),
        (("simulate", "--fusions", "lat"), "'lat'"),
        (("score", "file.csv", "--data", "data", "--fold", "9"), "9"),
        (("new-plugin", "x", "--kind", "y"), "'y'"),
        (("fly",), "'fly'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_exits_with_2(ends: Callable[..., Ended], words: tuple[str, ...], offender: str) -> None:
    code, out, err = ends(*words)
    assert (code, out) == (2, ""), err
    assert offender in err


def test_what_the_user_can_fix_exits_with_1(ends: Callable[..., Ended]) -> None:
    assert ends("table", "nothing")[0] == 1
    assert ends("score", "nothing.csv", "--data", "data")[0] == 1
    assert ends("data", "check", "nowhere")[0] == 1


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        (("table", "nothing"), "RunError", 1),
        (("run", "--plugin", "wav2vec"), "UnknownName", 2),
        (("run", "--fly"), "NoSuchOption", 2),
        (("data", "check", "nowhere"), "DataError", 1),
    ],
    ids=str,
)
def test_with_json_an_error_is_json_too(
    ends: Callable[..., Ended], words: tuple[str, ...], kind: str, code: int
) -> None:
    found, out, err = ends(*words, "--json")
    error = json.loads(out)["error"]
    assert (found, error["exit_code"], error["type"]) == (code, code, kind)
    assert error["message"].strip()
    assert error["message"] in err


def test_verbose_shows_where_an_error_comes_from_and_quiet_only_warnings(ends: Callable[..., Ended]) -> None:
    assert "Traceback" not in ends("table", "nothing")[2]
    assert "Traceback" in ends("table", "nothing", "-v")[2]
    words = ("run", "--plugin", "trivial-blend", "--data", "data", "--device", "cpu")
    code, _, err = ends(*words, "--quiet")
    assert code == 0, err
    lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert lines == []


def test_a_run_leaves_a_log_with_everything_that_was_said(ends: Callable[..., Ended], home: Path) -> None:
    words = ("run", "--plugin", "trivial-blend", "--data", "data", "--device", "cpu")
    assert ends(*words, "--quiet")[0] == 0
    [file] = home.glob("blemore-runs/*/log.txt")
    first = file.read_text()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S", line) for line in first.splitlines())
    assert "started: blemore-harness run --plugin trivial-blend" in first
    assert ends(*words)[0] == 0
    assert file.read_text().startswith(first)


def test_defaults_come_from_files_and_give_way_to_variables_and_options(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = home / "config" / "blemore-harness" / "config.toml"
    user.parent.mkdir(parents=True)
    user.write_text('data = "elsewhere"\nruns = "../../of-user"\n')
    words = ("run", "--plugin", "trivial-single")
    assert str(user.parent / "elsewhere") in str(call(*words).exception)
    (home / "blemore.toml").write_text('data = "data"\ndevice = "cpu"\n')
    assert call(*words).exit_code == 0
    assert list(home.glob("of-user/trivial-single-*/record.json"))
    monkeypatch.setenv("BLEMORE_RUNS", "of-variable")
    assert call(*words).exit_code == 0
    assert list(home.glob("of-variable/trivial-single-*/record.json"))
    assert call(*words, "--runs", "of-option").exit_code == 0
    assert list(home.glob("of-option/trivial-single-*/record.json"))
    (home / "blemore.toml").write_text('data = "data"\ntrack = "nobody"\n')
    assert "unknown tracker 'nobody'" in str(call(*words).exception)
    assert call(*words, "--track", "").exit_code == 0
    assert call("table", "--help").exit_code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('dat = "x"', "did you mean 'data'"),
        ("data = 3", "found 3"),
        ('data = ""', "found ''"),
        ('device = "gpu"', "'gpu'"),
        ('track = ["mlflow"]', "found ['mlflow']"),
        ("data", "'='"),
        ("[data]\nx = 1", "found {'x': 1}"),
    ],
)
def test_a_configuration_file_that_cannot_be_meant_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "blemore.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_defaults([tmp_path / "absent.toml", file])
    assert str(file) in str(caught.value)
    assert said in str(caught.value)


def test_configuration_files_are_looked_for_where_people_expect_them() -> None:
    user, project = config_files({"XDG_CONFIG_HOME": "/x"})
    assert (user, project) == (Path("/x/blemore-harness/config.toml"), Path("blemore.toml"))
    assert config_files({"XDG_CONFIG_HOME": ""})[0] == Path("~/.config/blemore-harness/config.toml").expanduser()


def test_every_command_takes_verbose_and_quiet() -> None:
    def commands(group: click.Group) -> list[click.Command]:
        return [
            found
            for command in group.commands.values()
            for found in (commands(command) if isinstance(command, click.Group) else [command])
        ]

    for command in commands(cli):
        assert {"-v", "--verbose", "-q", "--quiet"} <= {name for param in command.params for name in param.opts}
