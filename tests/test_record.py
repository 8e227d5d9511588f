"""The record as a type: written and read back, its JSON schema, what is refused, and words that are only words."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from blemore_harness.cli import cli
from blemore_harness.drawing.tables import render_text
from blemore_harness.errors import RunError
from blemore_harness.files.runs import copy_submission, read_record
from blemore_harness.record import types
from blemore_harness.record.folds import Curve
from blemore_harness.record.schema import SCHEMA_FILE, make_schema
from blemore_harness.record.types import Record
from blemore_harness.systems.submission import from_plugins
from sample_records import failed_system, sample_record, sample_system
from toys import Noisy, offer, open_bench

NASTY = "[/x] \x1b[31m\x9b2J"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with a finished, a failed and a skipped system."""
    bench = open_bench(tmp_path_factory.mktemp("bench"), actors=6, tests=2)
    bad = Noisy("bad")
    bad.trouble[1] = RuntimeError("out of luck")
    return bench.run(offer(Noisy("good"), bad)[0], from_plugins(("good", "bad"), "late"))[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with a fusion and labels for test clips by a strategy that guesses actors."""
    bench = open_bench(tmp_path_factory.mktemp("bench"), actors=6, tests=2)
    return bench.run(offer(Noisy("one"), Noisy("two", 2.0))[0], from_plugins(("one", "two"), "late"))[1]


def content_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return found


def test_the_shipped_schema_is_that_of_the_types() -> None:
    shipped = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    assert shipped == make_schema(), "run python -m blemore_harness.record.schema"
    jsonschema.Draft202012Validator.check_schema(shipped)
    assert shipped["properties"]["schema"]["enum"] == [types.RECORD_SCHEMA]


def test_records_of_real_runs_fit_the_schema_and_come_back_the_same(run: Path, whole: Path) -> None:
    for folder in (run, whole):
        content = content_of(folder)
        jsonschema.validate(content, make_schema())
        assert read_record(folder).to_json() == content
    assert [system.status for system in read_record(run).systems] == ["failed", "skipped", "finished"]
    assert len(read_record(whole).finished) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["data"].pop("folds"),
        lambda content: content["systems"][0].update(counts=[]),
        lambda content: content["systems"][0]["official"]["score"].update(mean="high"),
        lambda content: content["systems"][0].update(status="won"),
        lambda content: content["data"].update(demo=0),
        lambda content: content.update(warnings="one"),
    ],
)
def test_schema_and_reader_refuse_the_same(whole: Path, change: Callable[[Any], object]) -> None:
    content = content_of(whole)
    change(content)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, make_schema())
    with pytest.raises(RunError):
        Record.from_json(content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["data"].pop("folds"), ["'folds'", "data"]),
        (lambda content: content["data"].update(fold=3), ["'data.fold'"]),
        (lambda content: content["systems"][0]["official"]["score"].update(mean="high"),
         ["systems[0].official.score.mean", "a number", "'high'"]),
        (lambda content: content["systems"][0]["intervals"].update(score=[0.1]),
         ["systems[0].intervals.score", "2 entries"]),
        (lambda content: content.update(status="won"), ["status", "'finished'", "'won'"]),
        (lambda content: content.update(data=[]), ["data", "an object"]),
    ],
)  # fmt: skip
def test_malformed_records_name_the_key(tmp_path: Path, change: Callable[[Any], object], words: list[str]) -> None:
    content = copy.deepcopy(sample_record(sample_system("one")).to_json())
    change(content)
    (tmp_path / "record.json").write_text(json.dumps(content))
    with pytest.raises(RunError) as refusal:
        read_record(tmp_path)
    for word in (str(tmp_path / "record.json"), *words):
        assert word in str(refusal.value)


@pytest.mark.parametrize("schema", [1, 2, 4, None])
def test_records_of_other_versions_say_what_to_do(tmp_path: Path, schema: int | None) -> None:
    folder = tmp_path / "sample-0123456789ab"
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps({**sample_record().to_json(), "schema": schema}))
    for words in (("table", "sample"), ("analyse", "sample"), ("table", "sample", "--check"), ("submit", "sample")):
        refusal = command(folder, *words).exception
        assert isinstance(refusal, RunError)
        assert f"expected a record of schema 3, found schema {schema}: run the same command again, or" in str(refusal)
        assert "\n" not in str(refusal)


@pytest.mark.parametrize("text", ["", "[]", '{"seconds": NaN}'])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(RunError, match=r"record\.json"):
        read_record(tmp_path)


def command(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words, "--runs", str(folder.parent)])


def test_words_of_a_record_are_only_words(tmp_path: Path) -> None:
    record = sample_record(sample_system("one", caveat=NASTY), failed_system("two", NASTY), caveat=NASTY)
    submission = replace(record.submission, name=NASTY, expect={"score": 0.3, "source": NASTY})
    record = replace(record, submission=submission, warnings=(NASTY,))
    folder = tmp_path / "sample-0123456789ab"
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(record.to_json()))
    done = command(folder, "table", "sample")
    assert done.exit_code == 0, done.exception
    assert done.stdout.count("[/x]") >= 5
    for text in (done.stdout, render_text(record)):
        assert all(line.isprintable() for line in text.splitlines())
        assert "\\x1b[31m" in text


@pytest.mark.parametrize("name", ["../secret.zip", "/etc/passwd", "..", ""])
def test_only_a_file_of_the_run_is_uploaded(tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "secret.zip").write_bytes(b"secret")
    test = replace(sample_record().test, file=name)  # type: ignore[type-var]
    with pytest.raises(RunError, match="is missing"):
        copy_submission(run, sample_record(test=test), tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_curves_are_read_from_a_record_and_other_notes_are_not() -> None:
    notes = ({"fold": 0, "loss": {"curve": {"epochs": [1, 2], "values": [0.5, 0.25]}}, "seed": 7, "odd": {"curve": 3}},
             {"fold": None, "weights": {"curve": 0.5}})  # fmt: skip
    assert sample_system("one", notes=notes).curves == (Curve(0, "loss", (1, 2), (0.5, 0.25)),)
