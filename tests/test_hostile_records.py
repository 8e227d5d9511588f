"""Records of runs that somebody edited, damaged or wrote to mislead: refused by name, never obeyed, never a crash."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from blemore_harness.cli import cli
from blemore_harness.disk import read_json
from blemore_harness.drawing.tables import draw_results, render_text
from blemore_harness.errors import BlemoreError, RunError
from blemore_harness.files.runs import Runs, copy_submission
from blemore_harness.records.analysis import analyse_system
from blemore_harness.records.reading import load_system, reading_record
from blemore_harness.systems.submission import from_plugins
from toys import Noisy, offer, open_bench

NASTY = "[/x] \x1b[31m\x9b2J"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with a fusion."""
    bench = open_bench(tmp_path_factory.mktemp("bench"), actors=9, tests=2)
    plugins, _ = offer(Noisy("one"), Noisy("two", 2.0))
    return bench.run(plugins, from_plugins(("one", "two"), "late"))[1]


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of its folder beside the same systems."""
    folder = tmp_path / "runs" / original.name
    shutil.copytree(original, folder)
    (tmp_path / "runs" / "systems").symlink_to(original.parent / "systems")
    return folder


def command(run: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words, "--runs", str(run.parent)])


def edited(run: Path, change: Any) -> None:
    record = json.loads((run / "record.json").read_text())
    change(record)
    (run / "record.json").write_text(json.dumps(record))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a record; of a list the last entry stands for all."""
    if path:
        yield path
    keys = list(value) if isinstance(value, dict) else [len(value) - 1] if isinstance(value, list) and value else []
    for key in keys:
        yield from places(value[key], (*path, key))


def with_change(record: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    found: Any = copy.deepcopy(record)
    home = found
    for key in path[:-1]:
        home = home[key]
    if value is None:
        del home[path[-1]]
    else:
        home[path[-1]] = value
    return dict(found)


def outcome(read: Callable[[], object]) -> str:
    """What a reader says; empty where it is content."""
    try:
        read()
    except BlemoreError as error:
        return str(error)
    return ""


def draw(run: Path) -> None:
    with reading_record(run) as found:
        draw_results(found)


@pytest.mark.slow
def test_whatever_is_missing_or_of_another_kind_is_an_error_of_the_record(run: Path) -> None:
    record = json.loads((run / "record.json").read_text())
    said = []
    for number, path in enumerate(places(record)):
        for value in (None, ("x", [[]])[number % 2]):
            (run / "record.json").write_text(json.dumps(with_change(record, path, value)))
            said.append(outcome(partial(draw, run)))
    refusals = [text for text in said if text]
    assert len(said) > 300
    assert len(refusals) > 50
    assert all("record.json" in text and "give the command of the run again" in text for text in refusals)


def test_reading_a_system_back_stands_any_record(run: Path) -> None:
    record = json.loads((run / "record.json").read_text())
    last = ("systems", len(record["systems"]) - 1)
    read = [("schema",), ("systems",), ("data",), *(("data", key) for key in ("root", "clips", "digest", "demo"))]
    read += [(*last, key) for key in ("name", "digest", "status", "folds", "cross_fitted")]
    read += [(*last, "cross_fitted", "score"), (*last, "cross_fitted", "score", "mean"), (*last, "folds", 0, "fold")]
    said = []
    for path in read:
        for value in (None, "x", [[]]):
            (run / "record.json").write_text(json.dumps(with_change(record, path, value)))
            said.append(outcome(partial(load_system, run.parent, run.name)))
    assert sum(bool(text) for text in said) > 20


def test_records_of_other_versions_are_told_from_damaged_ones(run: Path) -> None:
    edited(run, lambda record: record.update(schema=2))
    for words in (("table", run.name), ("analyse", run.name), ("table", run.name, "--check")):
        done = command(run, *words)
        assert isinstance(done.exception, RunError)
        assert "was written by another version of the harness (schema 2, and this one reads 1)" in str(done.exception)
    edited(run, lambda record: record.pop("schema"))
    assert "(schema None" in str(command(run, "table", run.name).exception)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, '{"seconds": NaN}', '{"a": -Infinity}', "9" * 5000, "\xff", '"x"']
)
def test_json_that_is_no_record_is_refused(run: Path, text: str) -> None:
    (run / "record.json").write_text(text, encoding="latin-1")
    for words in (("table", run.name), ("analyse", run.name), ("submit", run.name)):
        assert isinstance(command(run, *words).exception, RunError), words


def test_words_of_a_record_are_only_words(run: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        record["caveat"] = record["submission"]["name"] = NASTY
        record["warnings"] = [NASTY]
        record["submission"]["expect"] = {"score": 0.3, "source": NASTY}
        for row in record["systems"]:
            row["caveat"] = NASTY
        record["systems"][0] |= {"status": "failed", "error": {"message": NASTY}}

    edited(run, change)
    done = command(run, "table", run.name)
    assert done.exit_code == 0, done.exception
    assert done.stdout.count("[/x]") >= 5
    record = read_json(run / "record.json")
    sent = command(run, "submit", run.name)
    assert sent.exit_code == 0, sent.exception
    assert all(line.isprintable() for line in sent.stdout.splitlines())
    for text in (done.stdout, render_text(record)):
        assert all(line.isprintable() for line in text.splitlines())
        assert "\\x1b[31m" in text


@pytest.mark.parametrize("name", ["../secret.zip", "/etc/passwd", "..", "link.zip", "systems", ""])
def test_a_record_cannot_have_another_file_uploaded(run: Path, name: str) -> None:
    (run.parent / "secret.zip").write_bytes(b"secret")
    (run / "link.zip").symlink_to(run.parent / "secret.zip")
    edited(run, lambda record: record["test"].update(file=name))
    with pytest.raises(RunError, match="is gone"):
        copy_submission(run, run.parent / "out.zip")
    assert not (run.parent / "out.zip").exists()


def test_long_names_get_folders_that_are_found_again(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    name = ",".join(f"encoder-{k}@ü" for k in range(30))
    folder = runs.run(name, "0123456789abcdef")
    assert folder.name.endswith("-0123456789ab")
    assert len(folder.name.encode()) <= 255
    (folder / "record.json").write_text("{}")
    for typed in (name, name[:40], folder.name, str(folder)):
        assert runs.find(typed) == folder
    with pytest.raises(RunError, match="no run begins with"):
        runs.find(f"x{name}")
    system = runs.system("+".join(f"part-{k}" for k in range(60)), {}, "0123456789abcdef")
    assert (system.path / "identity.json").is_file()
    assert runs.system("s4d", {}, "abc").path.name == "s4d-abc"


def test_analyses_of_untouched_copies_still_work(run: Path) -> None:
    assert analyse_system(load_system(run.parent, run.name))["system"] == "late"
