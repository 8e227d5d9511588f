"""`leaderboard`: stored systems are ranked where they are comparable, with tests, caveats and published rows."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from blemore_harness.cli import cli
from blemore_harness.drawing.console import PlainConsole
from blemore_harness.files.runs import Runs, read_record
from blemore_harness.hookspecs import Card
from blemore_harness.scoring.analysis import compare_all_systems
from blemore_harness.scoring.reading import load_run
from blemore_harness.systems.submission import Submission, from_plugins, list_submissions
from blemore_pages.leaderboard.boards import Board, make_boards
from blemore_pages.leaderboard.formats import draw_boards
from sample_records import sample_record, sample_system
from toys import Bench, Noisy, offer, open_bench

PRINTED = [Submission("paper", ("x",), None, expect={"score": 0.31, "acc_presence": 0.4, "test_score": 0.2,
                                                     "source": "arXiv 1"})]  # fmt: skip


class Acted(Noisy):
    """An encoder that was pretrained on acted emotions, by a paid service."""

    def card(self, options: Any) -> Card:
        return Card(weights_licence="CC0", acted="yes", acted_corpora=("CREMA-D",), paid=True)

    def caveat(self, options: Any) -> str | None:
        return "stand-in | for a_test"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that share a system, on one dataset."""
    bench = open_bench(tmp_path_factory.mktemp("bench"), 6, 2)
    plugins, _ = offer(Noisy("sharp", 0.2), Noisy("dull", 5.0), Acted("acted", 5.0))
    bench.run(plugins, from_plugins(["sharp,dull"], "late"))
    bench.run(plugins, from_plugins(["sharp,acted"], "late"))
    return bench.root / "runs"


def command(*words: str, roots: tuple[Path, ...]) -> Result:
    where = [word for root in roots for word in ("--runs", str(root))]
    return CliRunner().invoke(cli, ["leaderboard", *words, *where])


def board_of(root: Path, **more: Any) -> Board:
    boards, remarks = make_boards([root], more.pop("printed", []), more.pop("by", "out-of-sample"), **more)
    assert remarks == []
    (board,) = boards
    return board


def test_each_configuration_has_one_row_and_the_best_is_first(runs: Path) -> None:
    board = board_of(runs)
    names = [row.name for row in board.rows]
    assert sorted(name.partition(" ")[0] for name in names) == ["acted", "dull", "late", "late", "sharp"]
    scores = [row.out_of_sample.score or 0 for row in board.rows if row.out_of_sample]
    assert scores == sorted(scores, reverse=True)
    # Two fusions of one name are told apart by their runs.
    assert all(run.folder.name in " ".join(names) for run in Runs(runs).stored())
    official = [row.official.score or 0 for row in board_of(runs, by="official").rows]
    assert official == sorted(official, reverse=True)


@pytest.mark.parametrize(("by", "strategy"), [("out-of-sample", "other-folds"), ("official", "official")])
def test_ties_are_those_of_the_corrected_tests(runs: Path, by: Any, strategy: str) -> None:
    board = board_of(runs, by=by)
    systems = {}
    for run in Runs(runs).stored():
        for system in load_run(runs, str(run.folder)):
            systems.setdefault(system.name if system.name != "late" else f"late ({run.folder.name})", system)
    groups = compare_all_systems(systems, strategy)["groups"]
    assert {row.name: row.group for row in board.rows} == {
        name: number for number, group in enumerate(groups, 1) for name in group
    }


def test_caveats_are_those_of_the_system_and_its_base_models(runs: Path) -> None:
    rows = {(row.name.partition(" ")[0], "acted" in row.base_models): row for row in board_of(runs).rows}
    for row in (rows["acted", False], rows["late", True]):
        assert row.caveats == ("stand-in | for a_test",)
        assert (row.acted, row.paid) == ("yes: CREMA-D", "yes")
        assert "CC0" in row.weights
    assert rows["late", False].caveats == ()
    assert (rows["sharp", False].acted, rows["sharp", False].paid) == ("not declared", "not declared")


def test_other_datasets_have_tables_of_their_own(runs: Path, tmp_path: Path) -> None:
    other = open_bench(tmp_path, 9, 0)
    other.run(offer(Noisy("sharp", 0.2))[0], from_plugins(["sharp"]))
    boards, _ = make_boards([runs, tmp_path / "runs"], [], "out-of-sample")
    assert [len(board.rows) for board in boards] == [1, 5]  # the larger dataset first
    assert len({board.dataset for board in boards}) == 2


def put(root: Path, name: str, record: Any) -> Path:
    folder = root / f"{name}-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record.to_json()))
    return folder


def test_other_versions_of_the_protocol_are_not_compared(tmp_path: Path) -> None:
    put(tmp_path, "one", sample_record(sample_system("a")))
    put(tmp_path, "two", sample_record(sample_system("b"), protocol="2"))
    boards, _ = make_boards([tmp_path], [], "out-of-sample")
    assert [(board.protocol, len(board.rows)) for board in boards] == [("1", 1), ("2", 1)]


@pytest.mark.parametrize(
    ("changes", "beside"),
    [({}, True), ({"demo": True}, False), ({"fold_source": "made"}, False), ({"fold_source": "metadata"}, False),
     ({"left_out": {"c": "broken"}}, False)],
)  # fmt: skip
def test_published_results_stand_beside_runs_on_the_official_folds_only(
    tmp_path: Path, changes: dict[str, Any], beside: bool
) -> None:
    record = sample_record(sample_system("a"))
    data = replace(record.data, **{"fold_source": "official", **changes})
    put(tmp_path, "one", replace(record, data=data))
    boards, _ = make_boards([tmp_path], PRINTED, "official")
    assert [[row.name for row in board.rows] for board in boards] == (
        [["a", "paper"]] if beside else [["a"], ["paper"]]
    )
    paper = boards[-1].rows[-1]
    assert (paper.group, paper.out_of_sample, paper.test_score, paper.official.score) == (None, None, 0.2, 0.31)
    assert paper.official.acc_salience is None


def test_unreadable_and_unfinished_runs_are_named_and_the_others_ranked(tmp_path: Path) -> None:
    put(tmp_path, "good", sample_record(sample_system("a")))
    put(tmp_path, "started", sample_record(status="started"))
    (put(tmp_path, "broken", sample_record()) / "record.json").write_text("{")
    (put(tmp_path, "old", sample_record()) / "record.json").write_text('{"schema": 1}')
    boards, remarks = make_boards([tmp_path], [], "out-of-sample")
    assert [row.name for board in boards for row in board.rows] == ["a"]
    assert sorted(remark.partition("-")[0] for remark in remarks) == ["broken", "old", "started"]
    # Its dataset is nowhere: it has a row, no group, and a note that says why.
    (note,) = boards[0].notes
    assert note.startswith("a: not tested")
    result = command(roots=(tmp_path,))
    assert result.exit_code == 0
    assert "broken-0123456789ab" in result.stdout


def test_without_runs_published_results_are_shown(tmp_path: Path) -> None:
    boards, remarks = make_boards([tmp_path], list_submissions(), "out-of-sample")
    assert ([len(board.rows) > 20 for board in boards], remarks) == ([True], [])
    scores = [row.official.score or 0 for row in boards[0].rows]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("by", ["out-of-sample", "official"])
def test_a_terminal_of_eighty_columns_holds_it(runs: Path, by: Any) -> None:
    console = PlainConsole(width=80, record=True)
    boards, _ = make_boards([runs], list_submissions(), by)
    console.print(draw_boards(boards, ["broken: why"], by))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "a  stand-in | for a_test" in text
    assert "broken: why" in text
    assert "…" not in text
    own, published = (text.split(title)[1] for title in ("Dataset ", "Published results"))
    assert "cross-fitted" not in published.partition("uzh-12enc ")[0], "no published result has such a number"
    assert "test" not in own.partition("late")[0], "no stored run has such a number"


def test_csv_and_json_hold_numbers_in_full(runs: Path) -> None:
    board = board_of(runs)
    rows = list(csv.DictReader(io.StringIO(command("--format", "csv", roots=(runs,)).stdout)))
    content = json.loads(command("--format", "json", roots=(runs,)).stdout)
    own = [row for row in rows if row["run"]]
    assert [row["system"] for row in own] == [row.name for row in board.rows]
    first = board.rows[0]
    assert first.out_of_sample is not None
    assert float(own[0]["cross_fitted_score"]) == first.out_of_sample.score
    assert content["boards"][0]["rows"][0]["out_of_sample"]["score"] == first.out_of_sample.score
    record = read_record(runs / first.run)
    mine = next(system for system in record.finished if system.name == first.name.partition(" ")[0])
    assert first.out_of_sample.score == mine.cross_fitted.score.mean
    assert {row["dataset"] for row in own} == {record.data.digest}


def test_markdown_and_latex_escape_what_they_must(runs: Path) -> None:
    markdown = command("--format", "markdown", roots=(runs,)).stdout
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table[:7]}) == 1
    assert r"stand-in \| for a\_test" in markdown
    latex = command("--format", "latex", roots=(runs,)).stdout
    assert "a\\_test" in latex
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == latex.count(r"\end{table}") == 2
    rows = [line for line in latex.splitlines() if line.endswith(r" \\")]
    assert {line.count("&") for line in rows if "multicolumn" not in line} == {6}
    best = board_of(runs).rows[0]
    assert best.out_of_sample is not None
    assert rf"\textbf{{.{best.out_of_sample.score or 0:.3f}".replace(".0.", ".") in latex


@pytest.mark.report
def test_the_page_holds_every_row_and_caveat(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "board.html"
    result = command("--html", str(page), roots=(runs,))
    assert (result.exit_code, result.stdout.strip()) == (0, str(page))
    html = page.read_text()
    for words in ("stand-in | for a_test", "yes: CREMA-D", "uzh-12enc", "sharp"):
        assert words in html
    assert html.count("<table>") == 2


def test_folders_come_from_a_configuration_file(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blemore.toml").write_text(f'runs = "{runs}"\n')
    result = CliRunner().invoke(cli, ["leaderboard", "--format", "csv"])
    assert ",sharp," in result.stdout


def test_a_dataset_that_moved_is_named_with_data(tmp_path: Path) -> None:
    bench: Bench = open_bench(tmp_path, 6, 0)
    bench.run(offer(Noisy("a", 0.2), Noisy("b", 0.3))[0], from_plugins(["a,b"], "late"))
    (tmp_path / "data").rename(tmp_path / "moved")
    boards, _ = make_boards([tmp_path / "runs"], [], "out-of-sample")
    assert {row.group for row in boards[0].rows} == {None}
    assert len(boards[0].notes) == 3
    assert None not in {row.group for row in board_of(tmp_path / "runs", data=tmp_path / "moved").rows}
