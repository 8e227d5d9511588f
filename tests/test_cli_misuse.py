"""Command lines that people get wrong: each is said in one line, nothing asked for is silently left aside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from blemore_harness.cli import cli, main
from blemore_harness.disk import cache_root
from blemore_harness.errors import BlemoreError, ConfigError
from blemore_harness.systems.submission import find_submission
from builders import rows_of, write_download


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "cache"))
    return str(write_download(tmp_path / "data", rows_of(actors=6, folds=3)))


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, [*words])


def refusal(*words: str) -> str:
    done = call(*words)
    assert isinstance(done.exception, BlemoreError), done.output
    assert done.exception.exit_code == (2 if isinstance(done.exception, ConfigError) else 1)
    return str(done.exception)


def test_a_fusion_is_looked_up_and_said_to_be_unused_where_there_is_nothing_to_fuse(data: str) -> None:
    assert "'lat'; did you mean 'late'?" in refusal(
        "run", "--plugin", "trivial-single", "--fusion", "lat", "--data", data
    )
    assert "'prosody' is an encoder, not a fusion" in refusal(
        "run", "--plugin", "trivial-single", "--fusion", "prosody", "--data", data
    )
    done = call("run", "--plugin", "trivial-single", "--fusion", "late", "--data", data)
    assert done.exit_code == 0, done.exception
    assert "warning: --fusion late is ignored" in done.stderr


def test_a_submission_s_fusion_cannot_be_overruled_in_silence(data: str) -> None:
    done = call("run", "uzh-9enc", "--fusion", "mean", "--data", data)
    assert done.exit_code == 2
    assert "'uzh-9enc'" in done.stderr
    assert "--fusion requires --plugin" in done.stderr


@pytest.mark.parametrize("minutes", ["nan", "inf", "-inf", "0", "-1", "x", "1e300"])
def test_a_time_limit_is_a_number_of_minutes(minutes: str) -> None:
    done = call("run", "--plugin", "trivial-single", "--isolate", "--time-limit", minutes)
    assert done.exit_code == 2
    assert "time-limit" in done.stderr


@pytest.mark.slow
def test_more_plugins_than_a_folder_s_name_holds(data: str) -> None:
    names = ",".join(f"trivial-single@v{number}" for number in range(30))
    done = call("run", "--plugin", names, "--fusion", "mean", "--data", data)
    assert done.exit_code == 0, done.exception
    assert call("table", names).exit_code == 0
    assert call("analyse", names).exit_code == 0


def test_the_doctor_does_not_leave_options_aside() -> None:
    done = call("doctor", "--set", "foo.x=1")
    assert done.exit_code == 2
    assert "--set goes with the NAME of a submission or --plugin" in done.stderr


def test_many_runs_are_not_all_listed(tmp_path: Path) -> None:
    for number in range(30):
        folder = tmp_path / "runs" / f"run-{number:02d}-0123456789ab"
        folder.mkdir(parents=True)
        (folder / "record.json").write_text("{}")
    said = refusal("table", "nothing", "--runs", str(tmp_path / "runs"))
    assert said.endswith("run-09-0123456789ab, and 20 more)")
    assert "(found: run-10-0123456789ab, run-11-0123456789ab, " in refusal(
        "table", "run-1", "--runs", str(tmp_path / "runs")
    )


@pytest.mark.parametrize("name", ["submissions/uzh-9enc.toml", "uzh-9enc.toml", "./uzh-9enc", "/tmp/uzh-9enc.toml"])
def test_a_submission_is_named_and_not_pointed_at(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'.*'; did you mean 'uzh-9enc'\?"):
        find_submission(name, tmp_path)


def test_names_of_any_length_and_case(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a{5000}"):
        find_submission("a" * 5000, tmp_path)
    for name in ("\udcff", "ü" * 5000, "\udcff" * 5000):
        assert "(found: none)" in refusal("table", name, "--runs", str(tmp_path))
    assert "did you mean 'wavlm'?" in refusal("run", "--plugin", "WavLM")


def test_a_cache_in_nobody_s_home_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"BLEMORE_CACHE=~nobody-here/x.*name a folder for the cache"):
        cache_root({"BLEMORE_CACHE": "~nobody-here/x"})

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ConfigError, match="found no HOME"):
        cache_root({})
    assert cache_root({"XDG_CACHE_HOME": "/x"}) == Path("/x/blemore-harness")


@pytest.mark.parametrize(("word", "resumes"), [("run", True), ("prepare", True), ("simulate", False), ("check", False)])
def test_ctrl_c_promises_only_what_is_so(
    word: str, resumes: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["blemore-harness", word])
    monkeypatch.setattr(cli, "main", interrupted)
    with keeping_handlers(), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert ("the same command resumes" in capsys.readouterr().err) == resumes


@contextmanager
def keeping_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_sent_twice_interrupts_once(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `timeout` does: the command may be tidying up. A third one, of either kind, is not for Python any more."""
    tidied = []

    def interrupted(**_: object) -> None:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)
            tidied.extend({signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)})

    monkeypatch.setattr(cli, "main", interrupted)
    with keeping_handlers():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell may have had ignored
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 130
    assert tidied == [signal.SIG_DFL]


def test_a_terminal_that_knows_ascii_alone_gets_an_answer(tmp_path: Path) -> None:
    code = "import sys; from blemore_harness.cli import main; sys.argv[1:] = ['submissions']; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
