"""`runs`: what is stored is listed, and nothing is deleted that another run, a process or a resumed run needs."""

from __future__ import annotations

import fcntl
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from blemore_harness.cli import cli
from blemore_harness.disk import LOCK_FILE, hold
from blemore_harness.drawing.console import PlainConsole
from blemore_harness.drawing.run_list import draw_runs, list_rows
from blemore_harness.errors import RunError
from blemore_harness.files.housekeeping import is_held, list_removals, list_rubbish
from blemore_harness.files.runs import Runs, folder_name
from blemore_harness.record.types import Record
from sample_records import failed_system, sample_record, sample_system

DIGEST = {name: name * 16 for name in "abcd"}


def put_system(root: Path, name: str, size: int = 1000) -> Path:
    folder = root / "systems" / folder_name(name, DIGEST[name])
    folder.mkdir(parents=True)
    (folder / ".lock").touch()
    (folder / "fold-0.csv").write_bytes(b"x" * size)
    return folder


def put_run(root: Path, name: str, *systems: str, started: str = "2026-11-01T00:00:00+00:00", **changes: Any) -> Path:
    """A run with its record; folders of its systems are put where they are missing."""
    for system in systems:
        if not (root / "systems" / folder_name(system, DIGEST[system])).exists():
            put_system(root, system)
    scored = (sample_system(each, digest=DIGEST[each], presence=0.5 + k / 10) for k, each in enumerate(systems))
    record = sample_record(*scored, **changes)
    record = replace(record, execution=replace(record.execution, started=started))
    return put_record(root, name, record)


def put_record(root: Path, name: str, record: Record) -> Path:
    folder = root / f"{name}-0123456789ab"
    folder.mkdir(parents=True)
    (folder / ".lock").touch()
    (folder / "record.json").write_text(json.dumps(record.to_json()))
    return folder


def command(root: Path, *words: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["runs", *words, "--runs", str(root)], input=answer)


def names(root: Path) -> set[str]:
    return {path.name.partition("-")[0] for path in [*root.glob("*-*"), *root.glob("systems/*")]}


def test_sizes_of_kept_models_are_listed_and_go_with_their_system(tmp_path: Path) -> None:
    put_run(tmp_path, "one", "a", "b")
    put_run(tmp_path, "two", "b")
    for name, part, size in (("a", "final", 5000), ("a", "fold-0", 300), ("b", "final", 70)):
        model = tmp_path / "systems" / folder_name(name, DIGEST[name]) / f"{part}-model"
        (model / "deeper").mkdir(parents=True)
        (model / "deeper" / "head.safetensors").write_bytes(b"x" * size)
    sizes = {row["run"].partition("-")[0]: (row["model_bytes"], row["bytes"]) for row in list_rows(tmp_path)}
    records = {name: next(tmp_path.glob(f"{name}-*/record.json")).stat().st_size for name in sizes}
    assert sizes == {"one": (5370, 5370 + 2000 + records["one"]), "two": (70, 70 + 1000 + records["two"])}
    assert "5.4 kB" in command(tmp_path).stdout
    [run, system] = list_removals(Runs(tmp_path), [next(tmp_path.glob("one-*"))])
    assert (system.folder.name, system.size) == (folder_name("a", DIGEST["a"]), 1000 + 5300)
    assert run.size == records["one"]


def test_runs_are_listed_with_state_and_size(tmp_path: Path) -> None:
    put_run(tmp_path, "one", "a", "b", started="2026-11-01T10:20:30+00:00", demo=True)
    put_run(tmp_path, "two", "b", started="2026-11-03T00:00:00+00:00")
    killed = put_run(tmp_path, "killed", started="2026-11-02T00:00:00+00:00", status="started")
    old = put_record(tmp_path, "old", sample_record())
    (old / "record.json").write_text(json.dumps({**sample_record().to_json(), "schema": 1}))
    broken = put_record(tmp_path, "broken", sample_record())
    (broken / "record.json").write_text("{")
    rows = list_rows(tmp_path)
    assert [row["run"].partition("-")[0] for row in rows[:3]] == ["two", "killed", "one"]
    two, _, one = rows[:3]
    assert (one["best"], one["systems"], one["demo"]) == ("b", 2, True)
    assert one["score"] == pytest.approx((0.6 - 0.03 + 0.33 - 0.03) / 2)
    assert one["bytes"] == 2000 + (tmp_path / one["run"] / "record.json").stat().st_size
    assert (one["shared_bytes"], two["shared_bytes"]) == (1000, 1000)
    assert {row["run"].partition("-")[0]: row["state"] for row in rows} == {
        "two": "finished", "killed": "interrupted", "one": "finished", "old": "unreadable", "broken": "unreadable",
    }  # fmt: skip
    assert "schema 1" in next(row["problem"] for row in rows if row["run"].startswith("old"))
    with hold(killed, str):
        assert {row["state"] for row in list_rows(tmp_path) if row["run"].startswith("killed")} == {"running"}
    console = PlainConsole(width=80, record=True)
    console.print(draw_runs(rows, tmp_path))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "2026-11-01 10:20" in text
    assert json.loads(command(tmp_path, "--json").stdout) == rows


def test_an_empty_folder_has_no_runs(tmp_path: Path) -> None:
    result = command(tmp_path / "nowhere")
    assert (result.exit_code, "no runs" in result.stdout) == (0, True)
    assert "nothing to delete" in command(tmp_path / "nowhere", "clean").stdout


def test_a_run_is_removed_with_the_systems_that_are_its_own(tmp_path: Path) -> None:
    put_run(tmp_path, "one", "a", "b")
    put_run(tmp_path, "two", "b", "c")
    assert command(tmp_path, "remove", "one").exit_code == 2  # no terminal to ask on
    assert names(tmp_path) == {"one", "two", "a", "b", "c"}
    result = command(tmp_path, "remove", "one", "--yes")
    assert (result.exit_code, "deleted: 2 of 2" in result.stdout) == (0, True)
    assert names(tmp_path) == {"two", "b", "c"}
    assert command(tmp_path, "remove", "two", "two", "--yes").exit_code == 0
    assert names(tmp_path) == set()


@pytest.mark.parametrize(("answer", "left"), [("y\n", {"two", "b"}), ("n\n", {"one", "two", "a", "b"})])
def test_it_asks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: set[str]) -> None:
    put_run(tmp_path, "one", "a")
    put_run(tmp_path, "two", "b")
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)
    command(tmp_path, "remove", "one", answer=answer)
    assert names(tmp_path) == left


@pytest.mark.once
@pytest.mark.parametrize("held", ["one-0123456789ab", "systems/a-aaaaaaaaaaaaaaaa"])
def test_a_folder_that_a_process_works_on_is_not_removed(tmp_path: Path, held: str) -> None:
    put_run(tmp_path, "one", "a")
    with hold(tmp_path / held, str):
        result = command(tmp_path, "remove", "one", "--yes")
        assert isinstance(result.exception, RunError)
        assert held in str(result.exception)
    assert names(tmp_path) == {"one", "a"}


def test_cleaning_takes_what_no_run_needs(tmp_path: Path) -> None:
    put_run(tmp_path, "one", "a")
    put_system(tmp_path, "b")
    put_system(tmp_path, "c")
    put_record(tmp_path, "failed", sample_record(failed_system("c", "no"), status="failed"))
    put_record(tmp_path, "half", sample_record(sample_system("x"), failed_system("c", "no"), status="finished"))
    leftover = tmp_path / ".record.json.abc.tmp"
    leftover.write_text("x")
    result = command(tmp_path, "clean", "--yes")
    assert result.exit_code == 0
    assert names(tmp_path) == {"one", "a", "half"}
    assert not leftover.exists()
    assert "nothing to delete" in command(tmp_path, "clean", "--yes").stdout


def test_what_can_be_resumed_or_is_of_an_older_version_is_kept(tmp_path: Path) -> None:
    put_system(tmp_path, "a")
    put_system(tmp_path, "b")
    put_system(tmp_path, "c")
    put_system(tmp_path, "d")
    submission = replace(sample_record().submission, encoders=("a",), fusion="b")
    put_record(tmp_path, "killed", sample_record(status="started", submission=submission))
    old = put_run(tmp_path, "old", "c")
    content = json.loads((old / "record.json").read_text())
    del content["systems"][0]["card"]
    (old / "record.json").write_text(json.dumps({**content, "schema": 2}))
    assert [each.folder.name[0] for each in list_rubbish(Runs(tmp_path))] == ["d"]


def test_a_damaged_record_stops_the_cleaning_and_can_be_removed(tmp_path: Path) -> None:
    put_run(tmp_path, "one", "a")
    broken = put_run(tmp_path, "broken", "b")
    (broken / "record.json").write_text("{")
    refusal = command(tmp_path, "clean", "--yes").exception
    assert isinstance(refusal, RunError)
    assert broken.name in str(refusal)
    assert names(tmp_path) == {"one", "broken", "a", "b"}
    assert isinstance(command(tmp_path, "remove", "one", "--yes").exception, RunError)
    assert command(tmp_path, "remove", "broken", "--yes").exit_code == 0
    assert command(tmp_path, "clean", "--yes").exit_code == 0
    assert names(tmp_path) == {"one", "a"}


def test_a_run_of_another_folder_is_refused(tmp_path: Path) -> None:
    put_run(tmp_path / "here", "one", "a")
    elsewhere = put_run(tmp_path / "there", "other", "b")
    refusal = command(tmp_path / "here", "remove", str(elsewhere), "--yes").exception
    assert isinstance(refusal, RunError)
    assert str(elsewhere) in str(refusal)
    assert (names(tmp_path / "here"), names(tmp_path / "there")) == ({"one", "a"}, {"other", "b"})


@pytest.mark.once
def test_cleaning_leaves_alone_what_a_process_works_on(tmp_path: Path) -> None:
    system = put_system(tmp_path, "a")
    with hold(system, str):
        assert list_rubbish(Runs(tmp_path)) == []
    assert [each.folder for each in list_rubbish(Runs(tmp_path))] == [system]


def test_parts_of_an_early_fusion_belong_to_its_run(tmp_path: Path) -> None:
    system = sample_system("a+b", digest=DIGEST["a"])
    put_system(tmp_path, "b")
    run = put_record(tmp_path, "early", sample_record(system))
    content = json.loads((run / "record.json").read_text())
    facts = {k: v for k, v in content["systems"][0].items() if k in ("name", "kind", "modality", "plugin", "digest",
             "options", "options_given", "base_models", "parts", "caveat", "card")}  # fmt: skip
    content["systems"][0]["parts"] = [{**facts, "name": "b", "digest": DIGEST["b"]}]
    (run / "record.json").write_text(json.dumps(content))
    assert list_rubbish(Runs(tmp_path)) == []
    assert {each.folder.name[0] for each in list_removals(Runs(tmp_path), [run])} == {"e", "b"}


def test_an_encoder_with_a_seed_keeps_the_folder_that_a_run_with_that_seed_has(tmp_path: Path) -> None:
    system = sample_system("a@seed1", digest=DIGEST["a"])
    folder = put_system(tmp_path, "a")
    run = put_record(tmp_path, "average", sample_record(system))
    assert list_rubbish(Runs(tmp_path)) == []
    assert {each.folder for each in list_removals(Runs(tmp_path), [run])} == {run.resolve(), folder}


def test_folders_named_in_a_configuration_file_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blemore.toml").write_text('runs = "mine"\n')
    put_run(tmp_path / "mine", "one", "a")
    put_system(tmp_path / "mine", "b")
    assert "one-0123456789ab" in CliRunner().invoke(cli, ["runs"]).stdout
    assert CliRunner().invoke(cli, ["runs", "clean", "--yes"]).exit_code == 0
    assert names(tmp_path / "mine") == {"one", "a"}


def test_looking_whether_a_folder_is_worked_on_is_no_work(tmp_path: Path) -> None:
    with hold(tmp_path, print):
        assert is_held(tmp_path)
    with (tmp_path / LOCK_FILE).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not is_held(tmp_path)
