"""A generated plugin is complete: it installs, keeps the contract and passes its own tests as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest
from click.testing import CliRunner

from blemore_harness.cli import cli
from blemore_harness.errors import ConfigError
from blemore_harness.hookspecs import Encoder
from blemore_harness.scaffold import KINDS, write_plugin
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.testing import checks_for


def run_tests(folder: Path, *packages: Path) -> str:
    """Run the tests of generated packages in a process of their own, with the options of the last one."""
    path = os.pathsep.join([*(str(package / "src") for package in packages), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-W", "error", *map(str, packages)],
        capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def count(report: str) -> tuple[int, int]:
    """How many tests passed, and how many were skipped."""
    return tuple(
        int(found[1]) if (found := re.search(rf"(\d+) {word}", report)) else 0 for word in ("passed", "skipped")
    )


@pytest.mark.slow
def test_a_generated_fusion_passes_its_own_tests(tmp_path: Path) -> None:
    folder = write_plugin("my-fusion", "fusion", tmp_path)
    assert folder == tmp_path / "blemore-my-fusion"
    # The checks, one test that any applied, and one of its own.
    assert sum(count(run_tests(folder, folder))) == len(checks_for(is_fusion=True)) + 2


@pytest.mark.slow
@pytest.mark.encoders
def test_generated_encoders_pass_their_own_tests(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("av")
    packages = [write_plugin(f"my-{kind}", kind, tmp_path) for kind in ("frozen", "encoder")]
    passed, skipped = count(run_tests(tmp_path, *packages))
    assert passed + skipped == 2 * (len(checks_for(is_fusion=False)) + 1) + 3
    assert skipped <= 7  # a GPU, and what neither of them defines


@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_plugin_is_found_when_installed(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put it on the path with its entry point, as an installation does."""
    folder = write_plugin("brand-new", kind, tmp_path)
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    info = folder / "src" / "blemore_brand_new-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['project']['name']}\nVersion: 0.1.0\n")
    points = project["project"]["entry-points"]["blemore_harness"]
    (info / "entry_points.txt").write_text("[blemore_harness]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
    monkeypatch.syspath_prepend(str(folder / "src"))
    plugins = load_plugins({})
    assert plugins.failures == []
    (offer,) = plugins.offers["brand-new"]
    assert offer.distribution.name == "blemore-brand-new"
    assert isinstance(offer.system, Encoder) == (kind != "fusion")
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["src/blemore_brand_new"]
    for name in [name for name in sys.modules if name.startswith("blemore_brand_new")]:
        del sys.modules[name]


def test_nothing_of_the_templates_is_left(tmp_path: Path) -> None:
    for kind in KINDS:
        folder = write_plugin(f"x{kind}", kind, tmp_path)
        for path in folder.rglob("*"):
            assert not path.is_file() or ("@NAME@" not in path.read_text() and "@CLASS@" not in path.read_text())
            assert not path.is_file() or "@MODULE@" not in path.read_text()


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("My_Encoder", "did you mean 'my-encoder'"), ("../up", "did you mean 'up'"), ("2fast", "did you mean 'fast'"),
        ("", "found ''$"), ("a--b", "did you mean 'a-b'"), ("wäre", "did you mean 'w-re'"),
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_is_refused_with_advice(name: str, advice: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=advice):
        write_plugin(name, "frozen", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["harness", "plugins", "x" * 61])
def test_a_name_that_would_hide_a_package_or_fill_a_line_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is installed already, and would be hidden|at most 60 letters, found 61"):
        write_plugin(name, "frozen", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["none", "true", "encoder", "fusion", "embeddings", "probabilities", "invalid-option", "head", "class", "np"],
)
def test_words_of_python_and_of_the_template_are_good_names(name: str, kind: str, tmp_path: Path) -> None:
    folder = write_plugin(name, kind, tmp_path)
    (source,) = (folder / "src").glob("*/__init__.py")
    module = types.ModuleType(f"made_{kind}")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(source.read_text(), source, "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    (system,) = getattr(module, "blemore_fusions" if kind == "fusion" else "blemore_encoders")()
    assert system.name == name
    assert system.Options() is not None
    assert type(system).__mro__[1].__module__ == "blemore_harness.hookspecs"


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "blemore-mine" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(ConfigError, match="is there already and is left alone"):
        write_plugin("mine", "frozen", tmp_path)
    assert list(kept.parent.iterdir()) == [kept]


def test_a_name_that_is_taken_or_a_kind_that_is_not_known_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["new-plugin", "late", "--into", str(tmp_path)], standalone_mode=False)
    assert isinstance(done.exception, ConfigError)
    assert "'late' is offered by an installed plugin already" in str(done.exception)
    with pytest.raises(ConfigError, match="expected a kind of encoder, frozen, fusion, found 'head'"):
        write_plugin("mine", "head", tmp_path)


def test_the_command_says_what_comes_next(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["new-plugin", "mine", "--kind", "fusion", "--into", str(tmp_path)], standalone_mode=False
    )
    assert done.exception is None
    assert "blemore-harness check mine" in done.stdout
    spaced = CliRunner().invoke(cli, ["new-plugin", "mine", "--into", str(tmp_path / "a b")], standalone_mode=False)
    assert f"pip install -e '{tmp_path}/a b/blemore-mine' && " in spaced.stdout
    assert (tmp_path / "blemore-mine" / "README.md").exists()
