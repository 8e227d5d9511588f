"""The command `predictions`: a row per clip, the same numbers as the run's, in every format."""

from __future__ import annotations

import csv
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from blemore_harness.cli import cli
from blemore_harness.clips import EMOTIONS
from blemore_harness.errors import ConfigError, ExtraMissing, UnknownName
from blemore_harness.files.prediction_files import read_probabilities
from blemore_harness.scoring.reading import load_system
from blemore_harness.systems.submission import from_plugins
from blemore_pages.contents import read_contents, read_system
from blemore_pages.predictions.columns import list_predictions, to_csv, write_predictions
from toys import Noisy, offer, open_bench, system


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of all runs, and the record and folder of one with a fusion and test clips."""
    bench = open_bench(tmp_path_factory.mktemp("bench"), actors=9, tests=4)
    plugins, _ = offer(Noisy("one"), Noisy("two", 2.0))
    record, folder = bench.run(plugins, from_plugins(("one", "two"), "late"))
    return bench.root / "runs", record, folder


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def ask(*words: object) -> Any:
    return CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)


@pytest.mark.parametrize("name", ["one", "late"])
def test_every_clip_has_a_row_and_the_rows_score_what_the_record_says(finished: Any, name: str) -> None:
    runs, record, folder = finished
    done = ask("predictions", folder.name, "--system", name, "--runs", runs)
    assert done.exit_code == 0
    rows = rows_of(done.stdout)
    train, test = ([row for row in rows if row["part"] == part] for part in ("train", "test"))
    assert (len(train), len(test)) == (90, 4)
    found = system(record, name)
    scores = []
    for fold in ("0", "1", "2"):
        mine = [row for row in train if row["fold"] == fold]
        right = [row["truth"].partition(" ")[0] == row["answer"].partition(" ")[0] for row in mine]
        assert [row["right_presence"] for row in mine] == [str(each).lower() for each in right]
        blends = [row for row in mine if "+" in row["truth"]]
        exact = [row["truth"] == row["answer"] for row in blends]
        assert [row["right_salience"] for row in blends] == [str(each).lower() for each in exact]
        assert {row["right_salience"] for row in mine if "+" not in row["truth"]} == {""}
        scores.append(np.mean(right) / 2 + np.mean(exact) / 2)
    assert np.mean(scores) == pytest.approx(found["cross_fitted"]["score"]["mean"])
    assert all(row["clip"].startswith(f"{row['actor']}_") for row in train)
    assert {row[name] for row in test for name in ("actor", "fold", "truth", "right_presence", "right_salience")} == {
        ""
    }


def test_probabilities_are_those_of_the_folds_bit_for_bit(finished: Any) -> None:
    runs, record, folder = finished
    rows = rows_of(ask("predictions", folder.name, "--system", "one", "--runs", runs).stdout)
    given = {row["clip"]: [float(row[name]) for name in EMOTIONS] for row in rows}
    home = runs / "systems" / f"one-{system(record, 'one')['digest']}"
    kept: dict[str, list[float]] = {}
    for part in ("fold-0", "fold-1", "fold-2", "final"):
        found = read_probabilities(home / f"{part}.csv")
        kept |= dict(zip(found.ids, found.values.tolist(), strict=True))
    assert given == kept


def test_answers_for_test_clips_are_those_of_the_leaderboard_file(finished: Any) -> None:
    runs, record, folder = finished
    name, strategy = record["test"]["system"], record["test"]["strategy"]
    rows = rows_of(ask("predictions", folder.name, "--system", name, "--runs", runs).stdout)
    test = {row["clip"]: row for row in rows if row["part"] == "test"}
    with zipfile.ZipFile(folder / "submission.zip") as archive:
        written = json.loads(archive.read(archive.namelist()[0]))["predictions"]
    assert {f"{clip}.mov" for clip in test} == written.keys()
    for clip, row in test.items():
        entry = written[f"{clip}.mov"]
        names, shares = "+".join(e["emotion"] for e in entry), "/".join(str(int(e["salience"])) for e in entry)
        assert row["answer"] == (names if len(entry) == 1 else f"{names} {shares}")
        assert row["thresholds"] == strategy
    assert {row["thresholds"] for row in rows if row["part"] == "train"} == {"other-folds"}


def test_all_formats_hold_the_same(finished: Any, tmp_path: Path) -> None:
    runs, _, folder = finished
    columns = list_predictions(read_system(runs, folder.name))
    assert read_system(runs, folder.name).name == "late"
    for ending in ("csv", "json"):
        done = ask("predictions", folder.name, "--runs", runs, "-o", tmp_path / f"p.{ending}")
        assert (done.exit_code, done.stdout) == (0, "")
        assert "94 clips" in done.stderr
    assert (tmp_path / "p.csv").read_text() == to_csv(columns)
    listed = json.loads((tmp_path / "p.json").read_text())
    assert {name: [row[name] for row in listed] for name in columns} == columns
    assert json.loads(ask("predictions", folder.name, "--runs", runs, "--json").stdout) == listed


@pytest.mark.report
def test_parquet_holds_the_same_with_types(finished: Any, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    runs, _, folder = finished
    columns = list_predictions(read_system(runs, folder.name))
    write_predictions(columns, tmp_path / "p.parquet")
    table = parquet.read_table(tmp_path / "p.parquet")
    assert table.to_pydict() == columns
    assert {str(table.schema.field(name).type) for name in EMOTIONS} == {"double"}
    assert [str(table.schema.field(name).type) for name in ("fold", "right_salience")] == ["int64", "bool"]


def test_parquet_without_its_package_says_what_to_install(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, _, folder = finished
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExtraMissing, match=r"pyarrow .*blemore-harness\[report\]"):
        write_predictions(list_predictions(read_system(runs, folder.name)), tmp_path / "p.parquet")
    assert list(tmp_path.iterdir()) == []


def test_other_endings_systems_and_double_outputs_are_refused(finished: Any, tmp_path: Path) -> None:
    runs, _, folder = finished
    with pytest.raises(ConfigError, match=r"\.parquet, found p\.xlsx"):
        ask("predictions", "no such run", "--runs", runs, "-o", tmp_path / "p.xlsx")
    with pytest.raises(UnknownName, match="three"):
        ask("predictions", folder.name, "--system", "three", "--runs", runs)
    assert ask("predictions", folder.name, "--runs", runs, "-o", tmp_path / "p.csv", "--json").exit_code == 2


def test_a_final_fit_that_was_made_again_for_other_test_clips_is_reported(finished: Any, tmp_path: Path) -> None:
    import shutil

    runs, record, folder = finished
    copy = tmp_path / "runs"
    shutil.copytree(runs, copy)
    assert read_contents(copy, folder.name).warnings == ()
    home = next((copy / "systems").glob(f"one-{system(record, 'one')['digest']}"))
    for file in home.glob("final.*"):
        file.unlink()
    contents = read_contents(copy, folder.name)
    assert [name for name in ("one", "two", "late") if contents.system(name).test is None] == ["one"]
    assert len(contents.warnings) == 1
    assert "of one for the run's test clips" in contents.warnings[0]
    assert len(list_predictions(contents.system("one"))["clip"]) == 90


def test_analyse_names_the_clips_of_every_kind_of_error(finished: Any) -> None:
    runs, _, folder = finished
    found = json.loads(ask("analyse", folder.name, "--runs", runs, "--json").stdout)["errors"]
    assert {kind: len(ids) for kind, ids in found["ids"].items()} == found["kinds"]
    named = [clip for ids in found["ids"].values() for clip in ids]
    assert sorted(named) == list(load_system(runs, folder.name).ids)
    rows = {row["clip"]: row for row in rows_of(ask("predictions", folder.name, "--runs", runs).stdout)}
    assert {rows[clip]["right_salience"] for clip in found["ids"]["right pair, wrong salience"]} <= {"false"}
    assert {rows[clip]["right_presence"] for clip in found["ids"]["right pair, wrong salience"]} <= {"true"}


@pytest.mark.parametrize("form", ["latex", "markdown", "csv"])
def test_table_compares_with_the_best_system_where_there_are_labels(finished: Any, form: str, tmp_path: Path) -> None:
    runs, _, folder = finished
    done = ask("table", folder.name, "--runs", runs, "--format", form)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "corrected" in done.stdout or form == "csv"
    if form == "csv":
        assert sum(bool(row["p_adjusted"]) for row in rows_of(done.stdout)) == 2
    bare = ask("table", folder.name, "--runs", runs, "--format", form, "--data", tmp_path)
    assert bare.exit_code == 0
    assert "no significance marks" in bare.stderr
    assert "corrected" not in bare.stdout
    assert ask("table", folder.name, "--runs", runs, "--format", form, "--json").exit_code == 2
