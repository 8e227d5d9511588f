"""Commands of plugins: listed without an import, called like the harness's own, and never in the way of others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blemore_harness.cli import main
from installed_plugins import Site, make_site

GOOD = """
import click
from blemore_harness.cli.root import Command, data_option

@click.command(cls=Command)
@click.option("--raises", default="")
@data_option
def shout(raises, data):
    "Say it aloud."
    from blemore_harness import errors
    if raises:
        raise {**vars(errors), **__builtins__}[raises]("found 17, expected 18")
    click.echo(f"aloud {data}")
    return 5
"""

Ended = tuple[int, str, str]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with make_site(tmp_path / "site") as site:
        yield site


@pytest.fixture
def ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs `main` in this process: exit code, stdout and stderr."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("BLEMORE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["blemore-harness", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def install(site: Site, code: str = GOOD, command: str = "shout", distribution: str = "loud-plugin") -> None:
    site.install(distribution.replace("-", "_"), code, command, distribution, group="blemore_harness.commands",
                 target=":shout", head="")  # fmt: skip


def test_it_is_listed_with_its_package_and_not_imported(site: Site, ends: Callable[..., Ended]) -> None:
    install(site, "raise SystemExit('imported')")
    code, out, err = ends("--help")
    assert (code, err) == (0, "")
    [line] = [line for line in out.splitlines() if line.startswith("  shout ")]
    assert "loud-plugin 1.0" in line
    assert not [name for name in sys.modules if name.startswith("plugin_")]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (f"raise SystemExit('imported')\n{GOOD}", "Say it aloud."),
        (GOOD.replace('"Say it aloud."', '"""\n    Say it\n    aloud.\n\n    More.\n    """'), "Say it aloud."),
        (GOOD.replace("Say it aloud.", "Say\\x1b it."), "Say\\x1b it."),
        (GOOD.replace('"Say it aloud."', ""), "loud-plugin 1.0"),
        ("from elsewhere import shout", "loud-plugin 1.0"),
        ("def", "loud-plugin 1.0"),
        ("\0", "loud-plugin 1.0"),
    ],
)
def test_it_is_listed_with_its_docstring(site: Site, ends: Callable[..., Ended], code: str, said: str) -> None:
    install(site, code)
    ended, out, err = ends("--help")
    assert (ended, err) == (0, "")
    [line] = [line for line in out.splitlines() if line.startswith("  shout ")]
    assert said in line
    assert not [name for name in sys.modules if name.startswith("plugin_")]


def test_the_package_that_holds_it_is_not_imported_either(site: Site, ends: Callable[..., Ended]) -> None:
    site.install("loud", "", "shout", "loud-plugin", group="blemore_harness.commands", target=".deep.inner:shout")
    [module] = site.folder.glob("*loud*.py")
    package = module.with_suffix("")
    (package / "deep").mkdir(parents=True)
    module.unlink()
    for folder in (package, package / "deep"):
        (folder / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "deep" / "inner.py").write_text(GOOD)
    assert "Say it aloud." in ends("--help")[1]


def test_it_is_called_like_any_other(site: Site, ends: Callable[..., Ended], tmp_path: Path) -> None:
    install(site)
    (tmp_path / "blemore.toml").write_text('data = "here"\n')
    assert ends("shout") == (5, f"aloud {tmp_path / 'here'}\n", "")
    code, out, _ = ends("shout", "--help")
    assert (code, "Say it aloud." in out, "--verbose" in out) == (0, True, True)
    assert ends("shout", "--fly")[0] == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [("DataError", 1), ("UnknownName", 2), ("OSError", 1), ("ValueError", 3), ("KeyError", 3)],
)
def test_its_errors_are_one_line(site: Site, ends: Callable[..., Ended], error: str, code: int) -> None:
    install(site, GOOD.replace('"found 17', '*[28][:"OSError" == raises], "found 17'))
    found, out, err = ends("shout", "--raises", error)
    assert (found, out, len(err.splitlines())) == (code, "", 1)
    assert code != 3 or ("'shout'" in err and error in err)
    assert "Traceback" in ends("shout", "--raises", error, "-v")[2]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nowhere", "'nowhere'"),
        ("raise SystemExit(4)", "4"),
        ("def shout(): pass", "function"),
        ("other = 1", "'shout'"),
        ("def", "SyntaxError"),
    ],
)
def test_what_cannot_be_imported_fails_when_called(
    site: Site, ends: Callable[..., Ended], code: str, reason: str
) -> None:
    install(site, code)
    assert ends("--help")[0] == 0
    found, out, err = ends("shout")
    assert (found, out, len(err.splitlines())) == (3, "", 1)
    assert all(part in err for part in ("'shout'", "loud-plugin 1.0", reason))
    assert ends("submissions")[0] == 0


def test_two_packages_that_offer_one_are_named(site: Site, ends: Callable[..., Ended]) -> None:
    install(site)
    install(site, distribution="echo-plugin")
    assert ends("--help")[0] == 0
    code, _, err = ends("shout")
    assert code != 0
    assert all(part in err for part in ("'shout'", "loud-plugin 1.0", "echo-plugin 1.0"))


def test_a_command_of_the_harness_is_never_replaced(site: Site, ends: Callable[..., Ended]) -> None:
    install(site, command="submissions")
    code, out, _ = ends("submissions")
    assert (code, "aloud" in out) == (0, False)


def test_without_metadata_it_still_works(site: Site, ends: Callable[..., Ended]) -> None:
    install(site)
    next(site.folder.glob("*.dist-info/METADATA")).unlink()
    assert ends("--help")[0] == 0
    assert ends("shout")[0] == 5
