"""`compare` and `analyse` on finished toy runs: what is read back, refused, drawn and printed."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from blemore_harness.cli import cli
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.drawing.analysis_tables import draw_analysis, draw_difference
from blemore_harness.drawing.tables import render_text
from blemore_harness.errors import DataError, RunError, UnknownName
from blemore_harness.files.leaderboard import write_submission
from blemore_harness.files.prediction_files import write_probabilities
from blemore_harness.predictions import Probabilities
from blemore_harness.record.types import Record
from blemore_harness.scoring.analysis import analyse_system, compare_all_systems, compare_systems
from blemore_harness.scoring.intervals import short, show_p
from blemore_harness.scoring.paired_tests import holm
from blemore_harness.scoring.reading import load_system
from blemore_harness.systems.submission import from_plugins
from builders import rows_of, write_download
from sample_records import failed_system
from toys import Bench, Noisy, offer, open_bench, system


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A bench, and the record and folder of one run with a fusion and of one without."""
    bench = open_bench(tmp_path_factory.mktemp("bench"), actors=9, tests=2)
    plugins, _ = offer(Noisy("one"), Noisy("two", 2.0))
    return bench, bench.run(plugins, from_plugins(("one", "two"), "late")), bench.run(plugins, from_plugins(("one",)))


def text_of(drawn: Any, width: int = 118) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(drawn)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_record_and_its_table_hold_intervals_and_the_best_difference(finished: Any) -> None:
    _, (record, _), (alone, _) = finished
    for row in record["systems"]:
        low, high = row["intervals"]["score"]
        assert low <= row["cross_fitted"]["score"]["mean"] <= high
        assert set(row["sensitivity"]) == {"alpha", "beta", "transfer_loss", "drop"}
    drop = system(record, "late")["sensitivity"]["drop"]["difference"]
    late = system(record, "late")
    assert drop == pytest.approx(late["official"]["score"]["mean"] - late["cross_fitted"]["score"]["mean"])
    ranked = sorted(record["systems"], key=lambda row: -row["cross_fitted"]["score"]["mean"])
    assert record["difference"]["systems"] == [row["name"] for row in ranked[:2]]
    assert alone["difference"] is None
    text = render_text(Record.from_json(record))
    assert " noise (95 % " in text
    assert f"With 9 actors, differences under {short(record['difference']['minimum'])} cannot" in " ".join(text.split())
    assert "Score [95 % CI]" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "paired over actors" not in render_text(Record.from_json(alone))


def test_a_table_without_intervals_says_why(finished: Any) -> None:
    record = Record.from_json(finished[1][0])
    assert "No intervals" not in render_text(record)
    bare = replace(record, systems=tuple(replace(row, intervals=None) for row in record.finished))
    assert "No intervals: expected at least 3 actors" in render_text(bare)
    assert "CI]" not in render_text(bare)


def test_rows_read_back_score_what_the_record_says(finished: Any) -> None:
    bench, (record, folder), _ = finished
    for name in ("one", "late"):
        found = analyse_system(load_system(bench.root / "runs", folder.name, name))
        row = system(record, name)
        for measure, value in found["scores"].items():
            assert value == pytest.approx(row["cross_fitted"][measure]["mean"])
        for measure, ends in found["intervals"].items():
            np.testing.assert_allclose(ends, row["intervals"][measure])
        assert found["sensitivity"]["drop"]["score"]["difference"] == pytest.approx(
            row["sensitivity"]["drop"]["difference"]
        )
        assert len(found["sensitivity"]["surface"]) == 20
        assert sum(found["errors"]["kinds"].values()) == 90


def test_all_systems_of_runs_are_compared_with_corrected_p_and_put_into_groups(finished: Any) -> None:
    bench, (record, folder), _ = finished
    loaded = {name: load_system(bench.root / "runs", folder.name, name) for name in ("one", "two", "late")}
    found = compare_all_systems(loaded)
    assert found["scores"] == pytest.approx({name: system(record, name)["cross_fitted"]["score"]["mean"]
                                             for name in loaded})  # fmt: skip
    assert found["ranked"] == sorted(loaded, key=lambda name: -found["scores"][name])
    assert [pair["systems"] for pair in found["pairs"]] == [list(pair) for pair in combinations(found["ranked"], 2)]
    assert [pair["adjusted"] for pair in found["pairs"]] == holm([pair["p"] for pair in found["pairs"]])
    assert sorted(name for group in found["groups"] for name in group) == sorted(loaded)
    best = found["pairs"][0]
    kept = {key: best[key] for key in ("systems", "difference", "interval", "minimum")} | {"p": best["adjusted"]}
    assert json.loads(json.dumps(kept)) == record["difference"]
    assert f"p {show_p(best['adjusted'])} corrected" in " ".join((folder / "table.txt").read_text().split())


def test_a_comparison_says_which_differences_it_misses(finished: Any) -> None:
    bench, (_, folder), _ = finished
    one, late = (load_system(bench.root / "runs", folder.name, name) for name in ("one", "late"))
    found = compare_systems(one, late)
    least = found["differences"]["score"]["minimum"]
    assert f"With 9 actors, differences under {short(least)} cannot be told from noise" in text_of(
        draw_difference(found)
    )


def test_an_analysis_is_drawn_whole(finished: Any) -> None:
    bench, (_, folder), _ = finished
    found = analyse_system(load_system(bench.root / "runs", folder.name))
    text = text_of(draw_analysis({**found, "caveat": "demo: toys"}))
    for word in ("late in", "demo: toys", "50/50", "A9", "most frequent wrong", "Brier", "blank: more", "><", "on 2"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 118


def test_nothing_is_cut_off_at_80_columns(finished: Any) -> None:
    bench, (_, folder), (_, alone) = finished
    runs = bench.root / "runs"
    found = analyse_system(load_system(runs, folder.name))
    compared = compare_systems(load_system(runs, folder.name, "one"), load_system(runs, alone.name))
    assert "(" in compared["systems"][0]["title"], "both are called one, so that their runs tell them apart"
    for drawn in (draw_analysis(found), draw_difference(compared)):
        text = text_of(drawn, 80)
        assert "\N{HORIZONTAL ELLIPSIS}" not in text
        assert max(map(len, text.splitlines())) <= 80
    for row in found["breakdown"]["emotion"]:
        low, high = row["acc_presence_interval"]
        shown = f"{row['acc_presence']:.3f} [{low:.3f}, {high:.3f}]".replace("0.", ".")
        assert shown in text_of(draw_analysis(found), 80)


def test_what_was_chosen_on_the_held_out_folds_is_marked_wherever_its_numbers_stand(finished: Any) -> None:
    bench, (_, folder), (_, alone) = finished
    fused, base_model = (load_system(bench.root / "runs", folder.name, name) for name in ("late", "one"))
    other = load_system(bench.root / "runs", alone.name)
    assert analyse_system(fused)["caveat"] is None
    systems = tuple(replace(row, times_asked=40 * (row.name == "one")) for row in fused.record.finished)
    record = replace(fused.record, systems=systems)
    asked, of_asked = replace(base_model, record=record), replace(fused, record=record)
    data = replace(other.record.data, fold_source="made")
    made = replace(other, record=replace(other.record, data=data))
    assert analyse_system(asked)["caveat"] == "optimistic: chosen on the held-out folds (asked 40 times)"
    assert analyse_system(of_asked)["caveat"] == "optimistic: base models chosen on the held-out folds"
    assert "folds made here" in str(analyse_system(made)["caveat"])
    text = " ".join(text_of(draw_difference(compare_systems(of_asked, other))).split())
    assert "late: optimistic: base models chosen on the held-out folds" in text


def test_two_runs_are_compared_on_the_same_clips(finished: Any) -> None:
    bench, (record, folder), (_, alone) = finished
    runs = bench.root / "runs"
    one, two = load_system(runs, str(folder)), load_system(runs, str(alone))
    found = compare_systems(one, two)
    means = [system(record, name)["cross_fitted"]["score"]["mean"] for name in ("late", "one")]
    assert found["differences"]["score"]["difference"] == pytest.approx(means[0] - means[1])
    assert found["sentence"].startswith("late is ")
    text = text_of(draw_difference({**found, "caveat": "a mark"}))
    assert "a mark" in text
    assert found["sentence"] in " ".join(text.split())
    same = compare_systems(load_system(runs, str(folder), "one"), two)
    assert [row["difference"] for row in same["differences"].values()] == [0.0, 0.0, 0.0]
    assert same["differences"]["score"]["p"] == 1.0
    assert alone.name in same["sentence"]


def test_other_thresholds_are_marked_and_unknown_ones_refused(finished: Any) -> None:
    bench, (record, folder), (_, alone) = finished
    one, two = (load_system(bench.root / "runs", str(path)) for path in (folder, alone))
    found = compare_systems(one, two, "official")
    assert found["systems"][0]["scores"]["score"] == pytest.approx(system(record, "late")["official"]["score"]["mean"])
    assert "optimistic" in found["caveat"]
    assert "transductive" in str(compare_systems(one, two, "actor-centred")["caveat"])
    with pytest.raises(UnknownName, match="did you mean 'official'"):
        compare_systems(one, two, "oficial")


def test_runs_on_other_folds_are_refused(finished: Any, tmp_path: Path) -> None:
    bench, (_, folder), _ = finished
    dataset = read_dataset(write_download(tmp_path / "data", rows_of(actors=9, folds=4), tests=2))
    other = Bench(dataset, blind_dataset(dataset, tmp_path / "views"), tmp_path)
    plugins, _ = offer(Noisy("one"))
    _, elsewhere = other.run(plugins, from_plugins(("one",)))
    with pytest.raises(RunError, match=r"same dataset and folds.*3 folds.*4 folds"):
        compare_systems(load_system(bench.root / "runs", str(folder)), load_system(tmp_path / "runs", str(elsewhere)))


def test_labels_that_are_not_the_run_s_are_refused(finished: Any, tmp_path: Path) -> None:
    bench, (_, folder), _ = finished
    runs = bench.root / "runs"
    with pytest.raises(DataError, match="--data"):
        load_system(runs, str(folder), data=tmp_path / "nowhere")
    fewer = write_download(tmp_path / "fewer", rows_of(actors=8, folds=3))
    with pytest.raises(DataError, match=r"no labels in .* for 10 clips"):
        load_system(runs, str(folder), data=fewer)
    with pytest.raises(UnknownName, match="did you mean 'late'"):
        load_system(runs, str(folder), "lat")


def test_a_record_whose_labels_changed_is_refused(finished: Any, tmp_path: Path) -> None:
    bench, (_, folder), _ = finished
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "systems").symlink_to(bench.root / "runs" / "systems")
    changed = json.loads((folder / "record.json").read_text())
    changed["systems"][-1]["cross_fitted"]["score"]["mean"] += 0.01
    (runs / folder.name).mkdir()
    (runs / folder.name / "record.json").write_text(json.dumps(changed))
    with pytest.raises(RunError, match="the dataset changed since"):
        load_system(runs, folder.name)
    gone = replace(Record.from_json(changed), systems=(failed_system("late", "out of luck"),))
    (runs / folder.name / "record.json").write_text(json.dumps(gone.to_json()))
    with pytest.raises(RunError, match=r"late in .* is failed"):
        load_system(runs, folder.name)


def test_both_commands_print_tables_and_json(finished: Any) -> None:
    bench, (_, folder), (_, alone) = finished
    place = ["--runs", str(bench.root / "runs")]
    runner = CliRunner()
    said = runner.invoke(cli, ["compare", folder.name, alone.name, *place], catch_exceptions=False)
    assert "one in cross-fitted Score: " in said.output
    answer = runner.invoke(cli, ["compare", folder.name, alone.name, "--json", *place], catch_exceptions=False)
    assert json.loads(answer.stdout)["clips"] == 90
    said = runner.invoke(cli, ["analyse", folder.name, "--system", "two", *place], catch_exceptions=False)
    assert "two in" in said.output
    twice = [runner.invoke(cli, ["analyse", folder.name, "--json", *place]).stdout for _ in range(2)]
    assert twice[0] == twice[1]
    assert {"breakdown", "errors", "calibration", "sensitivity"} <= set(json.loads(twice[0]))


# ---------------------------------------------------------------------------------------------------------------- files


def compared(*words: object) -> Any:
    answer = CliRunner().invoke(cli, ["compare", *map(str, words), "--json"], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def write_rows(path: Path, system: Any) -> Path:
    write_probabilities(path, Probabilities(system.ids, system.sample.values))
    return path


def test_two_systems_of_one_run_are_compared(finished: Any) -> None:
    bench, (_, folder), _ = finished
    runs = bench.root / "runs"
    found = compared(folder, "--system", "one", "--second-system", "two", "--runs", runs)
    assert [side["title"] for side in found["systems"]] == ["one", "two"]
    same = compare_systems(load_system(runs, str(folder), "one"), load_system(runs, str(folder), "two"))
    assert found == json.loads(json.dumps(same))
    alone = CliRunner().invoke(cli, ["compare", str(folder), "--runs", str(runs)])
    assert (alone.exit_code, "--second-system" in alone.output) == (2, True)


def test_a_file_of_a_systems_probabilities_is_that_system(finished: Any, tmp_path: Path) -> None:
    bench, (_, folder), _ = finished
    runs = bench.root / "runs"
    one, two = (load_system(runs, str(folder), name) for name in ("one", "two"))
    files = write_rows(tmp_path / "one.csv", one), write_rows(tmp_path / "two.npz", two)
    expected = compare_systems(one, two)
    for words in ((files[0], folder, "--second-system", "two"), (*files, "--data", bench.dataset.root)):
        found = compared(*words, "--runs", runs)
        assert found["differences"] == json.loads(json.dumps(expected["differences"]))
        assert (found["swapped"], found["thresholds"]) == ("rows", "other-folds")
        assert found["systems"][0]["title"] == "one.csv"
    strategy = compared(*files, "--data", bench.dataset.root, "--thresholds", "official")
    assert strategy["systems"][0]["scores"] == compare_systems(one, two, "official")["systems"][0]["scores"]


def test_decoded_labels_are_compared_as_they_are(finished: Any, tmp_path: Path) -> None:
    bench, (_, folder), _ = finished
    runs = bench.root / "runs"
    two = load_system(runs, str(folder), "two")
    answers = two.answers("other-folds")
    write_submission(tmp_path / "two.zip", two.ids, answers.labels)
    found = compared(tmp_path / "two.zip", folder, "--second-system", "two", "--runs", runs)
    assert found["swapped"] == "answers"
    assert {row["difference"] for row in found["differences"].values()} == {0.0}
    labels = compared(tmp_path / "two.zip", tmp_path / "two.zip", "--data", bench.dataset.root)
    assert labels["thresholds"] is None
    assert "thresholds, " not in text_of(draw_difference(labels))


def test_files_are_compared_by_the_labels_of_a_file(finished: Any, tmp_path: Path) -> None:
    bench, (_, folder), _ = finished
    two = load_system(bench.root / "runs", str(folder), "two")
    reference = bench.dataset.root / "train_metadata.csv"
    rows = write_rows(tmp_path / "two.csv", two)
    write_submission(tmp_path / "two.zip", two.ids, two.sample.truth)
    found = compared(tmp_path / "two.zip", rows, "--reference", reference)
    assert found["systems"][0]["scores"]["score"] == pytest.approx(1.0)
    assert found["systems"][0]["caveat"] is None
    assert "optimistic" in found["systems"][1]["caveat"]
    for words, named in (
        ((folder, rows), str(folder)),
        ((rows, tmp_path / "none.csv"), "none.csv"),
        ((rows, tmp_path / "none.txt"), "none.txt"),
    ):
        answer = CliRunner().invoke(cli, ["compare", *map(str, words), "--reference", str(reference)])
        assert answer.exit_code != 0
        assert named in answer.output + str(answer.exception)
